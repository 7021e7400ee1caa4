"""Local linear attention against its definitions, in float64: limits, special cases, the gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab import keys
from attnlab.attention import causal_mask, parallax, softmax
from attnlab.kernels import EXACT, Solver, local_linear_attention

LENGTH, WIDTH = 24, 6
TIGHT = Solver("cg", tol=1e-14, max_iters=60)


def _draw(name: str, *shape: int) -> Float[Array, "*B K"]:
    return jax.random.normal(keys.stream(keys.root(0), name), shape, jnp.float64)


def identities(lab: Any) -> dict[str, float]:
    """Largest absolute differences of outputs, one head of 24 random tokens of width 6."""
    with jax.enable_x64(True):
        q, k, v = (_draw(name, 1, LENGTH, WIDTH) for name in "qkv")
        ridge = 0.1
        alone = np.asarray(q[0]), np.asarray(k[0]), np.asarray(v[0])

        def lla(ridge: float = ridge, v: Any = v, **options: Any) -> np.ndarray:
            return np.asarray(local_linear_attention(q, k, v, ridge, solver=EXACT, **options))

        mask = causal_mask(LENGTH)
        slope, shift = _draw("slope", WIDTH, WIDTH), _draw("shift", WIDTH)
        affine = lla(1e-9, k @ slope + shift)[:, WIDTH + 1 :] - np.asarray(q @ slope + shift)[:, WIDTH + 1 :]
        found = {
            "uncentred": lla() - uncentred(*alone, ridge),
            "sum": lla(v=jnp.ones_like(v)) - 1,
            "softmax": lla(1e9) - np.asarray(softmax.apply({}, q, k, v, mask=mask).out),
            "ridge": lla(scale=0.0) - affine_ridge(*alone, ridge),
            "affine": affine,
            "parallax": lla() - np.asarray(_as_parallax(q, k, v, ridge)),
            "first": lla()[:, 0] - np.asarray(v[:, 0]),
        }
        return {name: float(np.max(np.abs(gap))) for name, gap in found.items()}


def uncentred(q: np.ndarray, k: np.ndarray, v: np.ndarray, ridge: float) -> np.ndarray:
    """The paper's form, row by row: `w (1 - z . rho) / (omega - mu . rho)`, `z = k - q`, `rho = Sigma^-1 mu`."""
    rows = []
    for t, query in enumerate(q):
        z = k[: t + 1] - query
        w = np.exp(k[: t + 1] @ query / np.sqrt(k.shape[1]))
        omega, mu = w.sum(), w @ z
        sigma = (w[:, None] * z).T @ z + ridge * omega * np.eye(k.shape[1])
        rho = np.linalg.solve(sigma, mu)
        rows.append((w * (1 - z @ rho) / (omega - mu @ rho)) @ v[: t + 1])
    return np.stack(rows)[None]


def affine_ridge(q: np.ndarray, k: np.ndarray, v: np.ndarray, ridge: float) -> np.ndarray:
    """Ridge regression with an intercept on all that came before, the slope's penalty `ridge` per mean square."""
    rows = []
    for t, query in enumerate(q):
        seen, given = k[: t + 1], v[: t + 1]
        centred = seen - seen.mean(0)
        system = centred.T @ centred / (t + 1) + ridge * np.eye(k.shape[1])
        slope = np.linalg.solve(system, centred.T @ given / (t + 1))
        rows.append(given.mean(0) + (query - seen.mean(0)) @ slope)
    return np.stack(rows)[None]


def _as_parallax(q: Array, k: Array, v: Array, ridge: float) -> Array:
    """Parallax with the probe `r_t = C_t^-1 (mean_t - q_t)` that the regression would choose."""
    mask = causal_mask(k.shape[-2])
    p = softmax.apply({}, q, k, v, mask=mask, view="map").weights
    assert p is not None
    mean = p @ k
    centred = k[:, None] - mean[:, :, None]
    system = jnp.einsum("htu,htui,htuj->htij", p, centred, centred) + ridge * jnp.eye(k.shape[-1])
    r = jnp.linalg.solve(system, (mean - q)[..., None])[..., 0]
    probe = jnp.eye(k.shape[-1])[:, None]  # x W = r, for x = r
    return parallax.apply({"probe": probe}, q, k, v, x=r[0], mask=mask).out


def dense(q: Array, k: Array, v: Array, ridge: Array, held: bool = False) -> Array:
    """One head by its definition, for autodiff. `held`: the penalty `ridge sum w` counts as a constant."""
    logits = jnp.where(causal_mask(q.shape[0]), q @ k.T / np.sqrt(q.shape[1]), -jnp.inf)
    lse = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    p = jnp.exp(logits - lse)
    mean = p @ k
    centred = k[None] - mean[:, None]
    rho = ridge * (jnp.exp(jax.lax.stop_gradient(lse) - lse) if held else jnp.ones_like(lse))
    system = jnp.einsum("tu,tui,tuj->tij", p, centred, centred) + rho[..., None] * jnp.eye(q.shape[1])
    x = jnp.linalg.solve(system, (q - mean)[..., None])
    return (p * (1 + (centred @ x)[..., 0])) @ v


RIDGES = (0.01, 0.1, 1.0, 10.0)


def gradients(lab: Any) -> dict[str, float]:
    """Relative differences of `(dq, dk, dv, dridge)` from autodiff of the definition: the largest over ridges and
    arguments for both solvers; for a penalty held constant the range over ridges of what `dq` and `dk` miss."""
    with jax.enable_x64(True):
        q, k, v, g = (_draw(name, LENGTH, WIDTH) for name in ("q", "k", "v", "g"))

        def pull(function: Any) -> Any:
            """The gradient as a compiled function of the ridge."""
            return jax.jit(jax.grad(lambda ridge, *x: jnp.sum(function(*x, ridge) * g), argnums=(1, 2, 3, 0)))

        def ours(solver: Solver) -> Any:
            return lambda q, k, v, ridge: local_linear_attention(q[None], k[None], v[None], ridge, solver=solver)[0]

        pulls = {"right": pull(dense), "held": pull(lambda *x: dense(*x, held=True))}
        pulls |= {"exact": pull(ours(EXACT)), "cg": pull(ours(TIGHT))}
        gaps: dict[str, list[float]] = {"exact": [], "cg": [], "held": []}
        for ridge in RIDGES:
            found = {name: [np.asarray(x) for x in f(jnp.asarray(ridge), q, k, v)] for name, f in pulls.items()}
            gap = {n: [_relative(a, b) for a, b in zip(x, found["right"], strict=True)] for n, x in found.items()}
            gaps = {name: gaps[name] + (gap[name][:2] if name == "held" else gap[name]) for name in gaps}
        return {
            "exact": max(gaps["exact"]), "cg": max(gaps["cg"]),
            "held_least": min(gaps["held"]), "held_most": max(gaps["held"]),
        }  # fmt: skip


def _relative(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.linalg.norm(x - y) / np.linalg.norm(y))
