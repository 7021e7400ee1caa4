"""Scores of copying heads: against loops over queries, on planted maps, on a model, refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attnlab as al
import toy_tasks as tt
from attnlab import analysis
from attnlab.config import ConfigError

TOKENS = jnp.array([[3, 1, 4, 1, 5, 3, 1], [2, 2, 2, 0, 1, 0, 2]])


def by_loops(weights: np.ndarray, tokens: np.ndarray, where: np.ndarray) -> dict[str, np.ndarray]:
    """Float64, one query after another."""
    found: dict[str, list[list[float]]] = {
        n: [[] for _ in range(weights.shape[1])] for n in ("previous", "duplicate", "induction", "chance")
    }
    for b in range(len(tokens)):
        for t in range(tokens.shape[1]):
            copies = [u for u in range(t) if tokens[b, u] == tokens[b, t]]
            for h in range(weights.shape[1]):
                row = weights[b, h, t].astype(float)
                if t >= 1:
                    found["previous"][h].append(row[t - 1])
                if copies and where[b, t]:
                    found["duplicate"][h].append(sum(row[u] for u in copies))
                    found["induction"][h].append(sum(row[u + 1] for u in copies if u + 1 < t))
                    found["chance"][h].append(sum(u + 1 < t for u in copies) / (t + 1))
    return {name: np.array([np.mean(rows) for rows in heads]) for name, heads in found.items()}


@pytest.mark.parametrize("chosen", [None, "late"])
def test_scores_are_those_of_loops(rng, chosen):
    weights = np.tril(rng.normal(size=(2, 3, 7, 7)))
    where = np.ones((2, 7), bool) if chosen is None else np.arange(7) >= np.array([[4], [2]])
    mine = analysis.copying_scores(
        jnp.asarray(weights, jnp.float32), TOKENS, None if chosen is None else jnp.asarray(where)
    )
    theirs = by_loops(weights, np.asarray(TOKENS), where)
    assert set(mine) == set(theirs)
    for name, value in mine.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-6, err_msg=name)  # float32 sums of at most 7 numbers


def test_planted_heads_score_one():
    """A head that looks one back, one at the only earlier copy, one behind it; in each all others score 0 there."""
    tokens = jnp.array([[7, 8, 9, 6, 7, 9]])  # query 4 repeats place 0, query 5 place 2
    weights = np.zeros((1, 3, 6, 6))
    weights[0, 0, np.arange(1, 6), np.arange(5)] = 1
    weights[0, 1, [4, 5], [0, 2]] = 1
    weights[0, 2, [4, 5], [1, 3]] = 1
    found = analysis.copying_scores(jnp.asarray(weights), tokens)
    np.testing.assert_allclose(found["previous"], [1, 0, 0])
    np.testing.assert_allclose(found["duplicate"], [0, 1, 0])
    np.testing.assert_allclose(found["induction"], [0, 0, 1])
    np.testing.assert_allclose(found["chance"], [(1 / 5 + 1 / 6) / 2] * 3, rtol=1e-6)


def test_carriers_alone_count_for_the_token_before(rng):
    weights, carriers = np.tril(rng.normal(size=(2, 3, 7, 7))), rng.uniform(size=(2, 7)) < 0.5
    found = analysis.copying_scores(jnp.asarray(weights, jnp.float32), TOKENS, None, jnp.asarray(carriers))
    rows = [weights[b, :, t, t - 1] for b in range(2) for t in range(1, 7) if carriers[b, t]]
    np.testing.assert_allclose(found["previous"], np.mean(rows, axis=0), atol=1e-6)


def test_on_a_model_uniform_rows_score_chance(key):
    """With uniform attention `induction` is `chance`, in shares and (rows sum to one) in masses; dims name the axes."""
    task = tt.MQAR(vocab_size=16, length=12, num_pairs=2)
    model = al.Transformer(
        16, 12, num_layers=2, num_heads=2, width=8, mechanism=al.attention.uniform, no_attention=(1,)
    )
    params = model.init(key)
    for share in (True, False):
        probe = analysis.copying_heads(task, 8, asked="query", share=share)
        found = jax.device_get(probe(model, params))
        assert set(probe.dims(found)) == set(found) and probe.dims(found)["induction"] == ("layer", "head")
        assert found["induction"].shape == (2, 2) and np.isnan(found["induction"][1]).all()
        np.testing.assert_allclose(found["induction"][0], found["chance"][0], rtol=1e-5)
        batch = analysis.evaluation_batch(task, 8)
        assert 0 < found["chance"][0, 0] < 0.5 and batch.positions["query"].any()


def test_wrong_settings_are_one_error():
    with pytest.raises(ConfigError, match=r"asked.*'trigger'.*query, key, value, filler"):
        model = al.Transformer(16, 12, width=8)
        analysis.copying_heads(tt.MQAR(16, 12, 2), asked="trigger")(model, model.init(jax.random.key(0)))
    with pytest.raises(ConfigError, match="a task of tokens"):
        analysis.copying_heads(tt.LinearRegression(dim=2))
