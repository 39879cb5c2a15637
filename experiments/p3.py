"""Problem 3 in numbers: the homework's table, the collapse it describes, and what each ingredient is worth.

    p3_bounds     source only, DANN and target only, the original recipe, five seeds: 30 trainings
    p3_collapse   the original DANN on SVHN, other strengths of its adversary: 30 trainings
    p3_ladder     one more ingredient per row, shorter trainings, three seeds: 72 trainings
    p3_rounds     the recipe at length, then networks that learn from these, the released ones: 12 trainings
    p3_features   coordinates of the t-SNE figures
    p3_hardest    the commonest mistakes of the released networks, with images

A training takes 1 to 10 minutes of one core, those of the rounds up to 25: best with OMP_NUM_THREADS=1 and as many
--jobs as cores.

The target's labels serve for the accuracies of the tables only: every network is the averaged one of its training's
last step, and rows are compared by **agreement**, Cohen's kappa between the predictions of two seeds on the target's
training images.  Networks that differ by their seed disagree about as often as they err (Jiang et al. 2022,
arXiv:2106.13799), and kappa, unlike plain agreement, is 0 for a collapsed network that always says the same.  The seed
that agrees best with the others is the one released.
"""

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from sklearn.manifold import TSNE
from sklearn.metrics import cohen_kappa_score
from torch import Tensor

from common.checkpoint import CHECKPOINTS
from common.images import make_grid, save_image
from data.batches import permutation
from data.reading import chunks, load_digits, load_unlabelled_digits, to_unit_range
from experiments import runs
from experiments.runs import Config, Options
from models.dann import DANN
from sampling.labels import TARGETS, load_dann, mean_probabilities, network_input, predict

CAPS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)
ORIGINAL_SOURCE = ("--recipe", "original", "--method", "source")
AVERAGED = ("--ema-half-life", 40_000, "--decay-from", 0.5, "--weight-decay", 1e-4)
PHOTOMETRIC = ("--augment", "--zoom-low", 1, "--zoom-high", 1, "--shear", 0, "--shift", 0, "--neighbors", 0)
ROUGH = ("--no-gentle-target",)
LABELS_IF_SURE = ("--teacher-labels", "sure")
ROWS: dict[str, dict[str, Options]] = {
    "p3_bounds": {
        "source only": ORIGINAL_SOURCE,
        "DANN": ("--recipe", "original", "--method", "dann"),
        "target only": ("--recipe", "original", "--method", "target"),
    },
    "p3_collapse": {f"alpha to {cap}": ("--recipe", "original", "--alpha", cap) for cap in CAPS},
    "p3_ladder": {
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
    # The second round learns from the first one's networks: see `rows_of`.
    "p3_rounds": {"1": (), "2": ()},
}
SEEDS = {"p3_bounds": 5, "p3_collapse": 3, "p3_ladder": 3, "p3_rounds": 3}
# The lengths of the trainings; the original describes the collapse of SVHN.
IMAGES = {
    "p3_bounds": {"svhn": 150_000, "usps": 150_000},
    "p3_collapse": {"svhn": 100_000},
    "p3_ladder": {"svhn": 150_000, "usps": 100_000},
    "p3_rounds": {"svhn": 2_400_000, "usps": 400_000},
}


def rows_of(config: Config, target: str) -> dict[str, Options]:
    """A part's rows with all options for a target: its own recipe where they name none, and the length.

    The second round names the first one's networks, whose mean is its teacher.
    """
    rows, part = {}, config.part
    for name, options in ROWS[part].items():
        if "--recipe" not in options:
            options = ("--recipe", target, *options)
        if (part, name) == ("p3_rounds", "2"):
            folders = [config.folder / target / f"1-{seed}" for seed in range(SEEDS[part])]
            options = (*options, "--teachers", ",".join(str(folder / "weights.safetensors") for folder in folders))
        rows[name] = (*options, "--images", IMAGES[part][target])
    return rows


def train_row(config: Config, target: str, name: str, seed: int) -> Path:
    """Train a row by a seed; its folder."""
    digits, rows = config.data / "digits", rows_of(config, target)
    number = name if config.part == "p3_rounds" else list(rows).index(name)
    options = ("--source", digits / "mnistm", "--target", digits / target, "--oracle", *rows[name], "--seed", seed)
    return runs.train("p3_dann_train.py", config.folder / target / f"{number}-{seed}", *options)


@torch.no_grad()
def features(network: DANN, digits: Tensor, standardized: bool) -> Tensor:
    """What both heads of the network read, (n, 1200), of uint8 digits."""
    parts = [network.extract(network_input(to_unit_range(digits[p]), standardized)) for p in chunks(len(digits), 500)]
    return torch.cat(parts)


def measure(config: Config, target: str, run_dirs: list[Path]) -> dict[str, Any]:
    """What the trainings of a row reached on the target, and the signs of a collapse."""
    domain = config.data / "digits" / target
    (digits, labels), unlabelled = load_digits(domain, "val"), load_unlabelled_digits(domain, "train")

    def accuracy(probabilities: Tensor) -> float:
        return probabilities.argmax(1).eq(labels).float().mean().item()

    results, predicted, together = [], [], torch.zeros(len(digits), 10)
    for seed, run_dir in enumerate(run_dirs):
        network, standardized, views = load_dann(run_dir / "weights.safetensors")
        single = mean_probabilities(network, digits, standardized)
        of_views = mean_probabilities(network, digits, standardized, views)
        predicted.append(predict(network, unlabelled, standardized))
        together += of_views
        domain_losses = runs.metrics(run_dir, "loss_domain")[-10:]
        result = {
            "seed": seed,
            "accuracy": accuracy(single),
            "accuracy_of_views": accuracy(of_views),
            "best_accuracy_seen": max(runs.metrics(run_dir, "oracle_target_accuracy"), default=None),
            "val_accuracy": runs.metrics(run_dir, "val_accuracy")[-1],
            "predictions": single.argmax(1).bincount(minlength=10).tolist(),
            "feature_norm": features(network, digits, standardized).norm(dim=1).mean().item(),
            "loss_domain": fmean(domain_losses) if domain_losses else None,
        }
        results.append(result)
    for result, kappa in zip(results, agreement(predicted), strict=True):
        result["agreement"] = kappa
    return {"runs": results, "accuracy_together": accuracy(together)}


def agreement(predicted: list[Tensor]) -> list[float]:
    """For the labels (n,) by each network, their mean kappa with those by the others."""

    def kappa(first: Tensor, second: Tensor) -> float:
        collapsed = torch.cat((first, second)).unique().numel() == 1  # where kappa is 0 / 0
        return 0.0 if collapsed else float(cohen_kappa_score(first, second))

    return [fmean(kappa(one, other) for other in predicted if other is not one) for one in predicted]


def trainings(config: Config) -> None:
    """Train and measure what the result file does not hold yet."""
    content = runs.read_results(config.file)
    for target in IMAGES[config.part]:
        held, rows = content.setdefault(target, {}), rows_of(config, target)
        how = partial(train_row, config, target), partial(measure, config, target)
        runs.measure_rows(config, content, held, rows, SEEDS[config.part], *how)


def neighbours(points: Tensor, classes: Tensor, domains: Tensor, count: int = 10) -> dict[str, float]:
    """Of the nearest points (n, 2) in a map: the share of the same domain, and for the target's of the same class."""
    near = torch.cdist(points, points).fill_diagonal_(float("inf")).topk(count, largest=False).indices
    same_domain = (domains[near] == domains[:, None]).float().mean().item()
    same_class = (classes[near] == classes[:, None])[domains == 1].float().mean().item()
    return {"same_domain": round(same_domain, 4), "target_same_class": round(same_class, 4)}


def embed(config: Config) -> None:
    """t-SNE (seed 0) of features of 1,000 val images of either domain, for three networks of each target."""
    maps, bounds = {}, replace(config, part="p3_bounds")
    for target in TARGETS:
        networks = {name: train_row(bounds, target, name, 0) for name in ("source only", "DANN")}
        files = {name: run_dir / "weights.safetensors" for name, run_dir in networks.items()}
        for name, weights in (files | {"released": CHECKPOINTS / f"p3_dann_{target}.safetensors"}).items():
            network, standardized, _ = load_dann(weights)
            points, classes = [], []
            for domain in ("mnistm", target):
                digits, labels = load_digits(config.data / "digits" / domain, "val")
                chosen = permutation(len(digits), 0, "t-SNE", domain)[:1000]
                points.append(features(network, digits[chosen], standardized))
                classes.append(labels[chosen])
            flat = TSNE(random_state=0, init="pca", perplexity=30).fit_transform(torch.cat(points).numpy())
            domains = torch.tensor([0] * len(points[0]) + [1] * len(points[1]))
            maps[f"{target}, {name}"] = {
                "neighbours": neighbours(torch.from_numpy(flat), torch.cat(classes), domains),
                "x": [round(float(x), 1) for x in flat[:, 0]],
                "y": [round(float(y), 1) for y in flat[:, 1]],
                "class": torch.cat(classes).tolist(),
                "domain": domains.tolist(),
            }
    weights = runs.digests(*(f"p3_dann_{target}" for target in TARGETS))
    runs.write_results(config.file, {"weights": weights, "maps": maps})


def hardest(config: Config) -> None:
    """The six commonest confusions of the released networks on val, and images of each, the surest mistakes first."""
    content: dict[str, Any] = {"weights": runs.digests(*(f"p3_dann_{target}" for target in TARGETS))}
    for target in TARGETS:
        digits, labels = load_digits(config.data / "digits" / target, "val")
        network, standardized, views = load_dann(CHECKPOINTS / f"p3_dann_{target}.safetensors")
        sure, read = mean_probabilities(network, digits, standardized, views).max(1)
        mistakes = Counter(pair for pair in zip(labels.tolist(), read.tolist(), strict=True) if pair[0] != pair[1])
        commonest = sorted(mistakes.items(), key=lambda item: (-item[1], item[0]))[:6]
        cells = torch.full((len(commonest), 10, *digits.shape[1:]), 255, dtype=torch.uint8)
        for row, ((true, taken), _) in zip(cells, commonest, strict=True):
            which = ((labels == true) & (read == taken)).nonzero()[:, 0]
            which = which[sure[which].argsort(descending=True, stable=True)][:10]
            row[: len(which)] = digits[which]
        if commonest:
            save_image(config.results / f"p3_hardest_{target}.png", make_grid(cells.flatten(0, 1), 10, scale=2))
        found = [{"true": true, "found": taken, "count": count} for (true, taken), count in commonest]
        content[target] = {"images": len(digits), "wrong": mistakes.total(), "pairs": found}
    runs.write_results(config.file, content)
