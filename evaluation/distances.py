"""How far generated images are from real ones: FID, KID, density, coverage and recall of features."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.config import UserError
from data.batches import permutation
from data.reading import chunks
from evaluation.inception import features

CPU = torch.device("cpu")
FLOOR = (0, "floor")  # stream of the order in which real images are chosen
NEAREST = 5  # neighbours, as Naeem et al. have it


def _root(features: np.ndarray) -> np.ndarray:
    """A matrix R (min(n, d), d) with R^T R = the sample covariance of features (n, d)."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    return np.linalg.qr(centred, mode="r") if len(centred) > centred.shape[1] else centred


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """FID of features (n, d) and (m, d) (Heusel et al. 2017, arXiv:1706.08500); n and m may be below d.

    |mu1 - mu2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)), the Frechet distance of two Gaussians.  With
    C1 = A^T A and C2 = B^T B the last trace is the sum of the singular values of A B^T: nothing but real
    numbers and, for a thousand images, far cheaper than a 2048x2048 matrix square root.
    """
    root_a, root_b = _root(first.astype(np.float64)), _root(second.astype(np.float64))
    trace = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    shift = np.square(first.mean(0) - second.mean(0)).sum()
    return max(0.0, float(shift + np.square(root_a).sum() + np.square(root_b).sum() - 2 * trace))


def _kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    """The sum of k(x, y) = (x.y / d + 1)^3 over all pairs, in blocks that fit into memory."""
    return sum(float(((first[part] @ second.T / first.shape[1] + 1) ** 3).sum()) for part in chunks(len(first), 1000))


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """KID of features (n, d) and (m, d): the unbiased estimate of MMD^2 over all pairs, cubic polynomial kernel.

    sum_{i != j} k(x_i, x_j) / n(n-1) + sum_{i != j} k(y_i, y_j) / m(m-1) - 2 sum k(x_i, y_j) / nm with
    k(x, y) = (x.y / d + 1)^3 (Binkowski et al. 2018, arXiv:1801.01401).  Unlike FID it does not depend on
    the number of images in the mean, and is about 0, possibly below, for two samples of one distribution.
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    value = -2 * _kernel_sum(first, second) / (len(first) * len(second))
    for points in (first, second):
        count = len(points)
        diagonal = ((np.square(points).sum(1) / points.shape[1] + 1) ** 3).sum()
        value += (_kernel_sum(points, points) - diagonal) / (count * (count - 1))
    return float(value)


def density_coverage_recall(generated: np.ndarray, reference: np.ndarray, nearest: int = NEAREST) -> dict[str, float]:
    """Density and coverage (Naeem et al. 2020, arXiv:2002.09797), recall (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    Features (n, d) and (m, d). The ball of a point reaches to its `nearest`-th neighbour among its own kind.
    - density: how many balls of real points a generated one lies in, over `nearest`: 1 for the same distribution,
      more for images that are more typical than real ones;
    - coverage: the share of real points with a generated one in their ball. For the same distribution its mean is
      1 - (m - 1) ... (m - k) / ((n + m - 1) ... (n + m - k)), k = `nearest`, whatever the distribution;
    - recall: the share of real points that lie in the ball of a generated one.
    Raises UserError for too few images.
    """
    if min(len(generated), len(reference)) <= nearest:
        raise UserError(f"density, coverage and recall need more than {nearest} images on each side")
    fake, real = torch.from_numpy(generated).double(), torch.from_numpy(reference).double()
    # The nearest point to each is itself.
    radius_fake, radius_real = (torch.cdist(own, own).kthvalue(nearest + 1).values for own in (fake, real))
    apart = torch.cdist(real, fake)
    in_real = apart < radius_real[:, None]
    return {
        "density": in_real.sum().item() / (nearest * len(fake)),
        "coverage": in_real.any(1).double().mean().item(),
        "recall": (apart < radius_fake).any(1).double().mean().item(),
    }


def sample_of(items: list[Path], count: int) -> list[Path]:
    """`count` of the items, always the same ones, in their order; all if there are fewer."""
    return [items[index] for index in sorted(permutation(len(items), *FLOOR)[:count].tolist())]


def fid_and_kid(generated: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Raises UserError for fewer than two images."""
    if min(len(generated), len(reference)) < 2:
        raise UserError("FID and KID need at least two images on each side")
    fid, kid = frechet_distance(generated, reference), kernel_distance(generated, reference)
    return {"fid": fid, "kid_x1000": 1000 * kid}


def distances(
    images: Tensor, reference: Tensor, real: Tensor | None = None, device: torch.device = CPU, keep: bool = True
) -> dict[str, Any]:
    """FID and KID of uint8 images (n, 3, size, size) against reference images, and their floor.

    The floor, None without `real` images, is what as many of these reach in place of the generated ones.
    `keep` the features of the generated images, too, in the user's cache folder: they will be scored again.
    """
    wanted = features(reference, device)
    scores = {"reference_images": len(reference), **fid_and_kid(features(images, device, keep), wanted)}
    floor = {"images": len(real), **fid_and_kid(features(real, device), wanted)} if real is not None else None
    return scores | {"floor": floor}
