"""Theorem 1: explicit weights solve the task, and agree with the reduced model position by position."""

from __future__ import annotations

import numpy as np
import pytest

import theory


def test_text_is_that_of_the_paper(shakespeare) -> None:
    """The replayed sampler gives the start of the paper's evaluation text, and two triggers never meet."""
    line = "".join(shakespeare.characters[i] for i in shakespeare.tokens[0, 1:16])
    assert line == ", ,\nTHeHE ENo? "
    assert {shakespeare.characters[i] for i in shakespeare.triggers} == set(" et")
    triggers = np.isin(shakespeare.tokens, shakespeare.triggers)
    assert not (triggers[:, 1:] & triggers[:, :-1]).any()


@pytest.mark.parametrize(
    ("height", "xi", "backcopy", "bigram"),
    [(5, 5, 1.55, 6.2e-3), (8, 10, 4.5e-3, 2.5e-4), (12, 20, 1.4e-7, 3.8e-7), (16, 30, 6.2e-12, 2.9e-10)],
)
def test_risks_of_the_construction(shakespeare, height, xi, backcopy, bigram) -> None:
    """The reference table, to 3 %: it was computed on the same text and is printed with two digits."""
    weights = theory.construct(shakespeare.P, shakespeare.triggers, shakespeare.bos_id, 256, height, height, xi)
    log_q = theory.predict(weights, shakespeare.tokens)
    risks = theory.construction_risks(log_q, shakespeare.tokens, shakespeare.P, shakespeare.triggers)
    assert risks["backcopy"] == pytest.approx(backcopy, rel=0.03)
    assert risks["excess_bigram"] == pytest.approx(bigram, rel=0.03)
    if height == 12:
        assert max(risks.values()) < 1e-6  # the claim of the theorem, at the strength asked for


def test_risks_vanish_with_the_strength_of_the_sink(shakespeare) -> None:
    """Excess bigram risk falls like e^(-2 alpha): three units of alpha are a factor e^6."""
    tokens = shakespeare.tokens[:4]
    excess = []
    for alpha in (10.0, 13.0):
        weights = theory.construct(shakespeare.P, shakespeare.triggers, 65, 256, alpha, 20.0, 5.0, log_floor=-60.0)
        log_q = theory.predict(weights, tokens)
        excess.append(theory.construction_risks(log_q, tokens, shakespeare.P, shakespeare.triggers)["excess_bigram"])
    # W e^-alpha = 256 e^-10 = 1.2 % of the attention is left over, three times that in the risk.
    assert np.log(excess[0] / excess[1]) == pytest.approx(6.0, abs=0.05)


def test_transformer_is_the_reduced_model_in_every_context(shakespeare) -> None:
    """At an ordinary position the output is the reduced law with the counts of the visible tokens, to rounding."""
    rng = np.random.default_rng(0)
    size = 67
    alpha, xi, beta = rng.normal(2.0, 1.0, size), rng.uniform(0.5, 3.0, size), rng.normal(size=size)
    # A floor of -60 puts less than 1e-24 on impossible tokens: nothing in float64.
    weights = theory.construct(shakespeare.P, shakespeare.triggers, 65, 256, alpha, 3.0, xi, log_floor=-60.0, beta=beta)
    line = shakespeare.tokens[:1]
    q = np.exp(theory.predict(weights, line))[0]
    checked = 0
    for i in range(1, 256, 17):
        token = line[0, i]
        if token in shakespeare.triggers:
            continue
        counts = np.bincount(line[0, 1 : i + 1], minlength=size)
        pi = np.eye(size)[token]
        model = theory.ReducedModel.from_counts(shakespeare.P, shakespeare.triggers, pi, counts, xi)
        np.testing.assert_allclose(q[i], theory.transition_law(model, alpha, beta)[token], rtol=1e-11, atol=1e-14)
        checked += 1
    assert checked > 5


def test_constant_first_value_changes_no_prediction_where_nothing_is_copied(shakespeare) -> None:
    tokens = shakespeare.tokens[:1, :40]
    arguments = (shakespeare.P, (), 65, 40, 3.0, 3.0, 2.0)
    plain, shifted = (theory.predict(theory.construct(*arguments, beta=b), tokens) for b in (0.0, 7.0))
    np.testing.assert_allclose(plain, shifted, atol=1e-12)  # rounding of logits near 10


def test_predictions_are_causal_and_normalised(shakespeare) -> None:
    weights = theory.construct(shakespeare.P, shakespeare.triggers, 65, 32, 6.0, 6.0, 6.0)
    tokens = shakespeare.tokens[:2, :32].copy()
    before = theory.predict(weights, tokens)
    np.testing.assert_allclose(np.exp(before).sum(axis=-1), 1.0, atol=1e-12)  # rounding of 67 terms
    tokens[:, 20:] = 5
    # Exact: the sums run over the same nonzero terms.
    np.testing.assert_allclose(theory.predict(weights, tokens)[:, :20], before[:, :20], rtol=1e-14)


def test_bad_input_is_named() -> None:
    P = np.eye(4)
    with pytest.raises(ValueError, match="bos_id = 1"):
        theory.construct(P, (1,), 1, 8, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="length = 0"):
        theory.construct(P, (1,), 0, 0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="log_floor"):
        theory.construct(P, (1,), 0, 8, 1.0, 1.0, 1.0, log_floor=1.0)
    weights = theory.construct(P, (1,), 0, 8, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="shape of tokens"):
        theory.predict(weights, np.zeros((1, 9), dtype=int))
    with pytest.raises(ValueError, match="between 0 and 3"):
        theory.predict(weights, np.full((1, 3), 4))
