"""The residual direction: stalled under gradient descent, growing for ever under Adam."""

from __future__ import annotations

import numpy as np
import pytest

import theory


def test_gradient_descent_stalls() -> None:
    m = theory.residual_peak_dynamics([100, 10_000], optimizer="sgd", learning_rate=0.3, m0=10.0)
    assert m[-1] == pytest.approx(10.0127, abs=1e-4)  # the printed digits
    # The flow starts at t = 1 and the steps are of size 1: off by the first few terms of a sum, 1e-3 of the growth.
    np.testing.assert_allclose(m - 10, theory.residual_peak_sgd([100, 10_000], 10.0, 0.3) - 10, rtol=0.02)


def test_closed_form_solves_its_equation() -> None:
    t, h = np.array([2.0, 50.0, 1e4]), 1e-5
    up, down = (theory.residual_peak_sgd(t * (1 + s * h), 1.5, 0.3) for s in (1, -1))
    m = theory.residual_peak_sgd(t, 1.5, 0.3)
    expected = [0.3 * theory.residual_drive(float(x), float(y)) for x, y in zip(m, t, strict=True)]
    # Central differences: h^2 = 1e-10 against rounding 1e-16 / h / (relative growth 1e-5 at the end).
    np.testing.assert_allclose((up - down) / (2 * h * t), expected, rtol=1e-5)


def test_adam_grows_a_peak() -> None:
    """Every published number, to half a unit of the last digit printed."""
    steps = [100, 1000, 2500, 5000, 10_000, 20_000]
    m = theory.residual_peak_dynamics(steps, optimizer="adam", learning_rate=0.3, m0=10.0)
    np.testing.assert_allclose(m[:5], [19.5, 27.9, 33.6, 41.6, 64.0], atol=0.05)
    assert m[5] == pytest.approx(135, abs=0.5)
    assert m[1] == pytest.approx(27.86, rel=0.01) and m[4] == pytest.approx(63.98, rel=0.01)
    slow = theory.residual_peak_dynamics(steps, learning_rate=3e-3, m0=1.0, betas=(0.9, 0.99))
    np.testing.assert_allclose(slow, [1.17, 2.12, 5.25, 11.8, 25.1, 42.8], atol=0.05)


def test_without_eps_adam_grows_by_the_learning_rate_for_ever() -> None:
    m = theory.residual_peak_dynamics([15_000, 20_000], learning_rate=3e-3, m0=1.0, betas=(0.9, 0.99), eps=0.0)
    # The drive falls like t^-4: over the memory of 100 steps at 17,500 by 2.3 %, which is how far v lags behind.
    assert (m[1] - m[0]) / 5000 == pytest.approx(3e-3, rel=0.05)


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.7])
def test_drive_is_minus_the_slope_of_the_loss(cosine: float) -> None:
    for m, t in ((0.5, 3.0), (2.0, 100.0), (9.0, 1e4)):

        def loss(x: float, t: float = t) -> float:
            return float(np.exp(-np.log(t) * theory.residual_projection(x, cosine)))

        h = 1e-4
        slope = (8 * (loss(m + h) - loss(m - h)) - (loss(m + 2 * h) - loss(m - 2 * h))) / (12 * h)
        # Truncation h^4 = 1e-16; rounding of a loss below 1 over h: 1e-12.
        assert theory.residual_drive(m, t, cosine) == pytest.approx(-slope, rel=1e-6, abs=1e-11)


def test_large_residuals_forget_the_cosine() -> None:
    """Corrections are 3 c / m and (c^2 - 1) log t / (2 m^2): a few per thousand at m = 1000."""
    assert theory.residual_drive(1e3, 50.0, 0.0) == pytest.approx(theory.residual_drive(1e3, 50.0), rel=1e-4)
    assert theory.residual_projection(1e3, 0.9) == pytest.approx(1.0, abs=1e-6)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"steps\[0\] = 0.0"):
        theory.residual_peak_dynamics([0, 10])
    with pytest.raises(ValueError, match="whole numbers"):
        theory.residual_peak_dynamics([1.5])
    with pytest.raises(ValueError, match="'sgd', 'adam'"):
        theory.residual_peak_dynamics([1], optimizer="lion")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"cosine = 1\.0"):
        theory.residual_projection([1.0], 1.0)
