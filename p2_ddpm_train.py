"""Train the class-conditional diffusion model (problem 2) on MNIST-M digits.

    python3 p2_ddpm_train.py --data hw2_data/digits/mnistm --run-dir runs/ddpm
    python3 p2_ddpm_train.py --run-dir runs/ddpm --resume      # go on after any interruption
    python3 p2_ddpm_train.py --start checkpoints/p2_ddpm.safetensors --run-dir runs/more   # train released weights on

The run's folder fills with config.json, metrics.jsonl (the loss, also by quarter of the time range),
log.txt, TensorBoard files, 10 x 10 grids and, at every checkpoint, `weights.safetensors`: the averaged
network that p2_inference.py reads.

The network predicts the noise of a step t drawn from 1 ... 600 (Ho et al. 2020).  One label in ten is
dropped, so that the same network also predicts without a class, for classifier-free guidance.

Expect, on two CPU cores with avx512_bf16: 89 images/s, 3 hours for the default length, 3 GB of memory.
docs/training.md has the commands of the released weights: the course's classifier recognises 99.6 % of the 1,000
digits of hw2_2.sh, and 95.2 % of real ones, of val.
"""

from common.start import run_script

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from common.config import option, parse_config
from data.batches import Images
from data.reading import load_digits
from models.ddpm import DDPM, IMAGE_SHAPE
from models.diffusion import TIMESTEPS, add_noise, alpha_bar_schedule, one_hot, steps_of
from sampling.digits import digit_sheet
from training.average import Average
from training.run import Options, Run
from training.schedules import warm_cosine


@dataclass(frozen=True)
class Config(Options):
    data: Path = option(Path("hw2_data/digits/mnistm"), "folder with data/ and train.csv", free=True)
    run_dir: Path = option(Path("runs/ddpm"), "folder of this run", free=True)
    images: int = option(1_000_000, "length of the training in images seen", low=1, free=True)
    batch_size: int = option(128, "images per step", low=2)
    learning_rate: float = option(3e-4, "Adam's learning rate", low=0, high=1)
    warmup_images: int = option(10_000, "images over which the learning rate rises from 0", low=0)
    decay_from: float = option(0.67, "share of the training after which the rate falls as a cosine", low=0, high=1)
    label_dropout: float = option(0.1, "share of images trained without their class", low=0, high=1)
    ema_half_life: int = option(20_000, "half-life of the averaged network in images, 0 = none", low=0)
    start: str = option("", "released weights, or checkpoint.pt of another training, to start from")
    log_every: int = option(20, "steps between lines of metrics", low=1)
    sample_every: int = option(25_000, "images between sample grids", low=1, free=True)


def loss_by_quarter(errors: Tensor, times: Tensor, run: Run) -> dict[str, Tensor]:
    """The mean error (rows,) of each quarter of the time range 1 ... T, where the batch has any."""
    quarters = (times - 1) * 4 // TIMESTEPS == torch.arange(4, device=times.device)[:, None]
    sums, counts = run.share.mean(torch.stack((quarters * errors, quarters.float())).mean(2))
    return {f"loss_t{q + 1}of4": sums[q] / counts[q] for q in range(4) if counts[q] > 0}


def main() -> None:
    config = parse_config(Config, __doc__)
    run = Run(config, use="python3 p2_inference.py OUT_DIR")
    digits = Images(*load_digits(config.data, "train"), run.device)

    ddpm = run.network(DDPM())
    ema = Average(ddpm.nn_model, config.ema_half_life)
    adam = torch.optim.Adam(ddpm.parameters(), config.learning_rate, fused=True)
    run.restore(digits.fingerprint, network=ddpm, ema=ema.network, optimizer=adam)
    run.start(config.start, [ddpm.nn_model, ema.network])
    run.release("weights.safetensors", lambda: ema.network)
    predict_noise = run.compiled(ddpm)
    alpha_bar = alpha_bar_schedule().float().to(run.device)
    warmup_steps = config.warmup_images / config.batch_size
    schedule = partial(warm_cosine, warmup_steps=warmup_steps, decay_from=config.decay_from)

    for step in run.steps(schedule):
        images, labels = digits.batch(step)
        times = steps_of(step.random.stratified())
        noise = step.random.randn(*IMAGE_SHAPE)
        images, noise = (each.contiguous(memory_format=torch.channels_last) for each in (images, noise))
        without_class = step.random.rand() < config.label_dropout

        # The network predicts the noise in x_t, of some images without knowing their class.
        noisy = add_noise(images, noise, alpha_bar[times])
        context = one_hot(labels.masked_fill(without_class, -1))
        with run.autocast():
            predicted = predict_noise(noisy, context, times / TIMESTEPS).float()
        loss = ddpm.loss_mse(predicted, noise)
        run.minimize(loss, adam)
        ema.update(step)

        if step.is_logged:
            errors = (predicted.detach() - noise).square().mean((1, 2, 3))
            run.log(step, loss=loss, **loss_by_quarter(errors, times, run))
        if step.due(config.sample_every):
            with run.autocast():
                run.sample(step, digit_sheet(ema.network))


if __name__ == "__main__":
    run_script(main)
