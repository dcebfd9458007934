"""Fields and their bytes."""

import pytest
import torch

from envs.perception.fields import FIELDS


@pytest.mark.parametrize("field", FIELDS.values(), ids=list(FIELDS))
def test_a_round_trip_through_bytes_loses_half_a_step(field, generator):
    share = torch.rand(2, field.channels, 5, 7, generator=generator)
    values = field.low + (field.high - field.low) * share
    if not field.dtype.is_floating_point:
        values = values.round().to(field.dtype)
    field.check(values.to(field.dtype), 2, (5, 7))
    back = field.from_bytes(field.to_bytes(values))
    step = (field.high - field.low) / 255
    assert (back.double() - values.double()).abs().max() <= (0.0 if back.dtype == torch.int64 else 0.5001 * step)


def test_bytes_by_hand_and_what_lies_beyond_is_cut_off():
    assert FIELDS["depth"].to_bytes(torch.tensor([0.0, 5.0, 10.0, 40.0])).tolist() == [0, 128, 255, 255]
    assert FIELDS["ids"].to_bytes(torch.tensor([-1, 0, 7, 300])).tolist() == [0, 1, 8, 255]
    assert FIELDS["rgb"].to_bytes(torch.tensor([-0.1, 0.5, 1.0])).tolist() == [0, 128, 255]


def test_another_shape_or_kind_is_no_such_field():
    with pytest.raises(ValueError, match=r"rgb is torch.float32 \(2, 1, 4, 4\), not torch.float32 \(2, 3, 4, 4\)"):
        FIELDS["rgb"].check(torch.zeros(2, 1, 4, 4), 2, (4, 4))
    with pytest.raises(ValueError, match="uint8"):
        FIELDS["rgb"].check(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), 2, (4, 4))
