"""`run`: seeds as an axis, on one device or several; batches and updates that can be recomputed; one program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_cases import (
    BATCH,
    RATES,
    STEPS,
    FixedPoints,
    TwoLayerLinear,
    largest_difference,
    same_bits,
    seed_of,
    squared_error,
    tiny_model,
    tiny_task,
    train,
    unembedding_norm,
)

import attnlab as al
from attnlab import keys, tape
from attnlab.training import devices as device_rules
from attnlab.training import settings
from attnlab.training.losses import on_batch
from attnlab.training.session import Session

# Float32 numbers near 1 (rounding 6e-8), 24 updates of size 0.01 whose direction Adam normalises: the smaller a
# gradient, the more of its update is rounding. Seen: 5e-7.
ROUNDING = 1e-5


def test_it_learns(usual):
    loss = usual.trajectory.loss
    assert loss.dims == ("seed", "step") and np.isnan(loss.sel(step=0)).all()
    first, last = loss.sel(step=1), loss.isel(step=slice(-4, None)).mean("step")
    assert (last < 0.8 * first).all(), (first.values, last.values)
    assert usual.outcome.tolist() == [0, 0, 0] and usual.diverged_at.tolist() == [-1, -1, -1] and not usual.interrupted


def test_what_was_recorded_is_what_was_asked_for(usual):
    trajectory = usual.trajectory
    assert trajectory.records == ("loss", "params", "unembed")
    assert trajectory.steps("params").tolist() == [0, 1, 7, 8, 13, STEPS]
    assert trajectory.steps("unembed").tolist() == al.log_spaced(9).at(STEPS).tolist()
    last = trajectory.params_at(STEPS, like=usual.params)
    assert same_bits(last, usual.params)
    expected = jax.vmap(lambda p: unembedding_norm(None, p))(last)
    # One reduction of 16 numbers, in two compiled programs.
    np.testing.assert_allclose(trajectory.unembed.norm.sel(step=STEPS), expected["norm"], rtol=1e-6)
    np.testing.assert_allclose(trajectory.unembed.by_token.sel(step=STEPS), expected["by_token"], rtol=1e-6)


def test_initial_values_are_those_of_model_init(usual):
    start = usual.trajectory.params_at(0, like=usual.params)
    for place, seed in enumerate(usual.config.seeds):
        by_hand = tiny_model().init(keys.stream(keys.root(seed), "init"))
        assert same_bits(seed_of(start, place), by_hand)


def test_a_seed_in_turn_trains_as_if_it_were_alone(usual, tmp_path):
    alone = train(tmp_path / "run", al.adamw(RATES[1]), seeds=[1])
    # `map` runs the same instructions for every seed, however many there are, and whatever the rates of the others.
    assert same_bits(seed_of(usual.params, 1), seed_of(alone.params, 0))
    others = alone.trajectory.loss.values[0], usual.trajectory.loss.values[1]
    assert same_bits(*others)


def test_the_order_of_the_seeds_does_not_matter(usual, tmp_path):
    turned = train(tmp_path / "run", al.adamw([RATES[2], RATES[0], RATES[1]]), seeds=(2, 0, 1))
    assert same_bits(turned.params, jax.tree.map(lambda x: x[np.array([2, 0, 1])], usual.params))
    assert turned.trajectory.loss.seed.values.tolist() == [2, 0, 1]


def test_seeds_together_equal_seeds_in_turn(usual, tmp_path):
    together = train(tmp_path / "run", seed_axis="vmap")
    assert 0 < largest_difference(together.params, usual.params) < ROUNDING  # other kernels, other order of sums


def test_seeds_over_two_devices_equal_one_device(usual, sharded):
    assert len(jax.devices()) == 2 and sharded.stats["devices"] == 2 and sharded.stats["padded_seeds"] == 4
    assert largest_difference(sharded.params, usual.params) < ROUNDING  # XLA fuses partitioned programs differently
    records = {"loss": "loss", "params": "blocks.0.attn.query", "unembed": "by_token"}
    for record, name in records.items():
        here, there = (run.trajectory[record] for run in (usual, sharded))
        here, there = (found if record == "loss" else found[name] for found in (here, there))
        assert there.dims == here.dims and there.shape == here.shape and there.seed.values.tolist() == [0, 1, 2]
        np.testing.assert_allclose(there, here, atol=ROUNDING, err_msg=f"{record}.{name}")


def test_microbatches_sum_to_the_whole_batch(usual, tmp_path):
    parts = train(tmp_path / "run", microbatch=2)
    assert usual.config.microbatch == BATCH
    assert 0 < largest_difference(parts.params, usual.params) < ROUNDING


def test_any_step_can_be_recomputed(plain):
    """The batch of step 7 from (root key, 7) alone, and the update on it, give the recorded parameters of step 8."""
    at = plain.trajectory
    for place, rate in enumerate([0.1, 0.2, 0.3]):
        before, after = (at.params_at(step, place, like=seed_of(plain.params, 0)) for step in (7, 8))
        batch = tiny_task().sample(keys.stream(keys.root(place), "data", 7), BATCH)
        loss, grads = jax.jit(jax.value_and_grad(on_batch(tiny_model(), batch)))(before)
        expected = jax.tree.map(lambda p, g, lr=rate: p - lr * g, before, grads)
        # Parameters of up to 3, gradients that two programs round differently.
        assert largest_difference(expected, after) < 2e-6
        assert largest_difference(before, after) > 1e-2
        np.testing.assert_allclose(at.loss.sel(seed=place, step=8), loss, rtol=1e-5)


@pytest.mark.parametrize("axis", ["map", "vmap"])
def test_a_diverged_seed_is_reported_and_disturbs_no_other(axis, plain, tmp_path):
    calm = plain if axis == "map" else train(tmp_path / "calm", al.sgd([0.1, 0.2, 0.3]), seed_axis=axis)
    wild = train(tmp_path / "wild", al.sgd([0.1, 1e30, 0.3]), seed_axis=axis)
    assert wild.outcome.tolist() == [0, 1, 0] and not wild.interrupted
    loss = wild.trajectory.loss
    first = 1 + int(np.argmin(np.isfinite(loss.sel(seed=1).values[1:])))  # every step has its loss in so short a run
    assert wild.diverged_at.tolist() == [-1, first, -1]
    for place in (0, 2):
        assert same_bits(seed_of(wild.params, place), seed_of(calm.params, place))
    summary = wild.trajectory.summary
    assert (
        summary["outcome"] == [0, 1, 0]
        and summary["diverged_at"][1] == first
        and "not finite" in summary["meaning"]["1"]
    )


def test_parameters_lost_in_the_last_update_count_as_diverged(tmp_path):
    """The loss of step 1 is finite, the parameters after it are not, and no later loss tells."""
    own = {"task": FixedPoints(), "model": TwoLayerLinear(), "loss": squared_error}
    lost = train(tmp_path / "run", al.sgd([0.1, np.inf, 0.3]), steps=1, record={}, **own)
    assert lost.outcome.tolist() == [0, 1, 0] and lost.diverged_at.tolist() == [-1, 1, -1]


def test_clamped_training(plain, tmp_path):
    """Without the attention's output, nothing reaches its weights: they stay where they began. The rest learns."""
    clamped = train(tmp_path / "run", al.sgd([0.1, 0.2, 0.3]), edits=[tape.zero("blocks.0.attn.out")])
    start = plain.trajectory.params_at(0, like=plain.params)
    attention, began = clamped.params["blocks"]["0"]["attn"], start["blocks"]["0"]["attn"]
    assert same_bits(attention, began) and not same_bits(plain.params["blocks"]["0"]["attn"], began)
    assert largest_difference(clamped.params["unembed"], plain.params["unembed"]) > 1e-3


def test_an_edit_that_changes_nothing(plain, tmp_path):
    same = train(tmp_path / "run", al.sgd([0.1, 0.2, 0.3]), edits=tape.scale("blocks.0.attn.out", 1.0))
    assert same_bits(same.params, plain.params)


def test_one_program_whatever_the_schedule(compilations, tmp_path):
    """Records at many different gaps, in three chunks: the training program, and no other."""
    with compilations() as names:
        run = train(tmp_path / "run")
    assert names == ["jit(training)"] and run.stats["programs"] == 1, names
    assert len(run.trajectory.journal) == 3 and len({int(gap) for gap in np.ravel(run.config.plan().gaps)}) > 1
    gaps = {name: set(np.diff(run.trajectory.steps(name)).tolist()) for name in ("params", "unembed")}
    assert len(gaps["params"]) > 3 and len(gaps["unembed"]) > 3, gaps


def test_a_chunk_compiles_nothing_and_sends_nothing_to_the_host(usual, compilations):
    session = Session(usual.config, device_rules.place(3, tiny_model(), "map", jax.devices()[:1]))
    with compilations() as names:
        session.compile()
    assert names == ["jit(training)"], names
    text = session.program.as_text()
    for word in ("infeed", "outfeed", "callback", "SendToHost", "RecvFromHost", "send-done", "recv-done"):
        assert word not in text, word
    at = session.start()
    with compilations() as names, jax.transfer_guard("disallow"):
        for chunk in range(session.plan.num_chunks):
            at, buffers = session.advance(chunk, at)
            jax.block_until_ready(buffers)
    assert names == []
    assert same_bits(session.unpad(at.params), usual.params)


def test_the_state_is_used_up(usual):
    """The program writes the new state where the old one was: no second copy of parameters and moments."""
    session = Session(usual.config, device_rules.place(3, tiny_model(), "map", jax.devices()[:1]))
    session.compile()
    at = session.start()
    session.advance(0, at)
    assert all(x.is_deleted() for x in jax.tree.leaves(at.params))


def test_rows_that_would_not_fit_make_more_chunks(usual, monkeypatch):
    config = usual.config
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(settings.row_shapes(config)))
    assert settings.events_that_fit(config, 3) == 64
    monkeypatch.setattr(settings, "BUFFER_BYTES", 3 * size * 5 + 1)
    assert settings.events_that_fit(config, 3) == 5
    monkeypatch.setattr(settings, "BUFFER_BYTES", 1)
    assert settings.events_that_fit(config, 3) == 1


def test_measured_seed_axis(tmp_path):
    own = {"task": FixedPoints(), "model": TwoLayerLinear(), "loss": squared_error}
    run = train(tmp_path / "run", steps=2, record={}, seed_axis="measure", **own)
    assert (
        run.config.seed_axis in ("map", "vmap") and al.training.load_config(run.path).seed_axis == run.config.seed_axis
    )


def test_bfloat16_parameters_stay_bfloat16(tmp_path):
    class Half:
        def init(self, key):
            return {"w": jnp.ones(3, jnp.bfloat16)}

        def apply(self, params, inputs, *, tape=(), edits=()):
            return params["w"] * jnp.ones((*inputs.shape, 3), jnp.bfloat16), {}

    run = train(tmp_path / "run", model=Half(), loss=lambda out, batch: jnp.sum(out * out, -1), record={}, steps=2)
    assert run.params["w"].dtype == jnp.bfloat16 and (run.params["w"] < 1).all()


@pytest.mark.parametrize(
    ("seeds", "devices", "used", "padded"),
    [(1, 2, 1, 1), (2, 2, 2, 2), (3, 2, 2, 4), (4, 8, 4, 4), (5, 4, 3, 6), (8, 3, 3, 9), (9, 8, 5, 10)],
)
def test_no_device_has_only_padding(seeds, devices, used, padded):
    devices = [jax.devices()[0]] * devices
    found = device_rules.place(seeds, tiny_model(), "map", devices)
    assert (len(found.devices), found.padded) == (used, padded)


def test_placement_rules():
    cpu = jax.devices()[:1]
    assert device_rules.place(2, tiny_model(width=16), "auto", cpu).axis == "vmap"
    assert device_rules.place(2, tiny_model(width=64), "auto", cpu).axis == "map"
    laptop = al.Transformer(vocab_size=66, length=64, width=64)
    assert device_rules.microbatch_for(64, 64, laptop, "cpu") == 8
    assert device_rules.microbatch_for(64, 64, laptop, "gpu") == 64
    assert device_rules.microbatch_for(64, 256, laptop, "cpu") == 2
    # 61 has no divisor near 8; one sequence at a time would be much further from it than all.
    assert device_rules.microbatch_for(61, 64, laptop, "cpu") == 61
