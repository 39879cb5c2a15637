"""Train the DCGAN (problem 1, method A) on 64x64 faces.

    python3 p1_dcgan_train.py --data hw2_data/face/train --run-dir runs/dcgan
    python3 p1_dcgan_train.py --run-dir runs/dcgan --resume            # go on after any interruption
    python3 p1_dcgan_train.py --recipe original --run-dir runs/plain   # the homework's plain recipe
    python3 p1_dcgan_train.py --start runs/dcgan/checkpoint.pt --batch-size 1024 --run-dir runs/more   # other options
    python3 p1_dcgan_train.py --start checkpoints/p1_dcgan.safetensors \
        --start-discriminator checkpoints/p1_dcgan_discriminator.safetensors --data OTHER_FACES --run-dir runs/other

The run's folder fills with config.json, metrics.jsonl, log.txt, TensorBoard files, grids of fixed
latents, the state for --resume and, at the end and at every checkpoint, `weights.safetensors`, the
averaged generator that p1_inference.py reads, and `discriminator.safetensors`, which a training from it needs.

The networks are the printed ones; what differs from the original recipe is how they are trained:
batches of real and generated images that share BatchNorm's statistics, a relativistic loss on logits, differentiable
colours and translation, flips, averaged weights with re-estimated BatchNorm statistics and a learning rate that falls
to zero.

Expect, on two CPU cores with avx512_bf16: 80 images/s, 10 hours for the default length, 1.9 GB of memory, more than
that with --score-every; on an NVIDIA H200 in batches of 1,024, 39,000 images/s.  There, with a constant rate
(--decay-from 1 --held-out 1000, 6,500 training faces, one seed), FID against the held-out faces was 96.6 after 200,000
images, 48.6 after 1,000,000, 37.6 after 2,000,000 and 35.0 after 2,400,000.  The released weights come from five
trainings there, each of which went on from the one before with other options, the last on all 7,500 faces with a
falling rate (README has the commands): FID 26.1 and face rate 94.5 % of 1,000 faces against 1,500 of val, where 1,000
real ones have 16.9.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import trange

from common.checkpoint import export_weights
from common.config import UserError, option, parse_config, run_script
from common.device import autocast, generator, pick_device
from data.augment import POLICIES, diff_augment, flip
from data.reading import batch_indices, fingerprint, list_images, load_folder
from evaluation.watching import sample_scores
from models.dcgan import LATENT_SIZE, Discriminator, Generator, initialize_weights
from sampling.faces import (
    hold_out,
    judge_both,
    judge_fake,
    overfitting,
    real_batch,
    sample_sheet,
    with_fresh_batch_norm,
)
from training.average import make_ema, update_ema
from training.processes import join
from training.run import Run
from training.schedules import linear_decay

LOSSES = ("relativistic", "standard")
ORIGINAL = {
    "batch_size": 64,
    "augment": "none",
    "flips": False,
    "joint_batches": False,
    "loss": "standard",
    "real_label": 1.0,
    "ema_half_life": 0,
    "decay_from": 1.0,
}


@dataclass(frozen=True)
class Config:
    data: Path = option(Path("hw2_data/face/train"), "folder of training faces", free=True)
    run_dir: Path = option(Path("runs/dcgan"), "folder of this run", free=True)
    recipe: str = option("improved", "defaults of the options below", choices=("improved", "original"))
    images: int = option(3_000_000, "length of the training in generated images", low=1, free=True)
    batch_size: int = option(256, "images per step", low=2)
    discriminator_steps: int = option(1, "discriminator updates per generator update", low=1, high=100)
    learning_rate_g: float = option(2e-4, "generator's Adam learning rate", low=0, high=1)
    learning_rate_d: float = option(2e-4, "discriminator's Adam learning rate", low=0, high=1)
    beta1: float = option(0.5, "Adam's first decay rate", low=0, high=0.999)
    decay_from: float = option(0.5, "share of the training after which the learning rate falls to 0", low=0, high=1)
    augment: str = option("color,translation", "DiffAugment policy of real and generated images", choices=POLICIES)
    flips: bool = option(True, "mirror real images at random")
    batch_norm: bool = option(True, "the discriminator's BatchNorm, as in the homework's network")
    joint_batches: bool = option(True, "real and generated images share the discriminator's BatchNorm statistics")
    loss: str = option("relativistic", "real images against generated ones, or each alone", choices=LOSSES)
    real_label: float = option(0.9, "the standard loss's target for real images", low=0.5, high=1)
    r1_weight: float = option(0.0, "weight of the R1 gradient penalty on real images, 0 = none", low=0)
    r2_weight: float = option(0.0, "weight of the same penalty on generated images, 0 = none", low=0)
    r1_every: int = option(16, "steps between these penalties (lazy regularisation)", low=1)
    ema_half_life: int = option(100_000, "half-life of the averaged generator in images, 0 = none", low=0)
    held_out: int = option(0, "faces kept out of the training, to watch overfitting with", low=0)
    score_every: int = option(0, "images between FIDs against held-out faces, 0 = never", low=0, free=True)
    score_count: int = option(1000, "samples behind each of these FIDs", low=2, free=True)
    start: str = option("", "checkpoint.pt of another training, or released weights of its generator, to start from")
    start_discriminator: str = option("", "discriminator.safetensors that was released with --start's generator")
    seed: int = option(0, "of initial weights, order, latents and augmentation", low=0)
    device: str = option("auto", "auto, cpu, cuda, mps ...", free=True)
    precision: str = option("auto", "auto = bf16 where it is fast", choices=("auto", "bf16", "fp32"))
    log_every: int = option(50, "steps between lines of metrics", low=1)
    sample_every: int = option(10_000, "images between sample grids", low=1, free=True)
    save_minutes: float = option(3.0, "minutes between checkpoints", low=0, free=True)
    resume: bool = option(False, "continue the run in --run-dir exactly where its checkpoint is", free=True)


def gradient_penalty(
    score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, joint: bool, weights: tuple[float, float]
) -> Tensor:
    """R1 and R2 by their weights, one of which at least is above 0: a scalar.

    R1 is half the mean squared gradient norm at real images, R2 at generated ones (Mescheder et al. 2018,
    arXiv:1801.04406), both of them before augmentation.  In `joint` batches they share BatchNorm's statistics, as in
    the loss.
    """
    pairs = zip((real, fake), weights, strict=True)
    both = [images.detach().float().requires_grad_(weight > 0) for images, weight in pairs]
    wanted = [images for images in both if images.requires_grad]
    logits = torch.cat(judge_both(score, *both, joint))
    gradients = torch.autograd.grad(logits.sum(), wanted, create_graph=True)
    norms = [gradient.square().sum((1, 2, 3)).mean() for gradient in gradients]
    return sum(weight / 2 * norm for weight, norm in zip(filter(None, weights), norms, strict=True))


def main() -> None:
    config = parse_config(Config, __doc__, presets={"original": ORIGINAL})
    device = pick_device(config.device)
    part = join(device, config.batch_size)  # of every batch: all of it, unless torchrun started several processes
    if config.score_every and not config.held_out:
        raise UserError("--score-every needs faces to compare with, give --held-out too")
    faces, paths = load_folder(config.data, 64), list_images(config.data)
    chosen, kept = hold_out(len(faces), config.held_out)
    faces, held_out, held_out_paths = faces[chosen], faces[kept], [paths[index] for index in kept]
    run = Run(config, fingerprint(faces), part)
    faces = faces.to(device)  # 12 kB each: all of them fit, and no step waits for a copy

    torch.manual_seed(config.seed)
    layout = {"device": device, "memory_format": torch.channels_last}
    network_g = Generator().apply(initialize_weights).to(**layout)
    network_d = Discriminator(config.batch_norm).apply(initialize_weights).to(**layout)
    ema = make_ema(network_g)
    optimizer_g = torch.optim.Adam(network_g.parameters(), config.learning_rate_g, (config.beta1, 0.999), fused=True)
    optimizer_d = torch.optim.Adam(network_d.parameters(), config.learning_rate_d, (config.beta1, 0.999), fused=True)
    parts = {"g": network_g, "d": network_d, "ema": ema, "optimizer_g": optimizer_g, "optimizer_d": optimizer_d}
    first_step = run.restore(parts, config.start, (network_g, ema), config.start_discriminator, (network_d,))
    part.synchronize(network_g, network_d)

    def save(step: int) -> None:
        if not part.first:
            return
        run.save(step, parts)
        released = with_fresh_batch_norm(ema, device)
        images = run.seen_before + step * config.batch_size
        about = {"method": "dcgan", "images": images, "faces": len(faces), "seed": config.seed}
        export_weights(run.folder / "weights.safetensors", released, **about)
        export_weights(run.folder / "discriminator.safetensors", network_d, **about)

    penalized = (config.r1_weight, config.r2_weight)
    steps = run.steps
    progress = trange(first_step, steps, initial=first_step, total=steps, unit="step", disable=not part.first)
    step = first_step
    for step in progress:
        images_seen = run.seen_before + (step + 1) * config.batch_size
        decay = linear_decay(step, steps, config.decay_from)
        for optimizer, rate in ((optimizer_g, config.learning_rate_g), (optimizer_d, config.learning_rate_d)):
            optimizer.param_groups[0]["lr"] = rate * decay
        random = generator(run.seed, "step", step)

        # Discriminator: each real image above a generated one (RpGAN, Jolicoeur-Martineau 2019, arXiv:1807.00734;
        # Huang et al. 2024, arXiv:2501.05441), which punishes a generator that leaves out some of the real ones;
        # or the original's, real ones towards `real_label`, generated towards 0.
        for turn in range(config.discriminator_steps):
            order = batch_indices(len(faces), config.batch_size, step * config.discriminator_steps + turn, run.seed)
            real = real_batch(faces, order, device)
            real = (flip(real, random) if config.flips else real)[part.rows]
            latent = torch.randn(config.batch_size, LATENT_SIZE, 1, 1, generator=random)[part.rows].to(device)
            with autocast(device, config.precision):
                with torch.set_grad_enabled(turn == config.discriminator_steps - 1):  # the last teach the generator too
                    fake = network_g(latent)
                shown_real = part.in_batch(diff_augment, real, config.augment, random)
                shown_fake = part.in_batch(diff_augment, fake.detach(), config.augment, random)
                logits_real, logits_fake = judge_both(network_d.logits, shown_real, shown_fake, config.joint_batches)
            if config.loss == "relativistic":
                loss_d = F.softplus(logits_fake - logits_real).mean()
            else:
                target = torch.full_like(logits_real, config.real_label)
                loss_d = F.binary_cross_entropy_with_logits(logits_real, target) + F.softplus(logits_fake).mean()
            total = loss_d
            if step % config.r1_every == 0 and turn == 0 and any(penalized):
                with autocast(device, config.precision):
                    penalty = gradient_penalty(network_d.logits, real, fake, config.joint_batches, penalized)
                total = total + config.r1_every * penalty
            optimizer_d.zero_grad()
            part.backward(total, network_d)
            optimizer_d.step()

        # Generator: the discriminator's loss the other way round; or the non-saturating one, -log D(G(z)).
        network_d.requires_grad_(False)
        with autocast(device, config.precision):
            shown_fake = part.in_batch(diff_augment, fake, config.augment, random)
            if config.loss == "relativistic":
                above, below = judge_both(network_d.logits, shown_real, shown_fake, config.joint_batches)
                loss_g = F.softplus(above - below).mean()
            else:
                loss_g = F.softplus(-judge_fake(network_d.logits, shown_real, shown_fake, config.joint_batches)).mean()
        optimizer_g.zero_grad()
        part.backward(loss_g, network_g)
        optimizer_g.step()
        network_d.requires_grad_(True)
        update_ema(ema, network_g, config.batch_size, images_seen, config.ema_half_life)

        if (step + 1) % config.log_every == 0:
            metrics = {"loss_d": loss_d, "loss_g": loss_g, "learning_rate": optimizer_g.param_groups[0]["lr"]}
            metrics |= {"logit_real": logits_real.mean(), "logit_fake": logits_fake.mean()}
            bounds = (logits_fake, logits_real) if config.loss == "relativistic" else (0, 0)
            right = (logits_real > bounds[0]).float().mean() + (logits_fake < bounds[1]).float().mean()
            metrics["accuracy_d"] = right / 2
            values = run.log(step + 1, images_seen, metrics)
            progress.set_postfix({name: f"{values[name]:.2f}" for name in ("loss_d", "loss_g")})
        if run.sample_due(images_seen):
            run.sample(step + 1, images_seen, sample_sheet(ema, device))
            if config.held_out:
                beside = network_g if config.joint_batches else None
                run.log(step + 1, images_seen, overfitting(network_d, "logits", faces, held_out, device, beside))
        if config.score_every and run.passed(images_seen, config.score_every):
            run.log(step + 1, images_seen, sample_scores(ema, config.score_count, held_out_paths, device))
        if run.save_due():
            save(step + 1)
        if run.stopping:
            break
    else:
        save(steps)
    run.close(step + 1)


if __name__ == "__main__":
    run_script(main)
