"""A guard for tests: nothing inside of learn() may wait for the host, or a CUDA graph could not hold it."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoHostSync(TorchDispatchMode):
    """Refuses what a capture refuses: reading a value on the host, shapes that depend on values, host data as input.

    On a processor all of that works, and the stand-in would not see it.
    """

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "lift_fresh", "is_nonzero")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.rstrip("_")
        assert name not in self.REFUSED, f"{func} inside of learn()"
        if name in ("index", "index_put"):  # by flags is by nonzero
            assert all(index is None or index.dtype != torch.bool for index in args[1]), f"{func} by flags"
        return func(*args, **(kwargs or {}))
