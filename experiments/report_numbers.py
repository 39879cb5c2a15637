"""The numbers of report.pdf, formatted: one dictionary made of the result files, which report/report.typ reads.

Whatever is missing is a UserError that names it and the command that makes it.
"""

import dataclasses
import itertools
import operator
import statistics
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr
from torch import nn

import p1_dcgan_train
import p1_wgan_train
import p2_ddpm_train
import p3_dann_train
from common.config import UserError
from common.download import sha256
from evaluation.faces import FACE_SIZE
from evaluation.inception import FEATURES
from experiments import headline, p1, p2, p3
from experiments.headline import CITED
from experiments.runs import METHODS, ROOT, mean_and_spread, percent, read_results
from models.dann import DANN
from models.dcgan import LATENT_SIZE, Critic, Discriminator, Generator
from models.ddpm import DDPM, IMAGE_SHAPE
from models.diffusion import BETA_FIRST, BETA_LAST, TIMESTEPS, alpha_bar_schedule
from sampling.labels import TARGETS

MADE_BY = {
    **{f"headline{kind}": "python3 -m experiments.headline" for kind in (".json", "_faces.png", "_digits.png")},
    "headline_labels.png": "python3 -m experiments.headline",
    **{f"p1_{part}.json": f"python3 -m experiments.p1 --part {part}" for part in p1.PARTS},
    **{
        f"p1_{part}_{shown}.png": f"python3 -m experiments.p1 --part {part}"
        for part, pictured in p1.PICTURED.items()
        for shown in pictured.values()
    },
    **{f"p1_collapse_{number}.png": "python3 -m experiments.p1 --part collapse" for number in range(2)},
    **{f"p1_lesson_{name}.png": "python3 -m experiments.p1 --part lesson" for name in p1.LESSONS},
    **{
        f"p1_{name}.png": "python3 -m experiments.p1 --part figures"
        for name in ("first32_dcgan", "first32_wgan", "interpolation", "nearest", "missed")
    },
    "p2_tradeoff.json": "python3 -m experiments.p2 --part tradeoff",
    **{
        f"p2_{name}.png": "python3 -m experiments.p2 --part figures"
        for name in ("grid", "reverse", "reversed_time", "six_steps")
    },
    **{f"p3_{part}.json": f"python3 -m experiments.p3 --part {part}" for part in p3.PARTS},
    **{f"p3_hardest_{target}.png": "python3 -m experiments.p3 --part hardest" for target in TARGETS},
}
COUNTED = {1: "one", 5: "five"}
MILD = 1.0  # guidance scale between none and the default
# Options that no table lists.
WITHOUT = {
    "seed",
    "precision",
    "start",
    "start_discriminator",
    "start_critic",
    "held_out",
    "oracle",
    "method",
    "recipe",
    "log_every",
    "source",
    "target",
}


class Measured(dict[str, Any]):
    """A part of a result file; what it lacks is a UserError that names the file, the place and the command."""

    def __init__(self, content: dict[str, Any], file: str, place: str = ""):
        self.file, self.place = file, place
        parts = {key: measured(value, file, f"{place}{key} > ") for key, value in content.items()}
        super().__init__({key: part for key, part in parts.items() if part != []})

    def __missing__(self, key: str) -> None:
        raise UserError(f"{self.file} lacks '{self.place}{key}', run: {MADE_BY[self.file]}")


def measured(content: Any, file: str, place: str = "") -> Any:
    """The content of a result file with every dictionary in it a `Measured`."""
    if isinstance(content, dict):
        return Measured(content, file, place)
    return [measured(part, file, place) for part in content] if isinstance(content, list) else content


def need(folder: Path) -> dict[str, Any]:
    """All result files by their name without suffix; UserError if one of them, or a picture, is not there."""
    missing = [name for name in MADE_BY if not (folder / name).is_file()]
    if missing:
        more = f" and so are {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{folder / missing[0]} is missing{more}, run: {MADE_BY[missing[0]]}")
    files = [name for name in MADE_BY if name.endswith(".json")]
    return {name.removesuffix(".json"): measured(read_results(folder / name), name) for name in files}


def refuse_stale(results: dict[str, Any]) -> None:
    """Raise UserError if the scores or the figures are not those of the weights in checkpoints/."""
    for name, notes in results["headline"]["checkpoints"].items():
        if notes["sha256"] != sha256(ROOT / "checkpoints" / f"{name}.safetensors"):
            raise UserError(
                f"headline.json is of other weights than {name}.safetensors, run: {MADE_BY['headline.json']}"
            )
    trained = {name: notes["trained_images"] for name, notes in results["headline"]["checkpoints"].items()}
    if not p1.tried_path(results["p1_tried"], "dcgan", trained["p1_dcgan"]):
        raise UserError(f"p1_tried.json is of other weights than p1_dcgan.safetensors, run: {MADE_BY['p1_tried.json']}")
    for file, found, network in (
        ("p1_figures", results["p1_figures"]["dcgan"], "p1_dcgan"),
        ("p1_figures", results["p1_figures"]["wgan"], "p1_wgan"),
        ("p2_tradeoff", results["p2_tradeoff"], "p2_ddpm"),
    ):
        if int(found["trained_images"]) != trained[network]:
            raise UserError(
                f"{file}.json is of other weights than {network}.safetensors, run: {MADE_BY[file + '.json']}"
            )
    for target in TARGETS:
        scored = results["headline"]["labels"][target]
        wrong = scored["images"] - sum(row[digit] for digit, row in enumerate(scored["confusion"]))
        if wrong != results["p3_hardest"][target]["wrong"]:
            raise UserError(
                f"p3_hardest.json and headline.json are of other weights, run: {MADE_BY['p3_hardest.json']}"
            )


def settings(*configs: Any) -> list[list[str]]:
    """The options that decide what trainings compute: name, value in each configuration that has it, meaning."""

    def text(value: Any) -> str:
        if isinstance(value, bool):
            return "on" if value else "off"
        return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else value

    fields: dict[str, dataclasses.Field] = {}
    for config in configs:
        for field in dataclasses.fields(config):
            if field.name not in WITHOUT and (field.name == "images" or not field.metadata["free"]):
                fields.setdefault(field.name, field)
    return [
        [name.replace("_", "-"), *(text(getattr(c, name, "–")) for c in configs), field.metadata["help"]]
        for name, field in fields.items()
    ]


def parameters(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()):,}"


def option_of(options: list[str], name: str) -> str:
    """The value of an option of a training's command line."""
    return options[options.index(name) + 1]


def steepest(values: dict[str, float]) -> tuple[str, float]:
    """Of rows that add an ingredient each, the one that differs most from the row above, and by how much."""
    names = list(values)
    changes = {name: values[name] - values[above] for above, name in itertools.pairwise(names)}
    name = max(changes, key=lambda name: abs(changes[name]))
    return name.removeprefix("+ "), changes[name]


def face_numbers(results: dict[str, Any]) -> dict[str, Any]:
    """What the section on problem 1 needs, as text."""
    scored = {"a": results["headline"]["faces"]["dcgan"], "b": results["headline"]["faces"]["wgan"]}
    graded = results["headline"]["faces"][headline.GRADED]
    floor = graded["floor"]["fid"]
    original, real_floor = CITED["original_report"]["fid"], CITED["course"]["floor"]
    found: dict[str, Any] = {"features": f"{FEATURES:,}", "latent": str(LATENT_SIZE), "size": str(FACE_SIZE)}
    for name, scores in scored.items():
        found |= {f"fid_{name}": f"{scores['fid']:.1f}", f"kid_{name}": f"{scores['kid_x1000']:.1f}"}
        found |= {f"rate_{name}": percent([scores["face_rate"]]), f"above_{name}": f"{scores['fid'] - floor:.1f}"}
    found |= {
        "floor": f"{floor:.1f}",
        "floor_kid": f"{graded['floor']['kid_x1000']:.2f}",
        "real_rate": percent([results["headline"]["real_face_rate"]]),
        "generated": f"{graded['images']:,}",
        "reference": f"{graded['reference_images']:,}",
        "found": {key: str(count) for key, count in graded["faces_found"].items()},
        "graded": METHODS[headline.GRADED].split()[-1],
        "graded_rate": percent([graded["face_rate"]]),
        "images_a": f"{results['headline']['checkpoints']['p1_dcgan']['trained_images']:,}",
        "images_b": f"{results['headline']['checkpoints']['p1_wgan']['trained_images']:,}",
        "better": "lower" if scored["a"]["fid"] < scored["b"]["fid"] else "higher",
        "original_a": f"{original['dcgan']}",
        "original_b": f"{original['wgan']}",
        "original_ratio": f"{original['wgan'] / original['dcgan']:.1f}",
        "original_above_a": f"{original['dcgan'] - real_floor}",
        "original_above_b": f"{original['wgan'] - real_floor}",
        "original_above_ratio": f"{(original['wgan'] - real_floor) / (original['dcgan'] - real_floor):.1f}",
        "course_floor": f"{real_floor}",
        "best_other": f"{CITED['eighteen_others']['fid_best']}",
        "best_other_above": f"{CITED['eighteen_others']['fid_best'] - real_floor:.1f}",
        "settings": settings(
            *(s.Config(**recipe) for s in (p1_dcgan_train, p1_wgan_train) for recipe in ({}, s.ORIGINAL))
        ),
        "parameters_g": parameters(Generator()),
        "parameters_d": parameters(Discriminator()),
        "printed": {network.__name__: str(network()) for network in (Generator, Discriminator, Critic)},
        "held_out": f"{p1.HELD_OUT:,}",
    }
    for part in ("dcgan", "wgan"):
        content = results[f"p1_{part}"]
        fids = {
            name: mean_and_spread([run["fid"][-1] for run in content["rows"][name]["runs"]])[0]
            for name in p1.ROWS[part]
        }
        best = min(fids, key=fids.get)
        found[part] = {
            "rows": [[row[0], *row[3:]] for row in p1.summary(content)],
            "images": {
                COUNTED[trained.get("critic_steps", 1)]: f"{p1.row_images(content['images'], trained):,}"
                for trained in (row["settings"] for row in content["rows"].values())
            },
            "seeds": str(min(len(row["runs"]) for row in content["rows"].values())),
            "best": best.strip(" +"),
            "fid": {name.strip(" +"): f"{fid:.1f}" for name, fid in fids.items()},
            "pictured": {
                shown: {"row": name.strip(" +"), "file": f"p1_{part}_{shown}.png"}
                for name, shown in p1.PICTURED[part].items()
            },
            "best_fid": f"{fids[best]:.1f}",
            "first_fid": f"{next(iter(fids.values())):.1f}",
        }
    for name in p1.LESSONS:
        values = results["p1_lesson"][name]["accuracy_d"]
        found[f"lesson_{name}"] = percent([mean_and_spread(values[len(values) // 2 :])[0]])
    ends = [(end - m) / s for end in (0, 1) for m, s in zip(p1.IMAGENET_MEAN, p1.IMAGENET_STD, strict=True)]
    found |= {"imagenet_low": f"{min(ends):.1f}".replace("-", "−"), "imagenet_high": f"{max(ends):.1f}"}
    for letter, name in (("a", "dcgan"), ("b", "wgan")):
        fids = results["p1_curve"][name]["fid"]
        images, best = min(fids, key=lambda pair: pair[1])
        held_out = results["p1_curve"][name]["held_out"]
        released = results["headline"]["checkpoints"][f"p1_{name}"]
        trained_on = released.get("faces", results["headline"]["data"]["face"]["train"] - held_out)
        found[f"faces_{letter}"] = f"{trained_on:,}"
        found[f"curve_{name}"] = {
            "held_out": f"{held_out:,}",
            "count": f"{results['p1_curve'][name]['score_count']:,}",
            "best": f"{best:.1f}",
            "best_at": f"{images:,}",
            "last": f"{fids[-1][1]:.1f}",
            "last_at": f"{fids[-1][0]:,}",
            "images": f"{results['p1_curve'][name]['trained_images']:,}",
        }
    tried = results["p1_tried"]
    path = p1.tried_path(tried, "dcgan", int(results["headline"]["checkpoints"]["p1_dcgan"]["trained_images"]))
    names = p1.tried_names(tried)
    options = ("batch_size", "learning_rate_g", "learning_rate_c")
    by_default = {name: getattr(p1_wgan_train.Config, name) for name in options}
    begun = {name: row for name, row in tried["rows"].items() if row["method"] == "wgan" and not row["start"]}
    lost = next((name for name, row in begun.items() if by_default.items() <= row["settings"].items()), None)
    if lost is None:
        raise UserError(f"p1_tried.json lacks a training of B at its default rates, run: {MADE_BY['p1_tried.json']}")
    shown = [name for name, row in tried["rows"].items() if len(row.get("fid", ())) > 1 or name in (*path, lost)]
    found["tried"] = {
        "rows": [row for name, row in p1.tried_rows(tried).items() if name in shown],
        "header": [*p1.TRIED],
        "path": ", ".join(names[name] for name in path),
        "last_from": f"{tried['rows'][path[-1]]['images'][0]:,}",
        "lost": f"{tried['rows'][lost]['fid'][-1][1]:.1f}",
    }
    training = results["p1_figures"]["training"]
    found |= {"training_images": f"{training['images']:,}", "training_fid": f"{training['fid']:.1f}"}
    fast, default = (results["p1_collapse"][name] for name in ("fast", "default"))
    width = results["p1_collapse"]["images_per_mean"]
    last_above = max((images for images, distance in fast["distance"] if distance >= 0), default=-width // 2)
    found["collapse"] = {
        "below_from": f"{last_above + width // 2:,}",
        "after": [f"{images:,}" for images in results["p1_collapse"]["sheets"]],
        "fid": f"{fast['fid'][-1][1]:.1f}",
        "fid_default": f"{default['fid'][-1][1]:.1f}",
        "images_per_mean": f"{width:,}",
    }
    seen = dict.fromkeys((found["faces_a"], found["faces_b"]))
    found["faces_seen"] = f"{found['faces_a']} (A) and {found['faces_b']} (B)" if len(seen) > 1 else found["faces_a"]
    drawn = {name: results["p1_figures"][name] for name in ("faces", "missed", "shown")}
    found |= {f"figures_{name}": f"{value:,}" for name, value in drawn.items()}
    sharp = {name: results["p1_figures"][method]["sharpness"] for name, method in (("_a", "dcgan"), ("_b", "wgan"))}
    sharp["_real"] = results["p1_figures"]["sharpness_real"]
    return found | {f"sharpness{name}": f"{value:.1f}" for name, value in sharp.items()}


def digit_numbers(results: dict[str, Any]) -> dict[str, Any]:
    """What the section on problem 2 needs, as text."""

    def misread(scores: dict[str, Any]) -> str:
        """The rest of what `percent` says is read right of real digits."""
        return f"{100 - float(percent(list(scores['real_accuracy'].values()))):.1f}"

    course, judge = (results["headline"]["digits"][name] for name in ("course", "judge"))
    rows = {(*row["row"][:4], *row["row"][4]): row for row in results["p2_tradeoff"]["rows"]}
    defaults = p2.DEFAULT
    table = []
    for key in p2.grid():
        if (plain_key := (*key[:4], *key[4])) not in rows:
            raise UserError(f"p2_tradeoff.json lacks the row {key}, run: {MADE_BY['p2_tradeoff.json']}")
        row, (sampler, spacing, steps, scale, interval) = rows[plain_key], key
        if steps not in (defaults.steps, TIMESTEPS) and (steps not in (5, 20, 50) or scale != defaults.guidance_scale):
            continue
        guided = f"{interval[0]:g}–{interval[1]:g}" if interval != p2.EVERYWHERE else "all"
        accuracies = [percent([row[name]]) if name in row else "–" for name in ("course", "judge")]
        line = [f"{sampler}, {spacing}" if sampler != "ancestral" else sampler, str(steps), f"{scale:g}", guided]
        line += [*accuracies, f"{row['fid']:.1f}", f"{row['diversity']:.2f}", f"{row['seconds_per_1000']:.0f}"]
        table.append(line)
    default = (defaults.sampler, defaults.spacing, defaults.steps, defaults.guidance_scale)
    ours = rows[(*default, defaults.guidance_from, defaults.guidance_to)]
    own = rows["ancestral", "uniform", TIMESTEPS, defaults.guidance_scale, 0.0, 1.0]
    nearest, confusion = judge["nearest_training_image"], course["confusion"]
    count, digit, taken = max((n, i, j) for i, row in enumerate(confusion) for j, n in enumerate(row) if i != j)
    at_scale = {scale: rows[defaults.sampler, defaults.spacing, defaults.steps, scale, 0.0, 1.0] for scale in p2.SCALES}
    seconds = {scale: row["seconds_per_1000"] for scale, row in at_scale.items()}
    alpha_bar = alpha_bar_schedule().tolist()
    per_class = dict(enumerate(course["class_accuracy"]))
    worst = min(per_class, key=per_class.get)
    return {
        "timesteps": str(TIMESTEPS),
        "beta_first": f"{BETA_FIRST:g}",
        "beta_last": f"{BETA_LAST:g}",
        "size": str(IMAGE_SHAPE[1]),
        "parameters": parameters(DDPM()),
        "printed": str(DDPM()),
        "settings": settings(p2_ddpm_train.Config()),
        "dropout": f"{100 * p2_ddpm_train.Config.label_dropout:g}",
        "images": f"{results['headline']['checkpoints']['p2_ddpm']['trained_images']:,}",
        "generated": f"{course['images']:,}",
        "each": str(defaults.per_class),
        "reference": f"{judge['reference_images']:,}",
        "course": percent([course["accuracy"]]),
        "judge": percent([judge["accuracy"]]),
        "course_real": percent(list(course["real_accuracy"].values())),
        "judge_real": percent(list(judge["real_accuracy"].values())),
        "fid": f"{judge['fid']:.1f}",
        "floor": f"{judge['floor']['fid']:.1f}",
        "kid": f"{judge['kid_x1000']:.1f}",
        "diversity": f"{100 * statistics.mean(map(operator.truediv, *judge['class_diversity'].values())):.0f}",
        "nearest": f"{nearest['generated']:.1f}",
        "nearest_real": f"{nearest['real']:.1f}",
        "confused": {"digit": str(digit), "taken": str(taken), "count": str(count)},
        "worst": {"digit": str(worst), "accuracy": percent([per_class[worst]])},
        "per_class": str(results["p2_tradeoff"]["per_class"]),
        "steps": str(defaults.steps),
        "scale": f"{defaults.guidance_scale:g}",
        "guided_from": f"{defaults.guidance_from:g}",
        "mild_scale": f"{MILD:g}",
        "shown_times": [str(TIMESTEPS - done) for done in p2.SHOWN],
        "rows": table,
        "half_time": str(next(t for t, share in enumerate(alpha_bar) if share < 0.5)),
        "best_by_accuracy": f"{max(p2.SCALES, key=lambda scale: at_scale[scale]['judge']):g}",
        "best_by_fid": f"{min(p2.SCALES, key=lambda scale: at_scale[scale]['fid']):g}",
        "best_by_diversity": f"{min(p2.SCALES, key=lambda scale: abs(at_scale[scale]['diversity'] - 1)):g}",
        "course_misreads": misread(course),
        "judge_misreads": misread(judge),
        "second_cost": f"{100 * (seconds[defaults.guidance_scale] / seconds[0.0] - 1):.0f}",
        **{
            f"{name}_{score}": f"{row[score]:.{digits}f}" if score != "judge" else percent([row[score]])
            for name, row in (
                ("ours", ours),
                ("own", own),
                ("plain", at_scale[0.0]),
                ("mild", at_scale[MILD]),
                ("everywhere", at_scale[defaults.guidance_scale]),
            )
            for score, digits in (("judge", 1), ("fid", 1), ("diversity", 2), ("seconds_per_1000", 0))
        },
        "calls_ratio": f"{TIMESTEPS / defaults.steps:g}",
        "others_best": percent([CITED["eighteen_others"]["digits_best"]]),
    }


def adaptation_numbers(results: dict[str, Any]) -> dict[str, Any]:
    """What the section on problem 3 needs, as text."""

    def accuracies(part: str, target: str, name: str, key: str = "accuracy") -> list[float]:
        return [run[key] for run in results[f"p3_{part}"][target][name]["runs"]]

    def length(part: str) -> str:
        """The images of each training of a part, of its rows' options; "150,000 and 100,000" if the targets differ."""
        rows = [results[f"p3_{part}"][target][name]["options"] for target in TARGETS for name in p3.rows_of(part)]
        return " and ".join(f"{images:,}" for images in dict.fromkeys(int(option_of(row, "--images")) for row in rows))

    def collapse() -> dict[str, str]:
        """SVHN's accuracy by alpha's cap, and what goes with it."""
        rows = {name: results["p3_collapse"]["svhn"][name] for name in p3.rows_of("collapse")}
        cap = {name: name.removeprefix("alpha to ").removesuffix(".0") for name in rows}

        def mean(name: str, key: str) -> float:
            return mean_and_spread([run[key] for run in rows[name]["runs"]])[0]

        means = {name: mean(name, "accuracy") for name in rows}
        best, worst = max(means, key=means.get), min(means, key=means.get)
        first, *_, last = rows
        shares = [max(run["predictions"]) / sum(run["predictions"]) for run in rows[worst]["runs"]]
        classes = results["headline"]["labels"]["svhn"]["class_images"]
        return {
            "seeds": str(min(len(row["runs"]) for row in rows.values())),
            "images": f"{int(option_of(rows[best]['options'], '--images')):,}",
            "best": percent([means[best]]),
            "best_cap": cap[best],
            "worst": percent([means[worst]]),
            "worst_cap": cap[worst],
            "commonest": percent([mean_and_spread(shares)[0]]),
            "commonest_true": percent([max(classes) / sum(classes)]),
            "first_norm": f"{mean(first, 'feature_norm'):.0f}",
            "last_norm": f"{mean(last, 'feature_norm'):,.0f}",
            "first_source": percent([mean(first, "val_accuracy")]),
            "last_source": percent([mean(last, "val_accuracy")]),
        }

    def cited(name: str, who: dict[str, Any]) -> list[str]:
        return [name, *(percent([who[target]]) for target in TARGETS)]

    def row(name: str, part: str, training: str, key: str = "accuracy") -> list[str]:
        return [name, *(percent(accuracies(part, target, training, key)) for target in TARGETS)]

    original, others = CITED["original_report"], CITED["eighteen_others"]
    released = [percent([results["headline"]["labels"][target]["accuracy"]]) for target in TARGETS]
    found: dict[str, Any] = {
        "bounds_seeds": str(min(len(accuracies("bounds", t, name)) for t in TARGETS for name in p3.BOUNDS)),
        "recipe_seeds": str(min(len(accuracies("recipe", t, "the recipe")) for t in TARGETS)),
        "ladder_seeds": str(min(len(accuracies("ladder", t, name)) for t in TARGETS for name in p3.LADDER)),
        **{f"{part}_images": length(part) for part in ("ladder", "bounds")},
        "table": [row(name, "bounds", name) for name in p3.BOUNDS],
        "table_ours": [
            row("DANN and mean teacher", "recipe", "the recipe", "accuracy_of_views"),
            ["  the released network", *released],
        ],
        "table_cited": [
            *(cited(name, original[key]) for name, key in (("source only", "source only"), ("DANN", "dann"))),
            cited("target only", original["target only"]),
        ],
        "table_others": [cited("median", others["dann_median"]), cited("best", others["dann_best"])],
        "table_course": [cited("baseline", CITED["course"]["dann"])],
        "settings": settings(
            p3_dann_train.Config(),
            *(p3_dann_train.Config(**p3_dann_train.RECIPES[name]) for name in ("usps", "original")),
        ),
        "parameters": parameters(DANN()),
        "printed": str(DANN()),
        "points": f"{results['p3_features']['svhn, DANN']['domain'].count(1):,}",
        "ladder": [],
        "alpha_scale": f"{original['alpha_scale']}",
        "collapse": collapse(),
        "collapsed": f"{100 * original['collapsed']:g}",
        "views": {t: str(results["headline"]["checkpoints"][f"p3_dann_{t}"]["views"]) for t in TARGETS},
        "released": dict(zip(TARGETS, released, strict=True)),
    }
    for name in p3.LADDER:
        line = [name.removesuffix(" = the recipe")]
        for target in TARGETS:
            shares = accuracies("ladder", target, name)
            kappa = mean_and_spread(accuracies("ladder", target, name, "agreement"))[0]
            line += [f"{100 * mean_and_spread(shares)[0]:.1f}", percent(shares), f"{kappa:.2f}"]
        found["ladder"].append(line)
    for target in TARGETS:
        means = {name: mean_and_spread(accuracies("ladder", target, name))[0] for name in p3.LADDER}
        chain = [name for name in p3.LADDER if name != "the recipe without DANN"]
        name, change = steepest({name: means[name] for name in chain})
        pairs, wrong = results["p3_hardest"][target]["pairs"], results["p3_hardest"][target]["wrong"]
        kappas = [mean_and_spread(accuracies("ladder", target, name, "agreement"))[0] for name in p3.LADDER]
        own = means["+ DANN"] - means[chain[chain.index("+ DANN") - 1]]
        without = 100 * (means[chain[-1]] - means["the recipe without DANN"])
        found[target] = {
            "steepest": name,
            "change": f"{100 * abs(change):.1f}",
            "direction": "up" if change > 0 else "down",
            "rank": f"{spearmanr(kappas, list(means.values())).statistic:.2f}".replace("-", "−"),
            "dann_change": f"{100 * abs(own):.1f}",
            "dann_direction": "up" if own > 0 else "down",
            "first": f"{100 * means[chain[0]]:.1f}",
            "last": f"{100 * means[chain[-1]]:.1f}",
            "without": f"{abs(without):.1f}",
            "without_direction": "lower" if without > 0 else "higher",
            "pairs": [[str(pair["true"]), str(pair["found"]), str(pair["count"])] for pair in pairs],
            "wrong": f"{wrong:,}",
            "images": f"{results['p3_hardest'][target]['images']:,}",
            "pair": [str(pairs[0]["true"]), str(pairs[0]["found"]), str(pairs[0]["count"])],
        }
    return found


def numbers(results: dict[str, Any]) -> dict[str, Any]:
    """Everything that report.typ reads, formatted."""
    data, course = results["headline"]["data"], CITED["course"]["data"]
    return {
        "cited": CITED,
        "headline": [row[1:] for row in headline.rows(results["headline"], results["p3_recipe"])],
        "data": {
            name: {split: f"{data[name][split]:,}" for split in data[name]}
            | {f"course_{split}": f"{course[name][split]:,}" for split in data[name]}
            for name in data
        },
        "p1": face_numbers(results),
        "p2": digit_numbers(results),
        "p3": adaptation_numbers(results),
        "commands": sorted(set(MADE_BY.values())),
    }
