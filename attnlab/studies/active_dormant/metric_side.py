"""A18, A19: the sink metric on attention of known shape, and attention on repeated tokens for any weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import theory
import toy_tasks as tt
from attnlab import analysis, keys
from attnlab.models import Transformer

LENGTH = 64


def unit_values(seeds: int) -> dict[str, np.ndarray]:
    """A18: the metric on uniform, identity and ideal attention at `T = 64`."""
    position = jnp.arange(1, LENGTH + 1)
    uniform = jnp.tril(jnp.ones((LENGTH, LENGTH))) / position[:, None]
    identity_rate = np.asarray(analysis.sink_rate(jnp.eye(LENGTH)[None]))
    late = np.arange(1, LENGTH + 1) >= LENGTH - 2
    task = tt.BigramBackcopy.tiny_shakespeare(num_triggers=3, length=LENGTH)
    ideal = []
    for seed in range(seeds):
        batch = task.sample(keys.stream(keys.root(seed), "eval"), 100)
        ideal.append(float(analysis.sink_rate(task.ideal_attention(batch))[0]))
    return {
        "uniform": np.asarray(analysis.sink_mass(uniform)[:1]),
        "uniform_rate": np.asarray([analysis.sink_rate(uniform[None]).max()]),
        "identity": np.asarray([float(np.array_equal(identity_rate > 0, late))]),
        "ideal": np.asarray(ideal),
    }


def repeated_tokens(seeds: int, num_heads: int = 4) -> dict[str, np.ndarray]:
    """A19: four layers of random weights read one token 64 times; all layers and heads, over seeds."""
    tokens = jnp.zeros((1, LENGTH), jnp.int32)
    slopes = 2.0 ** (-8.0 * np.arange(1, num_heads + 1) / num_heads)
    alibi = np.stack([theory.alibi_attention(slope, LENGTH) for slope in slopes])
    one_over_t = theory.nope_attention(LENGTH)
    found: dict[str, list[float]] = {"nope": [], "alibi": [], "rope": [], "learned": []}
    for seed in range(seeds):
        for positions in ("none", "alibi", "rope", "learned"):
            model = Transformer(
                vocab_size=5, length=LENGTH, num_layers=4, num_heads=num_heads, width=32, positions=positions
            )
            params = model.init(keys.stream(keys.root(seed), "init"))
            wanted = tuple(f"blocks.*.attn.{site}" for site in ("weights", "q", "k"))
            _, tape = jax.jit(lambda p, m=model, w=wanted: m.apply(p, tokens, tape=w))(params)
            weights = np.stack([np.asarray(tape[f"blocks.{layer}.attn.weights"][0]) for layer in range(4)])
            if positions == "none":
                found["nope"].append(float(np.abs(weights - one_over_t).max()))
            elif positions == "alibi":
                found["alibi"].append(float(np.abs(weights - alibi).max()))
            elif positions == "learned":
                found["learned"].append(float(np.abs(weights - one_over_t).max()))
            else:
                found["rope"].append(_excess_over_bound(weights, tape, model.dims.head_dim))
    return {name: np.array(values) for name, values in found.items()}


def _excess_over_bound(weights: np.ndarray, tape: dict[str, jax.Array], head_dim: int) -> float:
    """Largest `A_t1 - e^(2 xi) / (e^(2 xi) + t - 1)`, with `xi` the largest |logit| of that layer and head."""
    worst = -np.inf
    for layer, maps in enumerate(weights):
        q, k = (np.asarray(tape[f"blocks.{layer}.attn.{site}"][0], np.float64) for site in ("q", "k"))
        logits = np.abs(np.einsum("htk,huk->htu", q, k)) / np.sqrt(head_dim)
        for head, one in enumerate(maps):
            xi = np.tril(logits[head]).max()
            bound = theory.rope_first_token_bound(xi, np.arange(1, LENGTH + 1))
            worst = max(worst, float((one[:, 0] - bound).max()))
    return worst
