"""OpenSim's runner: gait9dof18musc built through OpenSim's API from this suite's numbers, and stepped as osim-rl does.

Needs ``pip install opensim`` (4.6 was used); nothing else of the suite does. It is a peer of the stepping benchmark;
tests/parity/opensim_reference.py records its fixtures from it.
"""

# OpenSim's compiled module has no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import importlib
from typing import Any

import mujoco
import numpy as np

from envs.learning_to_run.muscles import PARAMETERS, START
from envs.learning_to_run.path_points import CONDITIONS, KNEE_FUNCTIONS, MUSCLES, PATHS
from envs.simulation.model import find_model

JOINTS = tuple(f"{joint}_{side}" for side in "rl" for joint in ("hip", "knee", "ankle"))
LIMITS = {"hip": (120.0, -30.0), "knee": (10.0, -140.0), "ankle": (20.0, -40.0)}  # degrees
_MOVING = {"rect_fem": ("rect_fem_x", "rect_fem_y"), "vasti": ("vasti_x", "vasti_y")}
_STEP = 0.01  # s
_ACCURACY = 5e-5  # of the integrator, osim-rl 1.5's


class OpenSimRunner:
    """The model and one state of it.

    Args:
        contacts: Whether the feet touch the ground.
    """

    def __init__(self, *, contacts: bool = True) -> None:
        self._opensim: Any = importlib.import_module("opensim")
        self._opensim.Logger.setLevelString("Error")
        self._bodies = mujoco.MjModel.from_xml_path(str(find_model("runner.xml")))
        self.model = self._opensim.Model()
        self.model.setName("runner")
        self.model.setGravity(self._opensim.Vec3(0.0, -9.80665, 0.0))
        self._coordinates: dict[str, Any] = {}
        self._frames: dict[str, Any] = {"ground": self.model.getGround()}
        self._add_bodies()
        self._muscles = [self._add_muscle(name, side) for side in "rl" for name in MUSCLES]
        self._limits = [self._add_limit(joint) for joint in JOINTS]
        if contacts:
            self._add_contacts()
        controller = self._opensim.PrescribedController()
        self._controls = []
        for muscle in self._muscles:
            controller.addActuator(muscle)
        self.model.addController(controller)
        for muscle in self._muscles:
            control = self._opensim.Constant(0.0)
            controller.prescribeControlForActuator(muscle.getName(), control)
        self._controller = controller
        self.state = self.model.initSystem()
        functions = controller.get_ControlFunctions()
        self._controls = [self._opensim.Constant.safeDownCast(functions.get(i)) for i in range(len(self._muscles))]

    # -- building -------------------------------------------------------------------------------------------

    def _vector(self, values: np.ndarray) -> Any:
        """Return an OpenSim vector of a MuJoCo one: x, z and -y are x, y and z there."""
        x, y, z = (float(value) for value in values)
        return self._opensim.Vec3(x, z, -y)

    def _add_bodies(self) -> None:
        opensim, zero = self._opensim, self._opensim.Vec3(0.0)
        parents = {"pelvis": "ground", "torso": "pelvis", "head": "torso"}
        for side in "rl":
            chain = ("pelvis", f"femur_{side}", f"tibia_{side}", f"talus_{side}", f"calcn_{side}", f"toes_{side}")
            parents |= dict(zip(chain[1:], chain[:-1], strict=True))
        for name, parent in parents.items():
            body = self._bodies.body(name)
            xx, zz, yy = (float(value) for value in body.inertia)
            inertia = opensim.Inertia(xx, yy, zz, 0.0, 0.0, 0.0)
            frame = opensim.Body(name, float(body.mass[0]), self._vector(body.ipos), inertia)
            place = self._vector(body.pos)
            turn = zero
            kind, side = name.split("_")[0], name[-1]
            if kind == "pelvis":
                joint = opensim.PlanarJoint("ground_pelvis", self._frames[parent], zero, zero, frame, zero, zero)
                for index, coordinate in enumerate(("pelvis_tilt", "pelvis_tx", "pelvis_ty")):
                    joint.upd_coordinates(index).setName(coordinate)
                    self._coordinates[coordinate] = joint.upd_coordinates(index)
            elif kind in ("femur", "talus"):
                joint = opensim.PinJoint(f"{name}_joint", self._frames[parent], place, zero, frame, zero, zero)
                self._name(joint, f"{'hip' if kind == 'femur' else 'ankle'}_{side}")
            elif kind == "tibia":
                joint = self._knee(name, self._frames[parent], frame)
                self._name(joint, f"knee_{side}")
            else:
                lean = -2.0 * float(np.arctan2(body.quat[2], body.quat[0]))
                turn = opensim.Vec3(0.0, 0.0, lean)
                joint = opensim.WeldJoint(f"{name}_weld", self._frames[parent], place, turn, frame, zero, zero)
            self.model.addBody(frame)
            self.model.addJoint(joint)
            self._frames[name] = frame

    def _name(self, joint: Any, name: str) -> None:
        joint.upd_coordinates(0).setName(name)
        self._coordinates[name] = joint.upd_coordinates(0)

    def _knee(self, name: str, femur: Any, tibia: Any) -> Any:
        opensim = self._opensim
        transform = opensim.SpatialTransform()
        coordinate = opensim.ArrayStr(f"knee_{name[-1]}", 1)
        axis = transform.updTransformAxis(2)
        axis.setCoordinateNames(coordinate)
        axis.set_function(opensim.LinearFunction(1.0, 0.0))
        for index, function in ((3, "tibia_x"), (4, "tibia_y")):
            axis = transform.updTransformAxis(index)
            axis.setCoordinateNames(coordinate)
            axis.set_function(self._spline(function))
        for index, vector in enumerate(((1, 0, 0), (0, 1, 0), (0, 0, 1))):
            transform.updTransformAxis(index).setAxis(opensim.Vec3(*vector))
            transform.updTransformAxis(index + 3).setAxis(opensim.Vec3(*vector))
        zero = opensim.Vec3(0.0)
        joint = opensim.CustomJoint(f"{name}_joint", femur, zero, zero, tibia, zero, zero, transform)
        joint.finalizeFromProperties()  # makes the coordinate that the transform names
        return joint

    def _spline(self, name: str) -> Any:
        spline = self._opensim.SimmSpline()
        for knot, value in zip(*KNEE_FUNCTIONS[name], strict=True):
            spline.addPoint(knot, value)
        return spline

    def _add_muscle(self, name: str, side: str) -> Any:
        opensim = self._opensim
        force, optimal, slack, strain, pennation, passive, shape = PARAMETERS[name]
        muscle = opensim.Thelen2003Muscle(f"{name}_{side}", force, optimal, slack, pennation)
        muscle.set_max_contraction_velocity(15.0)
        muscle.set_activation_time_constant(0.01)
        muscle.set_deactivation_time_constant(0.04)
        muscle.set_FmaxTendonStrain(strain)
        muscle.set_FmaxMuscleStrain(passive)
        muscle.set_KshapePassive(shape)
        muscle.set_default_activation(START)
        sign = 1.0 if side == "r" else -1.0
        path = muscle.updGeometryPath()
        for index, (bone, (x, y, z)) in enumerate(PATHS[name]):
            label, place = f"{name}_{side}_{index}", opensim.Vec3(x, y, sign * z)
            kind = bone.rstrip("?")
            frame = self._frames["pelvis" if kind == "pelvis" else f"{'tibia' if kind == 'moving' else kind}_{side}"]
            if kind == "moving":
                point = opensim.MovingPathPoint()
                point.setName(label)
                point.setParentFrame(frame)
                for axis, function in zip("XY", _MOVING[name], strict=True):
                    getattr(point, f"set{axis}Coordinate")(self._coordinates[f"knee_{side}"])
                    getattr(point, f"set_{axis.lower()}_location")(self._spline(function))
                point.setZCoordinate(self._coordinates[f"knee_{side}"])
                point.set_z_location(opensim.Constant(sign * z))
                path.updPathPointSet().adoptAndAppend(point)
            elif bone.endswith("?"):
                angle, low, high = CONDITIONS[name]
                point = opensim.ConditionalPathPoint()
                point.setName(label)
                point.setParentFrame(frame)
                point.setLocation(place)
                point.setCoordinate(self._coordinates[f"{angle}_{side}"])
                point.setRangeMin(low)
                point.setRangeMax(high)
                path.updPathPointSet().adoptAndAppend(point)
            else:
                muscle.addNewPathPoint(label, frame, place)
        self.model.addForce(muscle)
        return muscle

    def _add_limit(self, joint: str) -> Any:
        upper, lower = LIMITS[joint.split("_")[0]]
        limit = self._opensim.CoordinateLimitForce(joint, upper, 20.0, lower, 20.0, 0.25, 10.0)
        self.model.addForce(limit)
        return limit

    def _add_contacts(self) -> None:
        opensim = self._opensim
        turn = opensim.Vec3(0.0, 0.0, -np.pi / 2.0)
        self.model.addContactGeometry(
            opensim.ContactHalfSpace(opensim.Vec3(0.0), turn, self.model.getGround(), "platform")
        )
        for side in "rl":
            force = opensim.HuntCrossleyForce()
            force.addGeometry("platform")
            for name, body in (("heel", "calcn"), ("toe", "toes")):
                label, place = f"{side}_{name}", opensim.Vec3(0.03, 0.04, 0.0)
                sphere = opensim.ContactSphere(0.05, place, self._frames[f"{body}_{side}"], label)
                self.model.addContactGeometry(sphere)
                force.addGeometry(label)
            force.setStiffness(600_000.0)
            force.setDissipation(1.5)
            force.setStaticFriction(0.8)
            force.setDynamicFriction(0.8)
            force.setViscousFriction(0.0)
            force.setName(f"foot_{side}")
            force.setTransitionVelocity(0.1)
            self.model.addForce(force)

    # -- asking ---------------------------------------------------------------------------------------------

    def pose(self, joints: np.ndarray, speeds: np.ndarray | None = None) -> None:
        """Set six joint angles and their speeds (0 by default), in the order of `JOINTS`."""
        for index, joint in enumerate(JOINTS):
            coordinate = self._coordinates[joint]
            coordinate.setValue(self.state, float(joints[index]), False)
            coordinate.setSpeedValue(self.state, 0.0 if speeds is None else float(speeds[index]))
        self.model.realizeVelocity(self.state)

    def lengths(self) -> np.ndarray:
        """Return the paths' lengths (18,) in the order of actions."""
        return np.array([muscle.getGeometryPath().getLength(self.state) for muscle in self._muscles])

    def moment_arms(self) -> np.ndarray:
        """Return the moment arms (18, 6), in the order of actions and of `JOINTS`."""
        coordinates = [self._coordinates[joint] for joint in JOINTS]
        return np.array(
            [[m.getGeometryPath().computeMomentArm(self.state, c) for c in coordinates] for m in self._muscles]
        )

    def stop_torques(self) -> np.ndarray:
        """Return the joint stops' torques (6,), in the order of `JOINTS`."""
        return np.array([limit.calcLimitForce(self.state) for limit in self._limits])

    # -- stepping -------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Stand the runner up."""
        self.state = self.model.initializeState()
        for name, value in (("pelvis_tilt", -0.05), ("pelvis_tx", 0.0), ("pelvis_ty", 0.91)):
            self._coordinates[name].setValue(self.state, value, False)
        self._manager = self._opensim.Manager(self.model)
        self._manager.setIntegratorAccuracy(_ACCURACY)
        self._manager.initialize(self.state)
        self._time = 0.0

    def step(self, action: np.ndarray) -> tuple[float, float]:
        """Make 10 ms under excitations (18,); return the pelvis's x and y."""
        for control, value in zip(self._controls, action, strict=True):
            control.setValue(float(value))
        self._time += _STEP
        self.state = self._manager.integrate(self._time)
        return tuple(self._coordinates[name].getValue(self.state) for name in ("pelvis_tx", "pelvis_ty"))
