"""Composition of heads, overlap of circuits, and what chance gives."""

from __future__ import annotations

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import circuit_overlap as overlaps
from attnlab.analysis.composition import chance, composed, composition_scores
from attnlab.config import ConfigError
from attnlab.models import Transformer
from attnlab.models.factored import Factored

RNG = np.random.default_rng(0)


def test_composition_against_dense_matrices() -> None:
    model = Transformer(vocab_size=5, length=4, num_layers=3, num_heads=2, width=8, no_attention=(1,))
    params = model.init(jax.random.key(0))
    found = composition_scores(model, params)
    ov, kq = (
        {(i, h): np.asarray(get(params, i, h).dense(), np.float64) for i in (0, 2) for h in (0, 1)}
        for get in (model.ov, model.kq)
    )
    for h in (0, 1):
        for g in (0, 1):
            first = ov[0, h]
            for part, second in {"q": kq[2, g].T, "k": kq[2, g], "v": ov[2, g]}.items():
                wanted = np.linalg.norm(first @ second) / (np.linalg.norm(first) * np.linalg.norm(second))
                assert float(found[part][0, h, 2, g]) == pytest.approx(wanted, rel=1e-5)
    assert all(np.isfinite(x).sum() == 4 for x in found.values())


def test_a_head_that_reads_what_another_writes_scores_as_high_as_can_be() -> None:
    one = Factored(jnp.eye(8)[:, :1], jnp.eye(8)[1:2])
    reads, blind = (Factored(jnp.eye(8)[:, i : i + 1], jnp.eye(8)[:1]) for i in (1, 2))
    assert float(composed(one, reads)) == 1 and float(composed(one, blind)) == 0


def test_chance_of_composition_is_near_the_root_of_the_width() -> None:
    model = Transformer(vocab_size=5, length=4, width=64, num_heads=4)
    found = chance(model, jax.random.key(0), 32)
    # E ‖AB‖^2 = ‖A‖^2 ‖B‖^2 / D for directions independent of each other.
    assert float(found.mean()) == pytest.approx(64**-0.5, rel=0.05)


def test_overlap_and_its_chance_by_enumeration() -> None:
    one = np.array([[5.0, 4, 0], [1, -3, 0.5]])
    two = np.array([[5.0, 0, 0], [1, -3, 9]])
    found = overlaps.overlap(one, two, 3, draws=40_000)
    assert found.jaccard == pytest.approx(2 / 4) and found.shared == pytest.approx(2 / 3)
    sets = [set(x) for x in combinations(range(6), 3)]
    exact = np.array([len(a & b) / len(a | b) for a in sets for b in sets])
    # Standard errors of 40,000 draws: .0014 and .0025.
    assert found.chance_jaccard == pytest.approx(exact.mean(), abs=5e-3)
    assert found.p == pytest.approx((exact >= 0.5).mean(), abs=0.01)
    assert found.chance_shared == 0.5


def test_heads_that_are_missing_are_never_in_a_circuit() -> None:
    scores = np.array([[np.nan, 1.0], [2.0, -3.0]])
    assert (overlaps.circuit(scores, 3) == [[False, True], [True, True]]).all()
    assert overlaps.overlap(scores, scores, 2).total == 3
    with pytest.raises(ConfigError, match="1 to 3 heads"):
        overlaps.circuit(scores, 4)


def test_random_circuits_have_uniform_p_values() -> None:
    found = [overlaps.overlap(RNG.normal(size=(4, 8)), RNG.normal(size=(4, 8)), 6, 500, seed).p for seed in range(200)]
    # Discrete and so conservative: at most 5 % below .05, three standard errors of 200 draws on top.
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert overlaps.overlap(one := RNG.normal(size=(4, 8)), one, 6).p < 0.01


def test_sign_flips() -> None:
    assert overlaps.paired_p(np.ones(5)) == 1 / 32
    assert overlaps.paired_p(-np.ones(5)) == 1.0
    assert overlaps.paired_p(RNG.normal(0.5, 1, 40)) < 0.05
