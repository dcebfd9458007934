"""The entropy coder: what goes in comes out, at the cost of its entropy, and damage is seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.perception.codec.packing import number_at, pack, packed_number, unpack
from envs.perception.codec.range_coder import TOTAL, DamagedError, Decoder, Encoder, Tables, frequencies
from rlsuite.errors import UserError

TABLES = Tables([np.array([0.5, 0.25, 0.25, 0.0]), np.array([1.0, 0.0])], [-1, 7])


def coded(values, rows, tables=TABLES):
    encoder = Encoder()
    encoder.put(np.asarray(values), np.asarray(rows), tables)
    return encoder.finish()


def test_frequencies_by_hand():
    assert frequencies(np.array([0.5, 0.5])).tolist() == [TOTAL // 2, TOTAL // 2]
    assert frequencies(np.array([1.0, 0.0])).tolist() == [TOTAL - 1, 1]
    found = frequencies(np.array([3.0, 1.0, 1e-30]))
    assert found.sum() == TOTAL
    assert found[2] == 1
    assert abs(found[0] - 3 * found[1]) <= 4
    for wrong in ([], [0.0], [-1.0, 2.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="probabilities"):
            frequencies(np.array(wrong))


def test_no_symbol_is_the_state_alone_and_a_sure_one_costs_nothing():
    assert coded([], []) == bytes([1, 0, 0, 0])  # 2**16 in words of 16 bits, the higher first
    assert len(coded([7] * 1000, [1] * 1000)) == 4


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(-(2**39), 2**39 - 1) | st.integers(-3, 9), st.integers(0, 1)), max_size=60))
def test_what_goes_in_comes_out(pairs):
    values, rows = [value for value, _ in pairs], np.array([row for _, row in pairs], dtype=np.int64)
    decoder = Decoder(coded(values, rows))
    half = len(rows) // 2
    found = [*decoder.get(rows[:half], TABLES), *decoder.get(rows[half:], TABLES)]
    decoder.finish()
    assert found == values


def test_bytes_are_the_entropy():
    random = np.random.default_rng(0)
    shares = np.array([0.9, 0.06, 0.03, 0.01])
    values = random.choice(4, size=4000, p=shares)
    tables = Tables([np.append(shares, 0.0)], [0])
    bits = -np.log2(shares[values]).sum()
    assert 8 * len(coded(values, np.zeros(4000, dtype=int), tables)) == pytest.approx(bits, rel=2e-3, abs=40)


def test_damage_is_seen():
    rows = np.zeros(200, dtype=int)
    data = coded(np.random.default_rng(0).integers(-1, 2, 200), rows)
    for wrong in (b"", data[:3], data[:-1]):
        with pytest.raises(DamagedError):
            Decoder(wrong)
    short = Decoder(data[:-20])
    with pytest.raises(DamagedError):
        short.get(rows, TABLES)
    longer = Decoder(data + b"\0\0")
    longer.get(rows, TABLES)
    with pytest.raises(DamagedError):
        longer.finish()


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_parts_come_back(parts):
    assert unpack(pack(parts)) == parts


@settings(max_examples=30)
@given(st.integers(0, 2**35 - 1))
def test_numbers_come_back(number):
    assert number_at(packed_number(number) + b"\xff", 0) == (number, len(packed_number(number)))


def test_cut_off_parts_are_refused():
    assert packed_number(300) == bytes([0xAC, 0x02])
    for wrong in (b"\x05abc", b"\x80", b"\xff" * 9):
        with pytest.raises(UserError, match="fetch it again"):
            unpack(wrong)
