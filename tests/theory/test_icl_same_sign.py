"""The valley of same-sign solutions: stationary, flat along the split, stable while both shares are positive."""

from __future__ import annotations

import numpy as np
import pytest

from theory import icl

DATA = icl.Setting()


@pytest.mark.parametrize("share", [0.5, 0.2, 1.3])
def test_every_split_is_stationary_and_does_what_one_head_does(share: float) -> None:
    omega, mu = icl.same_sign_solution(DATA, share)
    assert np.abs(icl.reduced_gradients(omega, mu, DATA)).max() < 1e-13
    assert icl.reduced_loss(omega, mu, DATA) == pytest.approx(icl.one_head_optimum(DATA).risk, rel=1e-13)


def test_curvature_has_the_sign_of_the_lesser_share() -> None:
    for share in (0.5, 0.2, 0.05):
        values = icl.same_sign_curvature(DATA, share)
        # One flat direction; central differences of step 1e-5 leave 1e-9.
        assert values[0] == pytest.approx(0, abs=1e-8) and values[1] > 1e-3
    for share in (-0.1, 1.1):
        values = icl.same_sign_curvature(DATA, share)
        assert values[0] < -1e-3 and values[1] == pytest.approx(0, abs=1e-8)


BALANCE = 0.1226  # critical_balance(DATA), which takes ten flows


def test_balance_of_the_start_separates_the_two_ends() -> None:
    assert icl.settles_same_sign(DATA, BALANCE + 0.01) and not icl.settles_same_sign(DATA, BALANCE - 0.01)
    assert icl.critical_balance(DATA, tolerance=0.3) == pytest.approx(BALANCE, abs=0.15)


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5])
def test_growing_modes_of_a_random_start_decide_its_end(seed: int) -> None:
    """Same-sign if the modes `omega_h + mu_h` have one sign and the lesser is above the balance."""
    omega, mu = icl.small_start(2, seed=seed)
    modes = omega + mu
    settles = modes[0] * modes[1] > 0 and np.abs(modes).min() > BALANCE * np.abs(modes).max()
    flow = icl.integrate_heads(omega, mu, [300.0], DATA, rtol=1e-6, atol=1e-9)
    assert (flow.loss[0] > 0.3) == settles
