"""Local maxima and the boxes around them."""

import torch

from envs.perception.tracking.candidates import jitter_table, jittered, peaks, strewn, strewn_table


def test_peaks_by_hand():
    scores = torch.zeros(2, 9, 9)
    scores[0, 1, 1], scores[0, 1, 3], scores[0, 7, 6], scores[0, 4, 8] = 1.0, 0.9, 0.6, 0.4
    scores[1, 4, 4] = 0.2  # below the least score
    found = peaks(scores, torch.full((2, 2), 4.4), 4)
    # (3, 1) lies in the window of the highest, and 0.4 is below half of it.
    assert found.there.tolist() == [[True, True, False, False], [False] * 4]
    assert found.places[0, :2].tolist() == [[1.0, 1.0], [6.0, 7.0]]
    assert torch.allclose(found.scores[0], torch.tensor([1.0, 0.6, 0.0, 0.0]))


def test_a_peak_lies_where_the_parabola_says():
    x = torch.arange(9.0)
    scores = (1.0 - 0.02 * (x - 4.3) ** 2).unsqueeze(0) * (1.0 - 0.02 * (x - 2.8) ** 2).unsqueeze(1)
    found = peaks(scores.unsqueeze(0), torch.full((1, 2), 20.0), 1)
    assert torch.allclose(found.places[0, 0], torch.tensor([4.3, 2.8]), atol=1e-4)


def test_boxes_around_a_place():
    table = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, -2.0, 1.0, 0.0]])
    boxes = jittered(torch.tensor([[[10.0, 20.0]]]), torch.tensor([[[4.0, 8.0]]]), table)
    assert boxes[0, 0, 0].tolist() == [8.0, 16.0, 12.0, 24.0]
    torch.testing.assert_close(boxes[0, 0, 1], torch.tensor([8.3, 14.4, 12.5, 22.4]))
    assert torch.equal(jitter_table(5, 3), jitter_table(5, 3))
    assert not jitter_table(5, 3)[0].any()


def test_strewn_boxes_fill_the_square_and_begin_in_its_middle():
    table = strewn_table(200, 2.0)
    assert table[0].tolist() == [0.0, 0.0, 0.0, 0.0]
    assert float(table[:, :2].abs().max()) <= 2.0
    quarters = (table[:, 0] > 0).long() * 2 + (table[:, 1] > 0).long()
    assert torch.bincount(quarters, minlength=4).min() >= 45
    boxes = strewn(torch.tensor([[5.0, 5.0]]), torch.tensor([[2.0, 2.0]]), table)
    assert boxes[0, 0].tolist() == [4.0, 4.0, 6.0, 6.0]
