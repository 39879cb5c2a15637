"""Train the class-conditional diffusion model (problem 2) on MNIST-M digits.

    python3 p2_ddpm_train.py --data hw2_data/digits/mnistm --run-dir runs/ddpm
    python3 p2_ddpm_train.py --run-dir runs/ddpm --resume      # go on after any interruption
    python3 p2_ddpm_train.py --start checkpoints/p2_ddpm.safetensors --run-dir runs/more   # train released weights on

The run's folder fills with config.json, metrics.jsonl (the loss, also by quarter of the time range),
log.txt, TensorBoard files, 10 x 10 grids and, at every checkpoint, `weights.safetensors`: the averaged
network that p2_inference.py reads.

The network predicts the noise of a step t drawn from 1 ... 600 (Ho et al. 2020).  One label in ten is
dropped, so that the same network also predicts without a class, for classifier-free guidance.

Expect, on two CPU cores with AMX bfloat16: 85 images/s, 3.5 hours for the default length, 3 GB of memory; 46 images/s
with avx512_bf16 alone.  After 801,000 images, in two trainings, the second by --start, the course's classifier
recognises 99.5 % of the 1,000 digits of hw2_2.sh (95.2 % of real ones, of val).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import trange

from common.checkpoint import export_weights
from common.config import option, parse_config, run_script
from common.device import autocast, generator, pick_device
from data.reading import batch_indices, fingerprint, load_digits, to_unit_range
from models.ddpm import DDPM
from models.diffusion import TIMESTEPS, add_noise, alpha_bar_schedule, one_hot, stratified_steps
from sampling.digits import digit_sheet
from training.average import make_ema, update_ema
from training.processes import join
from training.run import Run


@dataclass(frozen=True)
class Config:
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
    seed: int = option(0, "of initial weights, order, times and noise", low=0)
    device: str = option("auto", "auto, cpu, cuda, mps ...", free=True)
    precision: str = option("auto", "auto = bf16 where it is fast", choices=("auto", "bf16", "fp32"))
    log_every: int = option(20, "steps between lines of metrics", low=1)
    sample_every: int = option(25_000, "images between sample grids", low=1, free=True)
    save_minutes: float = option(3.0, "minutes between checkpoints", low=0, free=True)
    resume: bool = option(False, "continue the run in --run-dir exactly where its checkpoint is", free=True)


def learning_rate(config: Config, step: int, steps: int) -> float:
    """Linear warm-up, a constant, then half a cosine down to 0 at the last step."""
    warmup = min(1.0, (step + 1) * config.batch_size / max(config.warmup_images, 1))
    falling = max(0.0, (step / steps - config.decay_from) / max(1 - config.decay_from, 1e-9))
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * falling))


def main() -> None:
    config = parse_config(Config, __doc__)
    device = pick_device(config.device)
    part = join(device, config.batch_size)  # of every batch: all of it, unless torchrun started several processes
    digits, labels = load_digits(config.data, "train")
    run = Run(config, fingerprint(digits, labels), part)

    torch.manual_seed(config.seed)
    ddpm = DDPM().to(device=device, memory_format=torch.channels_last)
    ema = make_ema(ddpm.nn_model)
    optimizer = torch.optim.Adam(ddpm.parameters(), config.learning_rate)
    parts = {"network": ddpm, "ema": ema, "optimizer": optimizer}
    first_step = run.restore(parts, config.start, released=(ddpm.nn_model, ema))
    part.synchronize(ddpm)

    def save(step: int) -> None:
        if not part.first:
            return
        run.save(step, parts)
        images = run.seen_before + step * config.batch_size
        export_weights(run.folder / "weights.safetensors", ema, images=images, seed=config.seed)

    alpha_bar = alpha_bar_schedule()
    steps = run.steps
    progress = trange(first_step, steps, initial=first_step, total=steps, unit="step", disable=not part.first)
    step = first_step
    for step in progress:
        images_seen = run.seen_before + (step + 1) * config.batch_size
        optimizer.param_groups[0]["lr"] = learning_rate(config, step, steps)
        random = generator(run.seed, "step", step)
        chosen = batch_indices(len(digits), config.batch_size, step, run.seed)
        clean = to_unit_range(digits[chosen])
        times = stratified_steps(config.batch_size, random)
        noise = torch.randn(clean.shape, generator=random)
        dropped = torch.rand(config.batch_size, generator=random) < config.label_dropout
        context = one_hot(labels[chosen].masked_fill(dropped, -1))
        noisy = add_noise(clean, noise, alpha_bar[times])
        noisy, noise, context, own_times = (rows[part.rows] for rows in (noisy, noise, context, times))

        # The loss of the homework: the mean squared error of the predicted noise.
        noisy, noise = (images.to(device, memory_format=torch.channels_last) for images in (noisy, noise))
        with autocast(device, config.precision):
            predicted = ddpm(noisy, context.to(device), (own_times / TIMESTEPS).to(device)).float()
        loss = ddpm.loss_mse(predicted, noise)
        optimizer.zero_grad()
        part.backward(loss, ddpm)
        optimizer.step()
        update_ema(ema, ddpm.nn_model, config.batch_size, images_seen, config.ema_half_life)

        if (step + 1) % config.log_every == 0:
            errors = part.whole((predicted.detach() - noise).square().mean((1, 2, 3))).cpu()
            quarters = (times - 1) * 4 // TIMESTEPS
            by_quarter = {f"loss_t{q + 1}of4": errors[quarters == q].mean() for q in range(4) if (quarters == q).any()}
            values = run.log(
                step + 1, images_seen, {"loss": loss, **by_quarter, "learning_rate": optimizer.param_groups[0]["lr"]}
            )
            progress.set_postfix(loss=f"{values['loss']:.4f}")
        if run.sample_due(images_seen):
            with autocast(device, config.precision):
                run.sample(step + 1, images_seen, digit_sheet(ema, device))
        if run.save_due():
            save(step + 1)
        if run.stopping:
            break
    else:
        save(steps)
    run.close(step + 1)


if __name__ == "__main__":
    run_script(main)
