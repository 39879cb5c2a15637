"""Train the DCGAN (problem 1, method A) on 64x64 faces.

    python3 p1_dcgan_train.py --data hw2_data/face/train --run-dir runs/dcgan
    python3 p1_dcgan_train.py --run-dir runs/dcgan --resume            # go on after any interruption
    python3 p1_dcgan_train.py --recipe original --run-dir runs/plain   # the homework's plain recipe
    python3 p1_dcgan_train.py --start runs/dcgan/checkpoint.pt --batch-size 1024 --run-dir runs/more   # other options
    python3 p1_dcgan_train.py --start checkpoints/p1_dcgan.safetensors \\
        --start-discriminator checkpoints/p1_dcgan_discriminator.safetensors --data OTHER_FACES --run-dir runs/other

The run's folder fills with config.json, metrics.jsonl, log.txt, TensorBoard files, grids of fixed
latents, the state for --resume and, at the end and at every checkpoint, `weights.safetensors`, the
averaged generator that p1_inference.py reads, and `discriminator.safetensors`, which a training from it needs.

The networks are the printed ones; what differs from the original recipe is how they are trained:
batches of real and generated images that share BatchNorm's statistics, a relativistic loss on logits, differentiable
colours and translation, flips, averaged weights with re-estimated BatchNorm statistics and a learning rate that falls
to zero.

Expect, on two CPU cores with avx512_bf16: 137 images/s, 6 hours for the default length, 1.9 GB of memory, more than
that with --score-every; on an NVIDIA H200 in batches of 1,024, 39,000 images/s.  docs/training.md has the commands of
the released weights: FID 26.1 and face rate 94.5 % of 1,000 faces against 1,500 of val, where real ones have 16.9.
"""

from common.start import run_script

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from common.config import option, parse_config
from data.augment import POLICIES, diff_augment, flip
from data.batches import Faces
from evaluation.watching import check_scores, watch
from models.dcgan import LATENT_SIZE, Discriminator, Generator, initialize_weights, judge
from sampling.faces import with_fresh_batch_norm
from training.average import Average
from training.run import Options, Run, frozen
from training.schedules import linear_decay

LOSSES = ("relativistic", "standard")
ORIGINAL = {
    "batch_size": 64,
    "augment": "none",
    "flips": False,
    "joint_batches": False,
    "loss": "standard",
    "ema_half_life": 0,
    "decay_from": 1.0,
}


@dataclass(frozen=True)
class Config(Options):
    data: Path = option(Path("hw2_data/face/train"), "folder of training faces", free=True)
    run_dir: Path = option(Path("runs/dcgan"), "folder of this run", free=True)
    recipe: str = option("improved", "defaults of the options below", choices=("improved", "original"))
    images: int = option(3_000_000, "length of the training in generated images", low=1, free=True)
    batch_size: int = option(256, "images per step", low=2)
    learning_rate_g: float = option(2e-4, "generator's Adam learning rate", low=0, high=1)
    learning_rate_d: float = option(2e-4, "discriminator's Adam learning rate", low=0, high=1)
    decay_from: float = option(0.5, "share of the training after which the learning rate falls to 0", low=0, high=1)
    augment: str = option("color,translation", "DiffAugment policy of real and generated images", choices=POLICIES)
    flips: bool = option(True, "mirror real images at random")
    batch_norm: bool = option(True, "the discriminator's BatchNorm, as in the homework's network")
    joint_batches: bool = option(True, "real and generated images share the discriminator's BatchNorm statistics")
    loss: str = option("relativistic", "real images against generated ones, or each alone", choices=LOSSES)
    regularizer: float = option(0.0, "weight of R1 and R2, the gradient penalties of real and generated images", low=0)
    ema_half_life: int = option(100_000, "half-life of the averaged generator in images, 0 = none", low=0)
    held_out: int = option(0, "faces kept out of the training, to watch overfitting with", low=0)
    score_every: int = option(0, "images between FIDs against held-out faces, 0 = never", low=0, free=True)
    score_count: int = option(1000, "samples behind each of these FIDs", low=2, free=True)
    start: str = option("", "checkpoint.pt of another training, or released weights of its generator, to start from")
    start_discriminator: str = option("", "discriminator.safetensors that was released with --start's generator")
    log_every: int = option(50, "steps between lines of metrics", low=1)
    sample_every: int = option(10_000, "images between sample grids", low=1, free=True)


def discriminator_loss(real: Tensor, fake: Tensor, loss: str) -> Tensor:
    """What the discriminator minimises, a scalar, given its logits (rows,) of real and of generated images.

    "relativistic": each real image above a generated one, which punishes a generator that leaves out some (RpGAN,
    Jolicoeur-Martineau 2019, arXiv:1807.00734; Huang et al. 2024, arXiv:2501.05441).  "standard": real ones towards 1
    and generated ones towards 0 (Goodfellow et al. 2014, arXiv:1406.2661).
    """
    if loss == "relativistic":
        return F.softplus(fake - real).mean()
    return F.binary_cross_entropy_with_logits(real, torch.ones_like(real)) + F.softplus(fake).mean()


def generator_loss(real: Tensor | None, fake: Tensor, loss: str) -> Tensor:
    """The other way round; the standard one is the non-saturating -log D(G(z)), which needs no real images."""
    return F.softplus(real - fake).mean() if loss == "relativistic" else F.softplus(-fake).mean()


def gradient_penalties(discriminator: Discriminator, real: Tensor, fake: Tensor, joint: bool) -> Tensor:
    """R1 + R2: half the mean squared gradient norm at real images and at generated ones, before augmentation, a scalar.

    Mescheder et al. 2018, arXiv:1801.04406.  In `joint` batches they share BatchNorm's statistics, as in the loss.
    """
    both = [images.detach().float().requires_grad_() for images in (real, fake)]
    logits = torch.cat(judge(discriminator.score, *both, joint))
    gradients = torch.autograd.grad(logits.sum(), both, create_graph=True)
    return sum(gradient.square().sum((1, 2, 3)).mean() / 2 for gradient in gradients)


def accuracy(real: Tensor, fake: Tensor, loss: str) -> Tensor:
    """The share of images on whose side the discriminator's logits (rows,) are right."""
    above, below = (fake, real) if loss == "relativistic" else (0, 0)
    return ((real > above).float().mean() + (fake < below).float().mean()) / 2


def main() -> None:
    config = parse_config(Config, __doc__, presets={"original": ORIGINAL})
    check_scores(config.held_out, config.score_every)
    run = Run(config, use="python3 p1_inference.py OUT_DIR")
    faces = Faces(config.data, config.held_out, run.device)

    G = run.network(Generator().apply(initialize_weights))
    D = run.network(Discriminator(config.batch_norm).apply(initialize_weights))
    ema = Average(G, config.ema_half_life)
    adam_g = torch.optim.Adam(G.parameters(), config.learning_rate_g, betas=(0.5, 0.999), fused=True)
    adam_d = torch.optim.Adam(D.parameters(), config.learning_rate_d, betas=(0.5, 0.999), fused=True)
    run.restore(faces.fingerprint, g=G, d=D, ema=ema.network, optimizer_g=adam_g, optimizer_d=adam_d)
    run.start(config.start, [G, ema.network], config.start_discriminator, D)
    run.release("weights.safetensors", lambda: with_fresh_batch_norm(ema.network), method="dcgan", faces=len(faces))
    run.release("discriminator.safetensors", lambda: D, method="dcgan", faces=len(faces))
    generate, score = run.compiled(G), run.compiled(D.score)
    compared = config.loss == "relativistic" or config.joint_batches  # generated images with real ones

    for step in run.steps(partial(linear_decay, decay_from=config.decay_from)):
        real = faces.batch(step)
        if config.flips:
            real = flip(real, step.random)
        latent = step.random.randn(LATENT_SIZE, 1, 1)

        # Discriminator: real images above generated ones.
        with run.autocast():
            fake = generate(latent)
            shown_real = diff_augment(real, config.augment, step.random)
            shown_fake = diff_augment(fake.detach(), config.augment, step.random)
            d_real, d_fake = judge(score, shown_real, shown_fake, config.joint_batches)
            loss_d = discriminator_loss(d_real, d_fake, config.loss)
            total = loss_d
            if config.regularizer:
                total = loss_d + config.regularizer * gradient_penalties(D, real, fake, config.joint_batches)
        run.minimize(total, adam_d)

        # Generator: the other way round.
        with run.autocast(), frozen(D):
            shown_fake = diff_augment(fake, config.augment, step.random)
            g_real, g_fake = judge(score, shown_real if compared else None, shown_fake, config.joint_batches)
            loss_g = generator_loss(g_real, g_fake, config.loss)
        run.minimize(loss_g, adam_g)
        ema.update(step)

        if step.is_logged:
            right = accuracy(d_real, d_fake, config.loss)
            logits = {"logit_real": d_real.mean(), "logit_fake": d_fake.mean()}
            run.log(step, loss_d=loss_d, loss_g=loss_g, accuracy_d=right, **logits)
        watch(run, step, ema.network, D, faces, G if config.joint_batches else None)


if __name__ == "__main__":
    run_script(main)
