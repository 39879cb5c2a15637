"""What every script rests on: files through links, text, locks, pixels, full memory, Ctrl-C at any moment."""

from common.start import run_script

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from common.checkpoint import export_weights, load_checkpoint, load_weights, save_checkpoint
from common.config import UserError
from common.files import atomic_write, locked, read_text
from common.images import make_grid, prepare_output_folder, to_uint8
from data.reading import to_unit_range

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("there", [True, False])
def test_what_a_link_points_to_is_written(there, tmp_path):
    """Directly, by a chain of links, and if it does not exist yet; nothing else is left anywhere."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if there:
        (disk / "file").write_bytes(b"old")
    (tmp_path / "second").symlink_to("disk/file")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    save_checkpoint(tmp_path / "first", {"a": 1})
    assert load_checkpoint(disk / "file") == {"a": 1}
    assert (tmp_path / "first").is_symlink() and (tmp_path / "second").is_symlink()
    assert [path.name for path in disk.iterdir()] == ["file"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop cannot be written: Too many levels of symbolic links"):
        atomic_write(tmp_path / "loop", b"")


def test_images_take_the_place_of_links(tmp_path):
    """In a folder of images a link is as good as a copy, and may point to somebody's data set."""
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0001.png").symlink_to(tmp_path / "mine.png")
    prepare_output_folder(tmp_path / "out", ["0001.png"], r"\d{4}\.png")
    atomic_write(tmp_path / "out" / "0001.png", b"ours")
    assert (tmp_path / "mine.png").read_bytes() == b"mine" and not (tmp_path / "out" / "0001.png").is_symlink()


def test_text_with_any_mark(tmp_path):
    text = "größe\n中"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        mark = "\ufeff" if encoding.endswith("e") else ""
        (tmp_path / "a").write_bytes((mark + text).encode(encoding))
        assert read_text(tmp_path / "a") == text


def test_what_is_no_text(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes("größe".encode("latin-1"))
    (tmp_path / "crash").write_bytes(b"one\ntwo\n\0\0\0")
    reasons = {"none": "is missing", "pipe": "is not a regular file", "latin": "is not text", ".": "is a folder"}
    for name, reason in (reasons | {"crash": "is damaged: line 3 holds a NUL byte", "a\0b": "is missing"}).items():
        with pytest.raises(UserError, match=reason):
            read_text(tmp_path / name)


def test_a_lock_is_taken_and_left(tmp_path):
    with locked(tmp_path / "a" / "b"):
        refused = pytest.raises(UserError, match=rf"b is in use by .*, process {os.getpid()} on .* since \d{{4}}-")
        with refused, locked(tmp_path / "a" / "b"):
            pass
        (tmp_path / "a" / "b" / "file").touch()
    with locked(tmp_path / "a" / "b"):
        pass
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]
    with locked(tmp_path / "c"):
        pass
    assert not (tmp_path / "c").exists()  # nothing came into it


@pytest.mark.parametrize("size", [1e-3, 65504.0, 65520.0, 1e6, 3e38])
def test_weights_beyond_float16(size, tmp_path):
    """What was exported is what is loaded, to float16's precision where that has it."""
    network, other = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(2))
    network[1].running_var[2] = size
    export_weights(tmp_path / "a", network)
    load_weights(other, tmp_path / "a")
    assert other[1].running_var[2].item() == pytest.approx(size, rel=1e-3)
    assert other[0].weight.equal(network[0].weight.half().float())


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    network = nn.Linear(2, 2)
    network.bias.data[1] = float("inf")
    with pytest.raises(UserError, match="a is not written: bias of the Linear is not finite"):
        export_weights(tmp_path / "a", network)
    assert not (tmp_path / "a").exists()


def test_full_memory_is_one_sentence(capsys):
    """However the system or a library says so; other errors are not hidden."""

    def raising(error: Exception) -> Callable[[], None]:
        def main() -> None:
            raise error

        return main

    thread, mapping = (
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "weights"),
    )
    for full in (lambda: torch.empty(2**55), lambda: bytearray(2**62), raising(thread), raising(mapping)):
        with pytest.raises(SystemExit) as end:
            run_script(full)
        errors = capsys.readouterr().err
        assert end.value.code == 2 and errors.count("\n") == 1 and "the machine's memory is full (" in errors
    with pytest.raises(RuntimeError, match="a fault of ours"):
        run_script(raising(RuntimeError("a fault of ours")))


@pytest.mark.parametrize("script", ["p2_ddpm_train.py", "hw2_3.sh"])
def test_ctrl_c_while_importing(script, tmp_path):
    """torch, replaced by a module that takes as long as it wants, is still loading."""
    (tmp_path / "torch.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # A shell that runs the tests in the background ignores SIGINT, and so would its children.
    start = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", start, "bash" if script.endswith(".sh") else sys.executable, str(ROOT / script)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[1].endswith("py: interrupted\n")
    assert process.returncode == 130


def test_every_checkout_has_line_ends_that_bash_reads():
    """Whatever Git for Windows is set to."""
    names = [path.name for path in ROOT.glob("*.sh")] + ["Makefile", ".ci/run"]
    command = ["git", "-C", str(ROOT), "check-attr", "eol", "--", *names]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        pytest.skip("not a clone")
    assert result.stdout.splitlines() == [f"{name}: eol: lf" for name in names]


# From floats to pixels and back, and sheets of images


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor(
        [-9, -1, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.0, 1 - 0.49 / 127.5, 1 - 0.51 / 127.5, 1, 9.0]
    )
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 128, 255, 254, 255, 255]  # 127.5 rounds to the even 128
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit_range(levels)), levels)
    assert to_unit_range(levels)[[0, 255]].tolist() == [-1, 1]
    assert to_uint8(torch.tensor([0.25], dtype=torch.bfloat16)).item() == 159


def test_grid():
    """Row by row, white between and where images are missing, each pixel enlarged."""
    tiles = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 1, 2)
    sheet = make_grid(tiles, 2, gap=1, scale=2)
    assert sheet.shape == (3, 5, 9)
    row = [10] * 4 + [255] + [20] * 4
    expected = torch.tensor([row, row, [255] * 9, [30] * 4 + [255] * 5, [30] * 4 + [255] * 5], dtype=torch.uint8)
    assert torch.equal(sheet, expected.expand(3, -1, -1))
