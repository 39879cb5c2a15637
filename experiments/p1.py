"""Problem 1 in numbers and figures: what each ingredient is worth, the normalisation lesson, looks at the faces.

    python3 -m experiments.p1 --part dcgan      # short trainings of A, one ingredient more in each row
    python3 -m experiments.p1 --part wgan       # short trainings of B
    python3 -m experiments.p1 --part lesson     # real images normalised as for ImageNet: the discriminator wins
    python3 -m experiments.p1 --part curve      # FID over the trainings in --run-a and --run-b, which log it
    python3 -m experiments.p1 --part tried      # the long trainings in --tried, a row each beside those of before
    python3 -m experiments.p1 --part collapse   # what a generator that learns too fast does: --run-fast beside --run-b
    python3 -m experiments.p1 --part figures    # interpolation, nearest training faces, failures, training as a GIF

A row's score is FID (and KID) of 1,000 samples against 2,000 training faces that were held out; val chooses
nothing.  A training has as many steps, of both networks together, as --images of A need: so where a critic
steps five times to a generator's once, it has a third of the images and takes about as long.  Each part trains
what is not yet trained (in --runs, killed and started again at will), writes results/p1_<part>.json and prints
a table.  On two CPU cores with avx512_bf16 a training of A takes 14 to 17 minutes, one of B about 20.
"""

import json
import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import p1_dcgan_train
import p1_wgan_train
from common.checkpoint import load_weights
from common.config import UserError, option, parse_config, run_script, to_json
from common.images import make_grid, save_gif, save_image
from data.reading import decode_image, list_images, load_folder, to_unit_range
from evaluation.distances import distances, sample_of
from evaluation.faces import face_counts
from experiments.headline import GRADED
from experiments.runs import (
    METHODS,
    RESULTS,
    ROOT,
    logged,
    mean_and_spread,
    metrics,
    read_of_run,
    read_results,
    table,
    train,
    write_results,
)
from models.dcgan import Generator
from sampling.faces import latents, sample_images

CPU = torch.device("cpu")
PLAIN = ("--recipe", "original")
AVERAGED = (*PLAIN, "--ema-half-life", 10_000)
MOVED = (*AVERAGED, "--flips", "--augment", "translation")
PAIRED = (*MOVED, "--joint-batches", "--loss", "relativistic")
BOTH_PENALTIES = ("--r1-weight", 0.05, "--r2-weight", 0.05, "--r1-every", 4)
PENALTY = ("--learning-rate-g", 1e-4, "--learning-rate-c", 2e-4, "--decay-from", 0.7, "--ema-half-life", 10_000)
APART = (*PENALTY, "--no-joint-batches")
HELD_OUT = 2000
SCRIPTS = {"dcgan": p1_dcgan_train, "wgan": p1_wgan_train}
ROWS: dict[str, dict[str, tuple[object, ...]]] = {
    "dcgan": {
        "original": PLAIN,
        "+ averaged weights": AVERAGED,
        "+ flips and translation": MOVED,
        "  joint batches": (*MOVED, "--joint-batches"),
        "  relativistic loss": (*MOVED, "--loss", "relativistic"),
        "  joint and relativistic": PAIRED,
        "  these two without translation": (*PAIRED, "--augment", "none"),
        "  these two and G at 4e-4": (*PAIRED, "--learning-rate-g", 4e-4),
        "  these two with R1 and R2 at 4e-4": (
            *PAIRED,
            *BOTH_PENALTIES,
            "--learning-rate-g",
            4e-4,
            "--learning-rate-d",
            4e-4,
        ),
        "  no BatchNorm but R1": (*MOVED, "--no-batch-norm", "--r1-weight", 0.1),
    },
    "wgan": {
        "original: weight clipping": PLAIN,
        "penalty and augmentation": (*APART, "--critic-steps", 5),
        "  1 critic step": APART,
        "  1 and joint batches": PENALTY,
        "  1 and joint at 2e-4 and 2e-4": (*PENALTY, "--learning-rate-g", 2e-4),
        "  1 and joint at 2e-4 and 4e-4": (*PENALTY, "--learning-rate-g", 2e-4, "--learning-rate-c", 4e-4),
    },
}
# Rows whose first faces are shown, and the pictures' names.
PICTURED = {
    "dcgan": {"original": "plain", "  joint and relativistic": "improved"},
    "wgan": {"original: weight clipping": "plain", "  1 and joint at 2e-4 and 4e-4": "improved"},
}
CELL = 66  # pixels from one face of a sheet to the next
LESSONS = ("tanh_range", "imagenet", "tanh_range_joint", "imagenet_joint")  # trainings of the normalisation lesson
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


TRIED = ("", "from", "batch", "rate / 1e-4", "how", "images, M", "lowest FID", "last FID")  # columns of its table
PARTS = ("dcgan", "wgan", "lesson", "curve", "tried", "collapse", "figures")


@dataclass(frozen=True)
class Config:
    part: str = option("dcgan", "what to measure or make", choices=PARTS)
    data: Path = option(Path("hw2_data/face/train"), "folder of training faces")
    runs: Path = option(Path("runs/p1"), "folder of the trainings")
    results: Path = option(RESULTS, "folder of the result files")
    weights_a: Path = option(ROOT / "checkpoints" / "p1_dcgan.safetensors", "generator of method A, for the figures")
    weights_b: Path = option(ROOT / "checkpoints" / "p1_wgan.safetensors", "generator of method B, for the figures")
    run_a: Path = option(Path("runs/dcgan"), "training of method A, for its curve and GIF")
    run_b: Path = option(Path("runs/wgan"), "training of method B, for its curve and GIF")
    tried: Path = option(Path("runs/tried"), "folder of long trainings of both methods, for their table")
    run_fast: Path = option(Path("runs/wgan_fast"), "training of B with --learning-rate-g 4e-4, for its collapse")
    images: int = option(64_000, "length of a short training in images, if each network steps in turn", low=1)
    held_out: int = option(HELD_OUT, "faces held out for the scores", low=2)
    count: int = option(1000, "samples behind each score", low=2)
    compared: int = option(1500, "training faces behind the FID of the figures, as many as val has", low=2)
    seeds: int = option(1, "trainings per row", low=1, high=100)
    only: str = option("", "these rows of the table alone, separated by commas")


def decisive(part: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Those of a training's settings that decide what it computes."""
    free = {field.name for field in fields(SCRIPTS[part].Config) if field.metadata["free"]}
    return {name: value for name, value in settings.items() if name not in free}


def settings(part: str, options: tuple[object, ...]) -> dict[str, Any]:
    """What a training by these options computes: every option of its script that is not free."""
    script = SCRIPTS[part]
    config = parse_config(script.Config, "", list(map(str, options)), {"original": script.ORIGINAL})
    return {name: value for name, value in decisive(part, to_json(config)).items() if name not in ("held_out", "seed")}


def row_images(images: int, trained: dict[str, Any]) -> int:
    """Images of a training by these settings that has as many steps, of both networks together, as `images` of A."""
    steps = 2 * images // (1 + trained.get("critic_steps", 1)) // trained["batch_size"]
    return max(1, steps) * trained["batch_size"]


def row_folder(config: Config, name: str, seed: int = 0) -> Path:
    """Where a row of a table is trained."""
    return config.runs / config.part / f"{name.strip(' +').replace(' ', '_')}-{seed}"


def short_trainings(config: Config) -> dict[str, Any]:
    """Train and score what the result file does not hold yet of the parts dcgan and wgan; the file's content."""
    file = config.results / f"p1_{config.part}.json"
    earlier = read_results(file)
    content: dict[str, Any] = {name: getattr(config, name) for name in ("images", "held_out", "count")}
    known = earlier["rows"] if content.items() <= earlier.items() else {}
    meant = {name: settings(config.part, options) for name, options in ROWS[config.part].items()}
    # An option that a row does not name is younger than it: by its default a training is what it was without.
    defaults = settings(config.part, ())
    kept = {
        name: {"settings": meant[name], "runs": row["runs"]}
        for name, row in known.items()
        if defaults | row["settings"] == meant.get(name)
    }
    if forgotten := [name.strip(" +") for name in known if name not in kept]:
        print(f"{file}: forgets {', '.join(forgotten)}: no longer rows, or by other settings", file=sys.stderr)
    known = kept
    wanted = [name.strip(" +") for name in config.only.split(",") if name.strip(" +")]
    names = {name.strip(" +"): name for name in ROWS[config.part]}
    if unknown := [name for name in wanted if name not in names]:
        raise UserError(f"--only: {unknown[0]!r} is not one of {', '.join(names)}")
    for name in map(names.get, wanted or names):
        options = ROWS[config.part][name]
        images = row_images(config.images, meant[name])
        runs = known[name]["runs"] if name in known else []
        for seed in range(len(runs), config.seeds):
            watch = ("--held-out", config.held_out, "--score-every", images // 2, "--score-count", config.count)
            fixed = ("--data", config.data, "--images", images, "--sample-every", max(1, images // 4))
            run_dir = row_folder(config, name, seed)
            train(f"p1_{config.part}_train.py", run_dir, *fixed, *watch, *options, "--seed", seed)
            runs.append({score: metrics(run_dir, score) for score in ("fid", "kid_x1000")})
        known[name] = {"settings": meant[name], "runs": runs}
        content["rows"] = {name: known[name] for name in ROWS[config.part] if name in known}
        write_results(file, content)
    for name, shown in PICTURED[config.part].items():
        if name not in content["rows"]:
            continue
        run_dir, picture = row_folder(config, name), config.results / f"p1_{config.part}_{shown}.png"
        if (run_dir / "samples").is_dir():
            save_image(picture, corner(list_images(run_dir / "samples")[-1], 1, 8))
        else:
            print(f"{run_dir} is not there, so {picture} stays as it is", file=sys.stderr)
    return content


def corner(sheet: Path, rows: int, columns: int) -> Tensor:
    """The first faces of a sample sheet, uint8 (3, h, w)."""
    pixels = torch.from_numpy(decode_image(sheet).copy()).permute(2, 0, 1)
    return pixels[:, : rows * CELL - 2, : columns * CELL - 2]


def summary(content: dict[str, Any]) -> list[list[str]]:
    """The short trainings as rows: name, seeds, images, FID half-way and at the end, KID x 1000 at the end."""
    rows = []
    for name, row in content["rows"].items():
        half, end = (mean_and_spread([run["fid"][which] for run in row["runs"]]) for which in (0, -1))
        kid, _ = mean_and_spread([run["kid_x1000"][-1] for run in row["runs"]])
        spread = f" ± {end[1]:.1f}" if len(row["runs"]) > 1 else ""
        images = f"{row_images(content['images'], row['settings']):,}"
        rows.append([name, str(len(row["runs"])), images, f"{half[0]:.1f}", f"{end[0]:.1f}{spread}", f"{kid:.1f}"])
    return rows


def show(content: dict[str, Any]) -> str:
    """The short trainings as a Markdown table."""
    return table(["training", "seeds", "images", "FID half-way", "FID at the end", "KID x 1000"], summary(content))


def imagenet_batch(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """`real_batch` with the means and deviations of ImageNet: about [-2.1, 2.6], where Tanh cannot follow."""
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    scaled = (images[indices.to(images.device)].to(device).float() / 255 - mean) / std
    return scaled.contiguous(memory_format=torch.channels_last)


def lesson(config: Config) -> dict[str, Any]:
    """The original recipe on real images in [-1, 1] and on ImageNet-normalised ones: the discriminator's accuracy.

    Twice: with batches of real or generated images alone, as is usual, of which BatchNorm takes the scale out, and
    with joint ones, where the discriminator can see it.
    """
    content: dict[str, Any] = {}
    length = ("--images", config.images // 4, "--sample-every", max(1, config.images // 16), "--log-every", 5)
    for name in LESSONS:
        run_dir = config.runs / "lesson" / name
        batch = imagenet_batch if "imagenet" in name else p1_dcgan_train.real_batch
        joint = ("--joint-batches",) if "joint" in name else ()
        options = ("--data", config.data, "--run-dir", run_dir, "--resume", *PLAIN, *joint, *length)
        arguments = ["p1_dcgan_train.py", *map(str, options)]
        with mock.patch.object(p1_dcgan_train, "real_batch", batch), mock.patch.object(sys, "argv", arguments):
            p1_dcgan_train.main()
        logged = ("accuracy_d", "logit_real", "logit_fake", "loss_g")
        content[name] = {metric: metrics(run_dir, metric) for metric in logged}
        newest = list_images(run_dir / "samples")[-1]
        save_image(config.results / f"p1_lesson_{name}.png", corner(newest, 1, 8))
    write_results(config.results / "p1_lesson.json", content)
    return content


def stages(run_dir: Path) -> list[Path]:
    """A training's folder after those of the trainings that it went on from by --start, the earliest first.

    Raises UserError if one of them is not there.
    """
    start = json.loads(read_of_run(run_dir, "config.json")).get("start")
    went_on = start and not start.endswith(".safetensors")
    return [*(stages(Path(start).parent) if went_on else []), run_dir]


def seen_before(run_dir: Path) -> int:
    """The images that another training had seen when this one started from it; 0 of one that started anew."""
    first = logged(run_dir)[0]
    return first["images"] - first["step"] * json.loads(read_of_run(run_dir, "config.json"))["batch_size"]


def stage_ends(run_dir: Path) -> list[tuple[Path, float]]:
    """Each of the `stages` and the images seen when the next one began; it may itself have gone on after that."""
    found = stages(run_dir)
    return list(zip(found, [*map(seen_before, found[1:]), math.inf], strict=True))


def curve(run_dir: Path) -> dict[str, Any]:
    """What a training logged of its samples and of overfitting, each as [images seen, value] pairs, stages joined.

    `trained_images` are those of its weights.  Raises UserError if no FID was logged.
    """
    lines = [line for stage, end in stage_ends(run_dir) for line in logged(stage) if line["images"] <= end]
    settings = json.loads(read_of_run(run_dir, "config.json"))
    content: dict[str, Any] = {name: settings[name] for name in ("held_out", "score_count", "batch_size")}
    content["trained_images"] = int(load_weights(Generator(), run_dir / "weights.safetensors")["images"])
    for shown, name in (
        ("fid", "fid"),
        ("kid_x1000", "kid_x1000"),
        ("train", "s_train"),
        ("held_out_faces", "s_held_out"),
    ):
        content[shown] = [[line["images"], line[found]] for line in lines for found in line if found.endswith(name)]
    if not content["fid"]:
        raise UserError(f"{run_dir} logged no FID, train with --held-out 1000 --score-every 25000")
    return content


def tried(config: Config) -> dict[str, Any]:
    """Of each training in --tried: settings, where it began and ended, and the [images seen, FID] pairs it logged.

    `trained_images` are those of its weights, if they are there; it may have gone on.  By method, then by the images
    that were seen when it began.  The result file keeps those whose folders are gone, as other machines' are.
    Raises UserError if there is none.
    """
    found = {}
    for file in config.tried.glob("*/metrics.jsonl"):
        settings, lines = json.loads(read_of_run(file.parent, "config.json")), logged(file.parent)
        if not lines:
            continue
        method = "dcgan" if "learning_rate_d" in settings else "wgan"
        about = {
            "method": method,
            "start": Path(settings["start"]).parent.name,
            "images": [seen_before(file.parent), lines[-1]["images"]],
            "fid": [[line["images"], line["fid"]] for line in lines if "fid" in line],
            "held_out": settings["held_out"],
            "settings": decisive(method, settings),
        }
        if (weights := file.parent / "weights.safetensors").is_file():
            about["trained_images"] = int(load_weights(Generator(), weights)["images"])
        found[file.parent.name] = about
    if not found:
        raise UserError(f"{config.tried} holds no training")
    results = config.results / "p1_tried.json"
    rows = (read_results(results).get("rows", {}) | found).items()
    content = {"rows": dict(sorted(rows, key=lambda row: (row[1]["method"], row[1]["images"], row[0])))}
    write_results(results, content)
    return content


def tried_names(content: dict[str, Any]) -> dict[str, str]:
    """What the table calls each training: its method's letter and a number."""
    rows = content["rows"]
    of_method = {method: [name for name in rows if rows[name]["method"] == method] for method in METHODS}
    return {
        name: f"{METHODS[method][0]}{number}"
        for method, names in of_method.items()
        for number, name in enumerate(names, 1)
    }


def tried_path(content: dict[str, Any], method: str, trained_images: int) -> list[str]:
    """The trainings, the earliest first, that led to weights of so many images; empty if none did."""
    rows = content["rows"]
    ends = [
        name for name, row in rows.items() if (row["method"], row.get("trained_images")) == (method, trained_images)
    ]
    path = ends[-1:]
    while path and (start := rows[path[0]]["start"]) in rows:
        path.insert(0, start)
    return path


def tried_rows(content: dict[str, Any]) -> dict[str, list[str]]:
    """Long trainings as rows: name, the one it goes on from, settings, millions of images, lowest and last FID.

    What goes on from weights in checkpoints/ is said to be from "released" ones.
    """
    names, rows = {"checkpoints": "released"} | tried_names(content), {}
    for name, row in content["rows"].items():
        chosen = row["settings"]
        rates = dict.fromkeys(value for option, value in chosen.items() if option.startswith("learning_rate"))
        notes = [chosen["augment"].replace(",", ", ")]
        notes += ["standard loss"] if chosen.get("loss") == "standard" else []
        notes += ["gradient penalties"] if chosen.get("r2_weight") else []
        notes += ["no momentum"] if chosen.get("beta1") == 0 else []
        notes += ["rate falls"] if chosen["decay_from"] < 1 else []
        notes += [] if row["held_out"] else ["all faces"]
        fids = [fid for _, fid in row.get("fid", ())]
        images = "–".join(f"{count / 1e6:.1f}" for count in row["images"])
        line = [names[name], names.get(row["start"], ""), str(chosen["batch_size"])]
        line += [" and ".join(f"{1e4 * rate:g}" for rate in rates), "; ".join(notes), images]
        rows[name] = line + ([f"{min(fids):.1f}", f"{fids[-1]:.1f}"] if fids else ["", ""])
    return rows


def collapse(config: Config) -> dict[str, Any]:
    """The critic's distance in a training whose generator learns too fast, beside B's own, and its last two sheets.

    Distances are [images seen, mean over `images_per_mean`] pairs.  Raises UserError if a training is not there, if
    they differ in more than the generator's learning rate, or if one logged no FID as far as the faster one went.
    """
    content: dict[str, Any] = {"images_per_mean": 5000}
    fast, default = (
        decisive("wgan", json.loads(read_of_run(run_dir, "config.json"))) for run_dir in (config.run_fast, config.run_b)
    )
    rate = "learning_rate_g"
    if fast | {rate: default[rate]} != default or fast[rate] != 2 * default[rate]:
        raise UserError(f"{config.run_fast} is not {config.run_b} with its generator's learning rate doubled")
    lines = {"fast": logged(config.run_fast), "default": logged(config.run_b)}
    last = lines["fast"][-1]["images"]
    for name, of_training in lines.items():
        means: dict[int, list[float]] = {}
        for line in of_training:
            if "distance" in line and line["images"] <= last:
                means.setdefault(line["images"] // content["images_per_mean"], []).append(line["distance"])
        content[name] = {
            "distance": [
                [int((number + 0.5) * content["images_per_mean"]), round(fmean(values), 4)]
                for number, values in means.items()
            ],
            "fid": [[line["images"], line["fid"]] for line in of_training if "fid" in line and line["images"] <= last],
        }
        if not content[name]["fid"]:
            raise UserError(
                f"no FID of the {name} training by {last:,} images, train with --held-out and --score-every"
            )
    sheets = list_images(config.run_fast / "samples")[-2:]
    content["sheets"] = [int(sheet.stem) for sheet in sheets]
    for number, sheet in enumerate(sheets):
        save_image(config.results / f"p1_collapse_{number}.png", corner(sheet, 2, 8))
    write_results(config.results / "p1_collapse.json", content)
    return content


def slerp(first: Tensor, second: Tensor, count: int) -> Tensor:
    """`count` latents (count, 100, 1, 1) on the great circle from one (100, 1, 1) to another, ends included."""
    angle = torch.acos((first / first.norm() * second / second.norm()).sum().clamp(-1, 1))
    shares = torch.linspace(0, 1, count)[:, None, None, None]
    return (torch.sin((1 - shares) * angle) * first + torch.sin(shares * angle) * second) / torch.sin(angle)


def nearest_faces(images: Tensor, others: Tensor, count: int) -> Tensor:
    """Indices (n, count) of the `others` nearest to uint8 images, by the distance of images shrunk to 16 x 16."""
    small = [torch.nn.functional.avg_pool2d(to_unit_range(batch), 4).flatten(1) for batch in (images, others)]
    return torch.cdist(*small).topk(count, largest=False).indices


def sharpness(images: Tensor) -> float:
    """How much neighbouring pixels of uint8 images (n, 3, h, w) differ on average, in grey levels: low if blurred."""
    grey = images.float().mean(1)
    return ((grey.diff(dim=1).abs().mean() + grey.diff(dim=2).abs().mean()) / 2).item()


def figures(config: Config) -> None:
    """Write the sheets of the report, and p1_figures.json: what they show.

    The first faces are of both methods, all other sheets of the one that hw2_1.sh runs.  Of that one the FID against
    training faces tells, beside the one against as many others, whether it has learned them by heart.
    """
    content: dict[str, Any] = {}
    for method, weights in (("dcgan", config.weights_a), ("wgan", config.weights_b)):
        network = Generator().eval()
        images = int(load_weights(network, weights).get("images", 0))
        drawn = sample_images(network, latents(config.count))
        content[method] = {"trained_images": images, "sharpness": sharpness(drawn)}
        save_image(config.results / f"p1_first32_{method}.png", make_grid(drawn[:32], 8))
        if method == GRADED:
            generator, faces = network, drawn

    ends = latents(8)
    strips = [sample_images(generator, slerp(ends[i], ends[i + 1], 10)) for i in range(0, 8, 2)]
    save_image(config.results / "p1_interpolation.png", make_grid(torch.cat(strips), 10))

    real = load_folder(config.data, 64)
    content["sharpness_real"] = sharpness(real)
    near = nearest_faces(faces[:8], real, 4)
    training = sample_of(list_images(config.data), config.compared)
    content["training"] = {"images": len(training), "fid": distances(faces, training)["fid"]}
    save_image(config.results / "p1_nearest.png", make_grid(torch.cat((faces[:8], real[near.T.flatten()])), 8))

    missed = [face for face, found in zip(faces, face_counts(faces), strict=True) if found != 1]
    if missed:
        save_image(config.results / "p1_missed.png", make_grid(torch.stack(missed[:32]), 8))
    content |= {"faces": len(faces), "missed": len(missed), "shown": len(missed[:32])}
    write_results(config.results / "p1_figures.json", content)

    run_dir = {"dcgan": config.run_a, "wgan": config.run_b}[GRADED]
    if not (run_dir / "samples").is_dir():
        return print(f"{run_dir / 'samples'} is not there, so there is no GIF of the training", file=sys.stderr)
    made = [(sheet, end) for stage, end in stage_ends(run_dir) for sheet in list_images(stage / "samples")]
    sheets = [sheet for sheet, end in made if int(sheet.stem) <= end]
    shown = [sheets[round(i * (len(sheets) - 1) / 39)] for i in range(40)] if len(sheets) > 40 else sheets
    save_gif(config.results / "p1_training.gif", [corner(sheet, 4, 4) for sheet in shown], milliseconds=200)


def main() -> None:
    config = parse_config(Config, __doc__)
    if config.part == "figures":
        figures(config)
    elif config.part == "curve":
        content = {name: curve(run_dir) for name, run_dir in (("dcgan", config.run_a), ("wgan", config.run_b))}
        write_results(config.results / "p1_curve.json", content)
        for name, found in content.items():
            print(f"{name}: FID {found['fid'][0][1]:.1f} at first, {found['fid'][-1][1]:.1f} at the end")
    elif config.part == "tried":
        content = tried(config)
        print(table([*TRIED], list(tried_rows(content).values())))
    elif config.part == "collapse":
        content = collapse(config)
        for name in ("fast", "default"):
            (images, distance), (_, fid) = content[name]["distance"][-1], content[name]["fid"][-1]
            print(f"{name}: distance {distance:.2f} at about {images:,} images, FID {fid:.1f}")
    elif config.part == "lesson":
        for name, values in lesson(config).items():
            if not values["accuracy_d"]:
                raise UserError(f"--images {config.images} is too short to log anything")
            print(f"{name}: the discriminator is right for {values['accuracy_d'][-1]:.1%} of images at the end")
    else:
        print(show(short_trainings(config)))


if __name__ == "__main__":
    run_script(main)
