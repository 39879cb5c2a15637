"""The learning rate's course that three of the four trainings share."""


def linear_decay(step: int, steps: int, decay_from: float) -> float:
    """The factor of the learning rate at `step` of 0 ... `steps` - 1: 1, then along a line that is 0 at `steps`.

    The line begins at the share `decay_from` of the training; from 1 on there is none.  The last step's factor is
    that of a step before the end, not 0, so every step learns.
    """
    return min(1.0, (1 - step / steps) / max(1 - decay_from, 1 / steps))
