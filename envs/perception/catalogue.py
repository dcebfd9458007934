"""What may stand between cameras and an agent, by name. One line a method.

`rlsuite.methods.choose(PERCEPTIONS, ["interpolation/rife"], {"rife.weights": "FILE"})` gives configured ones.
"""

PERCEPTIONS: dict[str, str] = {
    "interpolation/average": "envs.perception.interpolation.classical:Average",
    "interpolation/dis": "envs.perception.interpolation.classical:DIS",
    "interpolation/repeat": "envs.perception.interpolation.classical:Repeat",
    "interpolation/rife": "envs.perception.interpolation.rife:RIFE",
    "stereo/lcnet": "envs.perception.stereo.lcnet:Uncalibrated",
    "stereo/least_squares": "envs.perception.stereo.least_squares:LeastSquares",
    "stereo/psfcn": "envs.perception.stereo.psfcn:PSFCN",
    "translation/from_colors": "envs.perception.translation:FromColors",
    "translation/from_ids": "envs.perception.translation:FromIds",
}
