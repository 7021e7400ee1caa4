"""The study of gates: its table, its runs, columns as gates against loops, dose and response, a smoke preset."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from study_checks import smoke_holds

import attnlab as al
from attnlab.attention import catalogue
from attnlab.studies import find
from attnlab.studies.gated import dose, figures, identities
from attnlab.studies.gated.experiments import AT_LAPTOP, GATES, experiments
from attnlab.studies.sinks_by_mechanism.experiments import SMOKE

STUDY = find("gated")


def test_smoke_runs_end_to_end(tmp_path: Path):
    smoke_holds(STUDY, tmp_path, "f1-gates", "f2-dose", "f3-columns")


def test_the_runs_are_what_the_study_says():
    laptop, evening = experiments("laptop"), experiments("evening")
    assert set(laptop) == {*AT_LAPTOP, "no_bos_sink_logit", "no_bos_key_bias"} and set(laptop) < set(evening)
    assert {n: e.model.num_heads for n, e in evening.items() if e.model.num_heads > 1} == {
        "two_g1": 2, "two_g1_shared": 2,
    }  # fmt: skip
    for name, e in evening.items():
        assert e.task.bos == (not name.startswith("no_bos_"))
        assert (e.model.num_layers, e.model.width, e.task.length) == (1, 64, 64)
        assert e.model.mechanism == GATES[name.removeprefix("no_bos_").removeprefix("two_")]
    assert len({figures.label(n) for n in evening}) == len(evening)


@pytest.mark.parametrize("mechanism", [catalogue.sink_logit, catalogue.key_bias], ids=lambda m: m.name)
def test_the_implied_gate_is_what_is_left_on_tokens(mechanism, x64, key):
    """In float64, parameters far from their start, against a loop over queries."""
    heads, length, width = 2, 6, 4
    q, k, v = jax.random.normal(key, (3, heads, length, width), jnp.float64) * 2
    own = jax.tree.map(lambda p: p + 1.5, mechanism.init(key, al.attention.Dims(heads, width, 8)))
    mask = al.attention.causal_mask(length)
    weights = np.asarray(mechanism.apply(own, q, k, v, mask=mask, view="map").weights)
    logits = q @ jnp.swapaxes(k, -1, -2) / math.sqrt(width)
    gate = np.asarray(identities.implied_gate(mechanism, own, q, logits))
    for h in range(heads):
        for t in range(length):
            row = [float(q[h, t] @ k[h, u]) / math.sqrt(width) for u in range(t + 1)]
            by_key = "key" in own
            column = float(q[h, t] @ own["key"][h]) / math.sqrt(width) if by_key else float(own["sink"][h])
            tokens = math.fsum(math.exp(x) for x in row)
            left = tokens / (tokens + math.exp(column))
            assert gate[h, t] == pytest.approx(left, rel=1e-12)
            assert weights[h, t].sum() == pytest.approx(left, rel=1e-12)


def test_a_wrong_gate_is_seen():
    """Negative control: with another bias than the trained one the layer is not softmax times that gate."""
    e = SMOKE.make(catalogue.sink_logit, bos=False)
    params = e.model.init(al.keys.root(0))
    right = identities.as_gate(e.model, params, e.task, 4)
    assert float(right["weights"]) < 1e-6 and float(right["out"]) < 1e-5
    attn = params["blocks"]["0"]["attn"]
    assert not np.asarray(attn["mechanism"]["sink"]).any(), "begins at 0"
    plain = al.Transformer(**{**vars(e.model), "mechanism": catalogue.softmax})
    batch = al.analysis.evaluation_batch(e.task, 4)
    site = "blocks.0.attn.weights"
    both = [m.apply(params, batch.inputs, tape=(site,))[1][site] for m in (e.model, plain)]
    assert float(jnp.max(jnp.abs(both[0] - both[1]))) > 0.05, "the gate is not 1"


def test_a_gate_held_at_one_is_a_head_without_one():
    """Dose and response of a gated model, against the ungated model with the same other parameters."""
    e = SMOKE.make(catalogue.head_gated)
    params = e.model.init(al.keys.root(0))
    found = dose.held(e.model, params, e.task, True, 8)
    plain = al.Transformer(**{**vars(e.model), "mechanism": catalogue.softmax})
    batch = al.analysis.evaluation_batch(e.task, 8)
    wanted = e.task.risks(plain.apply(params, batch.inputs)[0], batch)
    free = e.task.risks(e.model.apply(params, batch.inputs)[0], batch)
    shut = dose.held(plain, params, e.task, False, 8)
    for name in ("excess_bigram", "excess_backcopy"):
        np.testing.assert_allclose(found[name][-1], wanted[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[f"{name}_free"], free[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[name][:-1], shut[name][:-1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(shut[name][-1], shut[f"{name}_free"], rtol=1e-4, atol=1e-5)
