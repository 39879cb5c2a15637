"""Train the WGAN (problem 1, method B) on 64x64 faces.

    python3 p1_wgan_train.py --data hw2_data/face/train --run-dir runs/wgan
    python3 p1_wgan_train.py --run-dir runs/wgan --resume              # go on after any interruption
    python3 p1_wgan_train.py --recipe original --run-dir runs/clipped  # the homework's weight clipping

The run's folder fills as that of p1_dcgan_train.py does.

The critic's score must not rise faster than its images move apart.  `--recipe original` clips the weights of the
printed critic to +-0.01 after every step, with RMSprop (Arjovsky et al. 2017).  The default penalises the gradient on
lines between real and generated images, with Adam (Gulrajani et al. 2017).  A gradient penalty is a statement about
one image's score, and BatchNorm makes that score depend on the batch, so this critic has none.

The critic steps once to a generator's step, and its learning rate is twice the generator's (two time scales, Heusel et
al. 2017, arXiv:1706.08500).

Expect, on two CPU cores with avx512_bf16: 109 generated images/s, 13 hours for the default length, 1.2 GB of memory,
more than twice that with --score-every.  docs/training.md has the commands of the released weights: FID 27.9 and face
rate 94.3 % of 1,000 faces against 1,500 of val, where 1,000 real ones have 16.9.
"""

from common.start import run_script

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from common.config import option, parse_config
from data.augment import POLICIES, diff_augment, flip
from data.batches import Faces
from evaluation.watching import check_scores, watch
from models.dcgan import LATENT_SIZE, Critic, Generator, initialize_weights, judge
from sampling.faces import with_fresh_batch_norm
from training.average import Average
from training.run import Options, Run, frozen
from training.schedules import linear_decay

CLIP = 0.01  # bound of the original critic's weights (Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1)
PENALTY_WEIGHT = 10.0  # lambda of the gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1)
ORIGINAL = {
    "batch_size": 64,
    "critic_steps": 5,
    "learning_rate_g": 5e-5,
    "learning_rate_c": 5e-5,
    "decay_from": 1.0,
    "augment": "none",
    "flips": False,
    "ema_half_life": 0,
}


@dataclass(frozen=True)
class Config(Options):
    data: Path = option(Path("hw2_data/face/train"), "folder of training faces", free=True)
    run_dir: Path = option(Path("runs/wgan"), "folder of this run", free=True)
    recipe: str = option("improved", "gradient penalty, or the homework's clipping", choices=("improved", "original"))
    images: int = option(5_000_000, "length of the training in generated images", low=1, free=True)
    batch_size: int = option(256, "images per step", low=2)
    critic_steps: int = option(1, "critic updates per generator update", low=1, high=100)
    learning_rate_g: float = option(2e-4, "generator's learning rate", low=0, high=1)
    learning_rate_c: float = option(4e-4, "critic's learning rate", low=0, high=1)
    decay_from: float = option(0.55, "share of the training after which the learning rate falls to 0", low=0, high=1)
    augment: str = option("translation", "DiffAugment policy of real and generated images", choices=POLICIES)
    flips: bool = option(True, "mirror real images at random")
    ema_half_life: int = option(100_000, "half-life of the averaged generator in images, 0 = none", low=0)
    held_out: int = option(0, "faces kept out of the training, to watch overfitting with", low=0)
    score_every: int = option(0, "images between FIDs against held-out faces, 0 = never", low=0, free=True)
    score_count: int = option(1000, "samples behind each of these FIDs", low=2, free=True)
    start: str = option("", "checkpoint.pt of another training, or released weights of its generator, to start from")
    start_critic: str = option("", "critic.safetensors that was released with --start's generator")
    log_every: int = option(20, "generator steps between lines of metrics", low=1)
    sample_every: int = option(10_000, "generated images between sample grids", low=1, free=True)


def distance(real: Tensor, fake: Tensor) -> Tensor:
    """The estimate of the Wasserstein distance, a scalar, from the critic's scores of real and generated images."""
    return real.mean() - fake.mean()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """The mean of (|gradient| - 1)^2 at `share` (rows, 1, 1, 1) of the way from fake to real (arXiv:1704.00028)."""
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic.score(between).float().sum(), between, create_graph=True)
    return (gradient.float().square().sum((1, 2, 3)).add(1e-12).sqrt() - 1).square().mean()


def main() -> None:
    config = parse_config(Config, __doc__, presets={"original": ORIGINAL})
    check_scores(config.held_out, config.score_every)
    run = Run(config, use="python3 p1_inference.py OUT_DIR")
    faces = Faces(config.data, config.held_out, run.device)

    clipped = config.recipe == "original"
    G = run.network(Generator().apply(initialize_weights))
    critic = run.network(Critic(batch_norm=clipped).apply(initialize_weights))
    ema = Average(G, config.ema_half_life)
    # RMSprop under weight clipping, Adam under the penalty, as in the two papers' algorithms.
    optimizer = torch.optim.RMSprop if clipped else partial(torch.optim.Adam, betas=(0.0, 0.9), fused=True)
    optimizer_g = optimizer(G.parameters(), config.learning_rate_g)
    optimizer_c = optimizer(critic.parameters(), config.learning_rate_c)
    state = {"optimizer_g": optimizer_g, "optimizer_c": optimizer_c}
    run.restore(faces.fingerprint, g=G, critic=critic, ema=ema.network, **state)
    run.start(config.start, [G, ema.network], config.start_critic, critic)
    run.release("weights.safetensors", lambda: with_fresh_batch_norm(ema.network), method="wgan", faces=len(faces))
    run.release("critic.safetensors", lambda: critic, method="wgan", faces=len(faces))
    generate, score = run.compiled(G), run.compiled(critic.score)

    for step in run.steps(partial(linear_decay, decay_from=config.decay_from)):
        # Critic: raise its score on real images and lower it on generated ones, several times.
        for turn in step.turns(config.critic_steps):
            real = faces.batch(turn)
            if config.flips:
                real = flip(real, step.random)
            latent = step.random.randn(LATENT_SIZE, 1, 1)
            with run.autocast():
                fake = generate(latent).float()
                shown_real = diff_augment(real, config.augment, step.random)
                shown_fake = diff_augment(fake.detach(), config.augment, step.random)
                c_real, c_fake = judge(score, shown_real, shown_fake, joint=not clipped)
                penalty = 0.0
                if not clipped:
                    penalty = gradient_penalty(critic, shown_real, shown_fake, step.random.rand(1, 1, 1))
            run.minimize(PENALTY_WEIGHT * penalty - distance(c_real, c_fake), optimizer_c)
            if clipped:
                for weight in critic.parameters():
                    weight.data.clamp_(-CLIP, CLIP)

        # Generator: raise the critic's score of its last images.
        with run.autocast(), frozen(critic):
            loss_g = -score(diff_augment(fake, config.augment, step.random)).float().mean()
        run.minimize(loss_g, optimizer_g)
        ema.update(step)

        if step.is_logged:
            scores = {"score_real": c_real.mean(), "score_fake": c_fake.mean()}
            run.log(step, distance=distance(c_real, c_fake), loss_g=loss_g, penalty=penalty, **scores)
        watch(run, step, ema.network, critic, faces)


if __name__ == "__main__":
    run_script(main)
