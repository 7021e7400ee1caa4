"""Doses as arrays: one trace for all, the same numbers as one by one; bad ones are refused where they are known."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import edits as ed
from attnlab.config import ConfigError
from attnlab.edits.algebra import within
from attnlab.edits.calibrate import VarRule
from attnlab.models import Transformer

MODEL = Transformer(vocab_size=5, length=6, width=8, num_heads=2)
TOKENS = jnp.asarray([[0, 1, 2, 3, 4, 1], [0, 4, 4, 2, 1, 3]])
KEYS = jnp.arange(6) < 3
DOSES = (0.25, 0.5, 1.0)
EDITS: dict[str, Callable[[Any], Any]] = {
    "boost": lambda dose: ed.boost(0, KEYS, dose),
    "centred": lambda dose: ed.boost(0, KEYS, dose, "centred"),
    "paint": lambda dose: ed.boost(0, KEYS, dose, "paint"),
    "act": lambda dose: ed.act(0, KEYS, dose),
    "var": lambda dose: ed.var(0, KEYS, jnp.arange(6) == 1, dose, VarRule(1.0, 0.0)),
    "first": lambda dose: ed.tune_first(0, dose),
}


@pytest.mark.parametrize("name", sorted(EDITS))
def test_mapped_doses_are_those_one_by_one(name: str, key):
    params, traces = MODEL.init(key), []

    def at(dose):
        traces.append(1)
        return MODEL.apply(params, TOKENS, edits=(EDITS[name](dose),))[0]

    mapped = jax.jit(lambda doses: jax.lax.map(at, doses))(jnp.asarray(DOSES))
    assert len(traces) == 1
    for dose, found in zip(DOSES, mapped, strict=True):
        alone = MODEL.apply(params, TOKENS, edits=(EDITS[name](dose),))[0]
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(mapped[0] - mapped[-1])).max() > 1e-4


@pytest.mark.parametrize("make", [partial(ed.boost, 0, KEYS, 0.0), partial(ed.act, 0, KEYS, 1.5)])
def test_known_doses_are_checked_within_a_trace_too(make):
    with pytest.raises(ConfigError):
        make()
    with pytest.raises(ConfigError):
        jax.jit(lambda x: x + make().value[0])(1.0)


def test_within():
    assert within(1.0, 0, 1) and within(jnp.array([0.0, 1.0]), 0, 1) and not within(-0.1, 0)
    assert not within(0.0, 0, open_below=True) and not within(jnp.asarray([0.5, 2.0]), 0, 1)
    assert jax.jit(lambda x: jnp.asarray(within(x, 5)))(1.0)
