"""Low precision in updates: which dtype is taken, that weights and results stay float32, and how close it comes."""

import pytest
import torch

from rlsuite.nn import precision
from rlsuite.nn.ensemble import NORMALIZATIONS, EnsembleMLP


def test_names_and_auto(monkeypatch):
    assert precision.update_dtype("float32", "cpu") is torch.float32
    assert precision.update_dtype("bfloat16", "cpu") is torch.bfloat16
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {"avx512_bf16": native}, raising=False)
        assert precision.update_dtype("auto", "cpu") is dtype
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision.update_dtype("auto", "cpu") is torch.float32


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_bfloat16_inputs_give_float32_results_near_the_float32_ones(normalization, generator):
    network = EnsembleMLP(3, 7, (64, 64), 1, normalization=normalization, generator=generator)
    inputs = torch.randn(3, 32, 7, generator=generator)
    exact, rough = network(inputs), network(inputs.bfloat16())
    assert rough.dtype is torch.float32
    # bfloat16 has 8 significant bits: relative errors of about 2**-8 a rounding, a few of them in a row.
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05 * float(exact.detach().std()))
    assert not torch.equal(rough, exact)
    for value in (exact, rough):
        network.zero_grad()
        value.square().mean().backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
        assert gradient.dtype is torch.float32
        if value is exact:
            expected = gradient
    assert torch.cosine_similarity(gradient, expected, dim=0) > 0.999


@pytest.mark.parametrize("normalization", ["layer", "batch"])
def test_what_stands_between_bfloat16_products(normalization, generator):
    network = EnsembleMLP(2, 5, (16, 16), 1, normalization=normalization, generator=generator)
    seen = []
    for module in [*network.layers[1:], *network.normalizations]:
        module.register_forward_hook(lambda module, args, output: seen.append((args[0].dtype, output.dtype)))
    network(torch.randn(2, 8, 5, generator=generator).bfloat16())
    single, half = torch.float32, torch.bfloat16
    # Batch normalization computes in float32, too, but reads and writes what the products do.
    between = (half, single) if normalization == "layer" else (half, half)
    assert seen == [between, (half, half), between, (single, single)]
