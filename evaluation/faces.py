"""A folder of faces as the homework's grader sees it: which files count, which are readable, which show a face."""

from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from common.config import UserError, first_five, warn
from data.batches import FACE_SIZE
from data.reading import decode_image, list_images

SCORED_SUFFIXES = {".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}  # pytorch-fid 0.3.0's


def scored_images(folder: Path) -> list[Path]:
    """The files of a folder that pytorch-fid scores, sorted: with one of its (lower-case) suffixes, hidden or not.

    Names on stderr the hidden ones and what else is there.  Raises UserError as `list_images`, or if none is scored.
    """
    list_images(folder)  # for its errors
    entries = sorted(folder.iterdir())
    scored = [path for path in entries if path.suffix in SCORED_SUFFIXES and not path.is_dir()]
    if not scored:
        raise UserError(f"{folder} holds no image that pytorch-fid scores ({', '.join(sorted(SCORED_SUFFIXES))})")
    if hidden := [path.name for path in scored if path.name.startswith(".")]:
        warn(f"{folder} holds hidden images, which pytorch-fid scores too: {first_five(hidden)}")
    if others := [path.name + "/" * path.is_dir() for path in sorted(set(entries) - set(scored))]:
        warn(f"{folder} also holds what pytorch-fid does not score: {first_five(others)}")
    return scored


def read_faces(paths: list[Path]) -> tuple[Tensor, list[str]]:
    """The readable 64x64 images uint8 (n, 3, 64, 64), a sentence for each other file; UserError if none is readable."""
    images, problems = [], []
    for path in paths:
        try:
            images.append(torch.from_numpy(decode_image(path, FACE_SIZE, as_stored=True).copy()).permute(2, 0, 1))
        except UserError as error:
            problems.append(str(error))
    if not images:
        raise UserError(f"none of {len(paths)} images can be read: {problems[0]}")
    return torch.stack(images), problems


def face_counts(images: Tensor) -> list[int]:
    """How many faces dlib's frontal HOG detector, upsampling once, finds in each of uint8 images (n, 3, h, w).

    The homework's face rate is the share of images with exactly one.  Raises UserError if dlib is missing.
    """
    try:
        import dlib
    except ImportError:
        raise UserError("the face rate needs dlib, run: pip install dlib-bin==20.0.1.post1") from None
    detector = dlib.get_frontal_face_detector()
    pictures = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return [len(detector(picture, 1)) for picture in tqdm(pictures, desc="dlib", unit="img", leave=False, disable=None)]
