"""Regularity of sigmoid and softmax attention, a planted match, and dispersion, each against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import catalogue

LENGTHS = (64, 256, 1024, 4096, 16384)


def attend(x: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, bias: float | None, causal: bool) -> np.ndarray:
    """One head by loops; `bias = None` is softmax. Analytic in `x`, so that complex steps differentiate it."""
    tokens = x.shape[0]
    out = np.zeros((tokens, v.shape[0]), dtype=x.dtype)
    for i in range(tokens):
        seen = range(i + 1 if causal else tokens)
        scores = np.array([(q @ x[i]) @ (k @ x[j]) for j in seen])
        if bias is None:
            weight = np.exp(scores - np.real(scores).max())
            weight = weight / weight.sum()
        else:
            weight = 1 / (1 + np.exp(-scores - bias))
        for w, j in zip(weight, seen, strict=True):
            out[i] += w * (v @ x[j])
    return out


def jacobian_norm(x: np.ndarray, q, k, v, bias: float | None, causal: bool = False) -> float:
    """Spectral norm of the Jacobian by complex steps: exact to rounding, for nothing is subtracted."""
    columns = []
    for index in range(x.size):
        moved = x.astype(complex)
        moved.flat[index] += 1e-30j
        columns.append(np.imag(attend(moved, q, k, v, bias, causal)).ravel() / 1e-30)
    return float(np.linalg.norm(np.array(columns), 2))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), tokens=st.integers(1, 5), scale=st.floats(0.1, 3), bias=st.floats(-4, 1))
def test_bounds_hold(seed: int, tokens: int, scale: float, bias: float) -> None:
    rng = np.random.default_rng(seed)
    x = scale * rng.normal(size=(tokens, 3))
    q, k, v = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(4, 3))
    sigmoid, softmax = catalogue.sigmoid_bound(x, q, k, v, bias), catalogue.softmax_bound(x, q, k, v)
    slack = 1 + 1e-9  # of the complex step
    for causal in (False, True):
        assert jacobian_norm(x, q, k, v, bias, causal) <= sigmoid.tight * slack
    assert sigmoid.tight <= sigmoid.wide * slack
    assert jacobian_norm(x, q, k, v, None) <= softmax.local * slack <= softmax.uniform * slack**2


def test_bounds_are_not_idle() -> None:
    """Cases in which a bound is reached or nearly: no factor of it can be dropped."""
    eye, zero = np.eye(2), np.zeros((2, 2))
    x = np.random.default_rng(0).normal(size=(4, 2))
    # No scores: every weight is sigmoid(b), the Jacobian n sigmoid(b) |W_v|, which is the bound.
    sigmoid = catalogue.sigmoid_bound(x, zero, zero, eye, -1.0)
    assert jacobian_norm(x, zero, zero, eye, -1.0) == pytest.approx(sigmoid.tight, rel=1e-12)
    # No scores, softmax: P is the mean, of norm 1.
    assert jacobian_norm(x, zero, zero, eye, None) == pytest.approx(catalogue.softmax_bound(x, zero, zero, eye).local)
    # Equal tokens, in one dimension: |J| = s + 2 s' M x^2 exactly, for all the terms align.
    line, one = np.full((5, 1), 0.7), np.eye(1)
    sigmoid = catalogue.sigmoid_bound(line, one, one, one, -2.0)
    assert jacobian_norm(line, one, one, one, -2.0) == pytest.approx(sigmoid.tight, rel=1e-12)
    assert sigmoid.wide == pytest.approx(sigmoid.weight + 2 * (sigmoid.tight - sigmoid.weight), rel=1e-12)


def test_sigmoid_bound_does_not_grow_with_the_row_at_bias_minus_log_n(rng: np.random.Generator) -> None:
    x = rng.uniform(-1, 1, size=(512, 3)) / np.sqrt(3)
    eye = np.eye(3)
    for n in (8, 64, 512):
        assert catalogue.sigmoid_bound(x[:n], eye, eye, eye, -np.log(n)).tight < np.e + 2 * np.e
        assert catalogue.initial_row_sum(n, -np.log(n)) == pytest.approx(n / (1 + n), rel=1e-12)
    assert catalogue.sigmoid_bound(x, eye, eye, eye, 0.0).tight > 256
    assert catalogue.initial_row_sum(64, 0.0) == 32
    # n / (1 + n) at three lengths.
    sums = [catalogue.initial_row_sum(n, -np.log(n)) for n in (64, 256, 1024)]
    np.testing.assert_allclose(sums, (0.985, 0.996, 0.999), atol=5e-4)


@given(low=st.floats(-30, 30), width=st.floats(0, 30))
def test_suprema_of_the_sigmoid(low: float, width: float) -> None:
    grid = np.linspace(low, low + width, 4001)
    value = 1 / (1 + np.exp(-grid))
    top, slope = catalogue.sigmoid_suprema(low, low + width)
    assert top == pytest.approx(value.max(), rel=1e-12)
    # The grid misses the top by half a step of at most 30/4000; near it the slope is flat to second order.
    assert slope == pytest.approx((np.exp(-np.abs(grid)) / (1 + np.exp(-np.abs(grid))) ** 2).max(), rel=1e-4)


def match(cosines: np.ndarray, width: int) -> dict[str, np.ndarray]:
    """Weights on the first of the cosines `[B, n]`, by the definitions."""
    size = cosines.shape[1]
    exponential = np.exp(np.sqrt(width) * cosines)
    lssa = np.log1p(np.exp(np.log(width) * np.log(size) * cosines))
    lssa /= lssa.sum(axis=1, keepdims=True)
    out = {"softmax": exponential / exponential.sum(axis=1, keepdims=True), "lssa": lssa}
    for power in (3, 15):
        sharp = np.maximum(lssa * size - 1, 0.0)
        sharp = (sharp / sharp.max(axis=1, keepdims=True)) ** power
        out[f"lssar{power}"] = sharp / sharp.sum(axis=1, keepdims=True)
    return {name: weight[:, 0] for name, weight in out.items()}


@pytest.mark.parametrize(("law", "width", "keys", "cosine"), [("normal", 64, 300, 0.8), ("sphere", 8, 20, 0.6)])
def test_planted_match_by_simulation(law, width: int, keys: int, cosine: float, rng: np.random.Generator) -> None:
    draws = 4_000
    if law == "normal":
        others = rng.standard_normal((draws, keys - 1)) / np.sqrt(width)
    else:
        directions = rng.standard_normal((draws, keys - 1, width))
        others = directions[..., 0] / np.linalg.norm(directions, axis=-1)
    found = match(np.concatenate([np.full((draws, 1), cosine), others], axis=1), width)
    laws = {
        "softmax": catalogue.softmax_match(cosine, keys, width, law=law),
        "lssa": catalogue.lssa_match(cosine, keys, width, law),
        "lssar3": catalogue.lssar_match(cosine, keys, width, 3, law),
        "lssar15": catalogue.lssar_match(cosine, keys, width, 15, law),
    }
    for name, value in laws.items():
        error = found[name].std() / np.sqrt(draws)
        # LSSAR holds the mean of a row at its expectation: an error of 1/n. The others are exact.
        slack = 1 / keys if name.startswith("lssar") else 0.0
        assert abs(found[name].mean() - value) < 4 * error + slack, name


def test_measured_sizes_of_the_match() -> None:
    """Cosine .8, width 64, other cosines N(0, 1/64), five lengths; to .02."""
    table = {
        ("softmax", 15.0): (0.855, 0.587, 0.263, 0.082, 0.022),
        ("lssa", 15.0): (0.163, 0.050, 0.014, 0.004, 0.001),
        ("lssar", 3.0): (0.928, 0.732, 0.390, 0.133, 0.037),
        ("lssar", 15.0): (1.000, 1.000, 1.000, 0.999, 0.998),
    }
    for (matcher, power), weights in table.items():
        prediction = catalogue.predict_match(matcher, 0.8, LENGTHS, 64, power=power, law="normal")  # pyright: ignore
        np.testing.assert_allclose(prediction.values, weights, atol=0.02)
        assert prediction.reference.arxiv == "2501.13428"


def test_edges_of_the_match() -> None:
    assert catalogue.softmax_match(0.8, 1, 64) == pytest.approx(1, abs=1e-9)
    assert catalogue.lssa_match(0.8, 1, 64) == pytest.approx(1, abs=1e-9)
    assert catalogue.lssar_match(0.8, 1, 64) == 1
    assert catalogue.lssar_match(-0.5, 64, 64) == 0  # below the mean
    # Scale 0: uniform.
    assert catalogue.softmax_match(0.8, 50, 64, scale=0.0) == pytest.approx(1 / 50, rel=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), keys=st.integers(1, 300), width=st.integers(2, 128))
def test_lssa_weights_differ_polynomially(seed: int, keys: int, width: int) -> None:
    cosines = np.random.default_rng(seed).uniform(-1, 1, keys)
    cosines[0], cosines[-1] = 1.0, -1.0
    weight = np.logaddexp(0.0, np.log(width) * np.log(keys) * cosines)
    bound = catalogue.lssa_ratio_bound(keys, width)
    assert weight.max() / weight.min() <= bound * (1 + 1e-12)
    if keys > 2 and width > 2:
        assert bound < 4 * (np.log(width) * np.log(keys) + 1) * keys ** np.log(width)


@pytest.mark.parametrize(("keys", "scale"), [(2, 0.5), (8, 3.0), (64, 1.0), (64, 5.0), (500, 2.0), (50, 20.0)])
def test_entropy_by_simulation(keys: int, scale: float, rng: np.random.Generator) -> None:
    draws = max(4_000, 400_000 // keys)
    x = scale * rng.standard_normal((draws, keys))
    log_p = x - x.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    entropy = -(np.exp(log_p) * log_p).sum(axis=1)
    assert abs(entropy.mean() - catalogue.mean_entropy(keys, scale)) < 4 * entropy.std() / np.sqrt(draws)


def test_measured_dispersion() -> None:
    """Scores N(0, 1), averages over rows measured to three digits; one row of 64 fluctuates by .033."""
    prediction = catalogue.predict_entropy(LENGTHS)
    np.testing.assert_allclose(prediction.values, (0.886, 0.912, 0.927, 0.940, 0.948), atol=0.0015)
    # The temperature 1 + log(n)/2 makes it fall; measured .442 and .194, on few rows, which fluctuate by .15 and .09.
    falling = catalogue.entropy_share(LENGTHS, 1 + 0.5 * np.log(LENGTHS))
    assert (np.diff(falling) < 0).all()
    np.testing.assert_allclose(falling[[0, -1]], (0.442, 0.194), atol=0.03)


def test_expansion_and_limit_of_the_entropy() -> None:
    for scale in (0.3, 1.0, 1.5):
        gaps = np.array([catalogue.mean_entropy(n, scale) - catalogue.entropy_expansion(n, scale) for n in (500, 4000)])
        # The next term is of order 1/n^2: 64 times smaller at 8 times the length, less what even later terms add.
        assert abs(gaps[1]) < abs(gaps[0]) / 30 + 1e-10
    assert catalogue.mean_entropy(100, 0.0) == np.log(100) and catalogue.mean_entropy(1, 2.0) == 0
    lengths = np.array([1e2, 1e4, 1e6, 1e8])
    gaps = []
    for b in (0.5, 1.0, 1.5):
        scale = b * np.sqrt(2 * np.log(lengths))
        limit = catalogue.condensed_share(lengths, scale)
        np.testing.assert_allclose(limit, max(0, 1 - b**2), atol=1e-12)
        gaps.append(catalogue.entropy_share(lengths, scale) - limit)
    below, at, above = gaps
    # Below the transition like a power of n, at it like (log n)^(-1/2), above it a finite entropy over log n.
    assert (below[1:] < below[:-1] / 5).all() and below[-1] < 1e-4
    assert np.ptp(at * np.sqrt(np.log(lengths))) < 0.15
    assert (above * np.log(lengths) < 2).all() and (np.diff(above) < 0).all()


def test_flat_scale_grows_like_the_root_of_log_n() -> None:
    scale = catalogue.flat_scale(LENGTHS, 0.8)
    np.testing.assert_allclose(catalogue.entropy_share(LENGTHS, scale), 0.8, atol=1e-7)
    # s^2 against 2 (1 - share) log n: the gap, of order n^(-1/2) at this share, is 11 % at 64 and .5 % at 16384.
    gap = scale**2 / (0.4 * np.log(LENGTHS)) - 1
    assert (np.diff(gap) < 0).all() and 0 < gap[-1] < 0.01
    with pytest.raises(ValueError, match="share"):
        catalogue.flat_scale(1_000_000, 0.001)


@given(keys=st.integers(2, 500), margin=st.floats(0.01, 5), miss=st.floats(0.01, 0.6), seed=st.integers(0, 100))
def test_required_scale_is_enough_and_needed(keys: int, margin: float, miss: float, seed: int) -> None:
    scale = float(catalogue.required_scale(keys, margin, miss))
    others = -margin - np.random.default_rng(seed).exponential(size=keys - 1)
    for below in (np.full(keys - 1, -margin), others):
        weight = 1 / (1 + np.exp(scale * below).sum())
        if below is others and scale > 0:
            assert weight >= 1 - miss - 1e-12
        elif below is not others:
            assert weight == pytest.approx(1 - miss, rel=1e-9)
            assert weight == pytest.approx(float(catalogue.largest_weight(keys, scale * margin)), rel=1e-9)


def test_attention_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="shapes of"):
        catalogue.sigmoid_bound(np.ones((3, 2)), np.ones((2, 3)), np.ones((2, 2)), np.ones((2, 2)), 0.0)
    with pytest.raises(ValueError, match="high"):
        catalogue.sigmoid_suprema(1.0, 0.0)
    with pytest.raises(ValueError, match="power"):
        catalogue.lssar_match(0.8, 64, 64, 0.0)
    with pytest.raises(ValueError, match="keys"):
        catalogue.entropy_share(1, 1.0)
    with pytest.raises(ValueError, match="miss"):
        catalogue.required_scale(10, 1.0, 0.0)
