"""Interventions by name, each against what it says it does."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import edits, tape
from attnlab.models import BackcopyReduced, Transformer

MODEL = Transformer(vocab_size=11, length=6, num_layers=2, num_heads=2, width=8)
TOKENS = jnp.asarray([[10, 3, 1, 4, 2, 5], [10, 7, 2, 7, 1, 1]])
TRIGGERS = (1, 2)


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0))


def run(params, *held, tokens=TOKENS, model=MODEL):
    logits, read = model.apply(params, tokens, tape=("*",), edits=held)
    return np.asarray(logits), {name: np.asarray(value) for name, value in read.items()}


@pytest.fixture(scope="module")
def plain(params):
    return run(params)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    ("helper", "absent"),
    [
        (edits.remove_attention, ("no_attention",)),
        (edits.remove_mlp, ("no_mlp",)),
        (edits.remove_block, ("no_attention", "no_mlp")),
    ],
)
def test_removing_a_part_is_a_model_without_it(params, helper, absent, layer) -> None:
    """To the bit: adding 0 to the stream is not adding to it."""
    smaller = dataclasses.replace(MODEL, **{name: (layer,) for name in absent})
    expected, _ = smaller.apply(_without(params, layer, absent), TOKENS)
    logits, read = run(params, helper(layer))
    np.testing.assert_array_equal(logits, expected)
    if helper is edits.remove_block:
        before = "embed" if layer == 0 else f"blocks.{layer - 1}.out"
        np.testing.assert_array_equal(read[f"blocks.{layer}.out"], read[before])


def _without(params, layer, absent):
    parts = {"no_attention": ("attn", "attn_norm"), "no_mlp": ("mlp", "mlp_norm")}
    gone = {name for key in absent for name in parts[key]}
    block = {name: value for name, value in params["blocks"][str(layer)].items() if name not in gone}
    return {**params, "blocks": {**params["blocks"], str(layer): block}}


def test_removing_what_is_not_there_is_an_error(params) -> None:
    model = dataclasses.replace(MODEL, no_mlp=(1,))
    with pytest.raises(tape.SiteError, match=r"'blocks\.1\.mlp\.out' matches no activation"):
        model.apply(_without(params, 1, ("no_mlp",)), TOKENS, edits=(edits.remove_mlp(1),))
    _, read = run(_without(params, 1, ("no_mlp",)), edits.remove_block(1), model=model)
    np.testing.assert_array_equal(read["blocks.1.out"], read["blocks.0.out"])


def test_zero_heads(params) -> None:
    """A head that writes nothing is a head whose output matrix is zero."""
    logits, read = run(params, edits.zero_heads(0, 1, 2))
    assert (read["blocks.0.attn.head_out"][:, 1] == 0).all() and (read["blocks.0.attn.head_out"][:, 0] != 0).any()
    attn = params["blocks"]["0"]["attn"]
    muted = {**attn, "output": attn["output"].at[1].set(0)}
    block = {**params["blocks"]["0"], "attn": muted}
    expected, _ = MODEL.apply({**params, "blocks": {**params["blocks"], "0": block}}, TOKENS)
    np.testing.assert_array_equal(logits, expected)
    with pytest.raises(ValueError, match="heads: got 2; allowed is 0 to 1"):
        edits.zero_heads(0, 2, 2)


@pytest.mark.parametrize("position", [0, 3])
def test_one_position_of_the_mlp_and_of_the_values(params, plain, position) -> None:
    others = np.arange(6) != position
    _, read = run(params, edits.zero_mlp_at(0, position))
    assert (read["blocks.0.mlp.out"][:, position] == 0).all()
    np.testing.assert_array_equal(read["blocks.0.mlp.out"][:, others], plain[1]["blocks.0.mlp.out"][:, others])
    _, read = run(params, edits.zero_value_at(0, position))
    weights, values = plain[1]["blocks.0.attn.weights"], plain[1]["blocks.0.attn.v"]
    np.testing.assert_array_equal(read["blocks.0.attn.weights"], weights)
    kept = weights[..., others] @ values[..., others, :]
    # float32 sums of 5 terms.
    np.testing.assert_allclose(read["blocks.0.attn.head_out"], kept, rtol=0, atol=1e-6)


def test_one_entry_of_the_attention(params, plain) -> None:
    _, read = run(params, edits.zero_attention_at(1, query=4, key=2), edits.zero_attention_at(0))
    for site, (query, key) in {"blocks.1.attn.weights": (4, 2), "blocks.0.attn.weights": (0, 0)}.items():
        assert (read[site][..., query, key] == 0).all()
    expected = plain[1]["blocks.0.attn.weights"].copy()
    expected[..., 0, 0] = 0
    np.testing.assert_array_equal(read["blocks.0.attn.weights"], expected)
    assert (read["blocks.0.attn.head_out"][..., 0, :] == 0).all(), "the first token sees only itself"


def test_positions_are_arrays(params) -> None:
    """`vmap` over positions is the loop; new positions do not retrace."""
    traces = 0

    @jax.jit
    def at(position):
        nonlocal traces
        traces += 1
        held = edits.zero_value_at(0, position), edits.zero_mlp_at(1, position), edits.zero_attention_at(1, position, 0)
        return MODEL.apply(params, TOKENS, edits=held)[0]

    loop = [at(jnp.asarray(i)) for i in (0, 2, 5)]
    assert traces == 1
    # float32, other batching: 1e-7 of logits of size 2.
    np.testing.assert_allclose(jax.vmap(at)(jnp.asarray([0, 2, 5])), jnp.stack(loop), rtol=0, atol=3e-6)


def ideal(row: np.ndarray, sink: int | None) -> list[int | None]:
    """Where each position of one sequence is to look; None: where it likes."""
    return [t - 1 if token in TRIGGERS and t > 0 else sink for t, token in enumerate(row)]


@pytest.mark.parametrize("sink", [0, 1, None])
def test_forcing_the_ideal_head(params, plain, sink) -> None:
    tokens = jnp.concatenate([TOKENS, jnp.asarray([[1, 2, 1, 0, 0, 2]])])
    _, before = run(params, tokens=tokens)
    _, read = run(params, edits.force_attention(0, edits.SinkOrPrevious(TRIGGERS, sink)), tokens=tokens)
    weights = read["blocks.0.attn.weights"]
    for b, row in enumerate(np.asarray(tokens)):
        for t, target in enumerate(ideal(row, sink)):
            for head in range(2):
                free = before["blocks.0.attn.weights"][b, head, t]
                expected = free if target is None else np.eye(6)[target]
                np.testing.assert_array_equal(weights[b, head, t], expected.astype(np.float32))
    np.testing.assert_array_equal(read["blocks.0.attn.head_out"], weights @ read["blocks.0.attn.v"])


def test_forcing_without_a_batch_axis_and_on_one_head(params) -> None:
    rule = edits.SinkOrPrevious(TRIGGERS)
    _, batch = run(params, edits.force_attention(0, rule))
    _, single = run(params, edits.force_attention(0, rule), tokens=TOKENS[1])
    np.testing.assert_array_equal(single["blocks.0.attn.weights"], batch["blocks.0.attn.weights"][1])
    _, before = run(params)
    _, one = run(params, edits.force_attention(0, rule, tape.head_mask(2, 1)))
    np.testing.assert_array_equal(one["blocks.0.attn.weights"][:, 0], before["blocks.0.attn.weights"][:, 0])
    np.testing.assert_array_equal(one["blocks.0.attn.weights"][:, 1], batch["blocks.0.attn.weights"][:, 1])


def test_identity_attention(params, plain) -> None:
    _, read = run(params, edits.identity_attention(1))
    assert (read["blocks.1.attn.weights"] == np.eye(6)).all()
    np.testing.assert_array_equal(read["blocks.1.attn.head_out"], read["blocks.1.attn.v"])
    np.testing.assert_array_equal(read["blocks.0.out"], plain[1]["blocks.0.out"])


def test_rules_that_are_equal_share_a_program(params) -> None:
    traces = 0

    @jax.jit
    def forced(held):
        nonlocal traces
        traces += 1
        return MODEL.apply(params, TOKENS, edits=held)[0]

    for _ in range(3):
        forced((edits.force_attention(0, edits.SinkOrPrevious((1, 2))), edits.identity_attention(1)))
    assert traces == 1
    forced((edits.force_attention(0, edits.SinkOrPrevious((1, 3))), edits.identity_attention(1)))
    assert traces == 2


def first_half(tokens):
    """A user's own rule: everyone looks evenly at the first three positions, but only from position 3 on."""
    num = tokens.shape[-1]
    weights = jnp.broadcast_to(jnp.where(jnp.arange(num) < 3, 1 / 3, 0), (*tokens.shape, num))
    return weights, jnp.broadcast_to(jnp.arange(num) >= 3, tokens.shape)


def test_own_rule_inside_the_training_step(params) -> None:
    """Forced rows have no gradient to queries and keys; values and outputs still learn."""
    everywhere = edits.force_attention(0, edits.Identity())

    def loss(params, *held):
        return jnp.sum(MODEL.apply(params, TOKENS, edits=held)[0] ** 2)

    gradient = jax.grad(loss)(params, everywhere)["blocks"]["0"]["attn"]
    assert (gradient["query"] == 0).all() and (gradient["key"] == 0).all()
    assert (gradient["value"] != 0).any() and (gradient["output"] != 0).any()
    some = jax.grad(loss)(params, edits.force_attention(0, first_half))["blocks"]["0"]["attn"]
    assert (some["query"] != 0).any(), "rows 1 and 2 are free"
    _, read = run(params, edits.force_attention(0, first_half))
    np.testing.assert_allclose(read["blocks.0.attn.weights"][..., 3:, :3], 1 / 3, rtol=1e-6)


def test_the_same_interventions_on_the_reduced_model() -> None:
    model = BackcopyReduced(vocab_size=11, length=6, triggers=TRIGGERS, bos=10, mlp_width=16)
    params = model.init(jax.random.key(0))
    _, before = run(params, model=model)
    logits, _ = run(params, edits.remove_attention(0), model=model)
    np.testing.assert_array_equal(logits, before["blocks.0.mlp.out"])
    logits, _ = run(params, edits.remove_mlp(0), model=model)
    np.testing.assert_array_equal(logits, before["blocks.0.attn.out"])
    _, forced = run(params, edits.force_attention(0, edits.SinkOrPrevious(TRIGGERS)), model=model)
    assert (forced["blocks.0.attn.weights"][0, 0].argmax(-1) == [0, 0, 1, 0, 3, 0]).all()
    _, drained = run(params, edits.zero_value_at(0), model=model)
    assert (drained["blocks.0.attn.out"][:, 0] == 0).all()
