"""Courses of the learning rate: the factor at `step` of 0 ... `steps` - 1."""

import math


def linear_decay(step: int, steps: int, decay_from: float) -> float:
    """1, and from the share `decay_from` of the training on along a line that is 0 at `steps`; from 1 on there is none.

    The last step's factor is that of a step before the end, not 0, so every step learns.
    """
    return min(1.0, (1 - step / steps) / max(1 - decay_from, 1 / steps))


def warm_cosine(step: int, steps: int, warmup_steps: float, decay_from: float) -> float:
    """Up along a line over `warmup_steps`, 1, then from the share `decay_from` on down to 0 as half a cosine."""
    warmup = min(1.0, (step + 1) / max(warmup_steps, 1e-9))
    falling = max(0.0, (step / steps - decay_from) / max(1 - decay_from, 1e-9))
    return warmup * 0.5 * (1 + math.cos(math.pi * falling))
