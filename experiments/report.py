"""Build report.pdf from the result files of the other experiments.

    python3 -m experiments.report     # `make report` does the same in a fresh environment

Typst reads results/*.json itself and formats the numbers; the text holds none of its own, and what others have
measured is in report/cited.json.  This script draws the figures (experiments/figures.py), makes the pictures small,
writes what the code knows (printed networks, options, constants) to build/code.json, and typesets report/report.typ.
The same result files give the same PDF to the byte.
"""

from common.start import run_script

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typst
from PIL import Image
from torch import nn

import p1_dcgan_train
import p1_wgan_train
import p2_ddpm_train
import p2_inference
import p3_dann_train
from common.config import UserError, option, parse_config
from common.files import atomic_write
from experiments import figures, headline, p2
from experiments.__main__ import PARTS
from experiments.runs import RESULTS, ROOT, read_results, stale, write_results
from models.dann import DANN
from models.dcgan import Critic, Discriminator, Generator
from models.ddpm import DDPM
from models.diffusion import BETA_FIRST, BETA_LAST, TIMESTEPS, alpha_bar_schedule

# The commands that make the result files; a file that is not here is in results/archive/.
MADE_BY = {name: f"python3 -m experiments --part {name}" for name in PARTS}
PHOTOGRAPHS = ("headline_faces", "p1_")  # pictures that JPEG suits; the others are enlarged digits
# What the options begin with that no table lists: they say how to run and not what.
UNLISTED = ("seed", "precision", "recipe", "method", "start", "teachers", "held_out", "log_every")


@dataclass(frozen=True)
class Config:
    results: Path = option(RESULTS, "folder of the result files")
    build: Path = option(ROOT / "build", "folder of the figures and of what Typst reads")
    pdf: Path = option(ROOT / "report.pdf", "file to write")
    pages: bool = option(False, "write the pages as images too, build/page-1.png and so on")


def read_all(folder: Path) -> dict[str, Any]:
    """All result files by their name without suffix, those of the archive as "archive/NAME".

    Raises UserError, with the command that measures anew, for what is missing or of other weights than checkpoints/.
    """
    files = sorted(folder.rglob("*.json"))
    found = {str(file.relative_to(folder).with_suffix("")): read_results(file) for file in files}
    for name, command in MADE_BY.items():
        if name not in found:
            raise UserError(f"{folder / name}.json is missing, run: {command}")
        if other := stale(found[name]):
            raise UserError(f"{name}.json is of other weights than {other[0]}.safetensors, run: {command}")
    return found


def shrink(results: Path, build: Path) -> None:
    """The results' pictures into `build`: photographs as JPEG, digits as they are."""
    for file in sorted(results.glob("*.png")):
        with Image.open(file) as picture:
            if file.name.startswith(PHOTOGRAPHS):
                picture.convert("RGB").save(build / f"{file.stem}.jpg", quality=88, subsampling=0)
            else:
                picture.save(build / file.name, optimize=True)


def options(*configs: Any) -> list[list[Any]]:
    """The options that decide what trainings compute: name, value in each configuration that has it, meaning."""
    rows: dict[str, list[Any]] = {}
    for field in (field for config in configs for field in dataclasses.fields(config)):
        if not field.name.startswith(UNLISTED) and (field.name == "images" or not field.metadata["free"]):
            values = (getattr(config, field.name, "–") for config in configs)
            short = (f"{value:g}" if isinstance(value, float) else value for value in values)  # Typst has no 5e-05
            rows.setdefault(field.name, [field.name.replace("_", "-"), *short, field.metadata["help"]])
    return list(rows.values())


def code() -> dict[str, Any]:
    """What the text needs of the code: networks as printed, sizes, options, constants."""
    networks: dict[str, nn.Module] = {make.__name__: make() for make in (Generator, Discriminator, Critic, DDPM, DANN)}
    networks["Critic without BatchNorm"] = Critic(batch_norm=False)
    alpha_bar, gans = alpha_bar_schedule().tolist(), (p1_dcgan_train, p1_wgan_train)
    recipes = (p3_dann_train.RECIPES[name] for name in ("usps", "original"))
    return {
        "graded": headline.GRADED,
        "printed": {name: str(network) for name, network in networks.items()},
        "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()},
        "options": {
            "faces": options(*(gan.Config(**recipe) for gan in gans for recipe in ({}, gan.ORIGINAL))),
            "digits": options(p2_ddpm_train.Config()),
            "adaptation": options(p3_dann_train.Config(), *(p3_dann_train.Config(**recipe) for recipe in recipes)),
        },
        "sampling": {name: getattr(p2_inference.Config, name) for name in p2.FIRST},
        "diffusion": {
            "steps": TIMESTEPS,
            "beta_first": BETA_FIRST,
            "beta_last": BETA_LAST,
            "half": next(t for t, share in enumerate(alpha_bar) if share < 0.5),
            "shown": [TIMESTEPS - done for done in p2.SHOWN],
            "label_dropout": p2_ddpm_train.Config.label_dropout,
        },
        "commands": list(MADE_BY.values()),
    }


def main() -> None:
    config = parse_config(Config, __doc__)
    found = read_all(config.results)
    config.build.mkdir(parents=True, exist_ok=True)
    write_results(config.build / "results.json", found)
    write_results(config.build / "code.json", code())
    figures.draw_all(found, config.build)
    shrink(config.results, config.build)
    for source in sorted((ROOT / "report").iterdir()):
        atomic_write(config.build / source.name, source.read_bytes())
    settings = {"root": config.build, "ignore_system_fonts": True, "timestamp": 0}
    try:
        pdf = typst.compile(config.build / "report.typ", **settings)
        if config.pages:
            typst.compile(config.build / "report.typ", config.build / "page-{0p}.png", format="png", ppi=90, **settings)
    except typst.TypstError as error:
        raise UserError(f"report.typ cannot be typeset: {error}") from None
    atomic_write(config.pdf, pdf)
    print(config.pdf)


if __name__ == "__main__":
    run_script(main)
