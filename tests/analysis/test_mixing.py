"""The probe of mixing: against loops, signed and leaking maps, gates, classes of queries, training and stored runs."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow_maps
from fake_model import Fake
from scipy import stats
from slow_maps import NAN

import attnlab as al
from attnlab import attention
from attnlab.analysis import Probe, apply, evaluation_batch, measure, mixing, sinks
from attnlab.analysis.mixing import PARTS
from attnlab.analysis.mixing_terms import read_gate
from attnlab.attention import Gated, HeadNorm, causal_mask
from attnlab.attention.recurrent_catalogue import hebb
from attnlab.config import ConfigError
from attnlab.models import RegressionAttention, Transformer
from toy_tasks import BigramBackcopy, LinearRegression

T, B, H = 12, 6, 2
TASK = BigramBackcopy.tiny_shakespeare(length=T)
BATCH = evaluation_batch(TASK, B)
MASK = np.tril(np.ones((T, T), bool))
ATTN = "blocks.0.attn"
TOLERANCE = {"rtol": 2e-4, "atol": 2e-6}  # float32 sums of 72 rows against float64


def classes(start):
    trigger, bos = (np.asarray(BATCH.positions[name]) for name in ("trigger", "bos"))
    counted = np.broadcast_to(np.arange(T) >= start, (B, T))
    return {"": counted, "_active": counted & trigger, "_dormant": counted & ~trigger & ~bos}


def mean_known(values, where):
    """`values [B, T]`: mean over the queries of a class that have a value."""
    kept = [v for v, here in zip(np.ravel(values), np.ravel(where), strict=True) if here and not math.isnan(v)]
    return math.fsum(kept) / len(kept) if kept else math.nan


def slow(weights, null=None, gate=None, scores=None, offsets=4):
    """Every row figure of one head, `[B, T]` each, from `slow_maps`."""
    rows: dict[str, list] = {}
    for b, A in enumerate(np.asarray(weights, np.float64)):
        one = slow_maps.rows(A, MASK)
        share, mass = slow_maps.on_key(A, MASK, 0)
        found = {"mass": one["signed"], "absolute_mass": one["absolute"], "dead": [x == 0 for x in one["absolute"]]}
        found |= {name: one[name] for name in ("entropy", "evenness", "spikiness", "support")}
        found |= {"bos_share": share, "bos_mass": mass}
        total = np.array(one["absolute"])
        size = np.abs(A)
        with np.errstate(invalid="ignore"):
            shares = size / np.where(total == 0, np.nan, total)[:, None]
        for name, held in (("share", shares), ("mass", size)):
            found |= {f"local_{name}_{n}": slow_maps.local(held, n) for n in range(offsets)}
            found[f"window_{name}"] = slow_maps.window(held, offsets)
        if null is not None:
            both = total + np.abs(null[b])
            found |= {"null_mass": null[b], "null_share": np.abs(null[b]) / both}
        if gate is not None:
            found |= {"gate": gate[b], "bos_gated_mass": np.abs(gate[b]) * mass}
        if scores is not None:
            pairs = [(A[i, : i + 1], scores[b][i, : i + 1]) for i in range(T)]
            defined = [i >= 2 and bool(np.any(row)) for i, (row, _) in enumerate(pairs)]
            orders = [stats.spearmanr(*pair)[0] if ok else NAN for pair, ok in zip(pairs, defined, strict=True)]
            found["monotonicity"] = orders
        for name, values in found.items():
            rows.setdefault(name, []).append(values)
    return rows


def check(found, rows, layer, head, start):
    for name, values in rows.items():
        for suffix, where in classes(start).items():
            wanted = mean_known(values, where)
            base, _, offset = name.rpartition("_")
            if base.startswith("local_"):
                ours = found[f"{base}{suffix}"][layer, head, int(offset)]
            else:
                ours = found[f"{name}{suffix}"][layer, head]
            np.testing.assert_allclose(ours, wanted, err_msg=f"{name}{suffix}", **TOLERANCE)


def taped(probe, model, params):
    """All activations, and what the probe says of them: one program."""
    both = jax.jit(lambda p: (model.apply(p, BATCH.inputs, tape=("*",))[1], probe(model, p)))
    return jax.device_get(both(params))


MECHANISMS = (attention.key_bias, attention.sigmoid, attention.head_gated, hebb, attention.softmax)


@functools.cache
def setting():
    """One layer each: null columns, unnormalised rows, an output gate, signed rows, and a layer without attention."""
    model = Transformer(
        TASK.vocab_size,
        T,
        num_layers=5,
        num_heads=H,
        width=16,
        mechanism=MECHANISMS,
        no_attention=(4,),
        no_mlp=(0, 1, 2, 3, 4),
        embed_std=2.0,
    )
    params = model.init(jax.random.key(3))
    return model, params, *taped(mixing(TASK, B, start=2), model, params)


@pytest.mark.parametrize("layer", range(4))
def test_against_loops(layer):
    _, _, tape, found = setting()
    at = {site: tape.get(f"blocks.{layer}.attn.{site}") for site in ("weights", "null", "gate", "v")}
    for head in range(H):
        own = {site: None if value is None else value[:, head] for site, value in at.items()}
        gate = None if own["gate"] is None else own["gate"].mean(-1)
        check(found, slow(own["weights"], own["null"], gate), layer, head, 2)
        frobenius = np.mean([slow_maps.frobenius(A, MASK) for A in own["weights"]])
        np.testing.assert_allclose(found["frobenius"][layer, head], frobenius, **TOLERANCE)
        norms = np.linalg.norm(own["v"], axis=-1)
        drain = np.mean(norms[:, 0] / norms[:, 1:].mean(-1))
        np.testing.assert_allclose(found["value_drain"][layer, head], drain, **TOLERANCE)
    diversity = np.mean([slow_maps.diversity(A, MASK) for A in at["weights"]])
    np.testing.assert_allclose(found["head_diversity"][layer], diversity, **TOLERANCE)


def test_streams_and_what_a_layer_does_not_have():
    model, _, tape, found = setting()
    for layer in range(model.num_layers):
        stream = tape[f"blocks.{layer}.out"]
        norms = np.linalg.norm(stream, axis=-1)
        np.testing.assert_allclose(found["stream_peak"][layer], np.abs(stream).max(), **TOLERANCE)
        ratio = np.mean(norms[:, 0] / norms[:, 1:].mean(-1))
        np.testing.assert_allclose(found["stream_ratio"][layer], ratio, **TOLERANCE)
    has = {"null_share": [0], "gate": [2], "bos_gated_mass": [2], "bos_share": [0, 1, 2, 3]}
    for name, layers in has.items():
        assert np.flatnonzero(np.isfinite(found[name]).all(-1)).tolist() == layers, name
    assert "null_gated_mass" not in found and "register_share" not in found  # no layer has both, none has registers
    assert "monotonicity" not in found
    assert found["mass"][3].min() < 0.99 * found["absolute_mass"][3].min()  # q . k of either sign
    for name, axes in mixing(TASK).dims(found).items():
        assert len(axes) == found[name].ndim, name


def test_the_gated_mass_is_that_of_the_gated_map():
    model, params, tape, found = setting()
    q, k, v, x = (jnp.asarray(tape[f"blocks.2.attn.{site}"]) for site in ("q", "k", "v", "in"))
    own = params["blocks"]["2"]["attn"]["mechanism"]
    result = jax.jit(lambda *qkv: model.mechanism_of(2).apply(own, *qkv, x=x, mask=MASK, view="map"))(q, k, v)
    first = np.abs(np.asarray(result.weights)[..., 0])
    for head in range(H):
        for suffix, where in classes(2).items():
            wanted = mean_known(first[:, head], where)
            np.testing.assert_allclose(found[f"bos_gated_mass{suffix}"][2, head], wanted, **TOLERANCE)


def test_a_gate_acts_where_it_is(rng):
    gate = jnp.asarray(rng.random((B, H, T, 3)), jnp.float32)
    size = np.asarray(gate).mean(-1)
    rows = (B, H, T)
    gated = {place: Gated(attention.softmax, place=place) for place in ("output", "value", "key", "query", "dense")}
    for mechanism in (None, gated["output"], HeadNorm(gated["output"]), gated["dense"]):
        found = read_gate(gate, rows, mechanism)
        for value in (found.size, found.rows, found.bos):
            np.testing.assert_allclose(value, size, rtol=1e-6)
    on_values = read_gate(gate, rows, gated["value"])
    assert on_values.rows is None
    np.testing.assert_allclose(on_values.bos, np.broadcast_to(size[..., :1], rows), rtol=1e-6)
    added = Gated(attention.softmax, combine="add")
    for mechanism in (gated["query"], gated["key"], added):
        found = read_gate(gate, rows, mechanism)
        assert found.rows is None and found.bos is None, mechanism.name
        np.testing.assert_allclose(found.size, size, rtol=1e-6)
    behind = read_gate(gate, rows, gated["value"], registers=2)
    np.testing.assert_allclose(behind.bos, np.broadcast_to(size[..., 2:3], (B, H, T - 2)), rtol=1e-6)


def test_registers_are_keys_and_no_queries():
    model = Transformer(TASK.vocab_size, T, num_heads=H, width=16, registers=2, no_mlp=(0,), window=4)
    params = model.init(jax.random.key(0))
    tape, found = taped(mixing(TASK, B, parts=("mass", "sink", "spread", "local"), num_offsets=2), model, params)
    weights = tape[f"{ATTN}.weights"][:, :, 2:]
    assert weights.shape[2:] == (T, T + 2)
    counted = classes(1)
    first = {"register_mass": weights[..., :2].sum(-1), "bos_mass": weights[..., 2]}
    first["previous_mass"] = np.diagonal(weights, offset=1, axis1=-2, axis2=-1)
    for head in range(H):
        for name, values in first.items():
            for suffix, where in counted.items():
                wanted = mean_known(values[:, head], where)
                np.testing.assert_allclose(found[f"{name}{suffix}"][0, head], wanted, err_msg=name, **TOLERANCE)
    np.testing.assert_allclose(found["register_share"], found["register_mass"], rtol=1e-5)
    np.testing.assert_allclose(found["support"], np.mean([2 + min(i + 1, 4) for i in range(1, T)]), rtol=1e-5)


def fake(weights, **sites):
    held = {f"{ATTN}.{name}": value for name, value in {"weights": weights, **sites}.items()}
    return Fake(held, TASK.vocab_size, num_heads=weights.shape[1])


def signed_maps(rng):
    """Entries of any sign, rows of any mass, a fifth of them dead."""
    weights = rng.normal(size=(B, H, T, T)) * MASK * 10 ** rng.uniform(-3, 1, size=(B, H, T, 1))
    return np.where(rng.random((B, H, T, 1)) < 0.2, 0, weights).astype(np.float32)


def test_signed_maps_with_dead_rows_behind_a_gate(rng):
    weights, gate = signed_maps(rng), rng.normal(size=(B, H, T)).astype(np.float32)
    scores = rng.normal(size=weights.shape).astype(np.float32)
    found = measure(mixing(TASK, B, parts=PARTS), fake(weights, gate=gate, logits=scores), {})
    for head in range(H):
        check(found, slow(weights[:, head], gate=gate[:, head], scores=scores[:, head]), 0, head, 1)
    assert 0 < float(found["dead"][0, 0]) < 0.5
    assert not {"null_share", "value_drain", "stream_peak"} & set(found)


def test_a_null_column_behind_a_gate():
    weights = jnp.broadcast_to(0.25 * jnp.eye(T), (B, H, T, T))
    null, gate = jnp.full((B, H, T), 0.75), jnp.full((B, H, T), 0.1)
    found = measure(mixing(TASK, B, parts=("mass", "sink")), fake(weights, null=null, gate=gate), {})
    exact = {"null_share": 0.75, "null_mass": 0.75, "null_gated_mass": 0.075, "mass": 0.25, "bos_mass": 0, "dead": 0}
    for name, value in exact.items():
        np.testing.assert_allclose(found[name], np.full((1, H), value), rtol=1e-6, err_msg=name)


def test_the_ideal_head_of_the_task():
    weights = TASK.ideal_attention(BATCH)[:, None]
    found = measure(mixing(TASK, B, num_offsets=2), fake(weights), {})
    exact = {"bos_share_dormant": 1, "bos_share_active": 0, "bos_mass_dormant": 1, "bos_mass_active": 0}
    exact |= {"previous_share_active": 1, "previous_mass_active": 1, "entropy": 0, "support": 1, "mass": 1, "dead": 0}
    exact |= {"window_mass_active": 1, "frobenius": T**0.5}
    for name, value in exact.items():
        np.testing.assert_allclose(found[name], [[value]], atol=1e-6, err_msg=name)


def test_a_trained_gate_is_read_over_both_classes():
    trigger, bos = (np.asarray(BATCH.positions[name]) for name in ("trigger", "bos"))
    gate = np.select([trigger, bos], [0.871, 9.0], 0.109)[:, None].astype(np.float32)
    weights = np.broadcast_to(np.eye(1, T, dtype=np.float32), (B, 1, T, T))  # every query on the first key
    found = measure(mixing(TASK, B, parts=("mass", "sink"), start=0), fake(weights, gate=gate), {})
    np.testing.assert_allclose(found["gate_active"] - found["gate_dormant"], 0.762, rtol=1e-5)  # bos is neither
    np.testing.assert_allclose(found["gate"], gate.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["bos_share_dormant"], 1)
    np.testing.assert_allclose(found["bos_gated_mass_dormant"], 0.109, rtol=1e-5)


def test_window_and_prefix_of_the_model_are_what_a_row_sees():
    mask = causal_mask(T, window=3, prefix=1)
    even = jnp.broadcast_to(mask / mask.sum(-1, keepdims=True), (B, 1, T, T))

    class Narrow(Fake):
        window, prefix = 3, 1

    narrow, probe = Narrow({f"{ATTN}.weights": even}, TASK.vocab_size), mixing(TASK, B, parts="spread")
    np.testing.assert_allclose(measure(probe, narrow, {})["evenness"], 1, rtol=1e-5)
    assert float(measure(probe, fake(even), {})["evenness"][0, 0]) < 0.9


def test_a_model_that_regresses():
    task = LinearRegression(dim=2, context=8)
    model = RegressionAttention(dim=2, num_heads=2)
    probe = mixing(task, 4, parts=("mass", "spread"), causal=False, active="query")
    found = measure(probe, model, model.init(jax.random.key(0)))
    np.testing.assert_allclose(found["mass"], 1, rtol=1e-5)
    np.testing.assert_allclose(found["mass_active"], found["mass"])
    assert np.isnan(found["mass_dormant"]).all() and float(found["support"][0, 0]) == 8


def test_recorded_in_training_and_over_the_stored_run(tmp_path):
    probe = mixing(TASK, B, parts=("sink", "local"))
    model = Transformer(TASK.vocab_size, T, num_heads=2, width=8, no_mlp=(0,), norm="none")
    record = {"params": al.every(2), "mixing": al.every(2, probe)}
    run = al.run(TASK, model, steps=2, seeds=1, batch_size=4, record=record, path=tmp_path / "run", progress=False)
    found, recorded = apply(run.trajectory, probe), run.trajectory.mixing
    assert found.local_share.dims == ("seed", "step", "layer", "head", "offset") == recorded.local_share.dims
    assert set(found.data_vars) == set(recorded.data_vars)
    for name, value in found.items():
        np.testing.assert_allclose(value, recorded[name], rtol=1e-4, atol=1e-5, err_msg=str(name))


def test_it_is_a_probe_and_a_plain_value():
    probe = mixing(TASK, B, parts="sink", start=3)
    assert isinstance(probe, Probe) and probe.parts == ("sink",)
    again = al.config.decode(al.config.encode(probe))
    assert al.config.encode(again) == al.config.encode(probe) and again.start == 3
    assert "order" not in mixing(TASK).parts
    both = mixing(TASK, B, parts=PARTS), sinks(TASK, B)
    model, params, _, _ = setting()
    ours, theirs = (jax.eval_shape(lambda p, probe=probe: probe(model, p), params) for probe in both)
    assert set(ours) & set(theirs) == {"null_mass"}  # no name has two meanings


@pytest.mark.parametrize(
    "wrong",
    [{"parts": ("all",)}, {"parts": ()}, {"start": -1}, {"start": T}, {"num_offsets": 1}, {"num_offsets": T + 1}],
)
def test_bad_options(wrong):
    with pytest.raises(ConfigError, match="allowed"):
        mixing(TASK, **wrong)


def test_an_unknown_class():
    with pytest.raises(ConfigError, match="position class"):
        measure(mixing(TASK, B, active="nowhere"), fake(jnp.ones((B, 1, T, T))), {})
