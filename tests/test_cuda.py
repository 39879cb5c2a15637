"""CUDA without a GPU: every script's way through the GPU, on tensors that have a device and a shape but no values.

PyTorch's fake tensors stand for everything on the device; tensors on the CPU stay real.  An operation that
mixes the two is refused as CUDA refuses it, so a forgotten `.to(device)` fails here.  The backward pass,
whose devices autograd itself chooses, needs CUDA's libraries; gradients of zeros take its place.
"""

import ctypes
import functools
import sys
from pathlib import Path

import pytest
import torch
from smaller import FEWER, NARROW, set_constants
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import p1_dcgan_train
import p1_inference
import p1_wgan_train
import p2_ddpm_train
import p2_inference
import p3_dann_train
import p3_inference
import training.run
from evaluation.inception import inception_features

CUDA = torch.device("cuda", 0)


class FakeCuda(TorchDispatchMode):
    """While active, tensors on CUDA are fake; what comes back to the CPU is ones."""

    def __init__(self):
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.types = set()  # of results of matrix products and convolutions
        self.waits = 0  # of the CPU for values on the device

    def __enter__(self):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) makes its values on the CPU first
        return super().__enter__()

    def __exit__(self, *exception):
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*exception)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        leaves, _ = tree_flatten((args, kwargs or {}))
        if not any(map(is_on_cuda, leaves)):
            return function(*args, **(kwargs or {}))
        if function is torch.ops.aten._local_scalar_dense.default:
            self.waits += 1
            return 1.0
        with self.fake:  # which refuses what makes as many values as others say, nonzero() for example
            result = function(*args, **(kwargs or {}))
        self.waits += any(
            isinstance(leaf, FakeTensor) and leaf.device.type == "cpu" for leaf in tree_flatten(result)[0]
        )
        if function in (torch.ops.aten.convolution.default, torch.ops.aten.addmm.default):
            self.types.add(result.dtype)
        return tree_map(real_if_on_cpu, result)


def is_on_cuda(leaf: object) -> bool:
    return isinstance(leaf, FakeTensor) or (isinstance(leaf, torch.device) and leaf.type == "cuda")


def real_if_on_cpu(leaf: object) -> object:
    if isinstance(leaf, FakeTensor) and leaf.device.type == "cpu":
        return torch.ones(leaf.shape, dtype=leaf.dtype).as_strided(leaf.shape, leaf.stride())
    return leaf


def give_cuda_a_guard() -> None:
    """Lets a PyTorch built without CUDA know CUDA tensors: its table of device guards lacks a row for them.

    The row of the meta device, whose guard does nothing, serves; only `.to("cuda")` without an index notices.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 15).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    cuda, meta = 1, 14  # of c10::DeviceType
    guards[cuda] = guards[cuda] or guards[meta]
    torch._C._ensureCUDADeviceGuardSet()  # the same for a PyTorch built with CUDA where there is no GPU


def with_gradients(original):
    """An optimizer's step with the gradients that the skipped backward pass would have left."""

    def step(self):
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = torch.zeros_like(parameter)
        return original(self)

    return step


def gradients(output, inputs, **options):
    """What torch.autograd.grad returns, all zeros."""
    return [torch.zeros_like(each) for each in ([inputs] if isinstance(inputs, torch.Tensor) else inputs)]


@pytest.fixture
def cuda(monkeypatch):
    """A function that runs a script's main() on fake CUDA and returns what the mode saw."""
    for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop):
        monkeypatch.setattr(kind, "step", with_gradients(kind.step))
    give_cuda_a_guard()
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)
    monkeypatch.setattr(torch.autograd, "grad", gradients)
    monkeypatch.setattr(training.run, "save_checkpoint", lambda path, state: None)  # nothing to save in fake tensors
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    set_constants(monkeypatch, FEWER)  # fake tensors cost as much however small they are

    def run(module, *arguments: object) -> FakeCuda:
        def pick_device(name: str, *, repeatable: bool = False) -> torch.device:
            assert repeatable == module.__name__.endswith("_inference")
            return CUDA

        monkeypatch.setattr(module if hasattr(module, "pick_device") else training.run, "pick_device", pick_device)
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        with torch.no_grad(), FakeCuda() as mode:
            module.main()
        return mode

    return run


def test_a_mix_of_devices_is_refused(cuda):
    """What this file relies on."""
    with torch.no_grad(), FakeCuda():
        there = torch.ones(3).to(CUDA)
        assert (there + there).device == CUDA and (there * 2).sum().item() == 1
        assert torch.equal(there.cpu(), torch.ones(3))
        with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="at least two devices"):
            torch.nn.Linear(3, 3)(there)


FACES = ("--data", "face/train", "--batch-size", 4, "--sample-every", 4)
DIGITS = ("--source", "digits/mnistm", "--target", "digits/usps", "--batch-size", 4, "--sample-every", 4, "--oracle")
TRAININGS = [
    (p1_dcgan_train, (*FACES, "--held-out", 3)),
    (p1_dcgan_train, (*FACES, "--regularizer", 0.1)),
    (p1_dcgan_train, (*FACES, "--recipe", "original", "--regularizer", 0.1)),
    (p1_wgan_train, (*FACES, "--held-out", 3)),
    (p1_wgan_train, (*FACES, "--recipe", "original")),
    (p2_ddpm_train, ("--data", "digits/mnistm", "--batch-size", 4, "--sample-every", 4)),
    (p3_dann_train, (*DIGITS, "--method", "source")),
    (p3_dann_train, (*DIGITS, "--recipe", "usps", "--teachers", "dann")),
    (p3_dann_train, (*DIGITS, "--teacher-labels", "sure", "--no-gentle-target")),
    (p3_dann_train, (*DIGITS, "--recipe", "original")),
]


@pytest.fixture
def options_of(builtin, weights):
    """A function that puts the built-in data and released weights in the place of their names."""
    return lambda options: [
        builtin / option if str(option).startswith(("face/", "digits/")) else weights.get(option, option)
        for option in options
    ]


@pytest.mark.parametrize(("module", "options"), TRAININGS)
def test_training(module, options, cuda, options_of, tmp_path, monkeypatch):
    """As many values come back to the CPU in two steps as in four, if none of them is logged, drawn or saved."""
    often = ("--images", 8, "--log-every", 1, "--save-minutes", 0, "--run-dir", tmp_path / "run")
    assert torch.bfloat16 in cuda(module, *options_of(options), *often).types  # autocast was on
    assert {"metrics.jsonl", "samples", "weights.safetensors"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) >= 2
    set_constants(monkeypatch, NARROW)
    options = (*options_of(options), "--log-every", 1000, "--sample-every", 1000, "--save-minutes", 1000)
    waits = [cuda(module, *options, "--images", n, "--run-dir", tmp_path / str(n)).waits for n in (8, 16)]
    assert waits[0] == waits[1] > 0  # those of its end


def test_faces(cuda, weights, tmp_path):
    seen = cuda(p1_inference, tmp_path, "--count", 3, "--weights", weights["generator"])
    assert seen.types == {torch.float32} and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("sampler", ["dpm", "ddim", "ancestral"])
def test_digits(sampler, cuda, weights, tmp_path, monkeypatch):
    options = ("--steps", 2, "--eta", 1, "--per-class", 1, "--weights", weights["unet"])
    options += ("--guidance-from", 0.1)
    if sampler == "ancestral":
        monkeypatch.setattr(p2_inference, "ancestral", functools.partial(p2_inference.ancestral, timesteps=3))
    seen = cuda(p2_inference, tmp_path, *options, "--sampler", sampler)
    assert torch.bfloat16 in seen.types and len(list(tmp_path.iterdir())) == 10


def test_labels(cuda, weights, builtin, tmp_path):
    folder = builtin / "digits" / "usps" / "data"
    assert cuda(p3_inference, folder, tmp_path / "out.csv", "--weights", weights["dann"]).types == {torch.float32}
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + len(list(folder.iterdir()))


def test_scores(cuda):
    """Inception's features; the network itself is loaded onto the device."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2048))
    with torch.no_grad(), FakeCuda():
        features = inception_features(torch.zeros(60, 3, 64, 64, dtype=torch.uint8), network.to(CUDA), CUDA)
    assert features.shape == (60, 2048) and (features == 1).all()
