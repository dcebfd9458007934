"""Photographs from files: 16 bits kept, DiLiGenT's and PS Sculpture's layouts, and files that are something else."""

import numpy as np
import pytest
import torch

from envs.perception.stereo.diligent import cropped, read_diligent
from envs.perception.stereo.png import read_png
from envs.perception.stereo.sculptures import Sculptures
from rlsuite.errors import UserError

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (extra: vision)")
scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed (extra: vision)")


def write(path, picture):
    """Write (H, W, 3) red first, or (H, W), of 8 or 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1] if picture.ndim == 3 else picture)


def test_all_sixteen_bits_come_back(tmp_path):
    numbers = np.arange(24, dtype=np.uint16).reshape(2, 4, 3) * 2500 + 1
    write(tmp_path / "deep.png", numbers)
    found = read_png(tmp_path / "deep.png")
    assert torch.equal((found * 65535).round().int(), torch.from_numpy(numbers.astype(np.int32)).permute(2, 0, 1))
    write(tmp_path / "grey.png", np.array([[0, 255]], dtype=np.uint8))
    assert read_png(tmp_path / "grey.png").tolist() == [[[0.0, 1.0]]] * 3
    clear = np.full((2, 2, 4), 7, np.uint8)
    assert cv2.imwrite(str(tmp_path / "clear.png"), clear)
    assert read_png(tmp_path / "clear.png").shape == (3, 2, 2)


@pytest.mark.parametrize("content", [b"", b"GIF89a" + bytes(60), b"\x89PNG\r\n\x1a\n" + bytes(60)])
def test_what_is_no_png_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.png") as caught:
        read_png(tmp_path / "bad.png")
    assert "\n" not in str(caught.value)
    huge = b"\x89PNG\r\n\x1a\n" + bytes(8) + (1 << 30).to_bytes(4, "big") * 2 + bytes(20)
    (tmp_path / "bad.png").write_bytes(huge)
    with pytest.raises(UserError, match="use a smaller picture"):
        read_png(tmp_path / "bad.png")


@pytest.fixture
def ball(tmp_path):
    """An object of DiLiGenT, two images of 6 x 8 pixels."""
    for number in (1, 2):
        write(tmp_path / f"{number:03}.png", np.full((6, 8, 3), 1000 * number, np.uint16))
    (tmp_path / "filenames.txt").write_text("001.png\n002.png\n")
    (tmp_path / "light_directions.txt").write_text("0 0 1\n0.6 0 0.8\n")
    (tmp_path / "light_intensities.txt").write_text("1 2 4\n1 1 1\n")
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:5] = 255
    write(tmp_path / "mask.png", mask)
    normals = np.zeros((6, 8, 3))
    normals[..., 2] = 1.0
    scipy_io.savemat(tmp_path / "Normal_gt.mat", {"Normal_gt": normals})
    return tmp_path


def test_diligent_is_read_masked_and_divided_by_the_lights(ball):
    photos = read_diligent(ball)
    assert photos.images[0, :, 2, 3].tolist() == pytest.approx([1000 / 65535, 500 / 65535, 250 / 65535])
    assert photos.images[1, :, 3, 4].tolist() == pytest.approx([2000 / 65535] * 3)
    assert float(photos.images[:, :, 0].abs().max()) == 0.0
    torch.testing.assert_close(photos.lights, torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8]]))
    assert float(photos.normals.sum()) == int(photos.mask.sum()) == 4
    small = cropped(photos, margin=1)
    assert small.images.shape == (2, 3, 4, 4)
    assert small.mask.tolist() == [[False] * 4, [False, True, True, False], [False, True, True, False], [False] * 4]
    assert cropped(photos).images.shape == photos.images.shape


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("light_directions.txt", b"0 0 1\n", "1 lines, and there are 2 images"),
        ("light_intensities.txt", b"1 1 1\n1 1 x\n", "three numbers"),
        ("filenames.txt", b"001.png\n../../etc/passwd\n", "passwd"),
        ("Normal_gt.mat", b"nothing", "cannot be read"),
        ("mask.png", b"nothing", "no PNG"),
    ],
)
def test_a_damaged_object_is_refused_with_the_files_name(ball, file, content, message):
    (ball / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_diligent(ball)


def test_sculptures_are_read_as_the_paper_has_them(tmp_path):
    normals = np.zeros((4, 4, 3), np.uint8)
    normals[1:3, 1:3] = (128, 128, 255)
    write(tmp_path / "Images/bust/bust_normal.png", normals)
    folder = tmp_path / "Images/bust/gold"
    for number in range(2):
        write(folder / f"{number}.png", np.full((4, 4, 3), 100 * (number + 1), np.uint8))
    (folder / "bust_gold.txt").write_text("0.png 0 0 1\n1.png 0.6 0 0.8\n")
    (tmp_path / "train_mtrl.txt").write_text("bust/gold\n")
    source = Sculptures(str(tmp_path))
    found = source.examples(torch.tensor([0, 0]))
    assert len(source) == 1
    assert found["images"].shape == (2, 2, 3, 4, 4)
    assert found["images"][0, 1, :, 1, 1].tolist() == pytest.approx([200 / 255] * 3)
    assert found["mask"][0, 0].sum() == 4
    torch.testing.assert_close(found["normals"][0, :, 1, 1], torch.tensor([0.0, 0.0, 1.0]), atol=6e-3, rtol=0)
    with pytest.raises(UserError, match="val_mtrl"):
        Sculptures(str(tmp_path), "val")
    (tmp_path / "train_mtrl.txt").write_text("../gold\n")
    with pytest.raises(UserError, match="SHAPE/MATERIAL"):
        Sculptures(str(tmp_path))
    (tmp_path / "train_mtrl.txt").write_text("bust/silver\n")
    with pytest.raises(UserError, match=r"bust_silver\.txt: there is no such file"):
        Sculptures(str(tmp_path)).examples(torch.tensor([0]))
