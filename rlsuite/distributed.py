"""Training on several ranks: R processes that torchrun starts, each with a part of the environments, one agent in all.

Every rank holds the same weights. It steps environments of its own, keeps what they tell in a replay of its own, and
learns from its share of every minibatch; `rlsuite.optim.step.take_step` averages the gradients, so that all ranks take
the same step. What else has to be the same everywhere is agreed on here: moments, stops, numbers of the log.

Without torchrun, or with one process, a rank is alone: everything below returns what it was given.

Shapes: R ranks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as process_group

from rlsuite.errors import UserError, require
from rlsuite.running.threads import available_threads

PATIENCE = datetime.timedelta(hours=2)  # longest wait for another rank: rank 0 evaluates and saves while others wait


@dataclass(frozen=True)
class Ranks:
    """Which of how many ranks this process is, and how they agree. All methods but `first` are for all ranks at once.

    Attributes:
        rank: this one, 0 to R - 1; rank 0 logs, evaluates and holds the run directory's lock.
        size: R.
    """

    rank: int = 0
    size: int = 1

    @property
    def alone(self) -> bool:
        """Whether there is no other rank."""
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that logs, evaluates and writes."""
        return self.rank == 0

    def averaged(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the means over the ranks of tensors of one dtype: one exchange for all of them."""
        return [total / self.size for total in self.summed(tensors)] if self.size > 1 else list(tensors)

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sums over the ranks of tensors of one dtype: one exchange for all of them."""
        if self.size == 1 or not tensors:
            return list(tensors)
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        process_group.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean over the ranks of one tensor, without a gradient."""
        return tensor if self.size == 1 else self.averaged([tensor])[0]

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return every rank's tensor, (R, ...), all of one shape."""
        if self.size == 1:
            return tensor.unsqueeze(0)
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        process_group.all_gather(found, tensor.contiguous())
        return torch.stack(found)

    def largest(self, tensor: Tensor) -> Tensor:
        """Return the largest over the ranks, entry by entry."""
        return tensor if self.size == 1 else self.gathered(tensor).amax(dim=0)

    def fewest(self, count: int) -> int:
        """Return the smallest of the ranks' counts."""
        return count if self.size == 1 else int(self.gathered(torch.tensor(count)).min())

    def total(self, count: int) -> int:
        """Return the sum of the ranks' counts."""
        return count if self.size == 1 else int(self.gathered(torch.tensor(count)).sum())

    def any(self, flag: bool) -> bool:
        """Say whether the flag is up on any rank."""
        return flag if self.size == 1 else bool(self.gathered(torch.tensor(flag, dtype=torch.uint8)).any())

    def all(self, flag: bool) -> bool:
        """Say whether the flag is up on every rank."""
        return flag if self.size == 1 else not self.any(not flag)

    def texts(self, text: str) -> list[str]:
        """Return what each rank says."""
        if self.size == 1:
            return [text]
        said = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)
        lengths = self.gathered(torch.tensor([len(said), len(text.encode())]))
        padded = torch.zeros(int(lengths[:, 0].max()), dtype=torch.uint8)
        padded[: len(said)] = said
        rows = self.gathered(padded)
        return [bytes(row[: int(length)].tolist()).decode() for row, length in zip(rows, lengths[:, 1], strict=True)]

    def same(self, text: str) -> bool:
        """Say whether all ranks say the same."""
        return self.size == 1 or len(set(self.texts(text))) == 1

    def means(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the means over the ranks of 0-d tensors by name; where ranks have other names, this rank's."""
        if self.size == 1 or not self.same(",".join(values)) or not values:
            return values
        found = self.averaged([value.double() for value in values.values()])
        return dict(zip(values, found, strict=True))

    def first(self, total: int) -> int:
        """Return the first of `total` things, shared out evenly, that are this rank's."""
        return self.rank * (total // self.size)


_current = Ranks()


def ranks() -> Ranks:
    """Return the ranks that this process trains with."""
    return _current


def asked_for() -> Ranks:
    """Return the ranks that torchrun's environment variables speak of, without joining them."""
    size, rank = (os.environ.get(name, default) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    require(size.isdecimal() and rank.isdecimal(), f"WORLD_SIZE={size}, RANK={rank}: torchrun sets both; unset them")
    return Ranks(int(rank), int(size))


def threads_here() -> int:
    """Return how many of this machine's cores are this rank's: torchrun says how many ranks share them."""
    sharing = os.environ.get("LOCAL_WORLD_SIZE", "1") if not _current.alone else "1"
    return max(available_threads() // int(sharing), 1)


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """Be one of torchrun's ranks for as long as the block lasts; without torchrun, or with one process, be alone.

    Tensors of the CPU go through gloo, those of a GPU through nccl; each rank of a machine takes a GPU of its own.

    Raises:
        UserError: where torchrun started more ranks than there are GPUs here, or another rank has ended.
    """
    global _current
    found = asked_for()
    if found.alone or not _current.alone:  # a run within a run: already there
        yield _current
        return
    backend = "gloo"
    if torch.cuda.is_available():
        place, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        require(place < count, f"--nproc-per-node: this machine has {count} GPUs; start as many processes, or fewer")
        torch.cuda.set_device(place)
        backend = "cpu:gloo,cuda:nccl"
    process_group.init_process_group(
        backend, store=_meeting_point(found), rank=found.rank, world_size=found.size, timeout=PATIENCE
    )
    _current = found
    try:
        yield found
    except RuntimeError as error:
        if not isinstance(error, process_group.DistError) and "gloo" not in str(error):
            raise
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"another rank has ended ({reason}); see what it said, and continue with resume=") from None
    finally:
        _current = Ranks()
        process_group.destroy_process_group()


def _meeting_point(found: Ranks) -> process_group.Store:
    """Return where ranks find each other, under a name of this start of torchrun's workers.

    torchrun keeps its store when it starts the workers again, so that a rank that is quick would read where ranks that
    are dead listened.
    """
    where, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    require(
        bool(where) and port.isdecimal(), "MASTER_ADDR, MASTER_PORT: torchrun sets both; unset WORLD_SIZE, or set them"
    )
    held = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = process_group.TCPStore(
        where, int(port), world_size=found.size, is_master=found.leads and not held, timeout=PATIENCE
    )
    return process_group.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def rank_seed(seed: int) -> int:
    """Return a seed for what each rank draws for itself; rank 0's, and of who is alone, is the seed as it is."""
    return seed if _current.leads else anew(f"{seed}".encode())


def anew(state: bytes) -> int:
    """Return a seed grown from a stream's state, another one on every rank and for every number of ranks."""
    digest = hashlib.sha256(state + f" rank {_current.rank} of {_current.size}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def divided(config: Any, size: int, *names: str) -> Any:
    """Return an agent's config with some of its numbers divided by the number of ranks; what is 0 stays 0.

    Raises:
        UserError: if one has no such part.
    """
    for name in names:
        value = getattr(config, name)
        require(value % size == 0, f"agent.{name}={value} is learned from in equal parts; use a multiple of {size}")
    return dataclasses.replace(config, **{name: getattr(config, name) // size for name in names})
