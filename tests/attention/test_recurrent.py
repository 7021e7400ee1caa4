"""One body for every recurrent mechanism: views agree with each other and with a loop, in value and in gradient."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from recurrent_cases import (
    RECURRENT,
    Inputs,
    compiled,
    inputs_of,
    weight_of,
)
from recurrent_reference import DEFINITIONS, attend

by_name = pytest.mark.parametrize("mechanism", RECURRENT, ids=lambda m: m.name)
PER_CHANNEL = tuple(m for m in RECURRENT if m.rule.channelwise)

# float64 rounds at 1e-16 of terms up to 1e3 (products of 7 tokens); two orders are left.
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def leaves_agree(measured, expected, **tolerance) -> None:
    for got, want in zip(jax.tree.leaves(measured), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, **tolerance)


def moved(inputs: Inputs, direction: Inputs, amount: float) -> Inputs:
    return jax.tree.map(lambda a, d: a + amount * d, inputs, direction)


def test_every_mechanism_has_a_definition() -> None:
    assert {m.name for m in RECURRENT} == set(DEFINITIONS)
    assert len({m.name for m in RECURRENT}) == len(RECURRENT)


@by_name
@pytest.mark.usefixtures("x64")
def test_views_are_the_definition_in_value_and_gradient(mechanism) -> None:
    inputs = inputs_of(mechanism)
    weight = weight_of(inputs.v)
    found = compiled(mechanism)(inputs, weight)
    expected = attend(mechanism.name, *inputs)
    views = [name for name in found if name != "weights"]
    assert "parallel" in views and "step" in views
    for name in views:
        np.testing.assert_allclose(found[name].out, expected, err_msg=name, **EXACT)
        leaves_agree(found[name].gradient, found["parallel"].gradient, **EXACT)
    # The slope of the loop along a random direction, by central differences: error h^2 f''' / 6 ~ 1e-9 of values up to
    # 1e2 and rounding 1e-14 / h ~ 1e-9 at h = 1e-5.
    rng, h = np.random.default_rng(3), 1e-5
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), inputs)
    there, back = (attend(mechanism.name, *moved(inputs, direction, step)) for step in (h, -h))
    slope = np.sum(weight * (there - back)) / (2 * h)
    gradient = found["parallel"].gradient
    if "omega" in gradient.params:  # fixed by definition
        assert (gradient.params["omega"] == 0).all()
        direction.params["omega"][:] = 0
        there, back = (attend(mechanism.name, *moved(inputs, direction, step)) for step in (h, -h))
        slope = np.sum(weight * (there - back)) / (2 * h)
    measured = sum(np.sum(g * d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    assert measured == pytest.approx(slope, rel=1e-6, abs=1e-5)
