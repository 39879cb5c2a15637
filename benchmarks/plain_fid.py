"""FID as pytorch-fid has it: both folders through Inception every time, covariances, scipy's matrix square root.

    python3 -m benchmarks.plain_fid GENERATED REAL

The weights of Inception are those that evaluate.py uses.  Prints one JSON object.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import linalg
from torch.nn import functional as F

from benchmarks.plain import DEVICE, loader
from common.config import option, parse_config, run_script
from data.reading import list_images
from evaluation.inception import Network, inception_network


@dataclass(frozen=True)
class Config:
    generated: Path = option(None, "folder of generated images")
    real: Path = option(None, "folder of real images of the same size")


@torch.no_grad()
def statistics(folder: Path, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Mean (2048,) and covariance (2048, 2048) of the features of a folder's images."""
    features = []
    for images, _ in loader(list_images(folder), 50, train=False):
        enlarged = F.interpolate(images.to(DEVICE), size=(299, 299), mode="bilinear", align_corners=False)
        features.append(network(enlarged).cpu().numpy())
    features = np.concatenate(features).astype(np.float64)
    return features.mean(0), np.cov(features, rowvar=False)


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    root, _ = linalg.sqrtm(sigma1 @ sigma2, disp=False)
    if not np.isfinite(root).all():
        offset = 1e-6 * np.eye(len(sigma1))
        root = linalg.sqrtm((sigma1 + offset) @ (sigma2 + offset))
    return float(np.square(mu1 - mu2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root.real))


def main() -> None:
    config = parse_config(Config, __doc__)
    network, _ = inception_network("auto", DEVICE)
    print(
        json.dumps({"FID": frechet_distance(*statistics(config.generated, network), *statistics(config.real, network))})
    )


if __name__ == "__main__":
    run_script(main)
