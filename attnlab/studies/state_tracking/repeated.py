"""One letter repeated: what ends in a fixed point, or in two, cannot say the powers of a letter. And theory's verdicts.

An affine map with transitions in [0, 1] of the delta rule or the decays takes the outputs of a repeated letter to a
limit (or, without decay, to a constant direction); one factor with strengths up to 2 takes them to two. The witness is
the change of the output after many letters, over weights drawn at random.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab.attention import Dims
from attnlab.attention import recurrent_catalogue as known
from attnlab.studies.state_tracking.hand_built import CASES, build
from theory.tracking import Family, expressivity
from toy_tasks.groups import Group

POSITIVE: dict[str, Any] = {
    "ssd": known.ssd,
    "gla": known.gla,
    "hgrn2": known.hgrn2,
    "delta_net": known.delta_net,
    "gated_delta_net": known.gated_delta_net,
}
NEGATIVE: dict[str, Any] = {"delta_net_negative": known.delta_net_negative}
LETTERS, DRAWS, WIDTH, MODEL = 200, 16, 8, 16
STEEP = 20.0  # times the gates of strengths: nearly all of them at an end of their range


def repeated(lab: Any) -> dict[str, float]:
    """`<mechanism>.one`, `.two`: largest change of the output after 1 and after 2 letters at the end of 200, over the
    largest output, of all draws; `Z6.one` .. `Z6.six` that of weights by hand, for an element of order 6."""
    found: dict[str, float] = {}
    few = ("ssd", "delta_net") if lab.preset == "smoke" else tuple(POSITIVE)
    for name in (*few, "delta_net_negative"):
        mechanism = dataclasses.replace((POSITIVE | NEGATIVE)[name], chunk=None)
        outputs = random_outputs(mechanism)
        found |= {f"{name}.{lag}": change(outputs, steps) for lag, steps in (("one", 1), ("two", 2))}
    built = build(CASES["Z6"])
    outputs = built.outputs(np.full((1, LETTERS), 1))
    found |= {f"Z6.{lag}": change(outputs, steps) for lag, steps in (("one", 1), ("two", 2), ("three", 3), ("six", 6))}
    return found


def change(outputs: np.ndarray, lag: int) -> float:
    """Largest `|o_T - o_(T - lag)| / max_t |o_t|` over draws `[B, T, K]`."""
    sizes = np.linalg.norm(outputs, axis=-1).max(axis=1)
    return float(np.max(np.linalg.norm(outputs[:, -1] - outputs[:, -1 - lag], axis=-1) / sizes))


def random_outputs(mechanism: Any) -> np.ndarray:
    """`[DRAWS, T, K]`: a letter of its own repeated in each draw, its parameters and vectors drawn too."""

    def of(key: Any) -> Any:
        *vectors, own, token = jax.random.split(key, 5)
        params = mechanism.init(own, Dims(1, WIDTH, MODEL))
        if "beta_gate" in params:
            params["beta_gate"] = STEEP * params["beta_gate"]
        q, k, v = (jnp.tile(jax.random.normal(each, (1, 1, WIDTH)), (1, LETTERS, 1)) for each in vectors)
        x = jnp.tile(jax.random.normal(token, (1, MODEL)), (LETTERS, 1))
        return mechanism.apply(params, q, k, v, x=x).out[0]

    return np.asarray(jax.jit(jax.vmap(of))(jax.random.split(jax.random.key(0), DRAWS)))


# ---- what theory says of a run

FAMILIES: dict[str, tuple[Family, int]] = {
    "parity_beta_1": ("delta_unit", 1),
    "parity_beta_2": ("delta", 1),
    "delta_1": ("delta_unit", 1),
    "delta_2": ("delta", 1),
    "product": ("delta", 2),
    "product_unit": ("delta_unit", 2),
    "gated_delta": ("delta_unit", 1),
    "ssd": ("decay", 1),
    "softmax": ("constant_depth", 1),
}


def verdict(run: str) -> str:
    """What theory says of a run, `<group>_<mechanism>` or one of parity: `yes`, `no`, ..."""
    group, rest = ("Z2", run) if run.startswith("parity") else run.split("_", 1)
    family, factors = FAMILIES["softmax" if rest.startswith("softmax") else rest]
    return expressivity(Group(group), family, factors=factors).answer
