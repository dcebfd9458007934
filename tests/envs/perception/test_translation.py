"""Generators as perceivers: colors of ids, and other colors of colors."""

import torch

from envs.perception.translation import id_colors
from envs.perception.weights import build_perceiver, choose_perceivers, save_perceiver
from envs.perception.wrapper import drawn_fields


def test_ids_have_colors_of_their_own():
    colors = id_colors(torch.arange(-1, 200).view(1, 1, 1, -1))[0, :, 0].T
    assert colors[0].tolist() == [-1.0, -1.0, -1.0]
    assert float(colors.min()) >= -1.0
    assert float(colors.max()) < 1.0
    apart = torch.cdist(colors, colors) + 10 * torch.eye(len(colors))
    assert float(apart.min()) > 0.15  # 19 bytes apart


@torch.no_grad()
def test_an_agent_sees_what_the_generator_in_a_file_makes(tmp_path, generator):
    ids = torch.randint(-1, 9, (2, 1, 16, 16), generator=generator)
    colors = torch.rand(2, 3, 16, 16, generator=generator)
    for name, seen, entering in (
        ("from_ids", {"ids": ids}, id_colors(ids)),
        ("from_colors", {"rgb": colors}, 2 * colors - 1),
    ):
        (method,) = choose_perceivers(
            [f"translation/{name}"], {f"{name}.network.width": 4, f"{name}.network.levels": 2}
        )
        path = tmp_path / f"{name}.safetensors"
        save_perceiver(path, method.build(seed=1), method)
        (read,) = choose_perceivers([name], {f"{name}.weights": str(path)})
        perceiver = build_perceiver(read)
        assert drawn_fields([perceiver], ("rgb",)) == tuple(seen)  # with ids no colors are rendered
        found, state = perceiver(seen, {})
        torch.testing.assert_close(found["rgb"], perceiver.network(entering) / 2 + 0.5)
        assert state == {}
