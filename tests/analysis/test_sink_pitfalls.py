"""Three ways to be wrong about a sink: a share without its mass, a threshold after averaging, another length."""

import jax.numpy as jnp
import numpy as np
import pytest
from fake_model import Fake

from attnlab.analysis import evaluation_batch, measure, mixing, on_key, sink_mass, sink_rate, sinks
from attnlab.config import ConfigError
from attnlab.models import Transformer
from toy_tasks import BigramBackcopy

T, B = 64, 4
TASK = BigramBackcopy.tiny_shakespeare(length=T)


def on_first(mass, length=T):
    return jnp.zeros((length, length)).at[:, 0].set(mass)


def test_share_without_mass_is_said_beside_it():
    """A head that takes a thousandth, all of it from bos: by its share a perfect sink, by its mass none."""
    weights = jnp.broadcast_to(on_first(1e-3), (B, 1, T, T))
    fake = Fake({"blocks.0.attn.weights": weights}, TASK.vocab_size)
    found = measure(mixing(TASK, B, parts=("mass", "sink")), fake, {})
    for suffix in ("", "_active", "_dormant"):
        np.testing.assert_allclose(found[f"bos_share{suffix}"], 1, rtol=1e-5)
        np.testing.assert_allclose(found[f"bos_mass{suffix}"], 1e-3, rtol=1e-5)
        np.testing.assert_allclose(found[f"absolute_mass{suffix}"], 1e-3, rtol=1e-5)
    metric = measure(sinks(TASK, B, parts="sink"), fake, {})
    assert float(metric["sink_rate_proxy"][0, 0, 0]) == 1 and float(metric["sink_rate"][0, 0, 0]) == 0


def test_normalising_makes_a_share_of_the_mass():
    """The sigmoid head and its row-normalised form have the same shares, and masses a factor 100 apart."""
    raw = on_first(8e-3).at[:, 1].add(2e-3)
    scaled = raw / jnp.sum(raw, axis=-1, keepdims=True)
    before, after = on_key(raw), on_key(scaled)
    np.testing.assert_allclose(before.share, after.share, rtol=1e-6)
    np.testing.assert_allclose(after.mass, 100 * np.asarray(before.mass), rtol=1e-5)


def test_threshold_before_averaging():
    """Half of the sequences with .5 on bos, half with none: half of them have a sink, though .25 < .3 on average."""
    weights = jnp.stack([on_first(0.5), on_first(0.0)] * 2)[:, None]
    assert float(sink_rate(weights)[0, 0]) == 0.5
    assert float(jnp.mean(sink_mass(weights), axis=0)[0, 0]) < 0.3
    # And the other way round: one sequence of four carries the average over the threshold.
    weights = jnp.stack([on_first(1.0), *[on_first(0.2)] * 3])[:, None]
    assert float(sink_rate(weights)[0, 0]) == 0.25
    assert float(jnp.mean(sink_mass(weights), axis=0)[0, 0]) > 0.3


def test_the_length_matters():
    """Uniform attention has a sink at T = 8, none at T = 64: its column mean is the T-th harmonic number over T."""
    rates = {}
    for length in (8, 64):
        even = jnp.tril(jnp.ones((length, length))) / jnp.arange(1, length + 1)[:, None]
        harmonic = np.sum(1 / np.arange(1, length + 1)) / length
        np.testing.assert_allclose(sink_mass(even, 1)[0], harmonic, rtol=1e-5)
        rates[length] = float(sink_rate(even[None], num_keys=1)[0])
    assert rates == {8: 1.0, 64: 0.0}
    # Evenness, share and mass per query have no such scale: they are 1 and 1 / n_i at every length.
    batch = evaluation_batch(TASK, B)
    even = jnp.broadcast_to(jnp.tril(jnp.ones((T, T))) / jnp.arange(1, T + 1)[:, None], (B, 1, T, T))
    found = measure(
        mixing(TASK, B, parts=("sink", "spread")), Fake({"blocks.0.attn.weights": even}, TASK.vocab_size), {}
    )
    np.testing.assert_allclose(found["evenness"], 1, rtol=1e-5)
    np.testing.assert_allclose(found["bos_share"], np.mean(1 / np.arange(2, batch.inputs.shape[1] + 1)), rtol=1e-5)


def test_sinks_refuses_registers() -> None:
    model = Transformer(vocab_size=TASK.vocab_size, length=T, width=8, registers=2)
    with pytest.raises(ConfigError, match=r"sinks: the model's registers: got 2; allowed is 0\..*analysis\.mixing"):
        sinks(TASK, B)(model, {})
