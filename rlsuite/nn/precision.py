"""Which number format the updates' matrix products use."""

from __future__ import annotations

import torch

PRECISIONS = ("auto", "float32", "bfloat16")


def update_dtype(precision: str, device: torch.device | str) -> torch.dtype:
    """Return the dtype for hidden layers while learning; weights, losses and optimizers stay float32.

    "auto" takes bfloat16 where the processor multiplies it natively, at about twice the speed of float32: a CPU
    with AVX512-BF16 or AMX, or a CUDA device of compute capability 8.0 (Ampere) and above.

    Args:
        precision: one of PRECISIONS.
        device: where the networks lie.
    """
    if precision == "auto":
        cuda = torch.device(device).type == "cuda"
        native = torch.cuda.get_device_capability(device) >= (8, 0) if cuda else cpu_multiplies_bfloat16()
        precision = "bfloat16" if native else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Return whether this CPU has instructions for bfloat16 products, as far as torch tells."""
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)  # younger than the oldest torch we take
    capabilities = get_capabilities() if get_capabilities is not None else {}
    return (
        bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")) and torch.backends.mkldnn.is_available()
    )
