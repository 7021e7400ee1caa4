"""Each optimizer against its formulas, written again in numpy float64."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import attnlab as al
from attnlab.config import ConfigError
from attnlab.training.optimizers import as_optimizer


def adam_reference(p, grads, lr, b1, b2, eps, decay=0.0):
    """Kingma and Ba (1412.6980), algorithm 1; with `decay`, Loshchilov and Hutter (1711.05101), algorithm 2."""
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        p = p - lr * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * p)
    return p


def sgd_reference(p, grads, lr, momentum, decay):
    """`torch.optim.SGD`: decay is added to the gradient, the buffer begins as the first gradient, no dampening."""
    buffer = None
    for g in grads:
        g = g + decay * p
        buffer = g if buffer is None else momentum * buffer + g
        p = p - lr * buffer
    return p


CASES = {
    "adamw": (
        al.adamw(3e-2, b1=0.8, b2=0.95, eps=1e-6, weight_decay=0.1),
        lambda p, g: adam_reference(p, g, 3e-2, 0.8, 0.95, 1e-6, 0.1),
    ),
    "adamw, defaults of 2410.13835": (al.adamw(), lambda p, g: adam_reference(p, g, 1e-3, 0.9, 0.99, 1e-8, 1e-4)),
    "adam": (al.adam(3e-2), lambda p, g: adam_reference(p, g, 3e-2, 0.9, 0.999, 1e-8)),
    "sgd": (al.sgd(0.1), lambda p, g: sgd_reference(p, g, 0.1, 0.0, 0.0)),
    "sgd, momentum, decay": (al.sgd(0.1, 0.9, 0.05), lambda p, g: sgd_reference(p, g, 0.1, 0.9, 0.05)),
}


@pytest.mark.parametrize("name", CASES)
def test_ten_updates_equal_the_formulas(name, x64, rng):
    optimizer, reference = CASES[name]
    start, grads = rng.normal(size=7), rng.normal(size=(10, 7))
    rule = optimizer.transform()
    params = jnp.asarray(start)
    state = rule.init(params)
    for g in grads:
        updates, state = rule.update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
    # 1e-12: ten updates of numbers near 1 in float64, where one rounding is 1e-16.
    np.testing.assert_allclose(params, reference(start, grads), rtol=0, atol=1e-12)
    assert np.max(np.abs(reference(start, grads) - start)) > 1e-3  # and they moved


def test_lists_of_numbers_are_one_per_seed():
    optimizer = as_optimizer(al.sgd([0.1, 0.2], momentum=(0.0, 0.9)))
    np.testing.assert_array_equal(optimizer.learning_rate, [0.1, 0.2])
    np.testing.assert_array_equal(optimizer.momentum, [0.0, 0.9])


@pytest.mark.parametrize("wrong", [1e-3, "adam", al.adamw, al.training.optimizers.AdamW])
def test_what_is_no_optimizer_is_named(wrong):
    with pytest.raises(ConfigError, match="optimizer: got"):
        as_optimizer(wrong)
