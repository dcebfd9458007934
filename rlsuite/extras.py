"""Optional packages: one way to use one, and to say which extra installs it where it is missing."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from types import ModuleType

from rlsuite.errors import UserError

# Module -> its distribution, where that has another name, and the extra of ours that has it.
EXTRAS = {
    "cv2": ("opencv-python-headless", "vision"),
    "envpool": ("envpool", "bench"),
    "matplotlib": ("matplotlib", "plots"),
    "mujoco_warp": ("mujoco-warp", "cameras"),
    "onnx": ("onnx", "export"),
    "onnxruntime": ("onnxruntime", "export"),
    "onnxscript": ("onnxscript", "export"),
    "sb3_contrib": ("sb3-contrib", "bench"),
    "scipy": ("scipy", "vision"),  # which scikit-image brings
    "skimage": ("scikit-image", "vision"),
    "sklearn": ("scikit-learn", "vision"),
    "optuna": ("optuna", "tune"),
    "stable_baselines3": ("stable-baselines3", "bench"),
    "starlette": ("starlette", "studio"),
    "uvicorn": ("uvicorn", "studio"),
    "wandb": ("wandb", "wandb"),
    "websockets": ("websockets", "studio"),
    "warp": ("mujoco-warp", "cameras"),  # which brings it
}


def import_extra(module: str, wanted_by: str) -> ModuleType:
    """Import an optional package, or a module of one.

    Args:
        module: such as "matplotlib" or "sklearn.datasets".
        wanted_by: what cannot do without it, as the beginning of a sentence: "env.data=skimage".

    Raises:
        UserError: it is not installed, or cannot be imported, with the command that installs it.
    """
    require_extras(wanted_by, module.partition(".")[0])
    try:
        return importlib.import_module(module)
    except ImportError as error:  # it is there, and lacks something itself
        raise UserError(f"{wanted_by} needs {module}, which cannot be imported ({error}); {_install(module)}") from None


def require_extras(wanted_by: str, *modules: str) -> None:
    """Raise UserError with the command that installs them unless all packages are there; imports none of them."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        names = ", ".join(EXTRAS[module][0] for module in missing)
        raise UserError(f"{wanted_by} needs {names}, not installed here; {_install(*missing)}")


@contextlib.contextmanager
def quiet_onnx_exporter() -> Iterator[None]:
    """Keep torch's ONNX exporter from speaking of packages it could use and of its own deprecations.

    Nothing a user can act on; its errors are raised and logged as ever.
    """
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _install(*modules: str) -> str:
    found = [EXTRAS[module.partition(".")[0]] for module in modules]
    extras = ",".join(sorted({extra for _, extra in found}))
    return f"run: pip install {' '.join(name for name, _ in found)} (the extra 'rlsuite[{extras}]' has it)"
