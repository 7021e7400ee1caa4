"""Regression at test time, without training: mechanisms as memories on a stream whose law changes by segments.

Token `i` asks with key `k_i`; what it may use are the pairs before it. Mechanisms that see pairs one by one are shown
them shifted by one, those with a map have the diagonal masked. A Gaussian kernel of bandwidth `h` is softmax of keys
times `K^(1/4) / h` with the logit bias `-|k|^2 / 2 h^2`; local linear attention then has its ridge in units of `h`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import toy_tasks as tt
from attnlab import keys
from attnlab.attention import Dims, LocalLinear, Weighted, softmax
from attnlab.attention.gates import FixedBeta
from attnlab.attention.mesa import Mesa
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.rules import Delta
from theory import recall

RIDGE = 1e-3
SETTINGS = {"8": (8, 6.0, 1.0), "16": (16, 8.0, 2.0)}  # d, radius, bandwidth
NAMES = ("lla", "softmax", "mesa", "delta")


def task_of(setting: str) -> tt.PiecewiseRegression:
    """Four segments of 128 pairs."""
    dim, radius, _ = SETTINGS[setting]
    return tt.PiecewiseRegression(dim=dim, radius=radius)


def predictions(
    name: str, k: Float[Array, "B n d"], v: Float[Array, "B n m"], bandwidth: float
) -> Float[Array, "B n m"]:
    """What a mechanism says of every value from its key and the pairs before; 0 for the first."""
    width = k.shape[-1]
    k, v = k[:, None], v[:, None]  # one head
    if name in ("softmax", "lla"):
        scaled = k * (width**0.25 / bandwidth)
        fall = jnp.sum(jnp.square(k), axis=-1)[..., None, :] / (2 * bandwidth**2)
        bias = -jnp.broadcast_to(fall, (*fall.shape[:-2], k.shape[-2], k.shape[-2]))
        post = LocalLinear(RIDGE * width**0.5 / bandwidth**2, "relative")
        mechanism = softmax if name == "softmax" else Weighted("lla_relative", post=post)
        own = mechanism.init(jax.random.key(0), Dims(1, width, 1))
        mask = np.tri(k.shape[-2], k=-1, dtype=bool)
        return mechanism.apply(own, scaled, scaled, v, bias=bias, mask=mask).out[:, 0]
    rules = {"mesa": Mesa(gated=False, ridge=RIDGE), "delta": Delta(beta=FixedBeta(1.0), normalized=True)}
    mechanism = Recurrent(name, rules[name])
    own = mechanism.init(jax.random.key(0), Dims(1, width, 1))
    before = [jnp.pad(x[..., :-1, :], ((0, 0), (0, 0), (1, 0), (0, 0))) for x in (k, v)]
    return mechanism.apply(own, k, *before).out[:, 0]


def streams(lab: Any) -> dict[str, np.ndarray]:
    """Mean squared errors per entry, `{d}.{memory}.{part}` for the parts `total`, `first` (segment), `last` (32 steps),
    each `[draws]`; `{d}.{memory}.curve`, `[draws, n]`."""
    draws = 2 if lab.preset == "smoke" else 12
    found: dict[str, np.ndarray] = {}
    for setting in ("8",) if lab.preset == "smoke" else SETTINGS:
        task, bandwidth = task_of(setting), SETTINGS[setting][2]
        batch = task.sample(keys.stream(keys.root(0), "streams"), draws)
        with jax.enable_x64(True):  # sums of k k^T of 512 keys far from 0, and a ridge of 1e-3
            k, v = (jnp.asarray(np.asarray(x, np.float64)) for x in task.pairs(batch))
            for name in NAMES:
                said = jax.jit(predictions, static_argnums=(0, 3))(name, k, v, bandwidth)
                curve = np.asarray(jnp.mean(jnp.square(said - v), axis=-1))
                parts = {"total": curve, "first": curve[:, : task.segment], "last": curve[:, -32:]}
                found |= {f"{setting}.{name}.{part}": x.mean(axis=1) for part, x in parts.items()}
                found[f"{setting}.{name}.curve"] = curve
    return found


def expected(lab: Any) -> dict[str, np.ndarray]:
    """What theory gives for the same parts, exact given keys and averaged over draws of them, without any mechanism:
    `{d}.{memory}.{part}`, `[mean, standard deviation of one stream]`."""
    found = {}
    for setting in ("8",) if lab.preset == "smoke" else SETTINGS:
        task, bandwidth = task_of(setting), SETTINGS[setting][2]
        law = recall.Stream(task.dim, task.radius, task.num_pairs, task.segment, task.noise)
        sums = recall.stream_summaries(law, recall.stream_memories(bandwidth, RIDGE), 4 if lab.preset == "smoke" else 8)
        for name, summary in sums.items():
            parts = {part: getattr(summary, part) for part in ("total", "first", "last")}
            found |= {f"{setting}.{name}.{part}": np.array([row[0], row[2]]) for part, row in parts.items()}
    return found


def surprise(lab: Any) -> float:
    """Largest distance of a measured mean from the expected one, in standard errors of the mean over streams."""
    measured, told = lab.theory("streams"), lab.theory("expected")
    gaps = [abs(measured[n].mean() - mean) / (spread / np.sqrt(len(measured[n]))) for n, (mean, spread) in told.items()]
    return float(max(gaps))
