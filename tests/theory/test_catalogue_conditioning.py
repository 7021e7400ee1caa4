"""Closed forms of learning rules against the rules themselves, trial by trial, and conditioning under each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory import catalogue
from theory.catalogue import BCM, Delta, Hebb, Oja, RecursiveLeastSquares

RULES = [
    Hebb(0.3),
    Hebb(-0.2),
    Hebb(0.3, retention=0.9),
    Hebb(0.3, retention=0.0),
    Delta(0.15),
    Delta(0.4, normalised=True, epsilon=0.1),
    Delta(1.2, normalised=True),
    RecursiveLeastSquares(0.7),
    Oja(0.2),
    BCM(0.1, threshold=0.4),
    BCM(0.1, threshold=0.4, memory_span=3.0),
]


def step(rule, state: dict, k: np.ndarray, v: np.ndarray) -> None:
    """One trial, by the definition of the rule."""
    S = state["S"]
    if isinstance(rule, Hebb):
        state["S"] = rule.retention * S + rule.rate * np.outer(k, v)
    elif isinstance(rule, Delta):
        rate = rule.rate / (rule.epsilon + k @ k) if rule.normalised else rule.rate
        state["S"] = S + rate * np.outer(k, v - S.T @ k)
    elif isinstance(rule, RecursiveLeastSquares):
        P = state.setdefault("P", np.eye(k.size) / rule.ridge)
        state["S"] = S + np.outer(P @ k, v - S.T @ k) / (1 + k @ P @ k)
        state["P"] = P - np.outer(P @ k, P @ k) / (1 + k @ P @ k)
    elif isinstance(rule, Oja):
        state["S"] = S + rule.rate * np.outer(k - S @ v, v)
    else:
        t = state.setdefault("t", np.full(v.size, rule.threshold))
        state["S"] = S + rule.rate * np.outer(k, v * (v - t))
        state["t"] = t + (v**2 - t) / rule.memory_span


@pytest.mark.parametrize("rule", RULES, ids=repr)
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), trials=st.lists(st.integers(0, 12), min_size=1, max_size=4))
def test_closed_forms_are_the_rules(rule, seed: int, trials: list[int]) -> None:
    """Phases of equal trials with random cues and outcomes, one of them without an outcome."""
    rng = np.random.default_rng(seed)
    memory, state = rule.start(3, 2), {"S": np.zeros((3, 2))}
    for phase, m in enumerate(trials):
        k, v = rng.normal(size=3), rng.normal(size=2) * (phase != 1)
        memory = rule.after(memory, k, v, m)
        for _ in range(m):
            step(rule, state, k, v)
    np.testing.assert_allclose(memory.S, state["S"], rtol=1e-9, atol=1e-10 * (1 + np.abs(state["S"]).max()))
    if "P" in state:
        np.testing.assert_allclose(memory.P, state["P"], atol=1e-10)
    if "t" in state:
        np.testing.assert_allclose(memory.threshold, state["t"], atol=1e-10)


def test_recursive_least_squares_is_ridge_regression(rng: np.random.Generator) -> None:
    rule, cues, outcomes = RecursiveLeastSquares(0.3), rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    memory = rule.start(4, 2)
    for k, v in zip(cues, outcomes, strict=True):
        memory = rule.after(memory, k, v, 2)
    ridge = np.linalg.solve(2 * cues.T @ cues + 0.3 * np.eye(4), 2 * cues.T @ outcomes)
    np.testing.assert_allclose(memory.S, ridge, atol=1e-12)


def test_oja_is_the_delta_rule_with_roles_exchanged(rng: np.random.Generator) -> None:
    oja, delta = Oja(0.2), Delta(0.2)
    there, here = oja.start(4, 3), delta.start(3, 4)
    for m in (1, 3, 2):
        k, v = rng.normal(size=4), rng.normal(size=3)
        there, here = oja.after(there, k, v, m), delta.after(here, v, k, m)
    np.testing.assert_allclose(there.S, here.S.T, atol=1e-14)


@settings(max_examples=25)
@given(rate=st.floats(0.01, 0.5), first=st.integers(0, 30), second=st.integers(1, 30))
def test_rescorla_wagner_formulas(rate: float, first: int, second: int) -> None:
    b, m, n = rate, first, second
    learned = catalogue.strengths(Delta(b), catalogue.acquisition(n))
    np.testing.assert_allclose(learned[:, 0], 1 - (1 - b) ** np.arange(n + 1), atol=1e-12)
    extinct = catalogue.strengths(Delta(b), catalogue.extinction(m, n))
    np.testing.assert_allclose(extinct[m:, 0], (1 - (1 - b) ** m) * (1 - b) ** np.arange(n + 1), atol=1e-12)
    blocked = catalogue.strengths(Delta(b), catalogue.blocking(m, n))[-1, 1]
    assert blocked == pytest.approx((1 - b) ** m * (1 - (1 - 2 * b) ** n) / 2, abs=1e-12)
    salience = (1.0, 0.4)
    shadowed = catalogue.strengths(Delta(b), catalogue.overshadowing(n, salience))[-1]
    total = 1.0 + 0.16
    np.testing.assert_allclose(shadowed, np.array([1.0, 0.16]) / total * (1 - (1 - b * total) ** n), atol=1e-12)
    for experiment in (
        catalogue.extinction(m, n),
        catalogue.blocking(m, n),
        catalogue.overshadowing(n, salience, 2.0),
    ):
        end = catalogue.strengths(Delta(b), experiment)[-1]
        np.testing.assert_allclose(end, catalogue.rescorla_wagner(experiment, b), atol=1e-12)


def test_which_rule_shows_what() -> None:
    """What 20 trials of extinction leave; B blocked, over the control; B (s = 1/2) with A (s = 1), over B alone."""
    table = {}
    rules = (Hebb(0.1), Hebb(0.1, 0.9), Delta(0.1), Delta(0.1, normalised=True), RecursiveLeastSquares(0.1), Oja(0.1))
    for rule in rules:
        shadow = catalogue.strengths(rule, catalogue.overshadowing(200))[-1]
        alone = catalogue.strengths(rule, catalogue.Experiment("B", (0.5,), (catalogue.Phase((1.0,), 1.0, 200),)))
        table[rule] = (
            float(catalogue.retained(rule)),
            catalogue.blocking_ratio(rule, 200, 200),
            shadow[1] / alone[-1, 0],
        )
    hebb, forgetting, delta, normalised, rls, oja = (table[rule] for rule in rules)
    np.testing.assert_allclose(hebb, (1, 1, 1), rtol=1e-12)  # no extinction, no blocking, no overshadowing
    np.testing.assert_allclose(forgetting, (0.9**20, 1, 1), rtol=1e-12)  # forgets, with or without extinction trials
    np.testing.assert_allclose(oja, (1, 1, 1), rtol=1e-8)  # neither, though its strengths saturate
    # 200 trials at b = .1: the rest is (1 - b)^200 = 7e-10 for a cue of norm 1, (1 - b/4)^200 = .006 for B alone.
    np.testing.assert_allclose(delta, (0.9**20, 0, 0.2), atol=0.002)
    np.testing.assert_allclose(normalised, (0.9**20, 0, 0.2), atol=1e-7)
    assert rls[0] == pytest.approx(1 / (1 + 20 / 20.1), rel=1e-12)
    # Least squares treats all trials alike: in the end A and B share what the compound adds, whatever the order.
    assert rls[2] == pytest.approx(0.2, abs=0.002) and 0 < rls[1] < 0.01


def test_bcm_turns_at_its_threshold() -> None:
    fixed = catalogue.strengths(BCM(0.1, threshold=0.5), catalogue.acquisition(10))[-1, 0]
    assert fixed == pytest.approx(10 * 0.1 * 0.5)
    below = catalogue.strengths(BCM(0.1, threshold=1.5), catalogue.acquisition(10))[-1, 0]
    assert below == pytest.approx(-10 * 0.1 * 0.5)
    # The sliding threshold balances an outcome of 1; what was learned until then stays.
    sliding = catalogue.strengths(BCM(0.1, memory_span=4.0), catalogue.acquisition(200))[:, 0]
    assert sliding[-1] == pytest.approx(0.1 * 4) and sliding[-1] - sliding[-2] < 1e-15


def test_curves_and_errors() -> None:
    prediction = catalogue.predict_conditioning(Delta(0.2), catalogue.blocking(5, 7))
    assert prediction.values.shape == (13, 2) and prediction.reference.arxiv == "2508.08289"
    np.testing.assert_allclose(catalogue.retained(Delta(0.2), 5, [0, 1, 3]), 0.8 ** np.array([0, 1, 3]))
    rule = Delta(0.1)
    idle = rule.after(rule.start(2), [0.0, 0.0], 1.0, 3)
    assert not idle.S.any()
    with pytest.raises(ValueError, match=r"phase\.present"):
        catalogue.Experiment("short", (1.0, 1.0), (catalogue.Phase((1.0,), 1.0, 3),))
    with pytest.raises(ValueError, match="trials = -1"):
        rule.after(rule.start(1), [1.0], 1.0, -1)
    with pytest.raises(ValueError, match="Begin with `start`"):
        RecursiveLeastSquares().after(rule.start(1), [1.0], 1.0, 1)
    with pytest.raises(ValueError, match="learns from a compound"):
        catalogue.blocking_ratio(Delta(0.0))
    with pytest.raises(ValueError, match="memory_span"):
        BCM(memory_span=0.5)
