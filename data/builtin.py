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
from PIL import Image, ImageDraw, ImageFilter

from common.config import UserError
from common.files import read_text
from data.reading import NUM_CLASSES
from data.tree import DIGIT_SETS, stream, to_bytes, write_csv

TAG = "dlcv-hw2 built-in data"  # begins the README, so that a later run knows its own tree
README = f"""{TAG}

A small stand-in for the course's data, written by `python3 prepare_data.py --builtin DIR`.
It is for smoke runs and tests only: no number obtained from it says anything about the homework.

face/            drawn by the script, no photographs of anybody
digits/mnistm/   scikit-learn's handwritten digits (8x8, enlarged), |patch - digit| with patches of its two photographs
digits/svhn/     the same digits, coloured, with neighbours, over blurred patches
digits/usps/     the same digits, one grey channel, other strokes, tightly framed

No digit of a train.csv occurs in a val.csv.  test.csv shows the format only.
"""
CANVAS, FACE = 320, 244  # a face is drawn on 320x320, turned, cropped to 244x244 and reduced almost four times
SKINS = ((242, 208, 184), (226, 180, 146), (198, 146, 108), (150, 100, 68), (98, 64, 46))
HAIRS = ((28, 22, 20), (62, 40, 26), (112, 72, 40), (190, 148, 84), (142, 140, 138), (134, 58, 30))
IRISES = ((70, 44, 26), (60, 90, 120), (70, 90, 60), (40, 26, 18))

Color = tuple[int, int, int]
Ellipse = tuple[float, float, float, float]


def mix(first: Color, second: Color, share: float) -> Color:
    """The colour `share` of the way from `first` to `second`, clamped to [0, 255]."""
    return tuple(int(np.clip(a + (b - a) * share, 0, 255)) for a, b in zip(first, second, strict=True))


def split_digits(labels: np.ndarray, count: int, seed: int) -> dict[str, np.ndarray]:
    """Indices of the digits that each split of all sets draws from: disjoint, the ten classes nearly equally often."""
    order = stream(seed, "split").permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # of a digit among its class: sorted by it, every prefix is balanced
    for label in range(NUM_CLASSES):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    order = order[np.argsort(rank[order], kind="stable")]
    return {"train": order[:count], "val": order[count : count + count // 3]}


def glyph(digit: np.ndarray, size: float, threshold: float, softness: float, angle: float) -> np.ndarray:
    """A digit (8, 8) in [0, 16] as float (28, 28) in [0, 1], centred, its longer side `size` pixels.

    Strokes are what exceeds `threshold` of the smoothly enlarged digit: lower is thicker.  `softness` is
    the width of their edge in the same unit, `angle` is in degrees.
    """
    tile = Image.fromarray(np.pad(digit / 16.0, 2).astype(np.float32)).resize((96, 96), Image.Resampling.BICUBIC)
    tile = np.asarray(tile.rotate(angle, Image.Resampling.BILINEAR))
    values = ((tile - threshold) / softness + 0.5).clip(0, 1)
    rows, columns = np.nonzero(values > 0.5)
    values = values[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = size / max(values.shape)
    width, height = (max(1, round(length * scale)) for length in values.shape[::-1])
    small = np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC))
    result = np.zeros((28, 28))
    top, left = (28 - height) // 2, (28 - width) // 2
    result[top : top + height, left : left + width] = small.clip(0, 1)
    return result


def patch(photos: list[Image.Image], random: np.random.Generator, blur: float = 0.0) -> np.ndarray:
    """A random square of a photograph as float (28, 28, 3) in [0, 1], Gaussian blur with `blur` pixels' radius."""
    photo = photos[random.integers(len(photos))]
    side = int(random.integers(28, 113))
    left, top = (int(random.integers(length - side + 1)) for length in photo.size)
    square = photo.resize((28, 28), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return np.asarray(square.filter(ImageFilter.GaussianBlur(blur))) / 255.0


def draw_mnistm(digits: np.ndarray, index: int, photos: list[Image.Image], random: np.random.Generator) -> np.ndarray:
    """Digit number `index` of (n, 8, 8) as uint8 (28, 28, 3): |patch - digit|, as MNIST-M is made."""
    digit = glyph(digits[index], 20, random.uniform(0.35, 0.55), 0.1, random.uniform(-8, 8))
    return to_bytes(np.abs(patch(photos, random) - digit[:, :, None]))


def draw_svhn(digits: np.ndarray, index: int, photos: list[Image.Image], random: np.random.Generator) -> np.ndarray:
    """Digit number `index` of (n, 8, 8) as uint8 (28, 28, 3): coloured, neighbours at the sides, out of focus."""
    style = (random.uniform(19, 25), random.uniform(0.25, 0.45), 0.2, random.uniform(-6, 6))
    strip = np.zeros((28, 84))
    strip[:, 28:56] = glyph(digits[index], *style)
    for side in (-1, 1):
        if random.random() < 0.6:
            left = 28 + side * int(random.integers(16, 22))
            neighbour = glyph(digits[random.integers(len(digits))], *style)
            strip[:, left : left + 28] = np.maximum(strip[:, left : left + 28], neighbour)
    wall = np.clip(random.uniform(0.1, 0.9) + random.normal(0, 0.05, 3), 0, 1)
    ground = 0.7 * wall + 0.3 * patch(photos, random, blur=4.0)
    bright = ground.mean() < random.uniform(0.4, 0.6)
    ink = np.clip(ground.mean() + (1 if bright else -1) * random.uniform(0.25, 0.6) + random.normal(0, 0.08, 3), 0, 1)
    cover = strip[:, 28:56, None]
    image = Image.fromarray(to_bytes(ground * (1 - cover) + ink * cover))
    image = np.asarray(image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))) / 255.0
    return to_bytes(image + random.normal(0, 0.01, image.shape))


def draw_usps(digits: np.ndarray, index: int, photos: list[Image.Image], random: np.random.Generator) -> np.ndarray:
    """Digit number `index` of (n, 8, 8) as uint8 (28, 28): white on black to the frame, via 16x16 as USPS is."""
    digit = glyph(digits[index], 28, random.uniform(0.25, 0.65), 0.3, random.uniform(-8, 8))
    small = Image.fromarray(to_bytes(digit)).resize((16, 16), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((28, 28), Image.Resampling.BILINEAR))


def draw_face(random: np.random.Generator) -> np.ndarray:
    """A drawn face as uint8 (64, 64, 3), framed like the course's tight CelebA crops."""
    uniform = random.uniform
    skin = mix(SKINS[random.integers(len(SKINS))], SKINS[random.integers(len(SKINS))], uniform(0, 0.5))
    hair = mix(HAIRS[random.integers(len(HAIRS))], HAIRS[random.integers(len(HAIRS))], uniform(0, 0.3))
    shade = mix(skin, (30, 10, 10), 0.45)
    x, y = CANVAS / 2 + uniform(-6, 6), 176 + uniform(-6, 6)  # the middle of the face
    rx, ry = uniform(76, 86), uniform(104, 114)
    long_hair = random.random() < 0.5

    # A few dull colours enlarged: a background out of focus.
    wall = uniform(30, 220) + random.normal(0, 16, (4, 4, 3)) + random.normal(0, 28, (4, 4, 1))
    image = Image.fromarray(wall.clip(0, 255).astype(np.uint8)).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)

    def paint(color: Color, *ellipses: Ellipse, blur: float = 0.0, strength: float = 1.0) -> None:
        """Ellipses (middle x, middle y, half width, half height), from the face's middle, as one soft layer."""
        corners = np.array([(x + a - c, y + b - d, x + a + c, y + b + d) for a, b, c, d in ellipses])
        left, top = np.floor(corners[:, :2].min(0) - 3 * blur).astype(int).tolist()
        width, height = np.ceil(corners[:, 2:].max(0) + 3 * blur - (left, top)).astype(int).tolist()
        mask = Image.new("L", (width, height))
        layer = ImageDraw.Draw(mask)
        for corner in corners - (left, top, left, top):
            layer.ellipse(corner.tolist(), int(255 * strength))
        image.paste(color, (left, top, left + width, top + height), mask.filter(ImageFilter.GaussianBlur(blur)))

    if long_hair:
        paint(hair, (0, 20, rx + uniform(22, 34), ry + uniform(30, 50)), (0, -30, rx + 24, ry), blur=3)
    paint(tuple(random.integers(20, 230, 3).tolist()), (0, ry + 74, 170, 74), blur=2)
    paint(mix(skin, shade, 0.5), (0, ry + 4, rx * 0.52, 44), blur=3)
    paint(hair, (0, -34, rx + uniform(10, 16), ry * 0.84), blur=2)
    paint(mix(skin, shade, 0.3), (-rx, 6, 10, 22), (rx, 6, 10, 22), blur=1)
    paint(mix(skin, shade, 0.35), (0, -10, rx, ry * 0.86), (0, 30, rx * 0.86, ry - 30), blur=2)
    paint(skin, (0, -10, rx * 0.8, ry * 0.72), (0, 26, rx * 0.66, ry - 44), blur=12)
    paint(mix(skin, (255, 250, 240), 0.35), (0, -52, 40, 18), (0, 12, 6, 26), (0, 78, 14, 8), blur=9, strength=0.7)
    cheek = mix(skin, (214, 70, 70), 0.4)
    paint(cheek, (-rx * 0.55, 34, 20, 15), (rx * 0.55, 34, 20, 15), blur=10, strength=uniform(0.3, 0.8))

    # The fringe: the top of the head less a forehead that is lower and parted to one side.
    mask = Image.new("L", image.size)
    layer = ImageDraw.Draw(mask)
    layer.ellipse((x - rx - 8, y - ry * 1.2, x + rx + 8, y + ry * 0.5), 255)
    part, line = uniform(-26, 26), uniform(-ry * 0.78, -ry * 0.6)
    layer.ellipse((x + part - rx * 1.02, y + line, x + part + rx * 1.02, y + line + 2.2 * ry), 0)
    layer.rectangle((0, y + uniform(-20, 10), CANVAS, CANVAS), 0)
    image.paste(hair, mask=mask.filter(ImageFilter.GaussianBlur(3)))

    eye_x, eye_y, eye_w, eye_h = rx * uniform(0.42, 0.48), -12 + uniform(-4, 4), uniform(15, 18), uniform(6.5, 9.5)
    eyes = (-eye_x, eye_x)
    iris = mix(IRISES[random.integers(len(IRISES))], (20, 20, 20), uniform(0, 0.4))
    brow, look = mix(hair, (10, 8, 8), 0.4), uniform(-3, 3)
    paint(shade, *((e, eye_y - 4, eye_w + 7, eye_h + 9) for e in eyes), blur=7, strength=0.75)
    paint(mix(shade, (10, 6, 6), 0.7), *((e, eye_y - 2, eye_w + 2, eye_h + 1) for e in eyes), blur=1)
    paint((238, 234, 230), *((e, eye_y, eye_w, eye_h - 0.5) for e in eyes), blur=1)
    paint(iris, *((e + look, eye_y - 0.5, 7.5, min(7.5, eye_h)) for e in eyes), blur=0.7)
    paint((8, 6, 6), *((e + look, eye_y - 0.5, 3.5, 3.5) for e in eyes))
    paint((255, 255, 255), *((e + look + 2.5, eye_y - 3, 1.6, 1.6) for e in eyes))
    height, arch, width = eye_y - uniform(22, 28), uniform(2, 8), int(random.integers(5, 10))
    for side in (-1, 1):
        points = [(x + side * (eye_x + d), y + height - arch * (1 - (d / 24) ** 2)) for d in (-22, -11, 0, 11, 22)]
        ImageDraw.Draw(image).line(points, brow, width, joint="curve")

    nose = uniform(10, 15)
    paint(shade, (-nose - 2, 26, 5, 9), (nose + 2, 26, 5, 9), (0, 35, nose, 4), blur=4, strength=0.8)
    paint(mix(shade, (20, 5, 5), 0.5), (-nose * 0.55, 32, 4, 2.4), (nose * 0.55, 32, 4, 2.4), blur=1.2)
    lips, mouth, half = mix(skin, (170, 40, 50), uniform(0.35, 0.7)), 60 + uniform(-4, 4), uniform(24, 33)
    paint(shade, (0, mouth + 15, half * 0.6, 4), blur=4, strength=0.7)
    paint(lips, (0, mouth, half, uniform(7, 10)), blur=1.2)
    if random.random() < 0.55:
        paint((70, 20, 24), (0, mouth, half * 0.86, 6), blur=0.8)
        paint((244, 240, 232), (0, mouth - 0.5, half * 0.78, 4.2), blur=0.8)
    else:
        paint(mix(lips, (30, 5, 8), 0.65), (0, mouth, half * 0.92, 1.6), blur=0.8)

    image = image.rotate(uniform(-7, 7), Image.Resampling.BICUBIC)
    edge = (CANVAS - FACE) // 2
    small = image.resize((64, 64), Image.Resampling.LANCZOS, (edge, edge, edge + FACE, edge + FACE))
    light = np.linspace(-1, 1, 64) * uniform(-0.25, 0.25)  # from the left or from the right
    return to_bytes(np.asarray(small) / 255.0 * (1 + light[:, None]) + random.normal(0, 0.012, (64, 64, 3)))


def write_builtin(root: Path, count: int, seed: int) -> None:
    """Write the built-in tree: `count` training digits of each set, a third for validation, half as many faces.

    Made in a hidden folder, and there only when all of it is.  Raises UserError if `root` holds anything but such a
    tree, or one of another count or seed.
    """
    try:
        from sklearn import datasets  # here, so that nothing else needs scikit-learn
    except ImportError:
        raise UserError("the built-in data need scikit-learn, run: pip install -r requirements.txt") from None
    readme, part = root / "README.txt", root / ".builtin.part"
    text = f"{README}\n{count} training digits of each set, seed {seed}.\n"
    earlier = read_text(readme) if readme.exists() else ""
    if earlier == text and (root / "face").exists() and (root / "digits").exists():
        print(f"{root}: there already")
        return
    if earlier.startswith(TAG):
        raise UserError(f"{root} holds built-in data of another --count or --seed, or a part of them: remove it first")
    if any(not path.name.startswith(".") for path in root.iterdir()):
        raise UserError(f"{root} is not empty and was not written by --builtin, choose another folder")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    for split, number in (("train", count // 2), ("val", count // 6)):
        (part / "face" / split).mkdir(parents=True)
        random = stream(seed, "face", split)
        for index in range(number):
            Image.fromarray(draw_face(random)).save(part / "face" / split / f"{index:05d}.png")

    bunch = datasets.load_digits()
    photos = [Image.fromarray(photo) for photo in datasets.load_sample_images().images]
    chosen = split_digits(bunch.target, count, seed)
    for name, draw in zip(DIGIT_SETS, (draw_mnistm, draw_svhn, draw_usps), strict=True):
        domain = part / "digits" / name
        (domain / "data").mkdir(parents=True)
        numbers = stream(seed, name, "names").permutation(sum(map(len, chosen.values())))  # data/ mixes the splits
        for split, indices in chosen.items():
            taken, numbers = np.sort(numbers[: len(indices)]), numbers[len(indices) :]
            random = stream(seed, name, split)
            indices = random.permutation(indices)
            digits = bunch.images[indices]
            for index, number in enumerate(taken):
                Image.fromarray(draw(digits, index, photos, random)).save(domain / "data" / f"{number:05d}.png")
            write_csv(domain / f"{split}.csv", taken, bunch.target[indices])
        write_csv(domain / "test.csv", np.arange(3), np.zeros(3, dtype=int))
    (part / "README.txt").write_text(text)
    for name in ("README.txt", "face", "digits"):
        os.rename(part / name, root / name)
    part.rmdir()
    print(f"{root}: {count // 2} + {count // 6} drawn faces, {count} + {count // 3} digits of each of three sets")
