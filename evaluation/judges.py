"""How good generated digits are: whom they convince, how near, how diverse and how new they are (problem 2)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.checkpoint import load_state_dict_file, load_weights
from common.config import UserError
from data.reading import NUM_CLASSES, chunks, decode_images, load_digits, read_labels, to_unit_range
from evaluation.metrics import distances, sample_of
from models.classifier import Classifier, Judge

REFERENCE_DIGITS = 2000  # val images that generated digits are compared with
JUDGE = Path(__file__).resolve().parent.parent / "checkpoints" / "p2_judge.safetensors"


def load_judge(course_classifier: Path | None, device: torch.device) -> nn.Module:
    """The course's classifier from its file, without one our own judge; both map [-1, 1] images to logits."""
    network: nn.Module = Classifier() if course_classifier else Judge()
    if course_classifier:
        load_state_dict_file(network, course_classifier)
    else:
        load_weights(network, JUDGE)
    return network.eval().to(device)


@torch.no_grad()
def classify(classifier: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """The classes int64 (n,), on the CPU, that a classifier in eval mode gives uint8 images (n, 3, h, w)."""
    parts = [classifier(to_unit_range(images[part].to(device))).argmax(1) for part in chunks(len(images), 500)]
    return torch.cat(parts).cpu()


def pairwise_distance(points: Tensor, labels: Tensor) -> list[float]:
    """The mean Euclidean distance of two points (n, d) of one class, for each of the ten labels (n,): its diversity."""
    return [torch.pdist(points[labels == digit].float()).mean().item() for digit in range(NUM_CLASSES)]


def relative_diversity(class_diversity: dict[str, list[float]]) -> float:
    """The `pairwise_distance` of "generated" digits as a share of that of "real" ones, the mean of the classes."""
    pairs = zip(class_diversity["generated"], class_diversity["real"], strict=True)
    return sum(generated / real for generated, real in pairs) / NUM_CLASSES


def nearest_distance(images: Tensor, others: Tensor) -> Tensor:
    """For uint8 images (n, 3, h, w) the root mean squared difference, in grey levels, to the nearest of `others`."""
    ours, theirs = images.flatten(1).float(), others.flatten(1).float()
    nearest = torch.full((len(ours),), float("inf"))
    for part in chunks(len(theirs), 5000):
        squared = ours.square().sum(1)[:, None] + theirs[part].square().sum(1) - 2 * ours @ theirs[part].T
        nearest = torch.minimum(nearest, squared.min(1).values)
    return (nearest.clamp(min=0) / ours.shape[1]).sqrt()


def class_accuracies(predicted: Tensor, labels: Tensor) -> tuple[float, list[float | None]]:
    """The accuracy of classes (n,) against labels (n,), and per label; None for a label that does not occur."""
    right = (predicted == labels).double()
    chosen = [labels == digit for digit in range(NUM_CLASSES)]
    return right.mean().item(), [right[which].mean().item() if which.any() else None for which in chosen]


@torch.no_grad()
def digit_quality(
    digits: Tensor,
    labels: Tensor,
    domain: Path,
    classifiers: dict[str, nn.Module],
    inception: str,
    device: torch.device,
) -> dict[str, Any]:
    """How near generated uint8 digits (n, 3, 28, 28) are to the val images of `domain`, how diverse, how new.

    FID and KID against REFERENCE_DIGITS val images, their floor from training images; for each class the mean
    distance of two digits in our judge's feature space, and of two real ones; the median distance to the
    nearest training image, which is far below that of real val images if training images are copied; and the
    accuracy of the classifiers on the real val images, for comparison.
    """
    named = {split: read_labels(domain / f"{split}.csv") for split in ("train", "val")}
    files = {split: [domain / "data" / name for name in names] for split, names in named.items()}
    reference = sample_of(files["val"], REFERENCE_DIGITS)
    scores = distances(digits, reference, sample_of(files["train"], len(digits)), inception, device)
    judge, train = load_judge(None, device), load_digits(domain, "train")[0]
    real, real_labels = decode_images(reference, 28), torch.tensor([named["val"][path.name] for path in reference])
    for classes, of in ((labels, "generated"), (real_labels, "real")):
        if classes.bincount(minlength=NUM_CLASSES).min() < 2:
            raise UserError(f"diversity needs at least two {of} images of every class")
    scores["class_diversity"], scores["nearest_training_image"] = {}, {}
    for name, images, classes in (("generated", digits, labels), ("real", real, real_labels)):
        parts = [judge.features(to_unit_range(images[part].to(device))).cpu() for part in chunks(len(images), 500)]
        scores["class_diversity"][name] = pairwise_distance(torch.cat(parts), classes)
        scores["nearest_training_image"][name] = nearest_distance(images, train).median().item()
    predicted = {name: classify(classifier, real, device) for name, classifier in classifiers.items()}
    scores["real_accuracy"] = {name: class_accuracies(found, real_labels)[0] for name, found in predicted.items()}
    return scores
