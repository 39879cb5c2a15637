"""make torture: kill -9 at random moments across all trainings, again and again; the end is the same to the bit.

Not part of make test, which kills every training once.  KILLS=20 SEED=0 make torture
"""

import os
import random
import signal
import time

import pytest
from trainings import TRAININGS, assert_same, checkpoint, finish

KILLS, SEED = int(os.environ.get("KILLS", "20")), int(os.environ.get("SEED", "0"))
NAMES = sorted(TRAININGS)


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment(number, start, scratch):
    """Killed up to three times, from before the first step to amid the last checkpoint, then let finish."""
    chance = random.Random(f"{SEED} {number}")
    name, run, reference = NAMES[number % len(NAMES)], scratch / "run", scratch / "reference"
    begun = time.monotonic()
    finish(start(name, reference, "--save-minutes", 0))
    length = time.monotonic() - begun
    kills = 0
    for _ in range(chance.randint(1, 3)):
        process = start(name, run, "--save-minutes", 0, "--resume")
        time.sleep(chance.uniform(0.1, 1) * length)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        if (run / "checkpoint.pt").exists():
            checkpoint(run)  # whole after every kill
    finish(start(name, run, "--save-minutes", 0, "--resume"))
    assert_same(run, reference)
    print(f"{name}: {kills} kills")
