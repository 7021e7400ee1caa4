"""What weight decay spares: the parameters that recurrent mechanisms name, and nothing else of any model."""

from __future__ import annotations

from itertools import chain, repeat

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_cases import same_bits, tiny_model, train

import attnlab as al
from attnlab import attention
from attnlab.attention import Dims, Gated, HeadNorm
from attnlab.attention.base import undecayed
from attnlab.training.optimizers import decayed, rule_of
from attnlab.training.program import initial_state

# Of the whole catalogue; all others have none. Marked so in their authors' code or in flash-linear-attention: `a_log`,
# `dt_bias`, `skip` (D), `comba_outer` (D), `ridge` (lambda); by the rule of RWKV's trainer, which decays matrices only,
# those of RWKV. The rest has no 0 to go to: rates, exponents, offsets from 8 on, a gain, draws that are never trained.
SPARED = {
    **{name: {"a_log", "dt_bias"} for name in ("ssd", "gated_delta_net", "kda", "delta_product")},
    **{name: {"a_log", "dt_bias", "skip"} for name in ("mamba2", "s6")},
    "comba": {"a_log", "dt_bias", "comba_outer"},
    "rwkv6": {"decay_bias"},
    "rwkv7": {"decay_bias", "gate_bias", "k_k", "k_a"},
    "mesa": {"ridge"},
    "rg_lru": {"rate"},
    "qlstm_reversed": {"power"},
    "dsf_softplus": {"read_offset"},
    "performer": {"omega"},
    "ttt_linear": {"inner_scale"},
}


def own_parameters(mechanism) -> set[str]:
    return set(jax.eval_shape(lambda key: mechanism.init(key, Dims(2, 4, 8)), jax.random.key(0)))


def test_what_the_catalogue_spares() -> None:
    """A slot may name a parameter that it has only with some settings."""
    found = {m.name: undecayed(m) & own_parameters(m) for m in attention.MECHANISMS}
    assert {name: names for name, names in found.items() if names} == SPARED
    assert undecayed(attention.mesa) == {"ridge"} and undecayed(attention.ridge) == {"ridge"}
    for wrapped in (Gated(attention.ssd), HeadNorm(Gated(attention.ssd, "value"))):
        assert undecayed(wrapped) == SPARED["ssd"] < own_parameters(wrapped), "the names of what is inside"


def test_a_slot_of_ones_own_is_asked_too() -> None:
    class Own:
        no_decay = ("mine",)

    assert undecayed((attention.softmax, [Own()], None)) == {"mine"}


@pytest.mark.parametrize("optimizer", [al.adamw(0.1, weight_decay=2.0), al.sgd(0.1, 0.0, 2.0)], ids=["adamw", "sgd"])
@pytest.mark.parametrize("name", ["ssd", "rwkv7", "ttt_linear", "softmax"])
def test_without_gradients_all_else_decays(name, optimizer) -> None:
    """One update with gradients of 0: `p - 0.1 * 2 p`, and `p` where it is spared."""
    model = tiny_model(mechanism=(attention.softmax, getattr(attention, name)), num_layers=2)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes)
    rule = rule_of(optimizer, model.undecayed)
    updates, _ = rule.update(jax.tree.map(np.zeros_like, params), rule.init(params), params)
    spared = set()
    for (path, update), old in zip(
        jax.tree_util.tree_flatten_with_path(updates)[0], jax.tree.leaves(params), strict=True
    ):
        if (np.asarray(update) == 0).all():
            spared.add(jax.tree_util.keystr(path, simple=True, separator="/"))
        else:
            np.testing.assert_allclose(update, -0.2 * old, rtol=1e-6)  # two roundings of float32
    assert spared == {f"blocks/1/attn/mechanism/{leaf}" for leaf in SPARED.get(name, ())}


def test_a_model_without_such_parameters_has_the_optimizer_that_it_had(x64, rng) -> None:
    """The state and every number of ten updates are optax's own; an optimizer of one's own is left alone."""
    assert tiny_model(mechanism=attention.kv_bias).undecayed == frozenset() and decayed(frozenset()) is None
    params = {"a": jnp.asarray(rng.normal(size=5)), "b": {"a_log": jnp.asarray(rng.normal(size=3))}}
    ours, theirs = rule_of(al.adamw(0.03, weight_decay=0.1)), optax.adamw(0.03, 0.9, 0.99, 1e-8, weight_decay=0.1)
    one, two = ((params, rule.init(params)) for rule in (ours, theirs))
    for _ in range(10):
        grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params)
        one, two = (
            (optax.apply_updates(p, (step := rule.update(grads, s, p))[0]), step[1])
            for rule, (p, s) in ((ours, one), (theirs, two))
        )
        assert same_bits(one, two)
    own = al.training.optimizers.Custom(optax.adamw(0.03, weight_decay=0.1))
    assert rule_of(own, {("a",)}) is own.of


def test_it_holds_in_a_run_which_may_be_interrupted(tmp_path) -> None:
    """Decay of 0.2 a step: after 16 steps a gate is at 3 % of itself plus what was learned, `a_log` is not."""
    model = tiny_model(mechanism=attention.ssd, num_heads=2, no_mlp=(0,))
    settings = {"model": model, "steps": 16, "seeds": 1, "record": {}, "optimizer": al.adamw(1e-3, weight_decay=200.0)}
    run = train(tmp_path / "run", **settings)
    asked = chain([False], repeat(True))
    part = train(tmp_path / "part", **settings, stop=lambda: next(asked))
    assert part.interrupted and part.trajectory.last_step < 16
    resumed = al.resume(tmp_path / "part", devices=jax.devices()[:1], progress=False)
    assert same_bits(resumed.params, run.params)
    first = initial_state(model, run.config.optimizer, al.keys.root(0)).params["blocks"]["0"]["attn"]["mechanism"]
    last = jax.tree.map(lambda leaf: np.asarray(leaf[0]), run.params["blocks"]["0"]["attn"]["mechanism"])
    for name in ("a_log", "dt_bias"):  # Adam moves a number by at most about its rate a step
        assert np.abs(last[name] - first[name]).max() < 3 * 16 * 1e-3, name
        assert np.abs(first[name]).max() > 1
    assert np.abs(last["decay_gate"]).max() < 0.1 * np.abs(first["decay_gate"]).max()
