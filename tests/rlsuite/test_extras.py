"""Optional packages: which extra has each, and the one line that says so."""

import logging
import sys
import tomllib
import warnings

import pytest
from paths import ROOT

from rlsuite.errors import UserError
from rlsuite.extras import EXTRAS, import_extra, quiet_onnx_exporter, require_extras


def test_every_extra_has_the_package_it_is_named_for():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for module, (distribution, extra) in EXTRAS.items():
        assert any(line.split(">")[0].split(";")[0].strip() == distribution for line in extras[extra]), module


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_package_is_named_with_its_extra(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    distribution, extra = EXTRAS[module]
    with pytest.raises(UserError) as refusal:
        import_extra(f"{module}.part", "what=this")
    assert str(refusal.value) == (
        f"what=this needs {distribution}, not installed here; run: pip install {distribution} (the extra "
        f"'rlsuite[{extra}]' has it)"
    )


def test_a_package_that_lacks_something_itself_says_so(tmp_path, monkeypatch):
    (tmp_path / "matplotlib.py").write_text("import nothing_of_this_name")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"cannot be imported \(No module named 'nothing_of_this_name'\); run: pip"):
        import_extra("matplotlib", "a plot")


def test_several_missing_ones_are_named_at_once(monkeypatch):
    for module in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"needs onnx, onnxruntime, not .* pip install onnx onnxruntime "):
        require_extras("exporting", "onnx", "onnxruntime")


def test_the_exporter_is_quiet_for_as_long_as_it_is_asked_to(recwarn):
    inner = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = inner.getEffectiveLevel()
    with quiet_onnx_exporter():
        assert not inner.isEnabledFor(logging.WARNING)
        assert inner.isEnabledFor(logging.ERROR)
        warnings.warn("a package could be used", FutureWarning, stacklevel=1)
    assert inner.getEffectiveLevel() == before
    assert not recwarn.list
