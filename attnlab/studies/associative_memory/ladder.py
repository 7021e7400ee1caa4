"""In-context linear regression by weights set by hand: every mechanism at its best, against its law.

A token holds an input as key and its label as value; the query is `x_q` at every token, so that one pass gives the
answer after every number of pairs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.attention import causal_mask, softmax, uniform
from attnlab.attention.gates import FixedBeta
from attnlab.attention.mesa import Mesa
from attnlab.attention.posts import LocalLinear
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.recurrent_catalogue import hebb
from attnlab.attention.rules import Delta, InLine
from attnlab.attention.weighted import named
from theory import catalogue, icl

DIM = 8
LENGTHS = (2, 4, 8, 16, 32, 64)
NOISY = icl.Setting(DIM, LENGTHS[-1], 0.1, noisy_query=False)
CLEAN = icl.Setting(DIM, LENGTHS[-1], 0.0, noisy_query=False)
TINY = 1e-5  # the ridge that stands for 0


class Prompts:
    """`x [B, L, d]`, labels `y [B, L]`, query `[B, d]` and its label without noise `[B]`, of one setting."""

    def __init__(self, setting: icl.Setting, prompts: int):
        length, d = LENGTHS[-1], setting.dim
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((prompts, length, d)).astype(np.float32)
        self.query = rng.standard_normal((prompts, d)).astype(np.float32)
        beta = rng.standard_normal((prompts, d)).astype(np.float32) / np.sqrt(d)
        noise = np.sqrt(setting.noise_variance) * rng.standard_normal((prompts, length))
        self.y = np.einsum("bld,bd->bl", self.x, beta) + noise.astype(np.float32)
        self.answer = np.einsum("bd,bd->b", self.query, beta)


@partial(jax.jit, static_argnames="mechanism")
def _answers(mechanism: Any, params: Any, q: Array, k: Array, v: Array) -> Array:
    return mechanism.apply(params, q, k, v, mask=causal_mask(q.shape[-2])).out[:, 0, :, 0]


def apply(
    mechanism: Any, prompts: Prompts, *, q: Any = 1.0, k: Any = 1.0, v: Any = 1.0, params: Any = None
) -> Float[np.ndarray, "B L"]:
    """What the mechanism answers after every pair; `q, k, v` multiply queries, keys, labels, maybe by place."""

    def tall(factor: Any) -> Array:
        return jnp.reshape(jnp.broadcast_to(jnp.asarray(factor, jnp.float32), LENGTHS[-1]), (-1, 1))

    x, y = jnp.asarray(prompts.x)[:, None], jnp.asarray(prompts.y)[:, None, :, None]
    query = jnp.broadcast_to(prompts.query[:, None, None, :], x.shape)
    value = jnp.pad(y, ((0, 0), (0, 0), (0, 0), (0, x.shape[-1] - 1)))
    return np.asarray(_answers(mechanism, params or {}, tall(q) * query, tall(k) * x, tall(v) * value))


def _at_lengths(values: dict[int, float]) -> np.ndarray:
    """A number per place: that of the length which ends there, 1 elsewhere."""
    found = np.ones(LENGTHS[-1])
    for length, value in values.items():
        found[length - 1] = value
    return found


def schedule(setting: icl.Setting) -> np.ndarray:
    """The best rates of the plain delta rule, `b_l = E / (E (d + 2) + s2 d)` (`catalogue.best_delta_risk`)."""
    left = catalogue.best_delta_risk(np.arange(LENGTHS[-1]), setting) - setting.floor
    return left / (left * (setting.dim + 2) + setting.noise_variance * setting.dim)


def answers(setting: icl.Setting, prompts: Prompts, draws: int) -> dict[str, np.ndarray]:
    """Mechanism -> answers after every pair `[B, L]`; where a weight depends on the length, right at `LENGTHS` only."""
    count = np.arange(1, LENGTHS[-1] + 1)
    steps = {n: (icl.gd_optimum(setting.at(n)).eta, icl.dgd_optimum(setting.at(n)).eta) for n in LENGTHS}
    heads = {n: icl.exact_one_head(setting.at(n), draws) for n in LENGTHS}
    omega = _at_lengths({n: float(head.omega[0]) for n, head in heads.items()})
    mu = _at_lengths({n: float(head.mu[0]) for n, head in heads.items()})
    rate = np.sqrt(schedule(setting))
    ridge = setting.noise_variance * setting.dim or TINY
    local = named(softmax, "lla", post=LocalLinear(TINY))
    mean = apply(uniform, prompts)
    inline = apply(Recurrent("inline", InLine()), prompts, q=_at_lengths({n: s[1] for n, s in steps.items()}))
    return {
        "mean": mean,
        "gd": apply(hebb, prompts, q=_at_lengths({n: s[0] for n, s in steps.items()}) / count),
        "inline": inline,
        "debiased": inline - mean,
        "delta": apply(Recurrent("delta", Delta(beta=FixedBeta(1.0))), prompts, k=rate, v=rate),
        "softmax": mu * apply(named(softmax, "softmax", scale=1.0), prompts, q=omega),
        "ridge": apply(Recurrent("ridge", Mesa(gated=False, ridge=ridge)), prompts),
        "lla": apply(local, prompts, params={"log_ridge": jnp.log(jnp.full(1, TINY))}),
    }


def risks(lab: Any, setting: icl.Setting) -> dict[str, dict[str, np.ndarray]]:
    """Mechanism -> `risk` and `error` (standard) at `LENGTHS`; `law` and its own `law_error` where there is one."""
    prompts, draws = (256, 300) if lab.preset == "smoke" else (4096, 1500)
    data = Prompts(setting, prompts)
    found = {}
    at = np.array(LENGTHS) - 1
    for name, told in answers(setting, data, draws).items():
        squares = (told[:, at].astype(np.float64) - data.answer[:, None]) ** 2
        found[name] = {"risk": squares.mean(0), "error": squares.std(0, ddof=1) / np.sqrt(prompts)}
    for name, law in catalogue.predict_ladder(setting, LENGTHS, draws).items():
        slack = 0.0 if law.band is None else (law.band[1] - law.values) / 4
        found[name] |= {"law": law.values, "law_error": np.broadcast_to(slack, law.values.shape)}
    return found


def noisy(lab: Any) -> dict[str, dict[str, np.ndarray]]:
    """`risks` with label noise .1."""
    return risks(lab, NOISY)


def clean(lab: Any) -> dict[str, dict[str, np.ndarray]]:
    """`risks` without label noise."""
    return risks(lab, CLEAN)


def findings(lab: Any) -> dict[str, float]:
    """`setting.mechanism`: largest distance from the law in standard errors of both; and what the ladder says."""
    told = {"noisy": lab.theory("noisy"), "clean": lab.theory("clean")}
    found: dict[str, float] = {}
    for title, rows in told.items():
        for name, row in rows.items():
            if "law" in row:
                error = np.sqrt(row["error"] ** 2 + row["law_error"] ** 2)
                # Where nothing is left to err about the measure has no spread: 1e-4 is float32 through the ridge.
                gap = np.maximum(np.abs(row["risk"] - row["law"]) - 1e-4, 0)
                found[f"{title}.{name}"] = float(np.max(gap / np.maximum(error, 1e-12)))
    enough = np.array(LENGTHS) >= 2 * DIM
    found["lla.clean"] = float(np.max(told["clean"]["lla"]["risk"][enough]))
    found["ridge.clean"] = float(np.max(told["clean"]["ridge"]["risk"][enough]))
    order = [told["noisy"][name]["risk"][-1] for name in ("mean", "softmax", "gd", "ridge")]
    found["order"] = float(np.min(-np.diff(order)))
    return found
