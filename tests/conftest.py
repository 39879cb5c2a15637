"""What the tests share: the repository on sys.path, built-in data, tiny weights, and scripts run as processes."""

from common.start import run_script

import fcntl
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import sampling.faces
from common.checkpoint import export_weights
from models.dann import DANN
from models.dcgan import Critic, Discriminator, Generator, initialize_weights
from models.ddpm import ContextUnet

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as for a shell's background job, whose scripts inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
# What only training, scores or tests need: inference does without, and is always called here as if it were missing.
ABSENT = ("sklearn", "scipy", "dlib", "tensorboard", "matplotlib", "pytorch_fid", "torchvision", "hypothesis")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A function that returns the folder of a name, made by another function once for all of pytest's workers."""
    root = tmp_path_factory.getbasetemp()
    root = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "made once"

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder, unfinished = root / name, root / f"{name} (unfinished)"
        root.mkdir(exist_ok=True)
        with open(root / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """The environment of a script: this Python as python3, one thread, a cache folder of the tests' own."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.with_name("python").write_text("#!/bin/sh\necho 'python is not python3' >&2\nexit 99\n")
    for file in python.parent.iterdir():
        file.chmod(0o755)
    without = folder / "without packages"
    without.mkdir()
    (without / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({ABSENT!r}))\n")
    return os.environ | {
        "WITHOUT_PACKAGES": str(without),
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONUNBUFFERED": "1",
    }


def wrapped(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a wrapper: the packages ABSENT cannot be imported."""
    return environment | {"PYTHONPATH": environment["WITHOUT_PACKAGES"]}


@pytest.fixture(scope="session")
def call(environment) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a script, `bash` for .sh and `python3` for .py, to its end.

    A name is that of a script of the repository, anything else a path.
    """

    def run(
        script: str, *arguments: object, cwd: Path = ROOT, threads: int = 1, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        interpreter, env = ("bash", wrapped(environment)) if script.endswith(".sh") else ("python3", environment)
        script = str(ROOT / script) if "/" not in script else script
        command, env = [interpreter, script, *map(str, arguments)], env | {"OMP_NUM_THREADS": str(threads)} | variables
        return subprocess.run(command, check=False, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)

    return run


def refusal(code: int, output: str, errors: str) -> str:
    """The one sentence, beside warnings, of a script that refused: exit code 2, nothing on stdout."""
    assert (code, output) == (2, ""), errors
    lines = [line for line in errors.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and ": error: " in lines[0], errors
    return lines[0]


@pytest.fixture(scope="session")
def refused(call) -> Callable[..., str]:
    """A function that runs a script which must refuse: the one sentence it says."""

    def run(script: str, *arguments: object, cwd: Path = ROOT, **variables: str) -> str:
        result = call(script, *arguments, cwd=cwd, **variables)
        return refusal(result.returncode, result.stdout, result.stderr)

    return run


def exit_code(script: str, arguments: tuple[object, ...]) -> int:
    """Run a Python script of the repository within this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, arguments)])
        try:
            run_script(importlib.import_module(script.removesuffix(".py")).main)
        except SystemExit as end:
            return end.code or 0
    return 0


@pytest.fixture
def inside(monkeypatch, capsys, environment) -> Callable[..., tuple[int, str, str]]:
    """A function that runs a Python script within this process: its exit code, stdout and stderr.

    For what depends on the script alone, as a process takes longer to start than such a script to run.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])

    def run(script: str, *arguments: object, cwd: Path = ROOT) -> tuple[int, str, str]:
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        return exit_code(script, arguments), *capsys.readouterr()

    return run


@pytest.fixture
def refused_inside(inside) -> Callable[..., str]:
    """What `refused` is to `call`: the one sentence with which a script refuses, within this process."""

    return lambda script, *arguments, cwd=ROOT: refusal(*inside(script, *arguments, cwd=cwd))


@pytest.fixture(scope="session")
def run_with_torchvision() -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a module with torchvision importable; torch and our cache look for files in `home`."""

    def run(module: str, *arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"TORCH_HOME": str(home), "XDG_CACHE_HOME": str(home), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(ROOT / "tests" / "with_torchvision.py"), module, *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, env=environment)

    return run


def random_images(folder: Path, count: int, size: int = 64, seed: int = 0, name: str = "{:04d}.png") -> list[Path]:
    """Smooth random colour images, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = [folder / name.format(index) for index in range(count)]
    for path in paths:
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(path)
    return paths


@pytest.fixture(scope="session")
def prepare() -> Callable[..., int]:
    """A function that runs prepare_data.py in this process and returns its exit code."""
    return lambda *arguments: exit_code("prepare_data.py", arguments)


@pytest.fixture(scope="session")
def builtin(call, made_once) -> Path:
    """The tree of `prepare_data.py --builtin`, of 60: 54 + 3 + 3 faces, 38 + 10 + 12 digits of each set."""

    def make(folder: Path) -> None:
        result = call("prepare_data.py", "--builtin", folder, "--count", 60)
        assert result.returncode == 0, result.stderr

    return made_once("builtin", make)


def noise_denoiser() -> ContextUnet:
    """A random ContextUnet whose last layer is fitted so that it returns its input: a denoiser of pure noise.

    Its samples are neither black nor white, as those of random weights are: in them small differences show.
    """
    network = ContextUnet().eval()
    seen = []
    hook = network.out[2].register_forward_hook(lambda module, inputs, output: seen.append(output))
    noise = torch.randn(10, 3, 28, 28)
    with torch.no_grad():
        network(noise, torch.eye(10), torch.linspace(0.02, 1, 10))
        hook.remove()
        inputs = F.unfold(seen[0], 3, padding=1).transpose(1, 2).flatten(0, 1).double()
        wanted = noise.permute(0, 2, 3, 1).flatten(0, 2).double()
        normal = inputs.T @ inputs + 1e-2 * torch.eye(inputs.shape[1], dtype=torch.float64)
        network.out[3].weight.copy_(torch.linalg.solve(normal, inputs.T @ wanted).T.view_as(network.out[3].weight))
        nn.init.zeros_(network.out[3].bias)
    return network


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Released weights that never were trained: files of every network, by its name."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    dann = DANN()
    for parameter in dann.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 0)  # so that images and not biases decide
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling.faces, "STATISTICS", (1, 8))
        generator = sampling.faces.with_fresh_batch_norm(Generator().apply(initialize_weights))
    networks = {
        "generator": generator,
        "discriminator": Discriminator(),
        "critic": Critic(),
        "unet": noise_denoiser(),
        "dann": dann,
    }
    files = {}
    for name, network in networks.items():
        files[name] = folder / f"{name}.safetensors"
        export_weights(files[name], network, standardized=True, views=18)
    return files


@pytest.fixture(scope="session")
def start(builtin, environment, tmp_path_factory):
    """A function that starts a training of tests/trainings.py, further options last, in a process of its own."""
    from smaller import Training
    from trainings import command

    def run(name: str, run_dir: Path, *options: object, prelude: Callable[[], None] | None = None) -> Training:
        output = tmp_path_factory.mktemp("output")
        return Training(*command(name, builtin, run_dir, *options), prelude, environment, output)

    return run


@pytest.fixture(scope="session")
def whole(start, made_once):
    """A function that returns the folder of an uninterrupted run, made once."""
    from trainings import finish

    return lambda name: made_once(f"whole {name}", lambda folder: finish(start(name, folder)))


@pytest.fixture
def scratch(tmp_path):
    """A folder that does not stay: checkpoints are large."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def disk(tmp_path):
    """A function that makes a file system with the given options of mount, or gives it others."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def make(options: str) -> Path:
        options = f"remount,{options}" if folder.is_mount() else options
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("mounting a file system is not allowed here")
        return folder

    yield make
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)
