"""The retrieval score on maps made by hand and on a hand-built induction model; copying against suppressing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis.retrieval_heads import copy_effects, retrieval_score, retrieval_scores, top_heads
from attnlab.config import ConfigError
from attnlab.models import Transformer, induction_weights
from toy_tasks.base import Batch

# bos h h KEY a b h | KEY -> a b: the queries at 7, 8 say what stands at 4, 5.
TOKENS = jnp.asarray([[0, 5, 6, 1, 2, 3, 7, 1, 2]])
SAID = jnp.asarray([[5, 6, 1, 2, 3, 7, 1, 2, 3]])
NEEDLE = jnp.isin(jnp.arange(9), jnp.array([4, 5]))[None]
ANSWER = jnp.isin(jnp.arange(9), jnp.array([7, 8]))[None]


def looking_at(*targets: tuple[int, int]):
    weights = np.full((1, 1, 9, 9), 1e-3)
    for query, key in targets:
        weights[0, 0, query, key] = 1.0
    return jnp.asarray(weights)


@pytest.mark.parametrize(
    ("targets", "score"),
    [
        ([(7, 4), (8, 5)], 1.0),
        ([(7, 4)], 0.5),
        ([(7, 5), (8, 4)], 0.0),  # inside the needle, the wrong token
        ([(7, 8)], 0.0),  # the right token, outside the needle
        ([(6, 4), (5, 5)], 0.0),  # queries that do not answer
        ([], 0.0),
    ],
)
def test_a_hit_is_the_right_token_inside_the_needle(targets, score) -> None:
    assert float(retrieval_score(looking_at(*targets), TOKENS, SAID, NEEDLE, ANSWER)[0]) == score


def test_repeats_count_only_as_published() -> None:
    """A needle that repeats a token: the paper's set form counts a key once, the code every hit."""
    tokens, said = TOKENS.at[0, 5].set(2), SAID.at[0, 8].set(2)
    weights = looking_at((7, 4), (8, 4))
    options = (tokens, said, NEEDLE, ANSWER)
    assert float(retrieval_score(weights, *options)[0]) == 0.5
    assert float(retrieval_score(weights, *options, repeats=True)[0]) == 1.0


def test_only_sequences_that_count() -> None:
    weights = jnp.concatenate([looking_at((7, 4), (8, 5)), looking_at()])
    doubled = [jnp.concatenate([x, x]) for x in (TOKENS, SAID, NEEDLE, ANSWER)]
    assert float(retrieval_score(weights, *doubled)[0]) == 0.5
    assert float(retrieval_score(weights, *doubled, counts=jnp.asarray([True, False]))[0]) == 1.0


def test_the_matching_head_of_a_hand_built_model_is_the_one_found() -> None:
    model, params = induction_weights(8, 9)
    batch = Batch(TOKENS, SAID, ANSWER.astype(jnp.float32), {"needle": NEEDLE, "answer": ANSWER})
    logits, _ = model.apply(params, TOKENS)
    assert (jnp.argmax(logits, -1) == SAID)[ANSWER].all()
    scores = retrieval_scores(model, params, batch)
    assert scores[1, 0] == 1.0
    assert (np.delete(np.asarray(scores).ravel(), 2) == 0).all()
    copying = copy_effects(model, params, TOKENS, ANSWER)
    # It looks at the answer with weight 1 and writes 50 to its logit: 50 (1 - 1/8) above the mean.
    assert float(copying[1, 0]) == pytest.approx(50 * 7 / 8, abs=1e-3)
    muted = {**params, "blocks": {**params["blocks"], "1": jax.tree.map(jnp.negative, params["blocks"]["1"])}}
    assert float(abs(copying[0]).max()) < 1e-6
    assert np.isfinite(copy_effects(model, muted, TOKENS)).all()


@pytest.mark.parametrize("norm", ["layernorm", "none"])
def test_copy_effects_are_a_part_of_the_direct_effects(norm) -> None:
    """A brute-force sum over keys, float64."""
    model = Transformer(vocab_size=7, length=5, num_layers=2, num_heads=2, width=6, norm=norm)
    params = model.init(jax.random.key(0))
    tokens = jnp.asarray([[0, 3, 3, 6, 1], [2, 5, 4, 0, 2]])
    found = copy_effects(model, params, tokens)
    _, tape = model.apply(params, tokens, tape=("*",))
    tape = {k: np.asarray(v, np.float64) for k, v in tape.items()}
    unembed = np.asarray(params["unembed"], np.float64)
    wanted = np.zeros((2, 2))
    for layer in range(2):
        weights, values = tape[f"blocks.{layer}.attn.weights"], tape[f"blocks.{layer}.attn.v"]
        output = np.asarray(params["blocks"][str(layer)]["attn"]["output"], np.float64)
        for b in range(2):
            for t in range(5):
                x = tape["blocks.1.out"][b, t]
                scale = 1.0 if norm == "none" else 1 / np.sqrt(x.var() + model.norm_eps)
                for head in range(2):
                    for u in range(5):
                        part = values[b, head, u] @ output[head]
                        part = part if norm == "none" else part - part.mean()
                        logits = scale * part @ unembed
                        own = logits[int(tokens[b, u])] - logits.mean()
                        wanted[layer, head] += weights[b, head, t, u] * own / 10
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


def test_top_heads() -> None:
    scores = jnp.asarray([[0.1, jnp.nan], [0.9, 0.5]])
    assert top_heads(scores, 2) == ((1, 0), (1, 1))
    assert top_heads(scores, 2, least=0.4) == ((1, 0), (1, 1))
    with pytest.raises(ConfigError, match="1 to 2 heads"):
        top_heads(scores, 3, least=0.4)
