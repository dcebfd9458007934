"""What may stand between cameras and an agent, by name. One line a method.

`rlsuite.methods.choose(PERCEPTIONS, ["interpolation/rife"], {"rife.weights": "FILE"})` gives configured ones.
"""

PERCEPTIONS: dict[str, str] = {
    "detection/dense": "envs.perception.detection.detector:Dense",
    "detection/iff": "envs.perception.detection.detector:IFFDetector",
    "interpolation/average": "envs.perception.interpolation.classical:Average",
    "interpolation/dis": "envs.perception.interpolation.classical:DIS",
    "interpolation/repeat": "envs.perception.interpolation.classical:Repeat",
    "interpolation/rife": "envs.perception.interpolation.rife:RIFE",
    "translation/from_colors": "envs.perception.translation:FromColors",
    "translation/from_ids": "envs.perception.translation:FromIds",
}
