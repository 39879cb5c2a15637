"""Train the domain-adversarial network (problem 3): labelled MNIST-M, unlabelled SVHN or USPS.

    python3 p3_dann_train.py --recipe svhn --target hw2_data/digits/svhn --run-dir runs/svhn
    python3 p3_dann_train.py --recipe usps --target hw2_data/digits/usps --run-dir runs/usps
    python3 p3_dann_train.py --run-dir runs/again --teachers runs/a/weights.safetensors,runs/b/weights.safetensors
    python3 p3_dann_train.py --run-dir runs/svhn --resume                          # go on after an interruption
    python3 p3_dann_train.py --recipe original --method source --run-dir runs/low  # the homework's lower bound

`--method dann` sees no label of the target, nor does anything choose by one: the weights released are the
averaged ones of the last step.  `--method source` leaves the target out, `--method target` trains on the
target's labels (the bounds of the homework's table).  `--recipe original` is the homework's DANN.

Beside the adversarial loss (Ganin & Lempitsky 2015) the recipes use randomised source images,
standardised inputs, and a mean teacher (Tarvainen & Valpola 2017; French et al. 2018): the averaged
network, asked about two views of each target image, gives soft labels, with which the network must agree
on an augmented view.

In a second round the mean of several earlier networks (--teachers), asked about all views, teaches a fresh one beside
its own average: networks that differ by their seed know more together than apart.

Expect, on two CPU cores with avx512_bf16: 3,050 images/s, 13 minutes for SVHN, 1 GB of memory, 86.6 +- 1.5 % of its
val read, 88.1 +- 0.4 % by three seeds of the second round; for USPS a sixth of the time, 98.0 +- 0.1 %.
docs/training.md has the released ones.
"""

from common.start import run_script

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from common.config import UserError, option, parse_config
from common.images import make_grid, to_uint8
from common.streams import Stream
from data.augment import domain_augment
from data.batches import Images
from data.reading import load_digits, load_unlabelled_digits
from models.dann import DANN
from sampling.labels import (
    KEEPING_COLORS,
    VIEWS,
    load_dann,
    mean_probabilities,
    network_input,
    predict,
    probabilities,
    random_views,
)
from training.average import Average
from training.run import Options, Run
from training.schedules import linear_decay

SURE = 0.9  # the confidence from which a teacher's label is a sure one
RECIPES = {
    "original": {
        "alpha": 0.5,
        "augment": False,
        "standardized": False,
        "teacher_weight": 0.0,
        "balance_weight": 0.0,
        "images": 300_000,
        "ema_half_life": 0,
        "weight_decay": 0.0,
        "decay_from": 1.0,
    },
    "usps": {"images": 400_000, "zoom_low": 1.0, "zoom_high": 1.4, "neighbors": 0.0, "invert": False, "grey": True},
}


@dataclass(frozen=True)
class Config(Options):
    source: Path = option(Path("hw2_data/digits/mnistm"), "labelled domain: folder with data/ and train.csv", free=True)
    target: Path = option(Path("hw2_data/digits/svhn"), "domain to adapt to, its labels unused", free=True)
    run_dir: Path = option(Path("runs/dann"), "folder of this run", free=True)
    recipe: str = option("svhn", "defaults of the options below", choices=("svhn", "usps", "original"))
    method: str = option("dann", "what to train on", choices=("source", "dann", "target"))
    images: int = option(2_400_000, "length of the training in labelled images seen", low=1)
    batch_size: int = option(128, "images of each domain per step", low=2)
    learning_rate: float = option(1e-3, "Adam's learning rate", low=0, high=1)
    weight_decay: float = option(1e-4, "decoupled weight decay", low=0, high=1)
    decay_from: float = option(0.5, "share of the training after which the learning rate falls to 0", low=0, high=1)
    alpha: float = option(0.1, "final strength of the gradient reversal", low=0, high=10)
    standardized: bool = option(True, "give each input image mean 0 and standard deviation 1")
    augment: bool = option(True, "randomise the images of both domains")
    zoom_low: float = option(0.95, "smallest zoom of the augmentation", low=0.1, high=10)
    zoom_high: float = option(1.45, "largest zoom of the augmentation", low=0.1, high=10)
    shear: float = option(0.25, "largest turn and shear of the augmentation", low=0, high=1)
    shift: float = option(0.15, "largest shift of the augmentation, in half widths", low=0, high=1)
    neighbors: float = option(0.5, "probability of a neighbouring digit at each side", low=0, high=1)
    gentle_target: bool = option(True, "let target images keep nearly their own geometry")
    invert: bool = option(True, "invert half of the images")
    grey: bool = option(False, "take the colour away")
    teacher_weight: float = option(1.0, "weight of the mean teacher's labels on target images", low=0)
    teacher_labels: str = option("soft", "its probabilities, or only its sure classes", choices=("soft", "sure"))
    teacher_views: int = option(2, "views of an image that the teacher averages over", low=1, high=KEEPING_COLORS)
    teachers: str = option("", "a second round: weights of earlier networks, separated by commas, which teach too")
    balance_weight: float = option(0.05, "weight of the pull towards equally many predictions per class", low=0)
    ema_half_life: int = option(40_000, "half-life of the averaged network in images, 0 = none", low=0)
    oracle: bool = option(False, "also log the accuracy on the target's val labels; it chooses nothing", free=True)
    log_every: int = option(100, "steps between lines of metrics", low=1)
    sample_every: int = option(100_000, "images between sheets of inputs, and source accuracies", low=1, free=True)

    def __post_init__(self) -> None:
        if self.zoom_low > self.zoom_high:
            raise UserError(f"--zoom-low {self.zoom_low} is above --zoom-high {self.zoom_high}")

    @property
    def views(self) -> int:
        """Who learned from inverted images is asked about them too, by its students and at test time."""
        return len(VIEWS) if self.augment and self.invert else KEEPING_COLORS


def reversal_strength(progress: float, cap: float) -> float:
    """alpha at training progress p in [0, 1]: cap (2 / (1 + exp(-10 p)) - 1), from 0 to `cap` (arXiv:1409.7495)."""
    return cap * (2 / (1 + math.exp(-10 * progress)) - 1)


def teacher_loss(logits: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """Cross-entropy of student logits (batch, 10) with the labels that a teacher's probabilities give, a scalar.

    "soft": the probabilities squared and normalised (sharpened, MixMatch, arXiv:1905.02249), each image
    weighted by the teacher's confidence.  "sure": the likeliest class, where its probability is at least SURE.
    """
    confidence, label = teacher.max(1)
    if kind == "sure":
        return (F.cross_entropy(logits, label, reduction="none") * confidence.ge(SURE)).mean()
    sharpened = teacher.square() / teacher.square().sum(1, keepdim=True)
    return (F.cross_entropy(logits, sharpened, reduction="none") * confidence).mean()


def balance_loss(mean: Tensor) -> Tensor:
    """KL divergence of the uniform distribution from a batch's mean prediction (10,); 0 if classes are as frequent."""
    return -(mean * len(mean)).log().mean()


def trusted(teacher: Tensor, earlier: Tensor | None, done: float) -> tuple[Tensor, float]:
    """The probabilities (rows, 10) that the student is taught at progress `done`, and how much they weigh, up to 1.

    The averaged network's become good over the first half; those of an earlier round are so from the start.
    """
    ramp = min(1.0, 2 * done)
    return (teacher, ramp) if earlier is None else (torch.lerp(earlier, teacher, ramp / 2), 1.0)


def shown(images: Tensor, config: Config, random: Stream, is_target: bool) -> Tensor:
    """A whole batch (batch, 3, 28, 28) in [-1, 1] as the network sees it in training.

    Source images are moved towards all that the target might be; target images are it already, and with
    `gentle_target` keep nearly the geometry in which they will be met.
    """
    if config.augment:
        zoom, share, neighbors = (config.zoom_low, config.zoom_high), 1.0, config.neighbors
        if is_target and config.gentle_target:
            zoom, share, neighbors = (0.9, 1.1), 0.5, 0.0
        shear, shift = share * config.shear, share * config.shift
        images = domain_augment(images, random, zoom, shear, shift, neighbors, config.invert, config.grey)
    return network_input(images, config.standardized)


def target_digits(config: Config, device: torch.device) -> Images:
    """The target's training images, in a second round with earlier networks' probabilities; its labels are not seen."""
    digits, labels = load_unlabelled_digits(config.target, "train"), None
    if config.teachers:
        known = [load_dann(Path(weights.strip())) for weights in config.teachers.split(",")]
        labels = torch.stack([mean_probabilities(network, digits, *how) for network, *how in known]).mean(0)
    return Images(digits, labels, device)


def watched_digits(config: Config) -> dict[str, tuple[Tensor, Tensor]]:
    """Images and labels for the log's accuracies: the labelled domain's val, with --oracle also the target's."""
    domains = {"val_accuracy": config.target if config.method == "target" else config.source}
    if config.oracle and config.method != "target":
        domains["oracle_target_accuracy"] = config.target
    return {name: load_digits(domain, "val") for name, domain in domains.items()}


def accuracies(network: DANN, watched: dict[str, tuple[Tensor, Tensor]], standardized: bool) -> dict[str, float]:
    pairs = {name: predict(network, digits, standardized).eq(labels) for name, (digits, labels) in watched.items()}
    return {name: right.float().mean().item() for name, right in pairs.items()}


def commonest_class(logits: Tensor, run: Run) -> Tensor:
    """The share of the commonest class in the whole batch: near 1 when the training has collapsed."""
    return run.share.mean(F.one_hot(logits.argmax(1), 10).float().mean(0)).max()


def main() -> None:
    config = parse_config(Config, __doc__, presets=RECIPES)
    run = Run(config, use="python3 p3_inference.py IMAGE_DIR OUT.csv")
    adapts, is_target = config.method == "dann", config.method == "target"
    source = Images(*load_digits(config.target if is_target else config.source, "train"), run.device)
    target, watched = target_digits(config, run.device), watched_digits(config)

    network = run.network(DANN())
    ema = Average(network, config.ema_half_life)
    weights, rate = network.parameters(), config.learning_rate
    adam = torch.optim.AdamW(weights, rate, weight_decay=config.weight_decay, fused=True)
    run.restore(f"{source.fingerprint} {target.fingerprint}", network=network, ema=ema.network, optimizer=adam)
    about = {name: getattr(config, name) for name in ("method", "recipe", "standardized", "views")}
    run.release("weights.safetensors", lambda: ema.network, **about)
    classify = run.compiled(network)

    for step in run.steps(partial(linear_decay, decay_from=config.decay_from)):
        whole, own, metrics = step.whole(), step.rows, {}
        images, answers = source.batch(whole)
        inputs, answers = shown(images, config, whole.random, is_target)[own], answers[own]
        if not adapts:
            with run.autocast():
                logits, _ = classify(inputs)
            loss = F.cross_entropy(logits.float(), answers)
        else:
            # Both domains in one batch; the domain classifier learns to tell them apart, and through the
            # reversed gradient the features learn that it cannot.
            target_images, earlier = target.batch(whole, "target order")
            target_inputs = shown(target_images, config, whole.random, is_target=True)[own]
            domains = torch.arange(2, device=run.device).repeat_interleave(len(answers))
            alpha = reversal_strength(step.done, config.alpha)
            with run.autocast():
                logits, domain_logits = classify(torch.cat((inputs, target_inputs)), alpha)
            logits, target_logits = logits.float().chunk(2)
            loss_task, loss_domain = F.cross_entropy(logits, answers), F.cross_entropy(domain_logits.float(), domains)
            loss = loss_task + loss_domain
            metrics = {"loss_task": loss_task, "loss_domain": loss_domain, "alpha": alpha}

            # The averaged network, asked about other views, teaches this one about target images.
            if config.teacher_weight > 0:
                asked = random_views(config.teacher_views, config.views, step.random)
                with run.autocast(), torch.no_grad():
                    teacher = probabilities(ema.network, target_images[own], config.standardized, asked)
                teacher, trust = trusted(teacher, None if earlier is None else earlier[own], step.done)
                loss_teacher = teacher_loss(target_logits, teacher, config.teacher_labels)
                loss = loss + config.teacher_weight * trust * loss_teacher
                metrics |= {"loss_teacher": loss_teacher, "teacher_confidence": teacher.max(1).values.mean()}
            if config.balance_weight > 0:
                loss = loss + config.balance_weight * balance_loss(run.share.mean(target_logits.softmax(1).mean(0)))
        run.minimize(loss, adam)
        ema.update(step)

        if step.is_logged:
            if adapts:
                metrics["commonest_class"] = commonest_class(target_logits, run)
            run.log(step, loss=loss, **metrics)
        if step.due(config.sample_every):
            run.log(step, **accuracies(ema.network, watched, config.standardized))
            run.sample(step, make_grid(to_uint8(inputs[:64].cpu() / 2), 8))


if __name__ == "__main__":
    run_script(main)
