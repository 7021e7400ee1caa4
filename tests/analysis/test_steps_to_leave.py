"""When a loss leaves a plateau of known height."""

import numpy as np
import pytest

from attnlab.analysis import crossing_time, steps_to_leave
from attnlab.config import ConfigError

STEPS = np.arange(0, 1001, 10)
HEIGHT = np.log(64)


def waits(start, rate=0.01):
    """A loss at `ln V` until `start`, then an exponential decay."""
    return HEIGHT * np.exp(-rate * np.maximum(STEPS - start, 0))


def test_seeds_leave_when_they_leave(rng):
    starts = np.array([0, 200, 600])
    exact = starts + np.log(1 / 0.9) / 0.01  # the loss is .9 ln V
    noise = 0.01 * rng.normal(size=(3, len(STEPS)))
    losses = np.stack([waits(start) for start in starts])
    found = steps_to_leave(STEPS, losses + noise, HEIGHT)
    assert np.all(np.abs(found - exact) < 12)  # a recorded step of 10, and noise of .01 on a slope of .04 per step
    np.testing.assert_allclose(
        steps_to_leave(STEPS, losses, HEIGHT, log=False), crossing_time(STEPS, losses, 0.9 * HEIGHT, "down", log=False)
    )
    later = steps_to_leave(STEPS, losses, HEIGHT, share=0.5)
    assert np.all(later > steps_to_leave(STEPS, losses, HEIGHT))


def test_never_above_and_diverged():
    never, above = waits(10**6), np.where(STEPS < 300, 2 * HEIGHT, waits(500))
    diverged = np.where(STEPS < 100, HEIGHT, np.nan)
    found = steps_to_leave(STEPS, np.stack([never, above, diverged, 0.5 * waits(0)]), HEIGHT)
    assert np.isnan(found[0]) and np.isnan(found[2])
    assert 500 < found[1] < 520  # a loss that comes down to the plateau has not left it
    assert found[3] == 0  # one that begins below is away from the start


def test_a_blip_is_no_departure():
    losses = waits(400)
    losses[5] = 0.1
    assert steps_to_leave(STEPS, losses, HEIGHT) < 60
    assert steps_to_leave(STEPS, losses, HEIGHT, sustained=3) > 400


@pytest.mark.parametrize("wrong", [{"plateau": 0.0}, {"plateau": np.nan}, {"share": 0.0}, {"share": 1.0}])
def test_bad_plateau(wrong):
    with pytest.raises(ConfigError, match="allowed"):
        steps_to_leave(STEPS, waits(0), **{"plateau": HEIGHT, **wrong})
