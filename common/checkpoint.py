"""Training checkpoints (torch.save, loaded without running code) and released weights (safetensors, float16)."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from common.config import UserError, first_sentence
from common.files import atomic_write, require_file

CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training state whole or not at all.  Raises UserError, the earlier one kept, if the disk is full."""
    try:
        atomic_write(path, lambda handle: torch.save(state, handle))
    except RuntimeError as error:  # torch's zip writer reports a full disk so
        raise UserError(f"{path} cannot be written: {str(error).splitlines()[0]}") from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training state onto the CPU, without running any code from the file."""
    require_file(path)
    checked = zipfile.is_zipfile(path)  # else a file of old versions of PyTorch, without checksums, or no checkpoint
    try:
        if checked and (damaged := zipfile.ZipFile(path).testzip()):  # PyTorch itself does not look
            raise zipfile.BadZipFile(f"its part {damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # truncated, corrupt, or a pickle that wants to run code
        reason = first_sentence(error) if checked else "it is not a whole checkpoint"
        raise UserError(f"{path} cannot be loaded: {reason}") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} cannot be loaded: it holds no dictionary")
    return state


def export_weights(path: Path, model: nn.Module, **metadata: Any) -> None:
    """Write a model's weights for release: float16 safetensors, with the network's name and `metadata` as text.

    A tensor beyond float16's 65,504, as a variance of BatchNorm may be, stays float32.  Raises UserError, and writes
    nothing, for what is not finite.  The same contents give the same bytes: all notes are one text, of one order.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if odd := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise UserError(f"{path} is not written: {odd[0]} of the {type(model).__name__} is not finite")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and (half := tensor.half()).isfinite().all():
            tensors[name] = half
    notes = {name: str(value) for name, value in metadata.items()}
    notes |= {"network": type(model).__name__, "digest": _digest(tensors)}
    atomic_write(path, to_safetensors(tensors, metadata={"about": json.dumps(notes, sort_keys=True)}))


def _digest(tensors: dict[str, Tensor]) -> str:
    """A checksum of names and contents: safetensors would load a file with a flipped bit."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def load_weights(model: nn.Module, path: Path) -> dict[str, str]:
    """Load released weights into `model`; their metadata.  Raises UserError for a missing, broken or foreign file."""
    if not path.exists():
        raise UserError(f"{path} is missing{_remedy(path)}")
    require_file(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
    except KeyError:
        raise UserError(f"{path} was not written by this repository: it does not say what it is about") from None
    except (SafetensorError, OSError, ValueError) as error:
        beside = path.with_name("weights.safetensors")
        if zipfile.is_zipfile(path) and beside.exists():
            raise UserError(f"{path} is the state of a training, give the weights beside it: {beside}") from None
        raise UserError(f"{path} is not a whole safetensors file ({error}){_remedy(path)}") from None
    if metadata.get("digest") != _digest(tensors):
        raise UserError(f"{path} is damaged: its weights are not those that were written{_remedy(path)}")
    _fill(model, tensors, path)
    return metadata


def _remedy(path: Path) -> str:
    """What to do about a file of ours that is missing or damaged, as the end of a sentence."""
    if path.parent.resolve() != CHECKPOINTS.resolve():
        return ""
    in_clone = "git checkout -- checkpoints, or else " if (CHECKPOINTS.parent / ".git").exists() else ""
    return f", run: {in_clone}bash hw2_download.sh"


def load_state_dict_file(model: nn.Module, path: Path) -> None:
    """Load a torch.save file, a state dict or a dict with one as "state_dict", whatever device it is tagged with."""
    state = load_checkpoint(path)
    _fill(model, state.get("state_dict", state), path)


def _fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
    if wanted != found:
        different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise UserError(f"{path} holds another network than {type(model).__name__}: {different[0]} differs")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise UserError(f"{path} holds weights that are not finite")
    model.load_state_dict(tensors)
