"""Problem 3 in numbers: the homework's table, the collapse it describes, and what each ingredient is worth.

    python3 -m experiments.p3 --part bounds      # source only, DANN and target only, the original recipe, five seeds
    python3 -m experiments.p3 --part collapse    # the original DANN on SVHN, other strengths of its adversary
    python3 -m experiments.p3 --part ladder      # one more ingredient per row, shorter trainings, three seeds
    python3 -m experiments.p3 --part rounds      # the recipe at length, then networks that learn from these: released
    python3 -m experiments.p3 --part features    # coordinates of the t-SNE figures
    python3 -m experiments.p3 --part hardest     # the commonest mistakes of the released networks, with images

Each part trains what is not yet trained (in --runs, killed and started again at will), writes
results/p3_<part>.json and prints a table.  They are 30, 30, 72 and 12 trainings: 1 to 10 minutes of one core each,
those of `rounds` up to 25; finished folders of these, --runs/rounds/TARGET/ROUND-SEED, may come from elsewhere.  Best
with OMP_NUM_THREADS=1 and as many --jobs as cores.  The figures are drawn by experiments.figures.

The target's labels serve for the accuracies of the tables only.  What they are not used for: every network
is the averaged one of its training's last step, and the criterion that compares rows is **agreement**, Cohen's
kappa between the predictions of two seeds on the target's training images.  Networks that differ by their seed
disagree about as often as they err (Jiang et al. 2022, arXiv:2106.13799), and kappa, unlike plain agreement, is 0 for
a collapsed network that always says the same.  The seed that agrees best with the others is the one released.
"""

from common.start import run_script

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from sklearn.manifold import TSNE
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from common.config import option, parse_config
from common.device import generator
from common.images import make_grid, save_image
from data.reading import chunks, load_digits, load_unlabelled_digits, to_unit_range
from experiments.runs import (
    CHECKPOINTS,
    RESULTS,
    digests,
    metrics,
    percent,
    read_results,
    table,
    train,
    write_results,
)
from models.dann import DANN
from sampling.labels import TARGETS, load_dann, mean_probabilities, network_input, predict

PARTS = ("bounds", "collapse", "ladder", "rounds", "features", "hardest")
BOUNDS = {"source only": "source", "DANN": "dann", "target only": "target"}
CAPS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)
ORIGINAL_SOURCE = ("--recipe", "original", "--method", "source")
AVERAGED = ("--ema-half-life", 40_000, "--decay-from", 0.5, "--weight-decay", 1e-4)
PHOTOMETRIC = ("--augment", "--zoom-low", 1, "--zoom-high", 1, "--shear", 0, "--shift", 0, "--neighbors", 0)
ROUGH = ("--no-gentle-target",)
LABELS_IF_SURE = ("--teacher-labels", "sure")
ROWS: dict[str, dict[str, tuple[object, ...]]] = {
    "bounds": {name: ("--recipe", "original", "--method", method) for name, method in BOUNDS.items()},
    "collapse": {f"alpha to {cap}": ("--recipe", "original", "--alpha", cap) for cap in CAPS},
    "ladder": {
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
    },
    # The second round learns from the first one's networks: see `options_for`.
    "rounds": {"1": (), "2": ()},
}
SEEDS = {"bounds": 5, "collapse": 3, "ladder": 3, "rounds": 3}
# The lengths of the trainings.
IMAGES = {
    **{("bounds", target): 150_000 for target in TARGETS},
    ("collapse", "svhn"): 100_000,
    **{("ladder", "svhn"): 150_000, ("ladder", "usps"): 100_000},
    **{("rounds", "svhn"): 2_400_000, ("rounds", "usps"): 400_000},
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
    train: bool = option(True, "train what is missing; --no-train measures the finished seeds of --part rounds")


def weights_of(run_dir: Path) -> Path:
    return run_dir / "weights.safetensors"


@torch.no_grad()
def features(network: DANN, digits: Tensor, standardized: bool) -> Tensor:
    """What both heads of the network read, (n, 1200), of uint8 digits."""
    parts = [network.extract(network_input(to_unit_range(digits[p]), standardized)) for p in chunks(len(digits), 500)]
    return torch.cat(parts)


def view_probabilities(weights: Path, digits: Tensor) -> Tensor:
    """A network's probabilities (n, 10) of uint8 digits, the mean of as many views as its file says."""
    network, standardized, views = load_dann(weights)
    return mean_probabilities(network, digits, standardized, views)


def accuracy(probabilities_or_labels: Tensor, labels: Tensor) -> float:
    found = probabilities_or_labels
    return (found.argmax(1) if found.dim() == 2 else found).eq(labels).float().mean().item()


def measure(run_dir: Path, target: str, data: Path) -> dict[str, Any]:
    """What a finished training reached on the target, and the signs of a collapse."""
    network, standardized, _ = load_dann(weights_of(run_dir))
    images, labels = load_digits(data / target, "val")
    predicted = predict(network, images, standardized)
    domain_losses = metrics(run_dir, "loss_domain")[-10:]
    return {
        "seed": int(run_dir.name.rsplit("-", 1)[1]),
        "accuracy": accuracy(predicted, labels),
        "accuracy_of_views": accuracy(view_probabilities(weights_of(run_dir), images), labels),
        "best_accuracy_seen": max(metrics(run_dir, "oracle_target_accuracy"), default=None),
        "val_accuracy": metrics(run_dir, "val_accuracy")[-1],
        "predictions": predicted.bincount(minlength=10).tolist(),
        "feature_norm": features(network, images, standardized).norm(dim=1).mean().item(),
        "loss_domain": fmean(domain_losses) if domain_losses else None,
    }


def agreement(run_dirs: list[Path], target: str, data: Path) -> list[float]:
    """For every run, its mean kappa with the others on the target's training images; no label is read."""
    images = load_unlabelled_digits(data / target, "train")
    predicted = []
    for run_dir in run_dirs:
        network, standardized, _ = load_dann(weights_of(run_dir))
        predicted.append(predict(network, images, standardized))
    kappas: list[list[float]] = [[] for _ in run_dirs]
    for first, second in itertools.combinations(range(len(run_dirs)), 2):
        same = bool(predicted[first].unique().numel() == predicted[second].unique().numel() == 1)
        kappa = 0.0 if same else float(cohen_kappa_score(predicted[first], predicted[second]))
        kappas[first].append(kappa)
        kappas[second].append(kappa)
    return list(map(fmean, kappas))


def options_for(part: str, name: str, target: str, runs: Path, seeds: int) -> tuple[object, ...]:
    """A row's options for one target: where they name no recipe, the target's own.

    Those of the second round name the first one's networks, whose mean is its teacher.
    """
    options = ROWS[part][name]
    options = options if "--recipe" in options else ("--recipe", target, *options)
    if (part, name) == ("rounds", "2"):
        teachers = [weights_of(runs / f"1-{seed}") for seed in range(seeds)]
        return (*options, "--teachers", ",".join(map(str, teachers)))
    return options


def finished(run_dir: Path, images: int) -> bool:
    """Whether a folder holds a training that has seen so many images, wherever it was run."""
    return weights_of(run_dir).is_file() and metrics(run_dir, "images")[-1] > 0.99 * images


def run_part(config: Config, targets: tuple[str, ...]) -> dict[str, Any]:
    """Train and measure every row of a part; the result file's content."""
    part, seeds = config.part, config.seeds or SEEDS[config.part]
    file = config.results / f"p3_{part}.json"
    content: dict[str, Any] = read_results(file)
    for target, (row, name) in itertools.product(targets, list(enumerate(ROWS[part]))[: config.rows or None]):
        folder = config.runs / part / target
        options = options_for(part, name, target, folder, seeds)
        if images := config.images or IMAGES.get((part, target), 0):
            options += ("--images", images)
        domains = ("--source", config.data / "mnistm", "--target", config.data / target, "--oracle")
        run_dirs = [folder / f"{name if part == 'rounds' else row}-{seed}" for seed in range(seeds)]
        if not config.train:
            run_dirs = [run_dir for run_dir in run_dirs if finished(run_dir, images)]
        if not run_dirs:
            continue
        with ThreadPoolExecutor(config.jobs) as pool:  # a thread waits for a training, which is a process
            trainings = [
                pool.submit(train, "p3_dann_train.py", run_dir, *domains, *options, "--seed", seed)
                for seed, run_dir in enumerate(run_dirs)
                if not (part == "rounds" and finished(run_dir, images))
            ]
            try:
                for training in trainings:
                    training.result()
            finally:
                pool.shutdown(cancel_futures=True)
        entry: dict[str, Any] = {"runs": [measure(run_dir, target, config.data) for run_dir in run_dirs]}
        if part in ("ladder", "rounds") and len(run_dirs) > 1:
            for result, kappa in zip(entry["runs"], agreement(run_dirs, target, config.data), strict=True):
                result["agreement"] = kappa
        if part == "rounds":
            digits, labels = load_digits(config.data / target, "val")
            together = sum(view_probabilities(weights_of(run_dir), digits) for run_dir in run_dirs)
            entry["accuracy_together"] = accuracy(together, labels)
        content.setdefault(target, {})[name] = {"options": [str(part) for part in options]} | entry
        write_results(file, content)
    return content


def best_agreeing(runs: list[dict[str, Any]]) -> int:
    """The seed whose labels agree best with the others' on unlabelled images: the one to release."""
    return max(runs, key=lambda run: run.get("agreement", 0.0))["seed"]


def show(content: dict[str, Any], part: str) -> str:
    """The result file as a Markdown table: mean and standard deviation over seeds, accuracies in per cent.

    "best seen" is the best accuracy of any moment of the training, which only the target's labels could choose.
    """

    def mean(runs: list[dict[str, Any]], key: str, digits: int) -> str:
        return f"{fmean(run[key] for run in runs):.{digits}f}" if runs[0].get(key) is not None else "-"

    columns: dict[str, Any] = {
        "accuracy": lambda row: percent([run["accuracy"] for run in row["runs"]]),
        "of views": lambda row: percent([run["accuracy_of_views"] for run in row["runs"]]),
        "together": lambda row: percent([row["accuracy_together"]]),
        "best seen": lambda row: percent([run["best_accuracy_seen"] for run in row["runs"]]),
        "agreement": lambda row: mean(row["runs"], "agreement", 3),
        "chosen seed": lambda row: str(best_agreeing(row["runs"])),
        "on the source": lambda row: percent([run["val_accuracy"] for run in row["runs"]]),
        "commonest class": lambda row: percent(
            [max(run["predictions"]) / sum(run["predictions"]) for run in row["runs"]]
        ),
        "norm of features": lambda row: mean(row["runs"], "feature_norm", 0),
        "domain loss": lambda row: mean(row["runs"], "loss_domain", 2),
    }
    shown = {
        "bounds": ("accuracy",),
        "collapse": ("accuracy", "commonest class", "on the source", "norm of features", "domain loss"),
        "ladder": ("accuracy", "best seen", "agreement"),
        "rounds": ("accuracy", "of views", "together", "agreement", "chosen seed"),
    }[part]
    header = ["training", *(f"{target.upper()}: {name}" for target in content for name in shown)]
    rows = []
    for name in dict.fromkeys(name for entries in content.values() for name in entries):
        found = [entries.get(name) for entries in content.values()]
        title = f"round {name}" if part == "rounds" else name
        rows.append([title, *(columns[column](row) if row else "-" for row in found for column in shown)])
    return table(header, rows)


def neighbours(points: Tensor, classes: Tensor, domains: Tensor, count: int = 10) -> dict[str, float]:
    """Of the nearest points (n, 2) in a map: the share of the same domain, and for the target's of the same class."""
    near = torch.cdist(points, points).fill_diagonal_(float("inf")).topk(count, largest=False).indices
    same_domain = (domains[near] == domains[:, None]).float().mean().item()
    same_class = (classes[near] == classes[:, None])[domains == 1].float().mean().item()
    return {"same_domain": round(same_domain, 4), "target_same_class": round(same_class, 4)}


def embed(config: Config, targets: tuple[str, ...], count: int = 1000) -> dict[str, Any]:
    """t-SNE (seed 0) of features of `count` val images of either domain, for source-only and the released network."""
    content = read_results(config.results / "p3_features.json")
    maps = content.get("maps", {})
    for target in targets:
        source_only = config.runs / "bounds" / target / "0-0"
        domains = ("--source", config.data / "mnistm", "--target", config.data / target, "--oracle")
        images = ("--images", config.images or IMAGES["bounds", target])
        train("p3_dann_train.py", source_only, *domains, *ROWS["bounds"]["source only"], *images, "--seed", 0)
        for name, weights in (
            ("source only", weights_of(source_only)),
            ("released", CHECKPOINTS / f"p3_dann_{target}.safetensors"),
        ):
            network, standardized, _ = load_dann(weights)
            points, classes = [], []
            for domain in ("mnistm", target):
                digits, labels = load_digits(config.data / domain, "val")
                chosen = torch.randperm(len(digits), generator=generator(0, "t-SNE", domain))[:count]
                points.append(features(network, digits[chosen], standardized))
                classes += labels[chosen].tolist()
            flat = TSNE(random_state=0, init="pca", perplexity=30).fit_transform(torch.cat(points).numpy())
            domains_of = torch.tensor([0] * len(points[0]) + [1] * len(points[1]))
            maps[f"{target}, {name}"] = {
                "neighbours": neighbours(torch.from_numpy(flat), torch.tensor(classes), domains_of),
                "x": [round(float(x), 1) for x in flat[:, 0]],
                "y": [round(float(y), 1) for y in flat[:, 1]],
                "class": classes,
                "domain": domains_of.tolist(),
            }
    weights = content.get("weights", {}) | digests(*(f"p3_dann_{target}" for target in targets))
    content = {"weights": weights, "maps": maps}
    write_results(config.results / "p3_features.json", content)
    return content


def hardest(config: Config, targets: tuple[str, ...], pairs: int = 6, each: int = 10) -> dict[str, Any]:
    """The commonest confusions of the released networks on val; a row of images for each, the surest mistakes first."""
    content: dict[str, Any] = {"weights": digests(*(f"p3_dann_{target}" for target in targets))}
    for target in targets:
        digits, labels = load_digits(config.data / target, "val")
        sure, found = view_probabilities(CHECKPOINTS / f"p3_dann_{target}.safetensors", digits).max(1)
        wrong = (found != labels).nonzero()[:, 0]
        wrong = wrong[sure[wrong].argsort(descending=True, stable=True)].tolist()
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
        for name, points in embed(config, targets)["maps"].items():
            print(f"{name}: {len(points['x'])} points")
    elif config.part == "hardest":
        content = hardest(config, targets)
        for target in targets:
            print(f"{target}: {content[target]['wrong']} of {content[target]['images']} wrong")
            pairs = [[str(number) for number in pair.values()] for pair in content[target]["pairs"]]
            print(table(["digit", "taken for", "images"], pairs))
    else:
        print(show(run_part(config, targets), config.part))


if __name__ == "__main__":
    run_script(main)
