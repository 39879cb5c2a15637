"""From floats to pixels and back, and sheets of images."""

import torch

from common.images import make_grid, to_uint8
from data.reading import to_unit_range


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor(
        [-9, -1, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.0, 1 - 0.49 / 127.5, 1 - 0.51 / 127.5, 1, 9.0]
    )
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 128, 255, 254, 255, 255]  # 127.5 rounds to the even 128
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit_range(levels)), levels)
    assert to_unit_range(levels)[[0, 255]].tolist() == [-1, 1]
    assert to_uint8(torch.tensor([0.25], dtype=torch.bfloat16)).item() == 159


def test_grid():
    """Row by row, white between and where images are missing, each pixel enlarged."""
    tiles = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 1, 2)
    sheet = make_grid(tiles, 2, gap=1, scale=2)
    assert sheet.shape == (3, 5, 9)
    row = [10] * 4 + [255] + [20] * 4
    expected = torch.tensor([row, row, [255] * 9, [30] * 4 + [255] * 5, [30] * 4 + [255] * 5], dtype=torch.uint8)
    assert torch.equal(sheet, expected.expand(3, -1, -1))
