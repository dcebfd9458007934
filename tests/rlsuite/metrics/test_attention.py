"""How alike attention maps are, by hand."""

import pytest
import torch
from torch.nn import functional

from rlsuite.metrics.attention import attention_cosines, attention_similarity, head_cosine, similar_blocks


def test_cosines_compare_what_outputs_take_from_one_token():
    """Columns (1, 0) and (1, 1) are at 45 degrees; (0, 2) and (0, 1) are parallel."""
    first = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]])
    second = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]])
    assert attention_cosines(first, second)[0, 0].tolist() == pytest.approx([0.5**0.5, 1.0])
    means, shares = attention_similarity([first, second, -first], threshold=0.9)
    expected = [[1.0, 0.8536, -1.0], [0.8536, 1.0, -0.8536], [-1.0, -0.8536, 1.0]]
    torch.testing.assert_close(means, torch.tensor(expected), rtol=0, atol=1e-4)
    assert shares.tolist() == [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_copies_are_blocks_that_hardly_differ_from_the_one_before(generator):
    one, other = torch.randn(2, 2, 3, 8, 8, generator=generator).softmax(dim=-1)
    _, shares = attention_similarity([one, 2.0 * one, other, other, other])
    assert int(similar_blocks(shares.diagonal(offset=1))) == 3
    assert int(similar_blocks(torch.tensor([0.5, 0.75, 1.0]), bar=0.75)) == 1


def test_similarity_is_the_loop_over_heads_and_tokens(generator):
    maps = torch.randn(3, 2, 2, 5, 5, generator=generator).softmax(dim=-1)
    means, shares = attention_similarity(list(maps), threshold=0.8)
    found = torch.stack(
        [
            functional.cosine_similarity(maps[0, row, head, :, token], maps[2, row, head, :, token], dim=0)
            for row in range(2)
            for head in range(2)
            for token in range(5)
        ]
    )
    torch.testing.assert_close(means[0, 2], found.mean())
    torch.testing.assert_close(shares[2, 0], (found > 0.8).float().mean())


def test_the_penalty_is_over_heads_and_the_first_pairs():
    """One pair of tokens: heads (1, 0) and (1, 1) at 45 degrees, then (1, 1) and (2, 2) parallel."""
    maps = [torch.tensor(heads).view(1, 2, 1, 1) for heads in ([1.0, 0.0], [1.0, 1.0], [2.0, 2.0])]
    assert float(head_cosine(maps, 1)) == pytest.approx(0.5**0.5)
    assert float(head_cosine(maps, 2)) == pytest.approx((0.5**0.5 + 1.0) / 2)
    with pytest.raises(ValueError, match="3 blocks have 1 to 2 pairs"):
        head_cosine(maps, 3)
