"""How good generated digits are: whom they convince, how near, how diverse and how new they are (problem 2)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.checkpoint import CHECKPOINTS, load_state_dict_file, load_weights
from data.batches import permutation
from data.reading import cached, chunks, fingerprint, load_digits, to_unit_range
from evaluation.distances import FLOOR, density_coverage_recall, distances
from models.classifier import Classifier, Judge

REFERENCE_DIGITS = 2000  # real images that generated digits are compared with


def load_judge(name: str, device: torch.device) -> nn.Module:
    """Our own "judge", or the course's classifier from its file; both map [-1, 1] images to logits."""
    network: nn.Module = Judge() if name == "judge" else Classifier()
    if name == "judge":
        load_weights(network, CHECKPOINTS / "p2_judge.safetensors")
    else:
        load_state_dict_file(network, Path(name))
    return network.eval().to(device)


@torch.no_grad()
def _in_batches(function: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Tensor:
    """On the CPU, what a function on the device makes of uint8 images (n, 3, h, w)."""
    return torch.cat([function(to_unit_range(images[part].to(device))).cpu() for part in chunks(len(images), 500)])


def classify(classifier: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """The classes int64 (n,), on the CPU, that a classifier in eval mode gives uint8 images (n, 3, h, w)."""
    return _in_batches(classifier, images, device).argmax(1)


def judge_features(images: Tensor, device: torch.device) -> np.ndarray:
    """Our judge's features (n, 128) of uint8 digits (n, 3, 28, 28)."""
    return _in_batches(load_judge("judge", device).features, images, device).numpy()


def nearest_distance(images: Tensor, others: Tensor) -> Tensor:
    """For uint8 images (n, 3, h, w) the root mean squared difference, in grey levels, to the nearest of `others`."""
    ours, theirs = images.flatten(1).float(), others.flatten(1)
    distances = [torch.cdist(ours, theirs[part].float()).min(1).values for part in chunks(len(others), 5000)]
    return torch.stack(distances).min(0).values / ours.shape[1] ** 0.5


def real_digits(domain: Path, split: str, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """REFERENCE_DIGITS images and labels of a split, `count` training images for the floor, and all training images.

    They are always the same ones.  Of the "train" split (at most half of it) the reference is neither in the floor
    nor among the training images that come last.
    """
    train, labels = load_digits(domain, "train")
    order = permutation(len(train), *FLOOR)
    if split == "train":
        order, chosen = order.tensor_split([-min(REFERENCE_DIGITS, len(order) // 2)])
        reference = train
    else:
        reference, labels = load_digits(domain, split)
        chosen = permutation(len(reference), *FLOOR)[:REFERENCE_DIGITS]
    chosen, floor, order = (some.sort().values for some in (chosen, order[:count], order))
    return reference[chosen], labels[chosen], train[floor], train[order]


def digit_quality(
    digits: Tensor, domain: Path, classifiers: dict[str, nn.Module], device: torch.device, split: str
) -> dict[str, Any]:
    """How near generated uint8 digits (n, 3, 28, 28) are to real images of `domain`, how diverse, how new.

    FID, KID, density, coverage and recall against REFERENCE_DIGITS images of a split, and their floor, of as many
    training images; the median distance to the nearest training image, which is small if these are copied; and the
    classifiers' accuracies on the reference.

    Density, coverage and recall are of our judge's features, in which they hold on known cases (tests/test_judges.py).
    Inception's features are of MNIST-M's backgrounds more than of its digits: there recall does not fall when three or
    five classes are left out.
    """
    reference, labels, floor, train = real_digits(domain, split, len(digits))
    result, real = distances(digits, reference, floor, device), judge_features(reference, device)
    for scores, some in ((result, digits), (result["floor"], floor)):
        scores |= density_coverage_recall(judge_features(some, device), real)

    def nearest(some: Tensor) -> float:
        key = f"nearest 1 {fingerprint(some)} {fingerprint(train)}"
        return float(np.median(cached(key, lambda: nearest_distance(some, train).numpy())))

    def accuracy_of(network: nn.Module) -> float:
        return classify(network, reference, device).eq(labels).double().mean().item()

    return result | {
        "split": split,
        "nearest_training_image": {"generated": nearest(digits), "real": nearest(reference)},
        "real_accuracy": {name: accuracy_of(network) for name, network in classifiers.items()},
    }
