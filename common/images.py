"""From model outputs to PNG files: one rounding, one way of writing, grids to look at."""

import io
import os
import re
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

from common.config import UserError, first_five, warn
from common.files import atomic_write, remove_parts, require_file

SOFTWARE = "dlcv-hw2"  # written into our PNG files, so that a later run can tell its own files from the user's


def to_uint8(images: Tensor) -> Tensor:
    """Float [-1, 1] to uint8 [0, 255]: rounded to the nearest value and clamped, never rescaled per image."""
    return images.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def encode_png(image: Tensor) -> bytes:
    """uint8 (3, h, w) to the bytes of an RGB PNG file."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", SOFTWARE)
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy()).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def make_grid(images: Tensor, columns: int, gap: int = 2, scale: int = 1) -> Tensor:
    """uint8 (n, 3, h, w) to one uint8 (3, H, W) sheet, row by row on white, each pixel enlarged `scale` times."""
    images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    count, _, height, width = images.shape
    rows = -(-count // columns)
    sheet = torch.full((3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def labelled_grid(images: Tensor, labels: list[int], right: list[bool], columns: int) -> Tensor:
    """A sheet of uint8 (n, 3, 28, 28) digits, each with its label beneath, a wrong one in vermilion and in brackets."""
    height, width = 2 * images.shape[2], 2 * images.shape[3]
    font = ImageFont.load_default(20)
    cells = []
    for image, label, good in zip(images, labels, right, strict=True):
        cell = Image.new("RGB", (width, height + 22), "white")
        digit = Image.fromarray(image.permute(1, 2, 0).numpy())
        cell.paste(digit.resize((width, height), Image.Resampling.NEAREST))
        text, color = (str(label), "#000") if good else (f"({label})", "#D55E00")
        ImageDraw.Draw(cell).text((width / 2, height + 11), text, color, font, anchor="mm")
        cells.append(torch.frombuffer(bytearray(cell.tobytes()), dtype=torch.uint8).view(height + 22, width, 3))
    return make_grid(torch.stack(cells).permute(0, 3, 1, 2).contiguous(), columns, gap=4)


def save_image(path: Path, image: Tensor) -> None:
    """Write uint8 (3, h, w) as a PNG file, whole or not at all."""
    atomic_write(path, encode_png(image))


def _is_ours(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == SOFTWARE
    except Exception:  # not an image at all: the user's
        return False


def prepare_output_folder(folder: Path, names: list[str], pattern: str) -> None:
    """Make `folder` ready to hold exactly the files `names`.

    What earlier runs of ours left goes: names that match `pattern`, marked inside.  The user's files stay and are told.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):  # said before the work, not after it
            raise UserError(f"{folder} cannot be written")
        remove_parts(folder, pattern)
        others = sorted({path.name for path in folder.iterdir()} - set(names))
        for name in names:
            if (folder / name).is_symlink() and not (folder / name).is_dir():
                (folder / name).unlink()  # the image takes its place, and what it points to stays
            require_file(folder / name, new=True)
        ours = [name for name in others if re.fullmatch(pattern, name) and _is_ours(folder / name)]
        for name in ours:
            (folder / name).unlink(missing_ok=True)  # another run may have been faster
    except FileExistsError:
        raise UserError(f"{folder} is a file, expected a folder") from None
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be written: {error.strerror}") from None
    if foreign := [name for name in others if name not in ours]:
        warn(f"{folder} also holds files that are not ours: {first_five(foreign)}")


def write_images(folder: Path, names: list[str], images: Tensor) -> None:
    """Write uint8 (n, 3, h, w) as PNG files `names` in `folder`, each whole or not at all."""
    for name, image in zip(names, images, strict=True):
        save_image(folder / name, image)
