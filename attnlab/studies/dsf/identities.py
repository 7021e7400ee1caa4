"""What the dynamical systems framework says holds exactly, through the mechanisms: no training.

Each function returns largest differences between a mechanism's mixing matrix (or output) and what it should equal.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from attnlab.attention import Dims, causal_mask, softmax
from attnlab.attention import recurrent_catalogue as known
from attnlab.attention.features import TruncatedExp
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.wrappers import HeadNorm
from theory import catalogue

TOKENS, WIDTH, MODEL = 24, 8, 16
ORDERS = (2, 4, 6)


def _inputs(scale: float = 1.0) -> tuple[Array, Array, Array, Array]:
    """`q, k, v [1, T, K]` and `x [T, D]`."""
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v = (scale**p * jax.random.normal(key, (1, TOKENS, WIDTH)) for key, p in zip(keys, (1, 1, 0), strict=False))
    return q, k, v, jax.random.normal(keys[3], (TOKENS, MODEL))


def _params(mechanism: Any) -> Any:
    return mechanism.init(jax.random.key(1), Dims(1, WIDTH, MODEL))


def _matrix(mechanism: Any, params: Any, q: Array, k: Array, v: Array, x: Array) -> np.ndarray:
    return np.asarray(mechanism.apply(params, q, k, v, x=x, view="map").weights, np.float64)[0]


def _gap(found: Any, wanted: Any) -> float:
    """Largest difference over the largest entry."""
    return float(np.max(np.abs(np.asarray(found, np.float64) - wanted)) / np.max(np.abs(wanted)))


def identities(lab: Any) -> dict[str, float]:
    """Each a largest difference, over the largest entry.

    linear: separable attention with the normaliser `sum_j phi(q) . phi(k)`, against a materialised `Phi`.
    normalized: `e^(-n_i) q_i . k_j`. ssd: scalar decay, against `Phi` by the recurrence. duality: scalar decay as
    separable attention whose normaliser is `e^(-G)` and whose values are multiplied by it. sigmoid: the decay of SSD is
    the reversed sigmoid of its gate. norm: behind a norm of each head the row normaliser does not matter.
    """
    q, k, v, x = _inputs()
    phi_q, phi_k = (np.asarray(jax.nn.elu(a) + 1, np.float64)[0] for a in (q, k))
    plain_q, plain_k = (np.asarray(a, np.float64)[0] for a in (q, k))
    linear = _matrix(known.linear, _params(known.linear), q, k, v, x)
    eta = catalogue.linear_normaliser(phi_q, phi_k)
    gated = _params(known.dsf_normalized)
    exponent = np.asarray(x @ gated["read_gate"] + gated["read_bias"], np.float64)[:, 0]
    ssd_params = _params(known.ssd)
    steps = known.ssd.steps(ssd_params, q, k, v, x=x)
    log_decay = np.asarray(steps.log_decay, np.float64)[0]
    ssd = _matrix(known.ssd, ssd_params, q, k, v, x)
    by_eta = catalogue.decay_as_normaliser(log_decay)
    score = np.asarray(x @ ssd_params["decay_gate"] + ssd_params["dt_bias"], np.float64)[:, 0]
    rate = float(np.exp(np.asarray(ssd_params["a_log"], np.float64)[0]))
    return {
        "linear": _gap(linear, catalogue.separable_matrix(phi_q, phi_k, eta)),
        "normalized": _gap(
            _matrix(known.dsf_normalized, gated, q, k, v, x), catalogue.normalised_matrix(plain_q, plain_k, exponent)
        ),
        "ssd": _gap(ssd, catalogue.recurrence_matrix(np.exp(log_decay), plain_k, plain_q)),
        "duality": _gap(ssd, catalogue.separable_matrix(plain_q, plain_k, by_eta) * by_eta),
        "sigmoid": _gap(np.exp(log_decay), catalogue.reversed_sigmoid(score, rate)),
        "norm": _norm_cancels(gated, q, k, v, x),
    }


def _norm_cancels(gated: Any, q: Array, k: Array, v: Array, x: Array) -> float:
    """Head-normed normalised attention against head-normed identity kernel, the same weights."""
    plain = Recurrent("plain")
    outs = [
        HeadNorm(mechanism, eps=1e-12).apply(params, q, k, v, x=x).out
        for mechanism, params in ((known.dsf_normalized, gated), (plain, {}))
    ]
    return _gap(outs[0], np.asarray(outs[1], np.float64))


def orders(lab: Any) -> dict[str, np.ndarray]:
    """Softmax by a kernel of order `p`, `[len(ORDERS)]` each.

    `error`: largest of the outputs, for logits of standard deviation 1/2. `matrix`: largest difference of the
    mechanism's matrix from the truncated weights of `theory`.
    """
    q, k, v, x = _inputs(0.5**0.5)
    exact = np.asarray(softmax.apply({}, q, k, v, mask=causal_mask(TOKENS)).out, np.float64)
    scores = np.asarray((q @ jnp.swapaxes(k, -1, -2))[0], np.float64) / np.sqrt(WIDTH)
    errors, gaps = [], []
    for order in ORDERS:
        mechanism = Recurrent(f"order_{order}", feature=TruncatedExp(order), normalizer=known.SUM)
        weights = _matrix(mechanism, {}, q, k, v, x)
        errors.append(float(np.max(np.abs(weights @ np.asarray(v, np.float64)[0] - exact[0]))))
        gaps.append(float(np.max(np.abs(weights - catalogue.truncated_weights(scores, order)))))
    return {"error": np.array(errors), "matrix": np.array(gaps)}


def findings(lab: Any) -> dict[str, float]:
    """The identities, and how the error of order `p` falls: the least factor from one order to the next."""
    told = lab.theory("orders")
    fall = told["error"][:-1] / told["error"][1:]
    return {**identities(lab), "orders": float(told["matrix"].max()), "fall": float(fall.min())}


def parity(lab: Any) -> dict[str, float]:
    """The delta rule by weights set by hand on random bits: key 1, write strength `b x_i`, value 0 behind a first 1.

    `two`: share of right parities at `b = 2`. `one`: at `b = 1`, by the sign of the state. `eigen`: largest distance
    of the transition `1 - b x_i` from what `theory` says the state is.
    """
    bits = np.random.default_rng(0).integers(0, 2, (64, 40))
    found = {}
    for name, rate in (("two", 2.0), ("one", 1.0)):
        states = hand_set(bits, rate)
        wanted = np.stack([catalogue.parity_states(row, rate) for row in bits])
        found[name] = float(np.mean((states < 0) == (np.cumsum(bits, axis=1) % 2 == 1)))
        found[f"{name}_gap"] = float(np.max(np.abs(states - wanted)))
    return found


def hand_set(bits: np.ndarray, rate: float) -> np.ndarray:
    """The state of the delta rule of width 1 after each bit `[B, N]`.

    Keys are `sqrt(rate x)` with strength 1: `S <- S - rate x S`. A first token writes the 1 that is then turned.
    """
    from attnlab.attention.gates import FixedBeta
    from attnlab.attention.rules import Delta

    rows, num = bits.shape
    start = np.concatenate([np.ones((rows, 1)), np.sqrt(rate * bits)], axis=1)
    value = np.concatenate([np.ones((rows, 1)), np.zeros((rows, num))], axis=1)
    k, v = (jnp.asarray(a, jnp.float32)[:, None, :, None] for a in (start, value))
    out = Recurrent("hand_set", Delta(beta=FixedBeta(1.0))).apply({}, jnp.ones_like(k), k, v).out
    return np.asarray(out)[:, 0, 1:, 0]
