"""Train the WGAN (problem 1, method B) on 64x64 faces.

    python3 p1_wgan_train.py --data hw2_data/face/train --run-dir runs/wgan
    python3 p1_wgan_train.py --run-dir runs/wgan --resume              # go on after any interruption
    python3 p1_wgan_train.py --recipe original --run-dir runs/clipped  # the homework's weight clipping

The run's folder fills as that of p1_dcgan_train.py does.

The critic is the printed one, with BatchNorm.  Two ways keep it Lipschitz: `--constraint clip`, weights
clipped to +-0.01 after every step with RMSprop (Arjovsky et al. 2017), and `--constraint penalty`, a
gradient penalty with Adam (Gulrajani et al. 2017).  BatchNorm makes a score depend on the whole batch, so a
penalty per image is only meaningful with fixed statistics: it is evaluated in eval mode, with the averages of joint
batches (real and generated images together, judge_both).  `--no-batch-norm` is another critic, without it.

The critic steps once to a generator's step, and its learning rate is twice the generator's (two time scales, Heusel et
al. 2017, arXiv:1706.08500).  A generator as fast as that is not stable: with both rates at 4e-4 (6,500 faces, one seed)
faces were clear after 75,000 images; from there on the distance, averaged over 5,000 images, stayed below zero, and
after 100,000 no face was left (python3 -m experiments.p1 --part collapse).

Expect, on two CPU cores with avx512_bf16: 56 generated images/s, 3 hours for the default length, 1.2 GB of memory, more
than twice that with --score-every.  With --held-out 1000 (6,500 training faces) FID 61.4 and face rate 93.1 % of 1,000
generated faces against 1,500 of val, where 1,000 real ones have 16.9.  FID against the held-out faces (one seed): 86.1
after 100,000 images, 68.8 after 200,000, 62.3 after 300,000, 60.0 after 400,000, 59.0 after 500,000, 62.2 at the end.

Batches of 256 are steadier and go further, if there is a GPU to pay for them (experiments.p1 --part tried, one seed
each, the rate constant): in batches of 64 faces were lost there before 200,000 images, by the very options that had
kept them until then on the CPU; in batches of 256 FID against the held-out faces was 52.5 after 1,600,000 images and,
the rate falling from there on, 44.6 after 2,600,000.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import trange

from common.checkpoint import export_weights
from common.config import UserError, option, parse_config, run_script
from common.device import autocast, generator, pick_device
from data.augment import POLICIES, diff_augment, flip
from data.reading import batch_indices, fingerprint, list_images, load_folder
from evaluation.watching import sample_scores
from models.dcgan import LATENT_SIZE, Critic, Generator, initialize_weights
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

ORIGINAL = {
    "constraint": "clip",
    "critic_steps": 5,
    "learning_rate_g": 5e-5,
    "learning_rate_c": 5e-5,
    "decay_from": 1.0,
    "augment": "none",
    "flips": False,
    "joint_batches": False,
    "ema_half_life": 0,
}


@dataclass(frozen=True)
class Config:
    data: Path = option(Path("hw2_data/face/train"), "folder of training faces", free=True)
    run_dir: Path = option(Path("runs/wgan"), "folder of this run", free=True)
    recipe: str = option("improved", "defaults of the options below", choices=("improved", "original"))
    images: int = option(600_000, "length of the training in generated images", low=1, free=True)
    batch_size: int = option(64, "images per step", low=2)
    constraint: str = option("penalty", "what bounds the critic's slope", choices=("penalty", "clip"))
    clip: float = option(0.01, "bound of the critic's weights with --constraint clip", low=1e-6, high=10)
    penalty_weight: float = option(10.0, "weight of the gradient penalty", low=0)
    critic_steps: int = option(1, "critic updates per generator update", low=1, high=100)
    learning_rate_g: float = option(2e-4, "generator's learning rate", low=0, high=1)
    learning_rate_c: float = option(4e-4, "critic's learning rate", low=0, high=1)
    decay_from: float = option(0.3, "share of the training after which the learning rate falls to 0", low=0, high=1)
    augment: str = option("translation", "DiffAugment policy of real and generated images", choices=POLICIES)
    flips: bool = option(True, "mirror real images at random")
    batch_norm: bool = option(True, "the critic's BatchNorm, as in the homework's network")
    joint_batches: bool = option(True, "real and generated images share the critic's BatchNorm statistics")
    ema_half_life: int = option(20_000, "half-life of the averaged generator in images, 0 = none", low=0)
    held_out: int = option(0, "faces kept out of the training, to watch overfitting with", low=0)
    score_every: int = option(0, "images between FIDs against held-out faces, 0 = never", low=0, free=True)
    score_count: int = option(1000, "samples behind each of these FIDs", low=2, free=True)
    start: str = option("", "checkpoint.pt of another training, or released weights of its generator, to start from")
    start_critic: str = option("", "critic.safetensors that was released with --start's generator")
    seed: int = option(0, "of initial weights, order, latents and augmentation", low=0)
    device: str = option("auto", "auto, cpu, cuda, mps ...", free=True)
    precision: str = option("auto", "auto = bf16 where it is fast", choices=("auto", "bf16", "fp32"))
    log_every: int = option(20, "generator steps between lines of metrics", low=1)
    sample_every: int = option(10_000, "generated images between sample grids", low=1, free=True)
    save_minutes: float = option(3.0, "minutes between checkpoints", low=0, free=True)
    resume: bool = option(False, "continue the run in --run-dir exactly where its checkpoint is", free=True)


def gradient_penalty(critic: Critic, real: torch.Tensor, fake: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The mean of (|gradient| - 1)^2 on lines between real and generated images (arXiv:1704.00028), a scalar.

    `share` (batch, 1, 1, 1), uniform in [0, 1], says where on the line.
    """
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    norms = [module for module in critic.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()
    (gradient,) = torch.autograd.grad(critic.scores(between).float().sum(), between, create_graph=True)
    for norm in norms:
        norm.train()
    return (gradient.float().square().sum((1, 2, 3)).add(1e-12).sqrt() - 1).square().mean()


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
    critic = Critic(config.batch_norm).apply(initialize_weights).to(**layout)
    ema = make_ema(network_g)
    if config.constraint == "clip":
        optimizer_g = torch.optim.RMSprop(network_g.parameters(), config.learning_rate_g)
        optimizer_c = torch.optim.RMSprop(critic.parameters(), config.learning_rate_c)
    else:
        optimizer_g = torch.optim.Adam(network_g.parameters(), config.learning_rate_g, (0.0, 0.9), fused=True)
        optimizer_c = torch.optim.Adam(critic.parameters(), config.learning_rate_c, (0.0, 0.9), fused=True)
    parts = {"g": network_g, "critic": critic, "ema": ema, "optimizer_g": optimizer_g, "optimizer_c": optimizer_c}
    first_step = run.restore(parts, config.start, (network_g, ema), config.start_critic, (critic,))
    part.synchronize(network_g, critic)

    def save(step: int) -> None:
        if not part.first:
            return
        run.save(step, parts)
        released = with_fresh_batch_norm(ema, device)
        images = run.seen_before + step * config.batch_size
        about = {"method": "wgan", "images": images, "faces": len(faces), "seed": config.seed}
        export_weights(run.folder / "weights.safetensors", released, **about)
        export_weights(run.folder / "critic.safetensors", critic, **about)

    steps = run.steps
    progress = trange(first_step, steps, initial=first_step, total=steps, unit="step", disable=not part.first)
    step = first_step
    for step in progress:
        images_seen = run.seen_before + (step + 1) * config.batch_size
        decay = linear_decay(step, steps, config.decay_from)
        for optimizer, rate in ((optimizer_g, config.learning_rate_g), (optimizer_c, config.learning_rate_c)):
            optimizer.param_groups[0]["lr"] = rate * decay
        random = generator(run.seed, "step", step)

        # Critic: raise its score on real images and lower it on generated ones, several times.
        for turn in range(config.critic_steps):
            order = batch_indices(len(faces), config.batch_size, step * config.critic_steps + turn, run.seed)
            real = real_batch(faces, order, device)
            real = (flip(real, random) if config.flips else real)[part.rows]
            latent = torch.randn(config.batch_size, LATENT_SIZE, 1, 1, generator=random)[part.rows].to(device)
            with autocast(device, config.precision):
                with torch.set_grad_enabled(turn == config.critic_steps - 1):  # the last ones teach the generator too
                    generated = network_g(latent).float()
                both = (real, generated.detach())
                real, fake = (part.in_batch(diff_augment, images, config.augment, random) for images in both)
                scores_real, scores_fake = judge_both(critic.scores, real, fake, config.joint_batches)
                distance = scores_real.mean() - scores_fake.mean()
                penalty = torch.zeros((), device=device)
                if config.constraint == "penalty":
                    share = torch.rand(config.batch_size, 1, 1, 1, generator=random)[part.rows].to(device)
                    penalty = gradient_penalty(critic, real, fake, share)
            optimizer_c.zero_grad()
            part.backward(config.penalty_weight * penalty - distance, critic)
            optimizer_c.step()
            if config.constraint == "clip":
                with torch.no_grad():
                    for parameter in critic.parameters():
                        parameter.clamp_(-config.clip, config.clip)

        # Generator: raise the critic's score of its last images.
        critic.requires_grad_(False)
        with autocast(device, config.precision):
            fake = part.in_batch(diff_augment, generated, config.augment, random)
            scores = judge_fake(critic.scores, real, fake, config.joint_batches)
        loss_g = -scores.mean()
        optimizer_g.zero_grad()
        part.backward(loss_g, network_g)
        optimizer_g.step()
        critic.requires_grad_(True)
        update_ema(ema, network_g, config.batch_size, images_seen, config.ema_half_life)

        if (step + 1) % config.log_every == 0:
            metrics = {"distance": distance, "penalty": penalty, "loss_g": loss_g}
            metrics |= {"score_real": scores_real.mean(), "score_fake": scores_fake.mean()}
            values = run.log(step + 1, images_seen, metrics)
            progress.set_postfix(distance=f"{values['distance']:.2f}")
        if run.sample_due(images_seen):
            run.sample(step + 1, images_seen, sample_sheet(ema, device))
            if config.held_out:
                beside = network_g if config.joint_batches else None
                run.log(step + 1, images_seen, overfitting(critic, "scores", faces, held_out, device, beside))
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
