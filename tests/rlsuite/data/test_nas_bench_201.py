"""The table's reader: what it takes, and everything it refuses in one line."""

import gzip

import numpy as np
import pytest

from rlsuite.data import nas_bench_201 as nb
from rlsuite.errors import UserError

LINES = [f"{row},{nb.cell_name(nb.cell_of(row))},{row % 100}.5,{row % 97}" for row in range(nb.NUM_CELLS)]
HEADER = "arch,cellstr,cifar10-val,cifar10-test"


def write(path, lines, header=HEADER):
    path.write_bytes(gzip.compress("\n".join([header, *lines]).encode()))
    return path


def test_rows_and_cells_are_each_others_inverse():
    assert nb.cell_of(0) == (0,) * 6
    assert nb.row_of((0, 0, 0, 0, 0, 3)) == 3
    assert nb.row_of((1, 0, 0, 0, 0, 0)) == 5**5
    for row in (0, 1, 777, nb.NUM_CELLS - 1):
        assert nb.row_of(nb.cell_of(row)) == row


def test_a_cell_is_named_as_the_benchmark_names_it():
    name = "|nor_conv_3x3~0|+|avg_pool_3x3~0|none~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    assert nb.cell_name((3, 4, 0, 1, 2, 3)) == name


def test_reads_rows_in_any_order(tmp_path):
    table = nb.read_table(write(tmp_path / "table.csv.gz", LINES[::-1]), columns=("cifar10-val",))
    assert table.column("cifar10-val")[[0, 3, 15624]].tolist() == [0.5, 3.5, 24.5]
    assert table.column("cifar10-test")[200] == 200 % 97
    with pytest.raises(UserError, match=r"no column 'cifar10-vall'.*cifar10-val"):
        table.column("cifar10-vall")


BAD = {
    "missing row": (LINES[1:], HEADER, "1 of 15625 cells are missing, such as .none~0"),
    "repeated row": ([LINES[1], *LINES[1:]], HEADER, "line 3: the cell .* stands there twice"),
    "unknown operation": ([LINES[0].replace("none", "nine"), *LINES[1:]], HEADER, "line 2: .*nine.* is no cell"),
    "above 100": ([LINES[0].replace(",0.5", ",100.5"), *LINES[1:]], HEADER, "line 2, cifar10-val: '100.5' is no acc"),
    "below 0": ([LINES[0].replace(",0.5", ",-0.5"), *LINES[1:]], HEADER, "line 2, cifar10-val: '-0.5' is no acc"),
    "nan": ([LINES[0].replace(",0.5", ",nan"), *LINES[1:]], HEADER, "'nan' is no accuracy"),
    "text": ([LINES[0].replace(",0.5", ",high"), *LINES[1:]], HEADER, "'high' is no accuracy"),
    "a value short": ([LINES[0].rpartition(",")[0], *LINES[1:]], HEADER, "line 2: 3 values for 4 columns"),
    "another file": (LINES, HEADER.replace("cellstr", "cell"), "no column 'cellstr'"),
    "missing column": (LINES, HEADER.replace("cifar10-val", "cifar11-val"), "no column 'cifar10-val'"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses_what_is_not_the_whole_table(tmp_path, case):
    lines, header, message = BAD[case]
    with pytest.raises(UserError, match=message):
        nb.read_table(write(tmp_path / "table.csv.gz", lines, header), columns=("cifar10-val",))


def test_refuses_a_torn_or_missing_file(tmp_path, monkeypatch):
    path = write(tmp_path / "table.csv.gz", LINES)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match="cannot be read"):
        nb.read_table(path)
    with pytest.raises(UserError, match="does not exist"):
        nb.read_table(tmp_path / "none.csv")
    monkeypatch.delenv("RLSUITE_DATA", raising=False)
    with pytest.raises(UserError, match="RLSUITE_DATA"):
        nb.default_path()
    monkeypatch.setenv("RLSUITE_DATA", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds none of nas-bench-201"):
        nb.default_path()


def test_the_real_table_holds_what_is_known_of_it():
    try:
        table = nb.read_table(nb.default_path())
    except UserError as error:
        pytest.skip(str(error))
    assert table.column("cifar10-test").max() == 89.16
    assert np.isfinite(table.column("imagenet-val")).all()
