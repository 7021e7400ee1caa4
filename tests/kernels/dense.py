"""Local linear attention by its definitions: pair by pair in NumPy, and with the whole map for autodiff."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def looped(q, k, v, ridge, seen, *, scale, penalty) -> np.ndarray:
    """One head, in float64: `q[T, K]`, `k[U, K]`, `v[U, E]`, `seen[T, U]`; the uncentred normal equations (2510.01450).

    `w = exp(l)`, `z = k - q`, `mu = sum w z`, `Sigma = sum w z z^T + R I`, `R = ridge` or `ridge sum w`; weights
    `w (1 - z . rho) / (sum w - mu . rho)`, `rho = Sigma^-1 mu`.
    """
    out = np.zeros((len(q), v.shape[1]))
    for t, query in enumerate(q):
        omega, mu, sigma = 0.0, np.zeros(len(query)), np.zeros((len(query), len(query)))
        pairs = [(np.exp(scale * query @ k[u]), k[u] - query, v[u]) for u in range(len(k)) if seen[t, u]]
        for w, z, _ in pairs:
            omega, mu, sigma = omega + w, mu + w * z, sigma + w * np.outer(z, z)
        rho = np.linalg.solve(sigma + ridge * (omega if penalty == "relative" else 1) * np.eye(len(query)), mu)
        for w, z, value in pairs:
            out[t] += w * (1 - z @ rho) / (omega - mu @ rho) * value
    return out


def dense(q, k, v, ridge, seen, scale, penalty="relative"):
    """All heads, `[*B, H, T, K]`, `ridge[H]`: the centred form with the whole map, in the hands of autodiff."""
    share = q.shape[-3] // k.shape[-3]
    k, v = (jnp.repeat(x, share, axis=-3) for x in (k, v))
    logits = jnp.where(seen, scale * q @ jnp.swapaxes(k, -1, -2), -1e30)
    p = jnp.where(seen, jax.nn.softmax(logits, axis=-1), 0)
    mean = p @ k
    centred = k[..., None, :, :] - mean[..., :, None, :]
    rho = ridge[:, None]
    if penalty == "absolute":
        rho = rho * jnp.exp(jnp.minimum(-jax.scipy.special.logsumexp(logits, axis=-1), 100))
    rho = jnp.broadcast_to(rho, q.shape[:-1])[..., None, None]
    system = jnp.einsum("...tu,...tui,...tuj->...tij", p, centred, centred) + rho * jnp.eye(q.shape[-1])
    x = jnp.linalg.solve(system, (q - mean)[..., None])
    return (p * (1 + (centred @ x)[..., 0])) @ v


def published_pull(q, k, v, g, ridge: float, seen, scale: float, corrected: bool):
    """`dq, dk, dv` of one head by the published backward pass (2510.01450, as released), for the relative ridge.

    Its formulas hold with `R = ridge sum w` a constant. `corrected` adds what that leaves out (derived).
    """
    w = np.where(seen, np.exp(scale * q @ k.T), 0)
    z = k[None] - q[:, None]
    omega, mu = w.sum(1), np.einsum("tu,tui->ti", w, z)
    sigma = np.einsum("tu,tui,tuj->tij", w, z, z) + ridge * omega[:, None, None] * np.eye(q.shape[1])
    rho = np.linalg.solve(sigma, mu[..., None])[..., 0]
    delta = omega - np.sum(mu * rho, -1)

    def along(x):
        return np.einsum("ti,tui->tu", x, z)

    s = w * (1 - along(rho)) / delta[:, None]
    scores = g @ v.T
    c = scores * w / delta[:, None]
    beta, tau = (scores * s).sum(1) / delta, c.sum(1)
    u = np.linalg.solve(sigma, (c @ k - tau[:, None] * q)[..., None])[..., 0]
    d = -u + 2 * beta[:, None] * rho
    rd, rr, ru = along(d), along(rho), along(u)
    a = w * (-beta[:, None] + rd - 0.5 * rd * rr + 0.5 * ru * rr)
    inner = scores * s + a
    if corrected:
        e = np.sum(u * rho, -1) - beta * np.sum(rho * rho, -1)
        inner = inner + ridge * e[:, None] * w
    dq = scale * inner @ k - omega[:, None] * d + tau[:, None] * rho
    dq = dq + (w * rd).sum(1, keepdims=True) * rho - (w * rr).sum(1, keepdims=True) * u
    dk = scale * inner.T @ q - c.T @ rho + w.T @ d - (w * rd).T @ rho + (w * rr).T @ u
    return dq, dk, s.T @ g
