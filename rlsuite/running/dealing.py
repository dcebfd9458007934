"""What ranks of one number saved, dealt out to another number of ranks: whole environments, one after the other.

Weights, optimizers and statistics are alike on all ranks and carried as they are. What belongs to an environment goes
with it: its simulation, its episode, its column of the replay. What the ranks drew from starts anew, on each rank as
another stream: minibatches, noise and warm-up actions are other ones from there on.

Shapes: T slots, N environments in all, n of them on a rank, F stored final observations, E episodes with constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rlsuite.distributed import Ranks, anew

if TYPE_CHECKING:
    from rlsuite.replay.sampler import Replay
    from rlsuite.running.rollout import RolloutWorker
    from rlsuite.running.rollout_buffer import RolloutBuffer

Part = dict[str, Tensor]
OWN = ("agent", "replay", "environment", "worker")  # the parts of which every rank has its own


def own_name(part: str, rank: int) -> str:
    """Return what a rank's own of a part is called in a checkpoint."""
    return f"{part}.{rank}" if rank else part


def dealt(parts: dict[str, Part], fresh: dict[str, Part], saved: int, here: Ranks) -> dict[str, Part]:
    """Return this rank's parts.

    Args:
        parts: of a checkpoint that `saved` ranks wrote: those of rank 0 and, of as many ranks, this one's; else all.
        fresh: this rank's, as it was just built.
        saved: how many ranks wrote them.
        here: this rank.

    Raises:
        ValueError: if a tensor's shapes are not those of a part of environments.
    """
    if saved == here.size:
        return {part: parts[own_name(part, here.rank) if part in OWN else part] for part in fresh}
    shares = {part: [parts[own_name(part, rank)] for rank in range(saved)] for part in OWN}
    found = dict(parts)
    for part in ("agent", "environment", "worker"):
        found[part] = {
            name: _dealt_tensor([share[name] for share in shares[part]], fresh[part].get(name), here)
            for name in shares[part][0]
        }
    for name in ("ended", "term_sums"):  # counted since the last log, and summed there over the ranks
        if name in found["worker"]:
            total = torch.stack([share[name] for share in shares["worker"]]).sum(dim=0)
            found["worker"][name] = total if here.leads else torch.zeros_like(total)
    found["replay"] = _dealt_replay(shares["replay"], len(fresh["worker"]["episode_return"]), here)
    return {name: found[name] for name in fresh}


def _dealt_tensor(values: Sequence[Tensor], fresh: Tensor | None, here: Ranks) -> Tensor:
    """Return this rank's part of a tensor: where another number of ranks has another shape, it is by environment."""
    first = values[0]
    if fresh is None or first.shape == fresh.shape:
        return first
    differ = [place for place, sizes in enumerate(zip(first.shape, fresh.shape, strict=False)) if len(set(sizes)) > 1]
    if first.dim() != fresh.dim() or len(differ) != 1:
        raise ValueError(f"a tensor of shape {tuple(first.shape)} is no part of environments")
    return _columns(values, differ[0], fresh.shape[differ[0]], here)


def _columns(values: Sequence[Tensor], dim: int, count: int, here: Ranks) -> Tensor:
    """Return this rank's `count` environments of what the ranks had, joined along `dim`."""
    joined = torch.cat(list(values), dim=dim)
    if joined.shape[dim] != count * here.size:
        raise ValueError(f"{joined.shape[dim]} environments were saved and {count * here.size} are wanted")
    return joined.narrow(dim, here.rank * count, count).contiguous()


# -- the replay -------------------------------------------------------------------------------------------------


def _dealt_replay(shares: list[Part], count: int, here: Ranks) -> Part:
    """Return this rank's columns of a replay, or of a rollout; `count` is n."""
    if "final_observation" in shares[0]:
        shares = [{**share, **_in_order(share)} for share in shares]
        store, places = _joined_finals(shares)
        shares = [{**share, "final_place": place} for share, place in zip(shares, places, strict=True)]
    if "constants" in shares[0]:
        episodes = max(len(share["constants"]) for share in shares)
        shares = [{**share, "constants": _with_room(share, episodes)} for share in shares]
    found = dict(shares[0])
    for name, first in found.items():
        if name in _WHOLE or first.dim() == 0:
            continue
        found[name] = _columns([share[name] for share in shares], min(first.dim() - 1, 1), count, here)
    if "largest" in found:  # of priorities
        found["largest"] = torch.stack([share["largest"] for share in shares]).amax(dim=0)
    if "final_observation" in found:
        found |= _own_finals(found, store, any(bool(share["numbers"][4]) for share in shares))
    return found


_WHOLE = ("final_observation", "numbers", "generator")


def _in_order(share: Part) -> Part:
    """Return the live final observations of a ring, oldest first, and the places that name them."""
    cursor, used = int(share["numbers"][0]), int(share["numbers"][1])
    place = share["final_place"]
    slots = int(share["numbers"][5])
    age = (torch.arange(used + 1) - (cursor - used)) % slots  # slot by slot, 0 the oldest
    order = age[: len(place)].argsort()
    flat = place[order].flatten()
    live = flat >= 0
    numbered = torch.full_like(flat, -1)
    numbered[live] = torch.arange(int(live.sum()), dtype=flat.dtype)
    sorted_place = numbered.view_as(place)
    return {
        "final_observation": share["final_observation"][flat[live].long()],
        "final_place": torch.empty_like(place).index_copy_(0, order, sorted_place),
    }


def _joined_finals(shares: list[Part]) -> tuple[Tensor, list[Tensor]]:
    """Return all ranks' final observations in one store, and the places of each rank's slots in it."""
    places, before = [], 0
    for share in shares:
        place = share["final_place"]
        places.append(torch.where(place >= 0, place + before, place))
        before += len(share["final_observation"])
    return torch.cat([share["final_observation"] for share in shares]), places


def _own_finals(found: Part, store: Tensor, has_invalid: bool) -> Part:
    """Return the final observations of this rank's columns alone, oldest first, and numbers to match."""
    own = _in_order({**found, "final_observation": store})
    rows = own["final_observation"]
    size = 64
    while size < max(len(rows), found["final_place"].shape[1]):
        size *= 2
    padded = rows.new_zeros((size, *rows.shape[1:]))
    padded[: len(rows)] = rows
    numbers = found["numbers"].clone()
    numbers[2], numbers[3], numbers[4] = len(rows), 0, int(has_invalid)
    return {"final_observation": padded, "final_place": own["final_place"], "numbers": numbers}


def _with_room(share: Part, size: int) -> Tensor:
    """Return the constants (E, n, C) of episodes with room for more of them; episode c lies at place c mod E."""
    rows, newest = share["constants"], share["newest"].long()
    grown = rows.new_zeros((size, *rows.shape[1:]))
    env = torch.arange(rows.shape[1])
    for age in range(len(rows)):
        episode = (newest - age).clamp_min(0)
        grown[episode % size, env] = rows[episode % len(rows), env]
    return grown


# -- streams ----------------------------------------------------------------------------------------------------


def begin_anew(agent: nn.Module, replay: Replay | RolloutBuffer, worker: RolloutWorker) -> None:
    """Let everything that draws numbers go on as another stream on each rank."""
    for module in agent.modules():
        restart: Callable[[], None] | None = getattr(module, "begin_anew", None)
        if restart is not None:
            restart()
    for generator in (getattr(replay, "generator", None), worker.generator):
        if generator is not None:
            generator.manual_seed(anew(generator.get_state().cpu().numpy().tobytes()))
