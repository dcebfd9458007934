"""Loading a MuJoCo model for batched simulation."""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path

import gymnasium
import mujoco
import torch

from envs.simulation.base import Edit, ModelFacts
from rlsuite.errors import UserError, near_matches

# MuJoCo 4.0.0 factorizes sparse Newton systems wrongly; below this many degrees of freedom a dense
# Jacobian is what the automatic choice would take anyway.
_DENSE_BELOW = 60
_OWN_MODELS = [Path(__file__).resolve().parents[1] / folder for folder in ("locomotion", "learning_to_run")]
_CONTACT_SENSOR = "rlsuite_contact"

# Without a handler the engine writes its warnings to MUJOCO_LOG.TXT in the working directory. Those of bad
# states are counted by the simulation in any case; the text goes to Python's log.
if mujoco.get_mju_user_warning() is None:
    mujoco.set_mju_user_warning(logging.getLogger("mujoco").info)


def asset_folders() -> list[Path]:
    """Return the folders of the model files that Gymnasium and Gymnasium-Robotics ship, and the suite's own."""
    folders = [Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets", *_OWN_MODELS]
    # Found, not imported: importing the package would register a hundred environments that cannot be built.
    robotics = importlib.util.find_spec("gymnasium_robotics")
    if robotics is not None and robotics.origin is not None:
        folders.append(Path(robotics.origin).parent / "envs" / "assets")
    return folders


def find_model(xml_file: str) -> Path:
    """Return the path of a model file.

    Args:
        xml_file: A path (starting with '.', '/' or '~'), or the name of one of Gymnasium's ("ant.xml"), the suite's own
            ("point_3d.xml") or Gymnasium-Robotics' ("fetch/push.xml") model files.

    Raises:
        UserError: If there is no such file.
    """
    if xml_file.startswith((".", "/", "~")):
        candidates = [Path(xml_file).expanduser()]
    else:
        candidates = [folder / xml_file for folder in asset_folders()]
    for path in candidates:
        if path.is_file():
            return path
    known = (str(path.relative_to(folder)) for folder in asset_folders() for path in folder.rglob("*.xml"))
    raise UserError(f"xml_file='{xml_file}': no such model file{near_matches(xml_file, known)}")


def add_contact_sensor(spec: mujoco.MjSpec) -> None:
    """Add a force sensor on the first body: it makes the engine compute ``cfrc_ext`` in every step, at no cost."""
    first_body = spec.bodies[1]
    first_body.add_site(name=_CONTACT_SENSOR)
    spec.add_sensor(
        name=_CONTACT_SENSOR,
        type=mujoco.mjtSensor.mjSENS_FORCE,
        objtype=mujoco.mjtObj.mjOBJ_SITE,
        objname=_CONTACT_SENSOR,
    )


def load_model(xml_file: str, edits: Sequence[Edit] = ()) -> mujoco.MjModel:
    """Compile a model and set the engine's options.

    Two options differ from the file's: the Jacobian is dense, and the engine no longer resets a simulation
    by itself when its state goes bad (a silent teleport would look like an ordinary transition).

    Args:
        xml_file: See `find_model`.
        edits: What changes the model before it is compiled, such as `add_contact_sensor`.

    Returns:
        The model.

    Raises:
        UserError: If the file is missing or is no valid model.
    """
    path = str(find_model(xml_file))
    try:
        if edits:
            spec = mujoco.MjSpec.from_file(path)
            for edit in edits:
                edit(spec)
            model = spec.compile()
        else:
            model = mujoco.MjModel.from_xml_path(path)
    except ValueError as error:
        first_line = str(error).strip().splitlines()[0]
        raise UserError(f"xml_file='{xml_file}' is not a valid MuJoCo model: {first_line}") from None
    if model.nv < _DENSE_BELOW:
        model.opt.jacobian = int(mujoco.mjtJacobian.mjJAC_DENSE)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    return model


def model_facts(model: mujoco.MjModel) -> ModelFacts:
    """Read the constants tasks need from a model."""
    control_range = torch.from_numpy(model.actuator_ctrlrange.copy())
    return ModelFacts(
        initial_qpos=torch.from_numpy(model.qpos0.copy()),
        initial_qvel=torch.zeros(model.nv, dtype=torch.float64),
        body_mass=torch.from_numpy(model.body_mass.copy()),
        body_ids={model.body(index).name: index for index in range(model.nbody)},
        timestep=float(model.opt.timestep),
        control_low=control_range[:, 0],
        control_high=control_range[:, 1],
        model=model,
    )
