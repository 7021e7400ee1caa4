"""How fast softmax and local linear attention learn a curve at its edge: the mechanisms themselves, beside theory."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab import keys
from attnlab.attention import Dims, LocalLinear, Weighted, softmax
from theory import recall

SIZES = (100, 200, 400, 800, 1600, 3200, 6400)
KINDS: dict[str, Any] = {"softmax": "constant", "lla": "linear"}
PLACES: tuple[tuple[Any, float], ...] = (("low", 0.0), ("high", 1.0))


@partial(jax.jit, static_argnums=(0, 1))
def said(name: str, at: float, x: Float[Array, "R n"], y: Float[Array, "R n"], h: Array) -> Float[Array, " R"]:
    """What the mechanism says at `at` from `n` labelled points, its kernel Gaussian of bandwidth `h`."""
    mechanism = softmax if name == "softmax" else Weighted("lla_relative", post=LocalLinear(1e-9, "relative"))
    own = mechanism.init(jax.random.key(0), Dims(1, 1, 1))
    k, v = x[:, None, :, None] / h, y[:, None, :, None]
    q = jnp.full((len(x), 1, 1, 1), at, x.dtype) / h
    return mechanism.apply(own, q, k, v, bias=-jnp.square(k[..., 0])[:, :, None] / 2).out[:, 0, 0, 0]


def rates(lab: Any) -> dict[str, np.ndarray]:
    """At both ends of the interval, `low` and `high`, squared errors at the best of three bandwidths (chosen on the
    same draws: it flatters both alike).

    `{place}.{mechanism}.risk [sizes]`, `.slope` of its logarithm over log n, the same of theory as `.expected` and
    `.expected_slope`; `{place}.ratio [sizes]`, local linear over softmax.
    """
    sizes = SIZES[:2] if lab.preset == "smoke" else SIZES
    found: dict[str, np.ndarray] = {"sizes": np.array(sizes)}
    with jax.enable_x64(True):
        for place, at in PLACES:
            for name, order in KINDS.items():
                law = recall.rates(order, place, sizes=sizes, draws=4 if lab.preset == "smoke" else 16)
                risk = np.array([_risk(lab, name, at, n, h) for n, h in zip(sizes, law.bandwidth, strict=True)])
                slope = np.polyfit(np.log(sizes), np.log(risk), 1)[0]
                values = {"risk": risk, "slope": slope, "expected": law.risk, "expected_slope": np.array(law.slope)}
                found |= {f"{place}.{name}.{what}": value for what, value in values.items()}
            found[f"{place}.ratio"] = found[f"{place}.lla.risk"] / found[f"{place}.softmax.risk"]
    return found


def _risk(lab: Any, name: str, at: float, n: int, best: float) -> float:
    draws = 64 if lab.preset == "smoke" else 512
    curve, root = recall.sine_line(), keys.stream(keys.root(n), "points")
    x = jax.random.uniform(root, (draws, n), jnp.float64)
    y = curve.value(cast(np.ndarray, x)) + curve.noise * jax.random.normal(
        jax.random.fold_in(root, 1), x.shape, jnp.float64
    )
    truth = float(curve.value(np.array([at]))[0])
    tried = [said(name, at, x, y, jnp.asarray(h)) for h in best * np.array([0.7, 1.0, 1.4])]
    return min(float(jnp.mean(jnp.square(answer - truth))) for answer in tried)
