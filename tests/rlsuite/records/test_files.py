import pytest

from rlsuite.errors import UserError
from rlsuite.records.files import require_writable


def test_what_can_be_written_is_left_as_it_is(tmp_path):
    require_writable(tmp_path / "new" / "file")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old").write_text("kept")
    require_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "kept"


def test_what_cannot_is_refused_in_one_line_that_names_the_key(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"report=.*: cannot be written \(.*\); choose another report=") as refusal:
            require_writable(path, "report")
        assert "\n" not in str(refusal.value)
