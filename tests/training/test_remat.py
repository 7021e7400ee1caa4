"""Donated state, and what a gradient makes again: equal values, less memory, more operations."""

from __future__ import annotations

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_cases import largest_difference, tiny_model, tiny_task, train

import attnlab as al
from attnlab import attention, tape
from attnlab.accelerators.count import count
from attnlab.config import ConfigError
from attnlab.models import Tapped
from attnlab.models.base import Remat
from attnlab.training import devices as device_rules
from attnlab.training import losses
from attnlab.training.session import Session
from toy_tasks.base import Batch

POLICIES: tuple[Remat, ...] = ("attention", "layers")
BATCH = tiny_task().sample(jax.random.key(1), 8)
ROUNDING = 4e-6  # gradients of size 1: the same sums, fused otherwise, 2^-24 in each of some dozen terms in a row


def two_layers(**options):
    return tiny_model(num_layers=2, num_heads=2, norm="layernorm", **options)


def gradient(model, params, edits=()):
    return jax.jit(jax.grad(losses.on_batch(model, BATCH, edits=edits)))(params)


@pytest.mark.parametrize("remat", POLICIES)
@pytest.mark.parametrize("mechanism", [attention.softmax, attention.linear], ids=lambda m: m.name)
def test_gradients_are_the_same(remat, mechanism) -> None:
    model = two_layers(mechanism=mechanism)
    params = model.init(jax.random.key(0))
    made_again = gradient(model.computed("params", remat), params)
    assert largest_difference(made_again, gradient(model, params)) < ROUNDING


@pytest.mark.parametrize("remat", POLICIES)
def test_activations_come_out_and_edits_hold(remat) -> None:
    """Every site, with an edit inside what is made again and one that reads another activation; gradients, too."""
    model = two_layers()
    again, params = model.computed("params", remat), model.init(jax.random.key(0))
    read_value = tape.Edit("blocks.1.attn.head_out", lambda x, value, v: x + value * v, 0.5, reads="v")
    edits = (tape.scale("blocks.0.attn.weights", 0.5), tape.add("blocks.*.mlp.hidden", 0.25), read_value)
    for given in ((), edits):
        (logits, kept), (others, found) = (
            m.apply(params, BATCH.inputs, tape=("*",), edits=given) for m in (model, again)
        )
        assert list(kept) == list(found) and largest_difference((logits, kept), (others, found)) < ROUNDING
    plain, edited = gradient(again, params), gradient(again, params, edits)
    assert largest_difference(edited, gradient(model, params, edits)) < ROUNDING
    assert largest_difference(edited, plain) > 1e-3, "the edits do something"
    with pytest.raises(tape.SiteError, match=r"blocks\.2\.out"):
        again.apply(params, BATCH.inputs, tape=("blocks.2.out",))


@pytest.mark.parametrize("remat", POLICIES)
def test_gradients_through_activations_that_were_read(remat) -> None:
    """A loss of the maps, as alignment has it: what comes out of a checkpoint is differentiated, not only looked at."""

    def slope(model):
        tapped = Tapped(model, ("blocks.*.attn.weights",))

        def loss(params):
            (logits, maps), _ = tapped.apply(params, BATCH.inputs)
            return jnp.mean(jax.nn.logsumexp(logits, -1)) + sum(jnp.sum(a[..., 0] ** 2) for a in maps.values())

        return jax.jit(jax.grad(loss))

    model = two_layers()
    params = model.init(jax.random.key(0))
    found, exact = (slope(m)(params) for m in (Tapped(model, ()).computed("params", remat).model, model))
    assert largest_difference(found, exact) < 30 * ROUNDING, "a sum of 256 squares is of size 30"


LONG, WIDTH, LAYERS, SEQUENCES = 240, 16, 4, 16


def long_step(remat: Remat, **options):
    """The gradient of 4 layers, traced and compiled: maps of less than 2^20 numbers and 256 tokens, which are whole."""
    model = al.Transformer(
        vocab_size=16, length=LONG, num_layers=LAYERS, width=WIDTH, norm="rmsnorm", remat=remat, **options
    )
    params = jax.eval_shape(model.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((SEQUENCES, LONG), jnp.int32)

    def loss(params, inputs):
        batch = Batch(inputs, inputs, jnp.ones(inputs.shape), {})
        return losses.on_batch(model, batch)(params)

    traced = jax.jit(jax.grad(loss)).trace(params, tokens)
    return count(traced.jaxpr.jaxpr).flops, traced.lower().compile().memory_analysis().temp_size_in_bytes


@pytest.fixture(scope="module")
def long_steps():
    return {remat: long_step(remat) for remat in ("none", *POLICIES)}


def test_memory_falls_with_the_maps_of_all_layers_but_one(long_steps) -> None:
    """Kept are, per layer, at least two maps of 3.7 MB (weights; logits or exponentials); made again, one layer's.

    The rest (here the stream, q, k, v and the MLP's hidden layer: 16 + 48 + 64 numbers a position) is 2 MB a layer.
    """
    a_map = 4 * SEQUENCES * LONG * LONG
    kept = {remat: memory for remat, (_, memory) in long_steps.items()}
    print({remat: f"{memory / 1e6:.1f} MB" for remat, memory in kept.items()})
    for remat in POLICIES:
        assert kept["none"] - kept[remat] > (LAYERS - 1) * a_map, "a map of every layer but the one under way"
        assert kept[remat] < 0.6 * kept["none"]
    assert kept["layers"] < kept["attention"]


def test_operations_rise_by_what_is_made_again(long_steps) -> None:
    """A gradient is three forward passes, with the layers made again four: 4/3; with the maps alone less."""
    plain, maps, layers = (long_steps[remat][0] for remat in ("none", *POLICIES))
    print(f"operations: attention x {maps / plain:.3f}, layers x {layers / plain:.3f}")
    one_map = 2 * SEQUENCES * LONG * LONG * WIDTH
    assert maps - plain >= LAYERS * one_map, "at least the logits of every layer, once more"
    assert maps < layers and 1.2 < layers / plain < 1.4


def test_a_run_keeps_its_policy_and_trains_the_same(tmp_path, usual) -> None:
    run = train(tmp_path / "run", remat="layers")
    assert al.training.load_config(run.path).remat == "layers" and run.config.model == usual.config.model
    assert largest_difference(run.params, usual.params) < 2e-5, "24 steps of Adam: 1e-7 a step, grown (as data_axis)"
    with pytest.raises(ConfigError, match=r"remat: got 'all'; allowed is None \| none \| attention \| layers"):
        train(tmp_path / "bad", remat="all")
    with pytest.raises(ConfigError, match=r"Transformer.remat: got 'all'"):
        tiny_model(remat="all")


def test_the_state_is_donated(usual) -> None:
    """The program writes the new state over the old: all its bytes are aliased, and JAX has no complaint."""
    session = Session(usual.config, device_rules.place(3, tiny_model(), "map", jax.devices()[:1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Some donated buffers were not usable"
        session.compile()
    state = session.start()
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    aliased = session.program.memory_analysis().alias_size_in_bytes
    assert aliased >= size
    moments = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(usual.params)) * 3
    assert size > moments, "parameters and two moments of each"
    after, _ = session.advance(0, state)
    gone = [x.is_deleted() for x in jax.tree.leaves(state)]
    assert all(gone), "nothing else holds it"
    assert not any(x.is_deleted() for x in jax.tree.leaves((after, session.roots, session.optimizer)))


def after_one_chunk():
    answers = iter([False])
    return lambda: next(answers, True)


def test_nothing_reads_a_donated_state(tmp_path, usual) -> None:
    """Cut after every chunk and gone on with: the same parameters bit for bit, so what was saved could be read."""
    path = tmp_path / "run"
    train(path, stop=after_one_chunk())
    for _ in range(2):
        last = al.resume(path, devices=jax.devices()[:1], progress=False, stop=after_one_chunk())
    assert not last.interrupted
    jax.tree.map(np.testing.assert_array_equal, last.params, usual.params)
