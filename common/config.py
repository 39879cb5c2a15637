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
INF = math.inf


class UserError(Exception):
    """Something the user can put right; `run_script` prints it as one sentence and exits with code 2."""


def option(
    default: Any, help: str, low: float = -INF, high: float = INF, choices: tuple[str, ...] = (), free: bool = False
) -> Any:
    """A dataclass field that is also a command-line option; `low` and `high` are inclusive bounds.

    A `free` one may change with `--resume`: what a training computes for the images it has seen does not depend on it.
    """
    about = {"help": help, "low": low, "high": high, "choices": choices, "free": free}
    return dataclasses.field(default=default, metadata=about)


def in_one_line(text: str) -> str:
    """A message that may hold file names, whose line breaks and other control characters are escaped."""
    return "".join(letter if letter.isprintable() or letter == " " else ascii(letter)[1:-1] for letter in text)


def warn(text: str) -> None:
    """One line on stderr."""
    print(in_one_line(f"warning: {text}"), file=sys.stderr)


def first_sentence(error: Exception | str) -> str:
    """What a library says of an error, which may go on for a page; the error's kind if it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0].split(". ")[0]


def first_five(names: list[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


class Parser(argparse.ArgumentParser):
    """argparse: descriptions as they are, options by their whole names, errors in one sentence."""

    def __init__(self, **settings: Any):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {in_one_line(message)}\n")


def checked(kind: type, low: float = -INF, high: float = INF) -> Callable[[str], Any]:
    """A converter for argparse that also checks the range."""
    if kind is int:
        high = min(high, 2**63 - 1)  # no larger one is a seed of torch's

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not {'an integer' if kind is int else 'a number'}") from None
        if kind is float and not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is not a finite number")
        if not low <= value <= high:
            bound = f"at least {low}" if value < low else f"at most {high}"
            raise argparse.ArgumentTypeError(f"{text} is out of range, must be {bound}")
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
    config_class: type[C], description: str, argv: list[str] | None = None, presets: dict[str, dict] | None = None
) -> C:
    """Build `config_class` from the command line; a wrong option or value exits with code 2.

    Fields whose default is None are positional.  `presets` maps values of the `recipe` option to other defaults; with
    --resume the defaults are those of `config.json` in --run-dir.  `--dry-run` prints the configuration and exits.
    """
    own = config_class.__annotations__  # come first, those of a base class last
    fields = sorted(dataclasses.fields(config_class), key=lambda field: field.name not in own)
    usage = " ".join(["%(prog)s", *(field.name.upper() for field in fields if field.default is None), "[options]"])
    parser = Parser(usage=usage, description=description)
    for field in fields:
        help_text = field.metadata["help"].replace("%", "%%") + _default_text(field.default)
        if field.default is None:
            parser.add_argument(field.name, metavar=field.name.upper(), type=given_path, help=help_text)
            continue
        kind, choices = type(field.default), field.metadata["choices"]
        if kind is bool:
            settings: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        elif kind in (int, float):
            converter = checked(kind, field.metadata["low"], field.metadata["high"])
            settings = {"type": converter, "metavar": "N" if kind is int else "X"}
        elif issubclass(kind, Path):
            settings = {"type": given_path, "metavar": "PATH"}
        else:
            settings = {"choices": choices or None, "metavar": " | ".join(choices) or "TEXT"}
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, default=argparse.SUPPRESS, help=help_text, **settings)
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


def remembered(file: Path, fields: list[dataclasses.Field]) -> dict[str, Any]:
    """The options in an earlier training's config.json that `fields` still has; none if there is no such file."""
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
    values = dataclasses.asdict(config).items()
    return {name: str(value) if isinstance(value, Path) else value for name, value in values}
