"""Problem 3 in numbers: the homework's table, the collapse it describes, and what each ingredient is worth.

    python3 -m experiments.p3 --part bounds      # source only, DANN and target only, the original recipe, five seeds
    python3 -m experiments.p3 --part collapse    # the original DANN on SVHN, other strengths of its adversary
    python3 -m experiments.p3 --part ladder      # one more ingredient per row, shorter trainings, three seeds
    python3 -m experiments.p3 --part recipe      # the recipe at its full length, three seeds: what is released
    python3 -m experiments.p3 --part features    # coordinates of the t-SNE figures
    python3 -m experiments.p3 --part hardest     # the commonest mistakes of the released networks, with images

Each part trains what is not yet trained (in --runs, killed and started again at will), writes
results/p3_<part>.json and prints a table.  They are 30, 30, 72 and 12 trainings of 1 to 10 minutes of one core:
best with OMP_NUM_THREADS=1 and as many --jobs as cores.  The figures are drawn by experiments.figures.

The target's labels serve for the accuracies of the tables only.  What they are not used for: every network
is the averaged one of its training's last step, and the criterion that compares rows of the ladder is
**agreement**, Cohen's kappa between the predictions of two seeds on the target's training images.
Networks that differ by their seed disagree about as often as they err (Jiang et al. 2022,
arXiv:2106.13799), and kappa, unlike plain agreement, is 0 for a collapsed network that always says the
same.  The seed that agrees best with the others is the one released.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.manifold import TSNE
from sklearn.metrics import cohen_kappa_score

from common.config import UserError, option, parse_config, run_script
from common.device import generator
from common.images import make_grid, save_image
from data.reading import chunks, load_digits, load_unlabelled_digits, to_unit_range
from experiments.runs import RESULTS, ROOT, mean_and_spread, metrics, percent, read_results, table, train, write_results
from models.dann import DANN
from sampling.labels import TARGETS, VIEWS, load_dann, network_input, predict, probabilities

PARTS = ("bounds", "collapse", "ladder", "recipe", "features", "hardest")
CPU = torch.device("cpu")
BOUNDS = {"source only": "source", "DANN": "dann", "target only": "target"}
CAPS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)
ORIGINAL_SOURCE = ("--recipe", "original", "--method", "source")
AVERAGED = ("--ema-half-life", 40_000, "--decay-from", 0.5, "--weight-decay", 1e-4)
PHOTOMETRIC = ("--augment", "--zoom-low", 1, "--zoom-high", 1, "--shear", 0, "--shift", 0, "--neighbors", 0)
ROUGH = ("--no-gentle-target",)
LABELS_IF_SURE = ("--teacher-labels", "sure")
LADDER: dict[str, tuple[object, ...]] = {
    "source only, as in the original": ORIGINAL_SOURCE,
    "+ standardised input": (*ORIGINAL_SOURCE, "--standardized"),
    "+ averaged weights, decay": (*ORIGINAL_SOURCE, "--standardized", *AVERAGED),
    "+ colours, contrast, inversion": ("--method", "source", *PHOTOMETRIC),
    "+ geometry, neighbours": ("--method", "source"),
    "+ DANN": (*ROUGH, "--teacher-weight", 0, "--balance-weight", 0),
    "+ class balance": (*ROUGH, "--teacher-weight", 0),
    "+ mean teacher, where it is sure": (*ROUGH, *LABELS_IF_SURE, "--teacher-views", 1),
    "+ gentle target images": (*LABELS_IF_SURE, "--teacher-views", 1),
    "+ teacher's mean over two views": LABELS_IF_SURE,
    "+ soft labels = the recipe": (),
    "the recipe without DANN": ("--alpha", 0),
}
# At full length; short trainings on USPS do worse with soft labels, so they are compared here again.
RECIPES: dict[str, tuple[object, ...]] = {"the recipe": (), "labels where the teacher is sure": LABELS_IF_SURE}
# The lengths of the trainings; the ladder's are a quarter of the recipes', and what is not here has the recipe's own.
IMAGES = {
    **{("bounds", target): 150_000 for target in TARGETS},
    ("collapse", "svhn"): 100_000,
    **{("ladder", "svhn"): 150_000, ("ladder", "usps"): 100_000},
}


@dataclass(frozen=True)
class Config:
    part: str = option("ladder", "what to measure", choices=PARTS)
    data: Path = option(Path("hw2_data/digits"), "folder of mnistm/, svhn/ and usps/")
    runs: Path = option(Path("runs/p3"), "folder of the trainings")
    results: Path = option(RESULTS, "folder of the result files")
    target: str = option("both", "target domain", choices=("both", *TARGETS))
    seeds: int = option(0, "trainings per row, 0 = five for the bounds, else three", low=0, high=100)
    rows: int = option(0, "only the first so many rows, 0 = all", low=0)
    images: int = option(0, "length of each training, 0 = what the tables have", low=0)
    jobs: int = option(1, "trainings at a time", low=1, high=64)


def measure(run_dir: Path, target: str, data: Path) -> dict[str, Any]:
    """What a finished training reached on the target, and the signs of a collapse."""
    network, standardized, views = load_dann(run_dir / "weights.safetensors")
    images, labels = load_digits(data / target, "val")
    predicted = predict(network, images, standardized)
    averaged = predict(network, images, standardized, views)
    counts = predicted.bincount(minlength=10)
    domain_losses = metrics(run_dir, "loss_domain")[-10:]
    return {
        "accuracy": predicted.eq(labels).float().mean().item(),
        "accuracy_of_views": averaged.eq(labels).float().mean().item(),
        "best_accuracy_seen": max(metrics(run_dir, "oracle_target_accuracy"), default=None),
        "val_accuracy": metrics(run_dir, "val_accuracy")[-1],
        "predictions": counts.tolist(),
        "feature_norm": features(network, images, standardized).norm(dim=1).mean().item(),
        "loss_domain": mean_and_spread(domain_losses)[0] if domain_losses else None,
    }


@torch.no_grad()
def features(network: DANN, digits: torch.Tensor, standardized: bool) -> torch.Tensor:
    """What both heads of the network read, (n, 1200), of uint8 digits."""
    parts = [network.extract(network_input(to_unit_range(digits[p]), standardized)) for p in chunks(len(digits), 500)]
    return torch.cat(parts)


def agreement(run_dirs: list[Path], target: str, data: Path) -> list[float]:
    """For every run, its mean kappa with the others on the target's training images; no label is read."""
    images = load_unlabelled_digits(data / target, "train")
    predicted = []
    for run_dir in run_dirs:
        network, standardized, _ = load_dann(run_dir / "weights.safetensors")
        predicted.append(predict(network, images, standardized))
    kappas: list[list[float]] = [[] for _ in run_dirs]
    for first, second in itertools.combinations(range(len(run_dirs)), 2):
        same = bool(predicted[first].unique().numel() == predicted[second].unique().numel() == 1)
        kappa = 0.0 if same else float(cohen_kappa_score(predicted[first], predicted[second]))
        kappas[first].append(kappa)
        kappas[second].append(kappa)
    return [mean_and_spread(values)[0] for values in kappas]


def rows_of(part: str) -> dict[str, tuple[object, ...]]:
    """The rows of a part's table: name and options of the training script."""
    if part == "bounds":
        return {name: ("--recipe", "original", "--method", method) for name, method in BOUNDS.items()}
    if part == "collapse":
        return {f"alpha to {cap}": ("--recipe", "original", "--alpha", cap) for cap in CAPS}
    return RECIPES if part == "recipe" else LADDER


def options_for(target: str, options: tuple[object, ...]) -> tuple[object, ...]:
    """A row's options for one target: where they name no recipe, the target's own."""
    return options if "--recipe" in options else ("--recipe", target, *options)


def run_part(config: Config, targets: tuple[str, ...]) -> dict[str, Any]:
    """Train and measure every row of a part; the result file's content."""
    seeds = config.seeds or (5 if config.part == "bounds" else 3)
    content: dict[str, Any] = read_results(config.results / f"p3_{config.part}.json")
    rows = list(rows_of(config.part).items())[: config.rows or None]
    pool = ThreadPoolExecutor(config.jobs)  # a thread waits for a training, which is a process
    waiting = {}
    for target in targets:
        images = config.images or IMAGES.get((config.part, target), 0)
        domains = ("--source", config.data / "mnistm", "--target", config.data / target, "--oracle")
        for row, (name, options) in enumerate(rows):
            options = options_for(target, options) + (("--images", images) if images else ())
            folder = config.runs / config.part / target
            trainings = [
                pool.submit(train, "p3_dann_train.py", folder / f"{row}-{seed}", *domains, *options, "--seed", seed)
                for seed in range(seeds)
            ]
            waiting[target, name] = options, trainings
    try:
        for (target, name), (options, trainings) in waiting.items():
            run_dirs = [training.result() for training in trainings]
            measured = [measure(run_dir, target, config.data) for run_dir in run_dirs]
            if config.part in ("ladder", "recipe") and seeds > 1:
                for result, kappa in zip(measured, agreement(run_dirs, target, config.data), strict=True):
                    result["agreement"] = kappa
            content.setdefault(target, {})[name] = {"options": [str(part) for part in options], "runs": measured}
            write_results(config.results / f"p3_{config.part}.json", content)
    finally:
        pool.shutdown(cancel_futures=True)
    return content


def show(content: dict[str, Any], part: str) -> str:
    """The result file as a Markdown table: mean and standard deviation over seeds, accuracies in per cent.

    "best seen" is the best accuracy of any moment of the training, which only the target's labels could choose.
    """

    def mean(runs: list[dict[str, Any]], key: str, digits: int) -> str:
        return f"{mean_and_spread([run[key] for run in runs])[0]:.{digits}f}" if runs[0].get(key) is not None else "-"

    columns: dict[str, Any] = {
        "accuracy": lambda runs: percent([run["accuracy"] for run in runs]),
        "of views": lambda runs: percent([run["accuracy_of_views"] for run in runs]),
        "best seen": lambda runs: percent([run["best_accuracy_seen"] for run in runs]),
        "agreement": lambda runs: mean(runs, "agreement", 3),
        "on the source": lambda runs: percent([run["val_accuracy"] for run in runs]),
        "commonest class": lambda runs: percent([max(run["predictions"]) / sum(run["predictions"]) for run in runs]),
        "norm of features": lambda runs: mean(runs, "feature_norm", 0),
        "domain loss": lambda runs: mean(runs, "loss_domain", 2),
    }
    shown = {
        "bounds": ("accuracy",),
        "collapse": ("accuracy", "commonest class", "on the source", "norm of features", "domain loss"),
        "ladder": ("accuracy", "best seen", "agreement"),
        "recipe": ("accuracy", "of views", "best seen", "agreement"),
    }[part]
    header = ["training", *(f"{target.upper()}: {name}" for target in content for name in shown)]
    rows = []
    for name in rows_of(part):
        cells = []
        for entries in content.values():
            runs = entries[name]["runs"] if name in entries else []
            cells += [columns[column](runs) if runs else "-" for column in shown]
        if set(cells) != {"-"}:
            rows.append([name, *cells])
    return table(header, rows)


def embed(config: Config, targets: tuple[str, ...], count: int = 1000) -> dict[str, Any]:
    """t-SNE (seed 0) of features of `count` val images of either domain, for source-only and the released network."""
    content = {}
    for target in targets:
        trained = {
            "source only": config.runs / "bounds" / target / "0-0" / "weights.safetensors",
            "DANN": ROOT / "checkpoints" / f"p3_dann_{target}.safetensors",
        }
        for name, weights in trained.items():
            if not weights.is_file():
                raise UserError(f"{weights} is missing, run: python3 -m experiments.p3 --part bounds")
            network, standardized, _ = load_dann(weights)
            points, classes = [], []
            for domain in ("mnistm", target):
                images, labels = load_digits(config.data / domain, "val")
                chosen = torch.randperm(len(images), generator=generator(0, "t-SNE", domain))[:count]
                points.append(features(network, images[chosen], standardized))
                classes += labels[chosen].tolist()
            flat = TSNE(random_state=0, init="pca", perplexity=30).fit_transform(torch.cat(points).numpy())
            content[f"{target}, {name}"] = {
                "x": [round(float(x), 2) for x in flat[:, 0]],
                "y": [round(float(y), 2) for y in flat[:, 1]],
                "class": classes,
                "domain": [0] * len(points[0]) + [1] * len(points[1]),
            }
    write_results(config.results / "p3_features.json", content)
    return content


@torch.no_grad()
def hardest(config: Config, targets: tuple[str, ...], pairs: int = 6, each: int = 10) -> dict[str, Any]:
    """The commonest confusions of the released networks on val; a row of images for each, the surest mistakes first."""
    content = {}
    for target in targets:
        network, standardized, views = load_dann(ROOT / "checkpoints" / f"p3_dann_{target}.safetensors")
        digits, labels = load_digits(config.data / target, "val")
        batches = (to_unit_range(digits[part]) for part in chunks(len(digits), 500))
        parts = [probabilities(network, batch, standardized, VIEWS[:views]) for batch in batches]
        found = predict(network, digits, standardized, views)  # to the bit what hw2_3.sh says
        sure = torch.cat(parts).gather(1, found[:, None])[:, 0]
        wrong = (found != labels).nonzero()[:, 0]
        wrong = wrong[sure[wrong].argsort(descending=True)].tolist()
        mistakes: dict[tuple[int, int], list[int]] = {}
        for index in wrong:
            mistakes.setdefault((labels[index].item(), found[index].item()), []).append(index)
        commonest = sorted(mistakes.items(), key=lambda item: (-len(item[1]), item[0]))[:pairs]
        cells = torch.full((len(commonest) * each, *digits.shape[1:]), 255, dtype=torch.uint8)
        for row, (_, indices) in enumerate(commonest):
            shown = indices[:each]
            cells[row * each : row * each + len(shown)] = digits[shown]
        if commonest:
            save_image(config.results / f"p3_hardest_{target}.png", make_grid(cells, each, scale=2))
        content[target] = {
            "images": len(digits),
            "wrong": len(wrong),
            "pairs": [{"true": true, "found": said, "count": len(which)} for (true, said), which in commonest],
        }
    write_results(config.results / "p3_hardest.json", content)
    return content


def main() -> None:
    config = parse_config(Config, __doc__)
    both = ("svhn",) if config.part == "collapse" else TARGETS  # the original describes the collapse of SVHN
    targets = both if config.target == "both" else (config.target,)
    if config.part == "features":
        for name, points in embed(config, targets).items():
            print(f"{name}: {len(points['x'])} points")
    elif config.part == "hardest":
        for target, found in hardest(config, targets).items():
            print(f"{target}: {found['wrong']} of {found['images']} wrong")
            print(table(["digit", "taken for", "images"], [[str(n) for n in pair.values()] for pair in found["pairs"]]))
    else:
        print(show(run_part(config, targets), config.part))


if __name__ == "__main__":
    run_script(main)
