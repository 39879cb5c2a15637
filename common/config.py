"""One dataclass per script is its command line: options with help, ranges and choices; errors in one sentence."""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

C = TypeVar("C")


class UserError(Exception):
    """Something the user can put right; `run_script` prints it as one sentence and exits with code 2."""


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
    free: bool = False,
) -> Any:
    """A dataclass field that is also a command-line option.

    `low` and `high` are inclusive bounds.  A `free` option does not change what a training computes for
    the images it has seen, so `--resume` accepts another value for it (paths, samples, saving, the run's length).
    """
    return dataclasses.field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": choices, "free": free}
    )


def in_one_line(text: str) -> str:
    """A message that may hold file names, whose line breaks and other control characters are escaped."""
    return "".join(letter if letter.isprintable() or letter == " " else ascii(letter)[1:-1] for letter in text)


def first_sentence(error: Exception | str) -> str:
    """What a library says of an error, which may go on for a page; the error's kind if it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0].split(". ")[0]


class Parser(argparse.ArgumentParser):
    """argparse, its errors in one sentence."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {in_one_line(message)}\n")


def checked(kind: type, low: float | None = None, high: float | None = None) -> Callable[[str], Any]:
    """A converter for argparse that also checks the range."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not {'an integer' if kind is int else 'a number'}") from None
        if kind is int and not -(2**63) <= value < 2**63:  # no larger one is a seed of torch's, nor some a float
            raise argparse.ArgumentTypeError(f"{text} is out of range, must fit into 64 bits")
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is not a finite number")
        if (low is not None and value < low) or (high is not None and value > high):
            bounds = (
                f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
            )
            raise argparse.ArgumentTypeError(f"{text} is out of range, must be {bounds}")
        return value

    return convert


def given_path(text: str) -> Path:
    """A converter for argparse: an empty text, of a variable that is not set, does not mean the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("a path is empty")
    return Path(text)


def _default_text(value: Any) -> str:
    if value in (None, ""):
        return ""
    shown = ("off", "on")[value] if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else value
    return f" (default: {shown})"


def parse_config(
    config_class: type[C],
    description: str,
    argv: list[str] | None = None,
    presets: dict[str, dict[str, Any]] | None = None,
) -> C:
    """Build `config_class` from the command line; a wrong option or value exits with code 2.

    Fields made without a default are positional arguments.  `presets` maps values of the `recipe` option
    to other defaults, which explicit options still override; with --resume the defaults are what `config.json` in
    --run-dir holds.  `--dry-run` prints the effective configuration as JSON and exits.
    """
    fields = dataclasses.fields(config_class)
    usage = " ".join(["%(prog)s", *(field.name.upper() for field in fields if field.default is None), "[options]"])
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(usage=usage, description=description, formatter_class=layout, allow_abbrev=False)
    for field in fields:
        flag = "--" + field.name.replace("_", "-")
        help_text = field.metadata["help"].replace("%", "%%") + _default_text(field.default)
        if field.default is None:
            parser.add_argument(field.name, metavar=field.name.upper(), type=given_path, help=help_text)
            continue
        kwargs: dict[str, Any] = {"default": argparse.SUPPRESS, "help": help_text, "dest": field.name}
        kind = type(field.default)
        if kind is bool:
            kwargs["action"] = argparse.BooleanOptionalAction
        elif kind in (int, float):
            kwargs["type"] = checked(kind, field.metadata["low"], field.metadata["high"])
            kwargs["metavar"] = "N" if kind is int else "X"
        else:
            kwargs["type"] = given_path if issubclass(kind, Path) else kind
            kwargs["choices"] = field.metadata["choices"]
            kwargs["metavar"] = " | ".join(kwargs["choices"] or ["PATH" if issubclass(kind, Path) else "TEXT"])
        parser.add_argument(flag, **kwargs)
    parser.add_argument("--dry-run", action="store_true", help="print the effective configuration as JSON and exit")
    given = vars(parser.parse_args(argv))
    dry_run = given.pop("dry_run")
    defaults = {field.name: field.default for field in fields}
    recipe = given.get("recipe", defaults.get("recipe"))
    defaults |= (presets or {}).get(recipe, {})
    if given.get("resume"):
        defaults |= remembered(given.get("run_dir", defaults["run_dir"]) / "config.json", fields)
    config = config_class(**{**defaults, **given})
    if dry_run:
        print(json.dumps(to_json(config), indent=2))
        sys.exit(0)
    return config


def remembered(file: Path, fields: tuple[dataclasses.Field, ...]) -> dict[str, Any]:
    """The options of an earlier training from its config.json, by the types of `fields`; none if there is no file.

    Options that a script no longer has are left to the checkpoint, which refuses them.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        kinds = {field.name: type(field.default) for field in fields}
        return {name: kinds[name](value) for name, value in values.items() if name in kinds and name != "resume"}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read ({error}): give all options anew") from None


def to_json(config: Any) -> dict[str, Any]:
    """The configuration as JSON-ready values (paths as text)."""
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(config).items()
    }
