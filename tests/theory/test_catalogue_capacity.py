"""Associative memories of random pairs: cosines, coherence, fidelity and retrieval, against simulated memories."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import theory
from theory import catalogue

LOADS = (16, 32, 64, 128, 256)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def one_pass(keys: np.ndarray, values: np.ndarray, rule: str, rate: float) -> np.ndarray:
    """The memory `[B, K, V]` after one pass over the pairs `[B, n, K]`, `[B, n, V]`, trial by trial."""
    state = np.zeros((keys.shape[0], keys.shape[2], values.shape[2]))
    for j in range(keys.shape[1]):
        k, v = keys[:, j], values[:, j]
        if rule == "delta":
            miss = v - np.einsum("bkv,bk->bv", state, k)
            state = state + rate * k[:, :, None] * miss[:, None, :]
        else:
            miss = k - np.einsum("bkv,bv->bk", state, v)
            state = state + rate * miss[:, :, None] * v[:, None, :]
    return state


def fidelity(reads: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`E[r . v] / sqrt(E |r|^2)` of each position over draws `[B, n, V]`, with its error by the delta method."""
    signal, energy = (reads * values).sum(-1), (reads**2).sum(-1)
    ratio = signal.mean(0) / np.sqrt(energy.mean(0))
    terms = signal / np.sqrt(energy.mean(0)) - ratio * energy / (2 * energy.mean(0))
    return ratio, terms.std(0, ddof=1) / np.sqrt(signal.shape[0])


@pytest.mark.parametrize("width", [4, 7, 64])
def test_law_of_a_cosine(width: int, rng: np.random.Generator) -> None:
    cosine = unit(rng, 40_000, width)[:, 0]
    for t in (0.1, 0.5, 0.9):
        below, beyond = catalogue.cosine_cdf(t, width), catalogue.cosine_tail(t, width)
        # Four standard errors of a share.
        assert abs(np.mean(cosine <= t) - below) < 4 * np.sqrt(below * (1 - below) / cosine.size) + 1e-12
        assert beyond == pytest.approx(2 * (1 - below), rel=1e-9, abs=1e-13)
    points, weight = catalogue.cosine_nodes(width)
    # Moments of the Beta law, by a rule that is exact for polynomials times an analytic density.
    assert weight @ points**2 == pytest.approx(1 / width, rel=1e-6)
    assert weight @ points**4 == pytest.approx(3 / (width * (width + 2)), rel=1e-6)
    normal, mass = catalogue.cosine_nodes(width, "normal")
    assert mass @ normal**4 == pytest.approx(3 / width**2, rel=1e-9)


@pytest.mark.parametrize(("pairs", "width"), [(16, 16), (32, 64), (100, 30)])
def test_coherence_lies_between_its_bounds(pairs: int, width: int, rng: np.random.Generator) -> None:
    keys = unit(rng, 400, pairs, width)
    overlap = np.abs(keys @ keys.mT) * (1 - np.eye(pairs))
    coherence = overlap.max(axis=(1, 2))
    error = coherence.std() / np.sqrt(coherence.size)
    # 1 %: pairs are not quite independent (they are in twos); and four standard errors.
    assert abs(coherence.mean() - catalogue.expected_coherence(pairs, width)) < 0.01 * coherence.mean() + 4 * error
    for t in np.quantile(coherence, [0.1, 0.5, 0.9]):
        law = catalogue.coherence_law(t, pairs, width)
        share = np.mean(coherence > t)
        slack = 4 * np.sqrt(share * (1 - share) / coherence.size)
        assert law.low - slack <= share <= law.high + slack
        assert law.low <= law.value <= law.high


def test_coherence_has_four_logarithms() -> None:
    """`sqrt(4 log n / d)`: all pairs count, and there are `n^2 / 2` of them. The ratio rises to 1 like 1 / log n."""
    ratios = [catalogue.expected_coherence(n, 4096) / np.sqrt(4 * np.log(n) / 4096) for n in (32, 1024, 32768)]
    assert ratios == sorted(ratios) and 0.92 < ratios[-1] < 1
    # With two logarithms it would be off by the root of 2.
    assert catalogue.expected_coherence(32768, 4096) / np.sqrt(2 * np.log(32768) / 4096) > 1.3


@pytest.mark.parametrize(("redundancy", "reads"), [(1, 1), (3, 1), (1, 3), (2, 2)])
def test_hebb_fidelity_is_exact(redundancy: int, reads: int, rng: np.random.Generator) -> None:
    """Small sizes, where a term of order 1/d would show: d = 8, n = 6. Codes of a layer are the keys of the next."""
    draws, pairs, width = 20_000, 6, 8
    coefficients = np.broadcast_to(np.eye(pairs)[0], (draws, pairs))
    for _ in range(reads):
        codes = unit(rng, redundancy, draws, pairs, width)
        coefficients = np.einsum("bi,rbid,rbjd->bj", coefficients, codes, codes) / redundancy
    values = unit(rng, draws, pairs, width)
    read = np.einsum("bj,bjv->bv", coefficients, values)
    ratio, error = fidelity(read[:, None], values[:, :1])
    assert abs(ratio[0] - catalogue.hebb_fidelity(pairs, width, redundancy, reads)) < 4 * error[0]


@pytest.mark.parametrize("pairs", [5, 24])
def test_chain_through_separate_memories_forgets_its_errors(pairs: int, rng: np.random.Generator) -> None:
    """Three reads, the distractors of every memory its own, the read normalised in between or not: no matter."""
    draws, width = 4_000, 16
    query = item = unit(rng, draws, width)
    for _ in range(3):
        keys, values = unit(rng, draws, pairs, width), unit(rng, draws, pairs, width)
        keys[:, 0] = item
        query = np.einsum("bd,bjd,bjv->bv", query, keys, values)
        item = values[:, 0]
    ratio, error = fidelity(query[:, None], item[:, None])
    law = float(catalogue.separate_fidelity(pairs, width, reads=3))
    assert abs(ratio[0] - law) < 4 * error[0]
    # The chain that shares its items does worse, and by far more than the error of this test.
    assert law - catalogue.hebb_fidelity(pairs, width, reads=3) > 8 * error[0]


def test_depth_width_and_redundancy_trade() -> None:
    rho = catalogue.hebb_fidelity(LOADS, 64, 3, 4)
    np.testing.assert_allclose(catalogue.pairs_at_fidelity(rho, 64, 3, 4), LOADS, rtol=1e-12)
    np.testing.assert_allclose(catalogue.hebb_fidelity(LOADS, 64, 6), catalogue.hebb_fidelity(LOADS, 384), rtol=1e-14)
    # x = 1/2: depth costs nothing in the end, up to L/d = .001; in the chain that shares its items it costs all.
    deep = catalogue.separate_fidelity(32769, 65536, reads=64)
    assert deep == pytest.approx(np.sqrt(1 - 0.5), rel=0.001)
    assert catalogue.hebb_fidelity(32769, 65536, reads=64) < 1e-5
    x = 1.5
    heavy = catalogue.separate_fidelity(98305, 65536, reads=8)
    assert heavy == pytest.approx(np.sum(x ** np.arange(9)) ** -0.5, rel=0.001)
    np.testing.assert_allclose(catalogue.separate_fidelity(LOADS, 64), catalogue.hebb_fidelity(LOADS, 64))


@pytest.mark.parametrize("rate", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("rule", ["delta", "oja"])
def test_fidelity_by_age_is_exact(rule: str, rate: float, rng: np.random.Generator) -> None:
    """Every position, at small unequal widths and above capacity; 5 errors, for there are 84 comparisons."""
    draws, pairs, width, value_width = 20_000, 14, 6, 9
    keys, values = unit(rng, draws, pairs, width), unit(rng, draws, pairs, value_width)
    reads = keys @ one_pass(keys, values, rule, rate)
    ratio, error = fidelity(reads, values)
    law = catalogue.delta_fidelity(pairs, width, rate)
    if rule == "oja":
        law = catalogue.oja_fidelity(pairs, width, value_width, rate)
    assert np.all(np.abs(ratio - law) < 5 * error + 1e-12)


def test_measured_sizes_of_the_memory() -> None:
    """d = 64: cosines measured over 6 draws (errors to .02): Hebb, Oja, delta, ridge at 1e-3."""
    measured = {
        "hebb": (0.901, 0.826, 0.711, 0.578, 0.448),
        "oja": (0.844, 0.727, 0.558, 0.364, 0.205),
        "delta": (0.925, 0.846, 0.676, 0.442, 0.248),
        "ridge": (1.0, 1.0, 0.990, 0.705, 0.502),
    }
    for rule, cosines in measured.items():
        prediction = catalogue.predict_fidelity(rule, LOADS, 64)  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(prediction.values, cosines, atol=0.02)
        assert prediction.reference is not theory.PAVLOVIAN and prediction.reference.arxiv == "2508.08289"
    accuracies = (1.0, 1.0, 1.0, 0.98, 0.76)
    np.testing.assert_allclose(catalogue.predict_nearest(LOADS, 64, 64).values, accuracies, atol=0.05)


@settings(max_examples=30)
@given(pairs=st.integers(1, 40), ridge=st.floats(1e-3, 10))
def test_ridge_fidelity_is_the_proportional_limit(pairs: int, ridge: float) -> None:
    """`tr(H)` and `tr(H^2)` of one draw at d = 240; traces of large matrices fluctuate by 1/d, and 1 % is above it."""
    width, load = 240, 12 * pairs
    keys = unit(np.random.default_rng(pairs), load, width)
    hat = keys @ np.linalg.solve(keys.T @ keys + ridge * np.eye(width), keys.T)
    cosine = np.trace(hat) / np.sqrt(load * np.sum(hat**2))
    assert catalogue.ridge_fidelity(load, width, ridge) == pytest.approx(cosine, rel=0.01)


def test_margin_guards_every_read(rng: np.random.Generator) -> None:
    """Whenever the criterion holds, the nearest value is right for every key; and it is not met idly."""
    met = 0
    for width, pairs in ((64, 4), (256, 6), (1024, 8), (16, 3)):
        for _ in range(40):
            keys, values = unit(rng, pairs, width), unit(rng, pairs, 32)
            coherence = np.max((values @ values.T)[~np.eye(pairs, dtype=bool)])
            if catalogue.error_free(keys, catalogue.retrieval_margin(coherence)):
                met += 1
                scores = (keys @ (keys.T @ values)) @ values.T
                assert (scores.argmax(axis=1) == np.arange(pairs)).all()
    assert met > 20
    # Just above the margin an adversary can win: noise of half the distance moves v_i to the middle.
    v, w = np.eye(2)
    e = (w - v) / 2 * 1.001
    assert np.linalg.norm(e) > catalogue.retrieval_margin() and (v + e) @ w > (v + e) @ v


def test_worst_case_load_grows_like_the_root_of_the_width(rng: np.random.Generator) -> None:
    margin = catalogue.retrieval_margin()
    widths = 4 ** np.arange(4, 13, 2)
    loads = np.array([catalogue.worst_case_pairs(int(d), margin) for d in widths])
    # The ratio to the asymptote falls to 1, slowly (like log log n / log n): 1.42 at 256, 1.08 at 1.7e7.
    ratio = loads / (margin * np.sqrt(widths / (4 * np.log(loads))))
    assert (np.diff(ratio) < 0).all() and 1 < ratio[-1] < 1.09
    for d, n in ((256, 6), (4096, 16)):
        low, high = catalogue.error_free_probability(n, d, margin)
        keys = unit(rng, 400, n, d)
        passed = np.mean([catalogue.error_free(draw, margin) for draw in keys])
        assert low - 0.1 < passed < high + 0.1  # four standard errors of a share of 400
        assert (
            loads[widths.tolist().index(d)] == n and low >= 0.5 > catalogue.error_free_probability(n + 1, d, margin)[0]
        )


@pytest.mark.parametrize(
    ("width", "value_width", "pairs", "draws", "tolerance"),
    # The law is one of large widths: its error at 64 and at 256 as its docstring says, plus four standard errors.
    [(64, 64, 128, 60, 0.04), (64, 64, 256, 30, 0.04), (32, 128, 256, 30, 0.04), (256, 256, 3072, 1, 0.005)],
)
def test_nearest_value_accuracy(width, value_width, pairs, draws, tolerance, rng: np.random.Generator) -> None:
    right = []
    for _ in range(draws):
        keys, values = unit(rng, pairs, width), unit(rng, pairs, value_width)
        right.append(((keys @ (keys.T @ values)) @ values.T).argmax(axis=1) == np.arange(pairs))
    share = np.mean(right)
    slack = 4 * np.sqrt(share * (1 - share) / np.size(right))
    assert abs(share - catalogue.nearest_accuracy(pairs, width, value_width)) < tolerance + slack


def test_three_capacities_are_of_three_orders() -> None:
    worst, average, nearest = (
        np.array([f(d) for d in (64, 256)], dtype=float)
        for f in (
            lambda d: catalogue.worst_case_pairs(d, catalogue.retrieval_margin()),
            lambda d: catalogue.pairs_at_fidelity(0.7, d) - 1,
            lambda d: catalogue.nearest_capacity(d, d),
        )
    )
    # Per factor of 4 in the width: 2, 4 and 16, the outer two less a logarithm.
    assert worst[1] / worst[0] < 2 and 10 < nearest[1] / nearest[0] < 16
    assert average[1] / average[0] == pytest.approx(4)
    at, beyond = catalogue.nearest_accuracy([int(nearest[0]), int(nearest[0]) + 1], 64, 64)
    assert at >= 0.5 > beyond


def test_memory_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"pairs = 2\.5"):
        catalogue.hebb_fidelity(2.5, 8)
    with pytest.raises(ValueError, match="fidelity"):
        catalogue.pairs_at_fidelity(0.0, 8)
    with pytest.raises(ValueError, match="rate = 0"):
        catalogue.delta_fidelity(4, 8, 0.0)
    with pytest.raises(ValueError, match="ridge"):
        catalogue.ridge_fidelity(4, 8, 0.0)
    with pytest.raises(ValueError, match="rows of norm 1"):
        catalogue.error_free(np.ones((2, 2)), 0.5)
    with pytest.raises(ValueError, match="law"):
        catalogue.cosine_nodes(8, "cauchy")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="smallest threshold"):
        catalogue.cosine_tail(-0.1, 8)
