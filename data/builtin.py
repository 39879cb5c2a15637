"""A small stand-in for the course's data, drawn in seconds: for smoke runs and tests only.

Nothing trained on it says anything about the homework.  Its digits are scikit-learn's 1,797 real handwritten
digits (8x8), enlarged and restyled after the three sets, the backgrounds come from scikit-learn's two sample
photographs, and its faces are drawn by this file.  No digit of a `train` set occurs in a `val` set.  The same
seed gives the same bytes.
"""

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from common.config import UserError
from common.files import read_text
from data.tree import stream, write_csv

README = """Built-in data of `python3 prepare_data.py --builtin DIR`, for smoke runs and tests only: drawn faces, and
scikit-learn's handwritten digits in three styles.  No number obtained from them says anything about the homework.
"""  # by it a later run knows its own tree
SKINS = ((242, 208, 184), (226, 180, 146), (198, 146, 108), (150, 100, 68), (98, 64, 46))
HAIRS = ((28, 22, 20), (62, 40, 26), (112, 72, 40), (190, 148, 84), (142, 140, 138), (134, 58, 30))

Photos = list[Image.Image]
Color = tuple[int, int, int]
Ellipse = tuple[float, float, float, float]


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Float [0, 1] to uint8 [0, 255], rounded and clamped."""
    return np.rint(values * 255).clip(0, 255).astype(np.uint8)


def glyph(digit: np.ndarray, size: float, threshold: float, softness: float, angle: float) -> np.ndarray:
    """A digit (8, 8) in [0, 16] as float (28, 28) in [0, 1], centred, its longer side `size` pixels.

    Strokes are what exceeds `threshold` of the smoothly enlarged digit: lower is thicker.  `softness` is
    the width of their edge in the same unit, `angle` is in degrees.
    """
    tile = Image.fromarray(np.pad(digit / 16, 2).astype(np.float32)).resize((96, 96), Image.Resampling.BICUBIC)
    values = (np.asarray(tile.rotate(angle, Image.Resampling.BILINEAR)) - threshold) / softness + 0.5
    tile = Image.fromarray(to_bytes(values))
    tile = tile.crop(tile.point(lambda value: 255 * (value > 127)).getbbox())
    tile = ImageOps.contain(tile, (round(size), round(size)), Image.Resampling.BICUBIC)
    canvas = Image.new("L", (28, 28))
    canvas.paste(tile, ((28 - tile.width) // 2, (28 - tile.height) // 2))
    return np.asarray(canvas) / 255


def patch(photos: Photos, random: np.random.Generator, blur: float = 0.0) -> np.ndarray:
    """A random square of a photograph as float (28, 28, 3) in [0, 1], Gaussian blur with `blur` pixels' radius."""
    photo = photos[random.integers(len(photos))]
    side = int(random.integers(28, 113))
    left, top = (int(random.integers(length - side + 1)) for length in photo.size)
    square = photo.resize((28, 28), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return np.asarray(square.filter(ImageFilter.GaussianBlur(blur))) / 255.0


def draw_mnistm(digit: np.ndarray, others: np.ndarray, photos: Photos, random: np.random.Generator) -> np.ndarray:
    """A digit (8, 8) as uint8 (28, 28, 3): |patch - digit|, as MNIST-M is made."""
    ink = glyph(digit, 20, random.uniform(0.35, 0.55), 0.1, random.uniform(-8, 8))
    return to_bytes(np.abs(patch(photos, random) - ink[:, :, None]))


def draw_svhn(digit: np.ndarray, others: np.ndarray, photos: Photos, random: np.random.Generator) -> np.ndarray:
    """A digit (8, 8) as uint8 (28, 28, 3): coloured, some of `others` (n, 8, 8) at its sides, out of focus."""
    style = (random.uniform(19, 25), random.uniform(0.25, 0.45), 0.2, random.uniform(-6, 6))
    ink = np.pad(glyph(digit, *style), ((0, 0), (28, 28)))
    for left in 28 - random.integers(16, 22), 28 + random.integers(16, 22):
        if random.random() < 0.6:
            ink[:, left : left + 28] = np.maximum(ink[:, left : left + 28], glyph(random.choice(others), *style))
    ink = ink[:, 28:56, None]
    wall = random.uniform(0.1, 0.9) + random.normal(0, 0.05, 3)
    wall = 0.7 * wall + 0.3 * patch(photos, random, blur=4.0)
    away = -1 if wall.mean() > random.uniform(0.4, 0.6) else 1
    color = wall.mean() + away * random.uniform(0.25, 0.6) + random.normal(0, 0.08, 3)
    image = Image.fromarray(to_bytes(wall * (1 - ink) + color * ink))
    image = np.asarray(image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))) / 255
    return to_bytes(image + random.normal(0, 0.01, image.shape))


def draw_usps(digit: np.ndarray, others: np.ndarray, photos: Photos, random: np.random.Generator) -> np.ndarray:
    """A digit (8, 8) as uint8 (28, 28): white on black to the frame, via 16x16 as USPS is."""
    ink = glyph(digit, 28, random.uniform(0.25, 0.65), 0.3, random.uniform(-8, 8))
    small = Image.fromarray(to_bytes(ink)).resize((16, 16), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((28, 28), Image.Resampling.BILINEAR))


def draw_face(random: np.random.Generator) -> np.ndarray:
    """A drawn face as uint8 (64, 64, 3), framed like the course's tight CelebA crops."""
    uniform = random.uniform

    def mix(first: Color, second: Color, share: float) -> Color:
        return tuple(int(a + (b - a) * share) for a, b in zip(first, second, strict=True))

    skin = mix(*random.permutation(SKINS)[:2].tolist(), uniform(0, 0.5))
    hair = mix(*random.permutation(HAIRS)[:2].tolist(), uniform(0, 0.3))
    shade, dark = mix(skin, (30, 10, 10), 0.45), mix(hair, (10, 8, 8), 0.4)
    x, y, rx, ry = 84 + uniform(-3, 3), 92 + uniform(-3, 3), uniform(40, 45), uniform(55, 60)  # the face's ellipse

    # A few dull colours enlarged: a background out of focus.  168 pixels, of which the middle 128 stay.
    wall = uniform(30, 220) + random.normal(0, 16, (4, 4, 3)) + random.normal(0, 28, (4, 4, 1))
    image = Image.fromarray(wall.clip(0, 255).astype(np.uint8)).resize((168, 168), Image.Resampling.BICUBIC)

    def paint(color: Color, blur: float, *ellipses: Ellipse) -> None:
        """Ellipses (middle x, middle y, half width, half height), from the face's middle, as one soft layer."""
        mask = Image.new("L", image.size)
        for a, b, c, d in ellipses:
            ImageDraw.Draw(mask).ellipse((x + a - c, y + b - d, x + a + c, y + b + d), 255)
        image.paste(color, mask=mask.filter(ImageFilter.GaussianBlur(blur)))

    def both(away: float, *rest: float) -> list[Ellipse]:
        """An ellipse at either side of the face."""
        return [(side * away, *rest) for side in (-1, 1)]

    if random.random() < 0.5:
        paint(hair, 1.5, (0, 10, rx + uniform(12, 18), ry + uniform(16, 26)))
    paint(tuple(random.integers(20, 230, 3).tolist()), 1, (0, ry + 39, 90, 39))
    paint(mix(skin, shade, 0.5), 1.5, (0, ry + 2, rx * 0.52, 23))
    paint(hair, 1, (0, -18, rx + uniform(5, 8), ry * 0.84))
    paint(
        mix(skin, shade, 0.35), 1, *both(rx, 3, 5, 11), (0, uniform(-2, 2), rx, ry * 0.72), (0, 16, rx * 0.86, ry - 16)
    )
    paint(skin, 6, (0, 0, rx * 0.8, ry * 0.64), (0, 14, rx * 0.66, ry - 23))
    paint(mix(skin, (255, 250, 240), 0.25), 5, (0, -27, 21, 9), (0, 6, 3, 14))

    eye, up, tall = rx * uniform(0.42, 0.48), -6 + uniform(-2, 2), uniform(3.5, 5)
    paint(shade, 4, *both(eye, up - 2, 12, 9))
    paint(mix(shade, (10, 6, 6), 0.7), 0.5, *both(eye, up - 1, 9.5, tall + 0.5))
    paint((238, 234, 230), 0.5, *both(eye, up, 8.5, tall))
    paint((30, 22, 18), 0.5, *both(eye, up, 4, 4))
    paint(dark, 0.7, *both(eye, up - uniform(11, 14), 12, uniform(1.5, 2.5)))
    nose, mouth, half = uniform(5, 8), 31 + uniform(-2, 2), uniform(12, 17)
    paint(shade, 2, *both(nose + 1, 14, 2.5, 5), (0, 18, nose, 2), (0, mouth + 8, half * 0.6, 2))
    paint(mix(skin, (170, 40, 50), uniform(0.35, 0.7)), 0.6, (0, mouth, half, uniform(3.5, 5)))
    paint((244, 240, 232) if random.random() < 0.5 else (70, 20, 24), 0.4, (0, mouth, half * 0.85, 1.5))

    image = image.rotate(uniform(-7, 7), Image.Resampling.BICUBIC)
    small = image.resize((64, 64), Image.Resampling.LANCZOS, (20, 20, 148, 148))
    light = np.linspace(-1, 1, 64) * uniform(-0.25, 0.25)  # from the left or from the right
    return to_bytes(np.asarray(small) / 255 * (1 + light[:, None]) + random.normal(0, 0.012, (64, 64, 3)))


def write_builtin(root: Path, count: int, seed: int) -> None:
    """Write the built-in tree: `count` training digits of each set, a third for validation, half as many faces.

    Made in a hidden folder, and there only when whole.  Raises UserError if `root` holds anything but the same tree.
    """
    try:
        from sklearn import datasets, model_selection  # here, so that nothing else needs scikit-learn
    except ImportError:
        raise UserError("the built-in data need scikit-learn, run: pip install -r requirements.txt") from None
    made, part = f"{README}{count} training digits of each set, seed {seed}.\n", root / ".builtin.part"
    if (root / "README.txt").exists() and read_text(root / "README.txt") == made:
        print(f"{root}: there already")
        return
    if any(not path.name.startswith(".") for path in root.iterdir()):
        raise UserError(f"{root} is not empty, or of another --count or --seed: choose another folder or remove it")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    for split, number in (("train", count // 2), ("val", count // 6)):
        (part / "face" / split).mkdir(parents=True)
        random = stream(seed, "face", split)
        for index in range(number):
            Image.fromarray(draw_face(random)).save(part / "face" / split / f"{index:05d}.png")

    bunch = datasets.load_digits()
    photos = [Image.fromarray(photo) for photo in datasets.load_sample_images().images]
    # The digits that each split of all sets draws from: disjoint, of classes as frequent as in all.
    sizes = {"train_size": count, "test_size": count // 3, "random_state": seed % 2**32, "stratify": bunch.target}
    parts = model_selection.train_test_split(np.arange(len(bunch.target)), **sizes)
    chosen = dict(zip(("train", "val"), parts, strict=True))
    for name, draw in (("mnistm", draw_mnistm), ("svhn", draw_svhn), ("usps", draw_usps)):
        domain = part / "digits" / name
        (domain / "data").mkdir(parents=True)
        names = stream(seed, name, "names").permutation(sum(map(len, chosen.values())))  # data/ mixes the splits
        for split, numbers in zip(chosen, np.split(names, [count]), strict=True):
            random = stream(seed, name, split)
            indices, numbers = random.permutation(chosen[split]), np.sort(numbers)
            digits = bunch.images[indices]
            for digit, number in zip(digits, numbers, strict=True):
                Image.fromarray(draw(digit, digits, photos, random)).save(domain / "data" / f"{number:05d}.png")
            write_csv(domain / f"{split}.csv", numbers, bunch.target[indices])
        write_csv(domain / "test.csv", np.arange(3), np.zeros(3, dtype=int))
    (part / "README.txt").write_text(made)
    for name in ("face", "digits", "README.txt"):
        os.rename(part / name, root / name)
    part.rmdir()
    print(f"{root}: {count // 2} + {count // 6} drawn faces, {count} + {count // 3} digits of each of three sets")
