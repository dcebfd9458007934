"""Where the muscles run: the points of nine paths a leg, and what moves with the knee's angle.

The numbers are those of gait9dof18musc (see docs/learning_to_run.md), of the right leg, in metres and radians; the left
leg's sideways coordinate z is the opposite. x is forward and y is up.
"""

from __future__ import annotations

from collections.abc import Sequence

MUSCLES = ("hamstrings", "bifemsh", "glut_max", "iliopsoas", "rect_fem", "vasti", "gastroc", "soleus", "tib_ant")

Point = tuple[float, float, float]

# Origins of the moving bones in their parents (right leg; the left one's z is the opposite).
HIP: Point = (-0.0707, -0.0661, 0.0835)
ANKLE: Point = (0.0, -0.43, 0.0)
CALCANEUS: Point = (-0.04877, -0.04195, 0.00792)

# Points that a path is led over only while an angle is between two bounds: muscle -> (angle, low, high).
CONDITIONS = {
    "hamstrings": ("knee", -0.5585, 0.1745),
    "iliopsoas": ("hip", -1.5708, 0.7854),
    "rect_fem": ("knee", -2.618, -1.46),
    "vasti": ("knee", -2.618, -1.42),
    "gastroc": ("knee", -0.7854, 0.1745),
}
# muscle -> its points from the top: (bone, place), of a moving point the name of its splines. The conditional point is
# the one marked "?"; moving points are in the tibia's frame.
PATHS: dict[str, list[tuple[str, Point]]] = {
    "hamstrings": [
        ("pelvis", (-0.1192, -0.09747, 0.07151)),
        ("tibia?", (-0.0348, -0.03519, -0.01891)),
        ("tibia", (-0.027, -0.04771, -0.01957)),
    ],
    "bifemsh": [
        ("femur", (0.005, -0.2111, 0.0234)),
        ("tibia", (-0.0301, -0.036, 0.02943)),
        ("tibia", (-0.0234, -0.0563, 0.0343)),
    ],
    "glut_max": [
        ("pelvis", (-0.1349, 0.0176, 0.0563)),
        ("pelvis", (-0.1376, -0.052, 0.0914)),
        ("femur", (-0.0426, -0.053, 0.0293)),
        ("femur", (-0.0156, -0.1016, 0.0419)),
    ],
    "iliopsoas": [
        ("pelvis", (-0.0647, 0.0887, 0.0289)),
        ("pelvis", (-0.0238, -0.057, 0.0759)),
        ("pelvis?", (-0.0288, -0.0805, 0.0816)),
        ("femur", (0.0016, -0.0507, 0.0038)),
        ("femur", (-0.0188, -0.0597, 0.0104)),
    ],
    "rect_fem": [
        ("pelvis", (-0.0295, -0.0311, 0.0968)),
        ("femur?", (0.0334, -0.403, 0.0019)),
        ("moving", (0.0, 0.0, 0.0014)),
    ],
    "vasti": [
        ("femur", (0.029, -0.1924, 0.031)),
        ("femur", (0.0335, -0.2084, 0.0285)),
        ("femur?", (0.0343, -0.403, 0.0055)),
        ("moving", (0.0, 0.0, 0.0018)),
    ],
    "gastroc": [
        ("femur", (-0.019, -0.3929, -0.0235)),
        ("femur?", (-0.03, -0.4022, -0.0258)),
        ("calcn", (0.0, 0.031, -0.0053)),
    ],
    "soleus": [("tibia", (-0.0024, -0.1533, 0.0071)), ("calcn", (0.0, 0.031, -0.0053))],
    "tib_ant": [
        ("tibia", (0.0179, -0.1624, 0.0115)),
        ("tibia", (0.0329, -0.3951, -0.0177)),
        ("calcn", (0.1166, 0.0178, -0.0305)),
    ],
}
# Functions of the knee's angle: the tibia's origin in the femur, and the insertions on it that move.
_MOVING_KNOTS = (
    *(-2.0944, -1.99997, -1.5708, -1.45752, -1.39626, -1.0472, -0.698132, -0.526391, -0.349066, -0.174533, 0.0),
    *(0.00017453, 0.00034907, 0.0279253, 0.0872665, 0.174533, 2.0944),
)
KNEE_FUNCTIONS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "tibia_x": (
        (
            *(-2.0944, -1.74533, -1.39626, -1.0472, -0.698132, -0.349066, -0.174533, 0.197344, 0.337395, 0.490178),
            *(1.52146, 2.0944),
        ),
        (
            *(-0.0032, 0.00179, 0.00411, 0.0041, 0.00212, -0.001, -0.0031, -0.005227, -0.005435, -0.005574),
            *(-0.005435, -0.00525),
        ),
    ),
    "tibia_y": (
        (-2.0944, -1.22173, -0.523599, -0.349066, -0.174533, 0.159149, 2.0944),
        (-0.4226, -0.4082, -0.399, -0.3976, -0.3966, -0.395264, -0.396),
    ),
    "rect_fem_x": (
        _MOVING_KNOTS,
        (
            *(0.0155805, 0.0179938, 0.0275081, 0.0296564, 0.0307615, 0.0365695, 0.0422074, 0.0450902, 0.048391),
            *(0.0534299, 0.0617576, 0.0617669, 0.0617762, 0.0633083, 0.066994, 0.0733035, 0.0573481),
        ),
    ),
    "rect_fem_y": (
        _MOVING_KNOTS,
        (
            *(0.0234116, 0.0237613, 0.0251141, 0.0252795, 0.0253146, 0.0249184, 0.0242373, 0.0238447, 0.0234197),
            *(0.0227644, 0.020984, 0.0209814, 0.0209788, 0.0205225, 0.0191754, 0.0159554, -0.0673774),
        ),
    ),
    "vasti_x": (
        _MOVING_KNOTS,
        (
            *(0.0082733, 0.0106866, 0.0202042, 0.022353, 0.0234583, 0.0292715, 0.0349465, 0.037871, 0.0412569),
            *(0.0465287, 0.0554632, 0.0554735, 0.0554837, 0.0571717, 0.061272, 0.0684368, 0.0648818),
        ),
    ),
    "vasti_y": (
        _MOVING_KNOTS,
        (
            *(0.025599, 0.0259487, 0.0273124, 0.0274796, 0.0275151, 0.0271363, 0.0265737, 0.0263073, 0.0261187),
            *(0.0260129, 0.0252923, 0.0252911, 0.0252898, 0.0250526, 0.0242191, 0.0218288, -0.0685706),
        ),
    ),
}
