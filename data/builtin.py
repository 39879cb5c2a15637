"""Stand-ins for the course's digits, for smoke runs and tests only: what is trained on them says nothing.

They are scikit-learn's 1,797 handwritten digits (8x8), enlarged and restyled after the three sets.
"""

import numpy as np
from PIL import Image, ImageFilter

from data.originals import Pixels, blend, to_course
from data.tree import Originals, stream

SIZES = {"mnistm": 20, "svhn": 24, "usps": 16}  # pixels of the enlarged digit


def restyle(name: str, digit: np.ndarray, photographs: list[Pixels], random: np.random.Generator) -> Pixels:
    """A digit (8, 8) in [0, 16] as the set `name` has it, tilted and of strokes as thick as `random` says.

    MNIST-M: |patch - digit| of a photograph.  SVHN: a dark colour on a bright one or the reverse, out of focus.
    USPS: white on black to the frame, via 16x16.
    """
    tile = Image.fromarray(digit.astype(np.float32)).resize((SIZES[name],) * 2, Image.Resampling.BICUBIC)
    tile = np.asarray(tile.rotate(random.uniform(-8, 8), Image.Resampling.BILINEAR))
    if name == "usps":
        return to_course(name, (25 * (tile - random.uniform(2, 6))).clip(0, 255).astype(np.uint8), name)
    ink = np.pad(((tile - random.uniform(4, 8)) / 4).clip(0, 1), 14 - SIZES[name] // 2)
    if name == "mnistm":
        return blend(ink > 0.5, photographs, random)
    wall, color = random.permutation([random.uniform(20, 110, 3), random.uniform(145, 235, 3)])
    image = Image.fromarray((wall + (color - wall) * ink[:, :, None]).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2))))


def restyled(name: str, count: int, seed: int) -> Originals:
    """The first `count` of scikit-learn's digits, in which the classes take turns, as originals of the set `name`."""
    from sklearn import datasets  # here, so that nothing else needs scikit-learn

    bunch, photographs = datasets.load_digits(), datasets.load_sample_images().images
    digits, labels = bunch.images[:count], bunch.target[:count]

    def image(index: int) -> Pixels:
        return restyle(name, digits[index], photographs, stream(seed, name, "style", str(index)))

    return Originals(f"{count:,} of scikit-learn's digits, restyled", count, labels, image)
