"""DiLiGenT-MV's layout: flips, holes, saturated samples and calibrations, on small files."""

import numpy as np
import pytest
import torch

from envs.perception.stereo.diligent_mv import fill_holes, read_diligent_mv
from rlsuite.errors import UserError

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (extra: vision)")
scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed (extra: vision)")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "mvpmsData" / "bearPNG"
    mask = np.zeros((6, 8), np.uint8)
    mask[1:5, 1:6] = 255
    mask[2, 3] = 0
    normals = np.zeros((6, 8, 3))
    normals[...] = (0.0, 0.6, 0.8)
    calibration = {"KK": np.array([[9.0, 0, 4], [0, 9, 3], [0, 0, 1]])}
    for view in (1, 2):
        here = folder / f"view_{view:02}"
        here.mkdir(parents=True)
        for light in (1, 2, 3):
            assert cv2.imwrite(str(here / f"{light:03}.png"), np.full((6, 8, 3), 20000 * light + view, np.uint16))
        assert cv2.imwrite(str(here / "mask.png"), mask)
        scipy_io.savemat(here / "Normal_gt.mat", {"Normal_gt": normals})
        (here / "light_directions.txt").write_text("0 0.6 0.8\n0 0 1\n0.6 0 0.8\n")
        (here / "light_intensities.txt").write_text("1 1 1\n2 2 2\n4 4 4\n")
        calibration |= {f"Rc_{view}": np.eye(3) * [1, 1, view], f"Tc_{view}": np.array([[0.0], [0], [view]])}
    scipy_io.savemat(folder / "Calib_Results.mat", calibration)
    return tmp_path


def test_views_are_read_in_the_scanners_axes(root):
    capture, normals = read_diligent_mv(root, "bear")
    assert capture.images.shape == (2, 3, 6, 8, 3)
    assert not capture.near
    torch.testing.assert_close(capture.lights[0, 0], torch.tensor([0.0, -0.6, -0.8]))
    torch.testing.assert_close(normals[1, 1, 1], torch.tensor([0.0, -0.6, -0.8]))
    assert float(normals[:, 0].abs().max()) == 0.0
    assert bool(capture.masks[0, 2, 3])  # a hole, filled
    assert capture.images[1, 1, 1, 1].tolist() == pytest.approx([40002 / 65535 / 2] * 3)
    assert capture.images[0, 2, 1, 1].tolist() == pytest.approx([60001 / 65535 / 4] * 3)
    assert float(capture.rotations[1, 2, 2]) == 2.0
    assert capture.translations.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 2.0]]
    part, _ = read_diligent_mv(root / "mvpmsData", "bear", views=[2], lights=[2])
    assert torch.equal(part.images, capture.images[1:, 1:2])


def test_what_is_missing_is_named(root):
    with pytest.raises(UserError, match="there is no such folder; DiLiGenT-MV has bear"):
        read_diligent_mv(root, "horse")
    with pytest.raises(UserError, match="numbered from 1 on"):
        read_diligent_mv(root, "bear", lights=[4])
    (root / "mvpmsData/bearPNG/Calib_Results.mat").unlink()
    with pytest.raises(UserError, match=r"Calib_Results\.mat: there is no such file"):
        read_diligent_mv(root, "bear")


def test_only_holes_are_filled():
    rows = ["........", ".####...", ".#..#..#", ".####.##", "......#.", "......##"]
    mask = torch.tensor([[mark == "#" for mark in row] for row in rows])
    filled = fill_holes(mask)
    assert filled.sum() == mask.sum() + 2
    assert bool(filled[2, 2])
    assert not bool(filled[4, 7])
