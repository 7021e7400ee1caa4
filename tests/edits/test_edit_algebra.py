"""The laws that every edit obeys, and the forms that must be one: bias, pattern, output."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention, edits, tape
from attnlab.config import ConfigError
from attnlab.models import Transformer
from attnlab.tape import Edit, SiteError

MODEL = Transformer(vocab_size=11, length=7, num_layers=2, num_heads=3, width=12)
TOKENS = jnp.asarray(np.random.default_rng(1).integers(0, 11, (2, 7)))
LAYER, HEADS, T = 1, 3, 7
WEIGHTS, LOGITS, OUT = (f"blocks.{LAYER}.attn.{name}" for name in ("weights", "logits", "head_out"))
VISUAL = jnp.arange(T) < 4
SINKS = jnp.isin(jnp.arange(T), jnp.array([1, 5]))
SOME = jnp.asarray(np.random.default_rng(2).uniform(0.1, 1, T), jnp.float32)
ROWS = jnp.asarray(np.tril(np.random.default_rng(3).uniform(0.1, 1, (T, T))), jnp.float32)
ROWS = ROWS / ROWS.sum(-1, keepdims=True)
WIDE = edits.VarRule(most_on_sinks=1.0, least_visual=0.0)  # selects every row


@pytest.fixture(scope="module")
def params():
    params = MODEL.init(jax.random.key(0))
    attn = params["blocks"][str(LAYER)]["attn"]
    attn["query"] = 3 * attn["query"]  # so that maps are not nearly even
    return params


def run(params, *held, tokens=TOKENS, read=("*",)):
    logits, found = MODEL.apply(params, tokens, tape=read, edits=held)
    return logits, found


@pytest.fixture(scope="module")
def plain(params):
    return run(params)


KEEPING = {
    "bias": edits.logit_bias(LAYER, SOME),
    "mix": edits.pattern_mix(LAYER, 0.3, ROWS),
    "columns": edits.column_weights(LAYER, SOME),
    "columns of one": edits.column_weights(LAYER, SOME, "row"),
    "first": edits.tune_first(LAYER, 3.0),
    "log": edits.boost(LAYER, VISUAL.astype(float), 4.0),
    "centred": edits.boost(LAYER, VISUAL.astype(float), 0.7, "centred"),
    "paint": edits.boost(LAYER, VISUAL.astype(float), 0.7, "paint"),
    "steer": edits.steer_to(LAYER, VISUAL, 0.1),
    "gaze": edits.follow_gaze(LAYER, jnp.tile(SOME, (2, 1)), ~VISUAL, 2.0),
    "restrict": edits.restrict(LAYER, VISUAL | (jnp.arange(T) == jnp.arange(T)[:, None])),
    "act": edits.act(LAYER, SINKS),
    "var": edits.var(LAYER, VISUAL, SINKS),
    "var everywhere": edits.var(LAYER, VISUAL, SINKS, rule=WIDE),
    "soften": edits.soften(LAYER, 0.4),
}
OUTPUTS = {
    **{kind: edits.ablate(LAYER, kind, 0.5) for kind in ("zero", "uniform", "bos", "identity")},
    "mean": edits.ablate(LAYER, "mean", 0.5, jnp.ones((HEADS, 1, 4))),
    "reinforce": edits.reinforce(LAYER, 2.0),
    "stream": edits.stream_mix("blocks.0.out", 0.3, 1.0, 0.2),
}


@pytest.mark.parametrize("name", KEEPING)
def test_rows_still_sum_to_one(params, name) -> None:
    weights = run(params, KEEPING[name])[1][WEIGHTS]
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=2e-6)  # float32 sums of 7 weights
    assert (weights >= 0).all()


def test_the_edits_that_do_not_keep_rows_say_so(params) -> None:
    for edit in (
        edits.restrict(LAYER, VISUAL, "post"),
        edits.column_weights(LAYER, SOME, None),
        edits.pattern_add(LAYER, ROWS),
    ):
        sums = run(params, edit)[1][WEIGHTS].sum(-1)
        assert (abs(sums - 1) > 1e-3).any()
    kept = run(params, edits.restrict(LAYER, VISUAL, "post"))[1][WEIGHTS]
    assert (kept[..., ~np.asarray(VISUAL)] == 0).all()


@pytest.mark.parametrize("name", {**KEEPING, **OUTPUTS})
def test_what_is_later_changes_nothing_before(params, name) -> None:
    """Causality of the edited model: other tokens at the end leave all earlier positions as they were."""
    edit = {**KEEPING, **OUTPUTS}[name]
    changed = (TOKENS.at[:, -1].add(1)) % 11
    first, second = (run(params, edit, tokens=tokens)[0][:, :-1] for tokens in (TOKENS, changed))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)


NEUTRAL = {
    "bias 0": edits.logit_bias(LAYER, 0.0),
    "mix 0": edits.pattern_mix(LAYER, 0.0, ROWS),
    "add 0": edits.pattern_add(LAYER, jnp.zeros((T, T))),
    "output 0": edits.output_mix(LAYER, 0.0, 5.0),
    "stream 0": edits.stream_mix("blocks.0.out", 0.0, 5.0),
    "columns 1": edits.column_weights(LAYER, jnp.ones(T), None),
    "gamma 1": edits.tune_first(LAYER, 1.0),
    "log 1": edits.boost(LAYER, VISUAL.astype(float), 1.0),
    "paint 0": edits.boost(LAYER, VISUAL.astype(float), 0.0, "paint"),
    "centred 0": edits.boost(LAYER, VISUAL.astype(float), 0.0, "centred"),
    "alpha 1": edits.steer_to(LAYER, VISUAL, 1.0),
    "gaze 0": edits.follow_gaze(LAYER, jnp.tile(SOME, (2, 1)), ~VISUAL, 0.0),
    "all allowed": edits.restrict(LAYER, jnp.ones(T, bool)),
    "beta 1": edits.act(LAYER, SINKS, 1.0),
    "no sink flagged": edits.act(LAYER, jnp.zeros(T, bool)),
    "keep 1": edits.var(LAYER, VISUAL, SINKS, 1.0, WIDE),
    "no sink": edits.var(LAYER, VISUAL, jnp.zeros(T, bool), rule=WIDE),
    **{f"{kind} 0": edits.ablate(LAYER, kind, 0.0) for kind in ("zero", "uniform", "bos", "identity")},
    "factor 1": edits.reinforce(LAYER, 1.0),
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_parameters_change_no_bit(params, plain, name) -> None:
    assert np.array_equal(run(params, NEUTRAL[name])[0], plain[0])


@pytest.mark.parametrize(
    "name", ["bias", "mix", "columns", "first", "log", "centred", "steer", "act", "var everywhere"]
)
def test_a_number_added_to_a_row_of_logits_is_not_seen(params, name) -> None:
    """Gauge: softmax does not see it, so no edit may."""
    shift = tape.add(LOGITS, jnp.arange(T, dtype=jnp.float32)[:, None])
    before, after = run(params, KEEPING[name])[1][WEIGHTS], run(params, shift, KEEPING[name])[1][WEIGHTS]
    np.testing.assert_allclose(after, before, rtol=0, atol=3e-6)  # logits of size 7 in float32


def test_paint_sees_it(params) -> None:
    """The published edit is not well defined: the same attention, shifted logits, another mass."""
    shift, last = tape.add(LOGITS, -5.0), slice(-1, None)
    mass = [
        run(params, *held, KEEPING["paint"])[1][WEIGHTS][..., last, :][..., np.asarray(VISUAL)].sum(-1)
        for held in ((), (shift,))
    ]
    assert abs(mass[1] - mass[0]).max() > 0.05


# ---- forms that are one


def softmax_of(weights, bias):
    """The map that a logit bias makes of a map with rows of sum 1."""
    grown = weights * np.exp(np.asarray(bias, np.float64))
    return grown / grown.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("pattern", "bias"),
    [
        (edits.column_weights(LAYER, SOME), lambda weights: jnp.log(SOME)),
        (edits.act(LAYER, SINKS, 0.4), lambda weights: edits.act_bias(weights, SINKS, 0.4)),
        (edits.var(LAYER, VISUAL, SINKS), lambda weights: edits.var_bias(weights, VISUAL, SINKS)),
        (edits.var(LAYER, VISUAL, SINKS, rule=WIDE), lambda weights: edits.var_bias(weights, VISUAL, SINKS, rule=WIDE)),
    ],
    ids=["columns", "act", "var", "var everywhere"],
)
def test_a_pattern_edit_is_a_logit_bias(params, plain, pattern, bias) -> None:
    weights = plain[1][WEIGHTS]
    wanted = run(params, edits.logit_bias(LAYER, bias(weights)))
    found = run(params, pattern)
    np.testing.assert_allclose(found[1][WEIGHTS], wanted[1][WEIGHTS], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[1][WEIGHTS], softmax_of(weights, bias(weights)), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=5e-6)
    assert not np.allclose(found[0], plain[0], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [("identity", jnp.eye(T)), ("bos", jnp.eye(T)[0]), ("uniform", jnp.tri(T) / jnp.arange(1, T + 1)[:, None])],
)
def test_an_output_mix_is_a_pattern_mix(params, kind, pattern) -> None:
    amount = jnp.asarray([0.0, 0.3, 1.0])[:, None, None]
    found, wanted = (
        run(params, edits.ablate(LAYER, kind, amount)),
        run(params, edits.pattern_mix(LAYER, amount, pattern)),
    )
    np.testing.assert_allclose(found[1][OUT], wanted[1][OUT], rtol=0, atol=2e-6)


def test_a_restriction_before_and_after_the_map(params) -> None:
    """Two different functions: renormalised, the second is the first."""
    allowed = VISUAL | (jnp.arange(T) == jnp.arange(T)[:, None])
    before, after = (run(params, edits.restrict(LAYER, allowed, place))[1][WEIGHTS] for place in ("logit", "post"))
    np.testing.assert_allclose(after / after.sum(-1, keepdims=True), before, rtol=0, atol=1e-6)
    assert (after.sum(-1) < 0.999).any()


def test_full_amounts_give_the_source_exactly(params) -> None:
    source = jnp.asarray(np.random.default_rng(0).normal(size=(2, HEADS, T, 4)), jnp.float32)
    assert np.array_equal(run(params, edits.ablate(LAYER, "resample", 1.0, source))[1][OUT], source)
    assert np.array_equal(run(params, edits.pattern_mix(LAYER, 1.0, ROWS))[1][WEIGHTS][0, 0], ROWS)


def test_a_run_patched_with_itself_is_itself(params, plain) -> None:
    for amount in (0.0, 1.0):
        edit = edits.ablate(LAYER, "resample", amount, plain[1][OUT])
        assert np.array_equal(run(params, edit)[0], plain[0])


# ---- named edits, against their definitions


def test_tuning_the_first_token(params, plain) -> None:
    """What the row says among the others stays; its entropy is largest at `1 / (1 + e^H)`."""
    gamma, weights = 3.0, np.asarray(plain[1][WEIGHTS], np.float64)
    found = np.asarray(run(params, edits.tune_first(LAYER, gamma))[1][WEIGHTS], np.float64)
    first = weights[..., :1]
    np.testing.assert_allclose(found[..., :1], gamma * first / (1 + (gamma - 1) * first), rtol=0, atol=1e-6)
    rest = [x[..., 1:, 1:] / (1 - x[..., 1:, :1]) for x in (weights, found)]
    np.testing.assert_allclose(rest[1], rest[0], rtol=0, atol=2e-6)
    row = weights[0, 0, -1]
    others = row[1:] / row[1:].sum()
    inner = -(others * np.log(others)).sum()
    share = np.linspace(0.001, 0.999, 9999)
    total = (1 - share) * inner - share * np.log(share) - (1 - share) * np.log(1 - share)
    assert share[total.argmax()] == pytest.approx(1 / (1 + np.exp(inner)), abs=2e-4)


def test_act_moves_what_it_frees_in_proportion(params, plain) -> None:
    weights = np.asarray(plain[1][WEIGHTS], np.float64)
    found = np.asarray(run(params, edits.act(LAYER, SINKS, 0.4))[1][WEIGHTS], np.float64)
    keys = np.asarray(SINKS)
    inside = weights[..., keys].sum(-1, keepdims=True)
    np.testing.assert_allclose(found[..., keys], 0.4 * weights[..., keys], rtol=0, atol=1e-6)
    others = weights[..., ~keys] * (1 + 0.6 * inside / (1 - inside))
    np.testing.assert_allclose(found[..., ~keys], others, rtol=0, atol=1e-6)


def test_an_absolute_threshold_flags_fewer_keys_of_longer_sequences() -> None:
    """Keys of constant share `c / T`: flagged relative to the length whatever it is, absolutely only when short."""
    for length, absolute in ((10, True), (40, False)):
        weights = np.tril(np.full((length, length), 0.5 / length))
        weights[:, 3] = np.where(np.arange(length) >= 3, 3.0 / length, 0)
        kept = [edits.flagged(jnp.asarray(weights)[None], 0.1 * (1 if not r else 10), r, False) for r in (False, True)]
        assert bool(kept[0][0, 0, 3]) == absolute
        assert bool(kept[1][0, 0, 3])


def test_the_first_flagged_key_is_spared() -> None:
    weights = jnp.asarray(np.tril(np.ones((6, 6)) / np.arange(1, 7)[:, None]))[None]
    every, spared = (edits.flagged(weights, 0.05, spare_first=flag)[0, 0] for flag in (False, True))
    assert every.all() and not spared[0] and spared[1:].all()


def test_var_leaves_text_that_is_no_sink_alone(params, plain) -> None:
    found = run(params, edits.var(LAYER, VISUAL, SINKS, rule=WIDE))[1][WEIGHTS]
    text = np.asarray(~VISUAL & ~SINKS)
    np.testing.assert_array_equal(found[..., text], plain[1][WEIGHTS][..., text])
    np.testing.assert_allclose(
        found[..., np.asarray(SINKS)], 0.6 * plain[1][WEIGHTS][..., np.asarray(SINKS)], atol=1e-7
    )


def test_var_changes_only_heads_that_look_at_the_image(params, plain) -> None:
    rule = edits.VarRule(least_visual=0.6)
    weights = plain[1][WEIGHTS]
    found, chosen = (
        run(params, edits.var(LAYER, VISUAL, SINKS, rule=rule))[1][WEIGHTS],
        edits.looks_at_image(weights, VISUAL, SINKS, rule),
    )
    chosen = np.asarray(chosen[..., 0])
    assert chosen.any() and not chosen.all()
    np.testing.assert_array_equal(found[~chosen], weights[~chosen])
    visual = weights[..., np.asarray(VISUAL)].sum(-1)
    on_sinks = weights[..., 1]
    np.testing.assert_array_equal(chosen, (on_sinks <= 0.5 * visual) & (visual >= 0.6))


def test_massive_tokens_and_their_dimensions() -> None:
    stream = np.random.default_rng(0).normal(size=(4, 9, 32))
    stream[:, 2, 5] = 200.0
    attended = np.zeros((4, 9))
    attended[:, 2] = 1
    found = edits.sink_dimensions(jnp.asarray(stream), jnp.asarray(attended))
    assert np.flatnonzero(found).tolist() == [5]
    tokens = edits.massive_tokens(jnp.asarray(stream), found, threshold=5.0)
    assert (np.asarray(tokens) == (np.arange(9) == 2)).all()


def test_injection_and_repair(params, plain) -> None:
    amount = jnp.asarray([0.0, 0.5, 1.0])[:, None, None]
    task = jnp.ones((HEADS, 1, 4))
    found = run(params, edits.inject(LAYER, task, amount, edits.rows(T, -1)))[1][OUT]
    np.testing.assert_array_equal(found[..., :-1, :], plain[1][OUT][..., :-1, :])
    np.testing.assert_allclose(found[:, 1, -1], 0.5 * plain[1][OUT][:, 1, -1] + 0.5, atol=1e-6)
    repaired = run(params, edits.set_rows(LAYER, ROWS, tape.head_mask(HEADS, 2) & edits.rows(T, -1)))[1][WEIGHTS]
    np.testing.assert_array_equal(repaired[:, 2, -1], np.broadcast_to(ROWS[-1], (2, T)))
    np.testing.assert_array_equal(repaired[:, :2], plain[1][WEIGHTS][:, :2])


def test_uniform_is_what_a_query_of_zero_gives(params) -> None:
    """The published 'masking' of a retrieval head sets its query to 0."""
    mask = tape.head_mask(HEADS, 1)
    masked = run(params, tape.zero(f"blocks.{LAYER}.attn.q", mask))[1][OUT]
    found = run(params, edits.ablate_heads(LAYER, 1, HEADS, "uniform"))[1][OUT]
    np.testing.assert_allclose(found, masked, rtol=0, atol=2e-6)


# ---- sweeps, gradients, training, errors


def test_vmap_over_edits_is_the_loop_in_one_program(params) -> None:
    traces = 0

    @jax.jit
    def with_heads(amount):
        nonlocal traces
        traces += 1
        return MODEL.apply(params, TOKENS, edits=(edits.ablate(LAYER, "uniform", amount[:, None, None]),))[0]

    amounts = jnp.eye(HEADS)
    loop = jnp.stack([with_heads(amount) for amount in amounts])
    assert traces == 1
    np.testing.assert_allclose(jax.vmap(with_heads)(amounts), loop, rtol=0, atol=3e-6)


GRADIENTS = {
    "bias": lambda x: edits.logit_bias(LAYER, x),
    "mix": lambda x: edits.pattern_mix(LAYER, x, ROWS),
    "output": lambda x: edits.output_mix(LAYER, x, 0.7),
    "scale": lambda x: edits.output_mix(LAYER, 0.0, 0.0, 1 + x),
    "stream": lambda x: edits.stream_mix("blocks.0.out", x, 0.5),
    "identity": lambda x: edits.ablate(LAYER, "identity", x),
    "first": lambda x: edits.tune_first(LAYER, 1 + x),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_reach_every_amount(params, name) -> None:
    direction = jnp.asarray(np.random.default_rng(5).normal(size=11), jnp.float32)

    def score(x):
        at = x if name != "bias" else x * SOME
        return jnp.sum(MODEL.apply(params, TOKENS, edits=(GRADIENTS[name](at),))[0][:, -1] @ direction)

    h = 2e-3
    slope = (score(h) - score(-h)) / (2 * h)
    # Central difference in float32: second-order error 4e-6 and rounding 1e-6 / h of scores of size 5.
    assert float(jax.grad(score)(0.0)) == pytest.approx(float(slope), rel=2e-2, abs=5e-3)
    assert abs(float(slope)) > 1e-2


def test_an_edit_serves_in_the_training_step(params) -> None:
    """A head clamped to zero learns nothing; the others do."""

    def loss(params, amount):
        return jnp.mean(MODEL.apply(params, TOKENS, edits=(edits.ablate(LAYER, "zero", amount),))[0] ** 2)

    gradient = jax.grad(loss)(params, jnp.asarray([0.0, 1.0, 0.0])[:, None, None])["blocks"][str(LAYER)]["attn"]
    assert (gradient["query"][:, 1] == 0).all() and (gradient["output"][1] == 0).all()
    assert (gradient["query"][:, 0] != 0).any()


def test_an_edit_that_selects_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="heads: got none"):
        edits.ablate_heads(0, (), 3)
    with pytest.raises(ConfigError, match="rows"):
        edits.rows(5, ())
    with pytest.raises(ConfigError, match=r"columns.*5.*0 to 4"):
        edits.columns(5, 5)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (partial(edits.ablate, 0, "none"), "zero | mean | resample | uniform | bos | identity"),
        (partial(edits.ablate, 0, "mean"), "source"),
        (partial(edits.ablate, 0, "zero", 1.0, 3.0), "source"),
        (partial(edits.boost, 0, VISUAL, 2.0, "bold"), "log | centred | paint"),
        (partial(edits.boost, 0, VISUAL, 0.0), "strength"),
        (partial(edits.steer_to, 0, VISUAL, 0.0), "alpha"),
        (partial(edits.act, 0, SINKS, 1.5), "beta"),
        (partial(edits.restrict, 0, VISUAL, "before"), "post | logit"),
        (partial(edits.column_weights, 0, SOME, "column"), "mass | row | None"),
    ],
)
def test_errors_say_what_is_allowed(make, told) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert told in str(caught.value)


def test_mechanisms_without_logits_or_a_map_say_so() -> None:
    """Output edits work with any mechanism, pattern edits with those that mix by a map, biases with those of logits."""
    with_map, without = (
        Transformer(vocab_size=11, length=7, num_heads=3, width=12, mechanism=m) for m in (attention.ssd, attention.s6)
    )
    own = with_map.init(jax.random.key(0))
    plain = with_map.apply(own, TOKENS)[0]
    for edit in (edits.ablate(0, "identity"), edits.reinforce(0, 2.0), edits.pattern_mix(0, 1.0, ROWS)):
        assert not np.allclose(with_map.apply(own, TOKENS, edits=(edit,))[0], plain, atol=1e-3)
    with pytest.raises(SiteError, match="logits"):
        with_map.apply(own, TOKENS, edits=(edits.logit_bias(0, 1.0),))
    with pytest.raises(SiteError, match="every channel"):
        without.apply(without.init(jax.random.key(0)), TOKENS, edits=(edits.pattern_mix(0, 1.0, ROWS),))


def test_what_an_edit_reads_must_be_born_before_it(params) -> None:
    edit = Edit(OUT, lambda x, value, out: x + out, reads="out")
    with pytest.raises(SiteError, match=r"blocks\.1\.attn\.out.*not born before"):
        run(params, edit)
