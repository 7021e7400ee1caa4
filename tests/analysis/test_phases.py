"""Phase times on curves whose crossing is known, plateaus, slopes, and what the bootstrap covers."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from attnlab.analysis import bootstrap_interval, crossing_time, log_slope, phase_times, plateaus
from attnlab.config import ConfigError

STEPS = np.unique(np.geomspace(1, 10_000, 200).astype(int))


def test_crossing_of_a_logarithm_is_exact():
    # y = ln(1 + t) is a straight line in the interpolation variable, however coarse the record.
    coarse = np.array([0, 1, 30, 5000])
    for level in (0.1, 1.0, 5.0, 8.0):
        assert crossing_time(coarse, np.log1p(coarse), level) == pytest.approx(np.expm1(level), rel=1e-12)
        assert crossing_time(coarse, -np.log1p(coarse), -level, "down") == pytest.approx(np.expm1(level), rel=1e-12)


def test_crossing_of_a_line_in_linear_time():
    t = np.array([0.0, 10, 20, 30])
    assert crossing_time(t, 2 * t, 25, log=False) == pytest.approx(12.5)


def test_crossing_of_decays_over_seeds():
    rates = np.array([0.002, 0.01, 0.03])
    found = crossing_time(STEPS, np.exp(-rates[:, None] * STEPS), 0.5, "down")
    np.testing.assert_allclose(found, np.log(2) / rates, rtol=0.01)  # spacing of the record: 5 %


def test_never_beyond_at_once_and_gaps():
    t = np.arange(5)
    found = crossing_time(t, [[0, 1, 2, 3, 4], [5, 5, 5, 5, 5], [0, 0, 0, 0, 0], [0, np.nan, 4, 4, 4]], 3.5)
    assert found[0] == pytest.approx(np.expm1((np.log(4) + np.log(5)) / 2))
    assert found[1] == 0 and np.isnan(found[2])
    assert found[3] == pytest.approx(2)  # nothing to interpolate from


def test_sustained_crossing_ignores_a_blip():
    t, y = np.arange(8), [0, 0, 9, 0, 0, 9, 9, 9]
    assert 1 < crossing_time(t, y, 8.9) <= 2
    assert 4 < crossing_time(t, y, 8.9, sustained=3) <= 5
    assert np.isnan(crossing_time(t, y, 8.9, sustained=4))


def test_phase_times_of_a_recorded_dataset():
    seeds, steps = [3, 5], np.array([0, 1, 10, 100])
    risk = np.stack([np.exp(-steps / 5), np.ones(4)])
    sink = np.zeros((2, 4, 2, 1))
    sink[:, 2:, 1] = 1
    data = xr.Dataset(
        {"backcopy": (("seed", "step"), risk), "bos_attention": (("seed", "step", "layer", "head"), sink)},
        {"seed": seeds, "step": steps},
    )
    found = phase_times(data, {"backcopy": (0.5, "down"), "bos_attention": 0.5}, layer=1)
    assert found.seed.values.tolist() == seeds
    assert np.isfinite(found.backcopy.sel(seed=3)) and np.isnan(found.backcopy.sel(seed=5))
    assert (found.bos_attention > 1).all() and (found.bos_attention < 10).all()
    assert found.bos_attention.attrs["direction"] == "up"
    with pytest.raises(ConfigError, match="no_such"):
        phase_times(data, {"no_such": 1})


def test_plateaus_of_a_staircase():
    t = np.arange(0, 2001, 10)
    y = np.where(t < 100, 4.0, np.where(t < 900, 2.5, 0.1)) + 0.01 * np.sin(t)
    found = plateaus(t, y, 0.05)
    assert [round(p.height, 1) for p in found] == [4.0, 2.5, 0.1]  # longest in log time first
    assert (found[1].start, found[1].end) == (100, 890)
    assert found[1].length == pytest.approx(np.log(891 / 101))
    assert plateaus(t, np.log1p(t), 0.01) == []
    close = np.where(t < 100, 2.5, 2.7)
    assert len(plateaus(t, close, 0.09)) == 2 and len(plateaus(t, close, 0.11)) == 1


def test_log_slope():
    t = np.array([0, 1, 10, 100, 1000, 10_000])
    y = np.stack([3.2 * np.log(np.maximum(t, 1)) - 12.7, 2.0 * np.maximum(t, 1.0) ** -0.33])
    line = log_slope(t, y[0], (1, np.inf))
    assert (line.slope, line.intercept, line.r) == pytest.approx((3.2, -12.7, 1))
    power = log_slope(t, y, (10, 10_000), log_values=False).slope, log_slope(t, y[1], log_values=True).slope
    assert power[0].shape == (2,) and power[1] == pytest.approx(-0.33)
    noisy = y[0] + np.array([0, 3, -1, 2, 5, -4])
    found, wanted = log_slope(t, noisy), stats.linregress(np.log(t[1:]), noisy[1:])
    assert (found.slope, found.intercept, found.r) == pytest.approx(tuple(wanted[:3]))
    assert np.isnan(log_slope(t, np.ones(6)).r)
    with pytest.raises(ConfigError, match="window"):
        log_slope(t, y, (20, 90))


def test_bootstrap_covers_the_median(rng):
    hits, trials = 0, 200
    for trial in range(trials):
        found = bootstrap_interval(rng.normal(size=15), resamples=300, seed=trial)
        assert found.low <= found.value <= found.high
        hits += found.low <= 0 <= found.high
    # 95 % nominal; the percentile interval of a median of 15 is within a few percent, the count's own sd is 1.5 %.
    assert 0.88 < hits / trials <= 1


def test_censored_seeds_are_counted_and_reach_into_the_interval():
    never = np.nan
    few = bootstrap_interval([10, 11, 12, 13, 14, 15, 16, never], censored="late")
    assert few.value == pytest.approx(13.5) and few.censored == 1 and few.count == 8
    assert "1 of 8" in str(few)
    most = bootstrap_interval([10, never, never], censored="late")
    assert most.value == np.inf and most.high == np.inf and most.censored == 2
    none = bootstrap_interval([never, never], censored="late")
    assert none.value == np.inf and none.low == np.inf
    with pytest.raises(ConfigError, match="NaN"):
        bootstrap_interval([1, never])


def test_bootstrap_repeats_and_takes_other_statistics():
    x = [1.0, 2.0, 4.0, 8.0]
    assert bootstrap_interval(x, seed=3) == bootstrap_interval(x, seed=3)
    found = bootstrap_interval(x, np.mean)
    assert found.value == 3.75 and 1 <= found.low < found.high <= 8
    one = bootstrap_interval([2.0])
    assert (one.value, one.low, one.high) == (2, 2, 2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: crossing_time([0, 2, 1], [1, 2, 3], 1),
        lambda: crossing_time([0, 1], [1, 2, 3], 1),
        lambda: crossing_time([0, 1], [1, 2], 1, "sideways"),  # type: ignore[arg-type]
        lambda: crossing_time([0, 1], [1, 2], 1, sustained=3),
        lambda: bootstrap_interval([[1.0, 2.0]]),
        lambda: bootstrap_interval([1.0], level=95),
        lambda: plateaus([0, 1], [1, np.nan], 0.1),
        lambda: plateaus([0, 1], [1, 2], 0),
    ],
)
def test_bad_input(call):
    with pytest.raises(ConfigError, match="allowed"):
        call()
