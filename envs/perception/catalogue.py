"""What may stand between cameras and an agent, by name. One line a method.

`rlsuite.methods.choose(PERCEPTIONS, ["interpolation/rife"], {"rife.weights": "FILE"})` gives configured ones.
"""

PERCEPTIONS: dict[str, str] = {
    "codec/jpeg": "envs.perception.codec.jpeg:JPEG",
    "codec/m_lvc": "envs.perception.codec.m_lvc:MLVC",
    "inpainting/fill": "envs.perception.inpainting.classical:Fill",
    "inpainting/hidden": "envs.perception.inpainting.occluders:Hidden",
    "inpainting/last_seen": "envs.perception.inpainting.classical:LastSeen",
    "inpainting/patch": "envs.perception.inpainting.occluders:Patch",
    "inpainting/tsam": "envs.perception.inpainting.tsam:TSAM",
    "detection/dense": "envs.perception.detection.detector:Dense",
    "detection/iff": "envs.perception.detection.detector:IFFDetector",
    "interpolation/average": "envs.perception.interpolation.classical:Average",
    "interpolation/dis": "envs.perception.interpolation.classical:DIS",
    "interpolation/repeat": "envs.perception.interpolation.classical:Repeat",
    "interpolation/rife": "envs.perception.interpolation.rife:RIFE",
    "segmentation/compfeat": "envs.perception.segmentation.compfeat:CompFeat",
    "tracking/crt": "envs.perception.tracking.crt:CRT",
    "stereo/lcnet": "envs.perception.stereo.lcnet:Uncalibrated",
    "stereo/least_squares": "envs.perception.stereo.least_squares:LeastSquares",
    "stereo/psfcn": "envs.perception.stereo.psfcn:PSFCN",
    "translation/from_colors": "envs.perception.translation:FromColors",
    "translation/from_ids": "envs.perception.translation:FromIds",
}
