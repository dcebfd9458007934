"""A spatial network of a few channels, for the tests of gestures."""

from envs.perception.gestures.spatial import SpatialConfig

SMALL = SpatialConfig(
    stem=(4, 0, 4),
    middle=(0, 4, 0, 4),
    top=(4,),
    pose_width=4,
    hands=(2, 5),
    face=1,
    hand_crop=4,
    face_crop=3,
    crop_width=3,
    pose_cue=5,
)
