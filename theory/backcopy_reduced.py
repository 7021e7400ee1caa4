"""The reduced model of the Bigram-Backcopy task: how one attention head disturbs a bigram law that the MLP already has.

A token `v` that is no trigger predicts, from the MLP alone, the true bigram row `p_v`. Its attention head is useless
here and can only disturb: it puts the logit `alpha_v` on the first token (whose value is the vector `beta`) and the
logit 0 on each of `W` other visible keys (whose values add up to the vector `B`). With

    s_v = e^alpha_v / (e^alpha_v + W),     d_v = 1 / (e^alpha_v + W),
    q_v = softmax_k( log p_v(k) + s_v beta_k + d_v B_k ),
    loss(alpha, beta) = sum_v pi_v KL(p_v || q_v).

Everything is computed from the disturbance centred under `p_v`, so that losses and gradients keep their relative
accuracy when `alpha` is 100 and the disturbance is e^-100.

Source: arXiv 2410.13835, the reduced model of its theory part; the formulas below are derived here from this model.
Assumptions: the bigram law sits in the MLP, `W` and `B` are constants (their averages over contexts).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory._tilt import attention_parts, centred, tilt


@dataclass(frozen=True, eq=False)
class ReducedModel:
    """The constants of the reduced model; all arrays float64 and read-only.

    Attributes:
      P: `[V, V]` bigram kernel `P[current, next]`. Rows of triggers are not used and may be all zero; so may rows of
        tokens with `pi = 0`.
      triggers: token ids that copy instead of following the bigram law.
      pi: `[V]` weight of each token in the loss (its stationary frequency); entries of triggers are ignored.
      W: number of visible keys other than the first token.
      B: `[V]` sum of their values, `B_k = W_k xi_k` for `W_k` copies of token `k` with value `xi_k e_k`.

    Raises:
      ValueError: for a kernel that is not stochastic, negative weights, `W <= 0`, or shapes that disagree.
    """

    P: Float[np.ndarray, "V V"]
    triggers: tuple[int, ...]
    pi: Float[np.ndarray, " V"]
    W: float
    B: Float[np.ndarray, " V"]

    def __post_init__(self) -> None:
        size = check.square_size("P", self.P)
        pi = check.vector("pi", self.pi, size)
        triggers = check.token_ids("triggers", self.triggers, size)
        if (pi < 0).any():
            raise check.fail("smallest entry of pi", float(pi.min()), "at least 0", "Pass frequencies.")
        needed = pi > 0
        needed[list(triggers)] = False
        object.__setattr__(self, "P", check.frozen(check.kernel("P", self.P, needed)))
        object.__setattr__(self, "triggers", triggers)
        object.__setattr__(self, "pi", check.frozen(pi))
        object.__setattr__(self, "W", check.number("W", self.W, 0.0, strict=True, what="Count the visible keys."))
        object.__setattr__(self, "B", check.frozen(check.vector("B", self.B, size)))

    @classmethod
    def from_counts(
        cls, P: ArrayLike, triggers: Iterable[int], pi: ArrayLike, counts: ArrayLike, xi: ArrayLike
    ) -> ReducedModel:
        """The model of a context with `counts[k]` visible copies of token `k`, each of value `xi[k] e_k`.

        Args:
          counts: `[V]` copies of each token, the first token of the sequence left out.
          xi: `[V]` value of each token, or one number for all.
        """
        copies = check.vector("counts", counts)
        values = check.vector("xi", np.broadcast_to(np.asarray(xi, dtype=np.float64), copies.shape))
        return cls(np.asarray(P), tuple(triggers), np.asarray(pi), float(copies.sum()), copies * values)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, `V`."""
        return self.P.shape[0]

    @property
    def modelled(self) -> Bool[np.ndarray, " V"]:
        """`[V]` the tokens the model speaks of: no triggers, and with a row in `P`."""
        mask = self.P.sum(axis=1) > 0
        mask[list(self.triggers)] = False
        return mask


def _disturbance(
    model: ReducedModel, alpha: ArrayLike, beta: ArrayLike
) -> tuple[check.Array, check.Array, check.Array, check.Array]:
    """What attention adds to the logits of each modelled row.

    Args:
      alpha: `[V]` logits to the first token; entries of tokens that are not modelled are ignored.
      beta: `[V]` value of the first token.

    Returns:
      `(p, s, d, x)`: the `R` modelled rows of `P` `[R, V]`, weight on the first token `s` `[R]` and on each other key
      `d` `[R]`, and the disturbance `s beta + d B` centred under `p`, `[R, V]`.
    """
    rows = model.modelled
    p = model.P[rows]
    s, d = attention_parts(check.vector("alpha", alpha, model.vocab_size)[rows], model.W)
    b = check.vector("beta", beta, model.vocab_size)
    return p, s, d, s[:, None] * centred(p, b) + d[:, None] * centred(p, model.B)


def transition_law(model: ReducedModel, alpha: ArrayLike, beta: ArrayLike) -> Float[np.ndarray, "V V"]:
    """`q_v = softmax(log p_v + s_v beta + d_v B)`, the law the model predicts after each token.

    Args:
      alpha: `[V]` logits to the first token.
      beta: `[V]` value of the first token.

    Returns:
      `[V, V]` with rows that sum to one; rows the model does not speak of (triggers) are NaN.

    Raises:
      ValueError: for vectors of the wrong size or with entries that are not finite.

    Source: arXiv 2410.13835, reduced model.
    """
    p, _, _, x = _disturbance(model, alpha, beta)
    out = np.full_like(model.P, np.nan)
    out[model.modelled] = p + tilt(p, x)[1]
    return out


def excess_risk(model: ReducedModel, alpha: ArrayLike, beta: ArrayLike) -> Float[np.ndarray, " V"]:
    """`KL(p_v || q_v)` for each token `[V]`, in nats; NaN for tokens that are not modelled."""
    p, _, _, x = _disturbance(model, alpha, beta)
    out = np.full(model.vocab_size, np.nan)
    out[model.modelled] = tilt(p, x)[0]
    return out


def loss(model: ReducedModel, alpha: ArrayLike, beta: ArrayLike) -> float:
    """`sum_v pi_v KL(p_v || q_v)` over the modelled tokens, in nats (arguments as in `transition_law`)."""
    p, _, _, x = _disturbance(model, alpha, beta)
    return float(model.pi[model.modelled] @ tilt(p, x)[0])


def gradients(
    model: ReducedModel, alpha: ArrayLike, beta: ArrayLike
) -> tuple[Float[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """The gradient of `loss`. With `G_v = q_v - p_v`,

        d loss / d alpha_v = pi_v s_v d_v <G_v, W beta - B>,      d loss / d beta = sum_v pi_v s_v G_v.

    Args:
      alpha: `[V]` logits to the first token.
      beta: `[V]` value of the first token.

    Returns:
      `(d_alpha, d_beta)`, each `[V]`; `d_alpha` is zero for tokens that are not modelled.

    Raises:
      ValueError: for vectors of the wrong size or with entries that are not finite.

    Source: arXiv 2410.13835, reduced model; derived here, held to finite differences by the tests.
    """
    p, s, d, x = _disturbance(model, alpha, beta)
    rows = model.modelled
    gap = tilt(p, x)[1]
    pull = model.W * centred(p, np.asarray(beta, dtype=np.float64)) - centred(p, model.B)
    d_alpha = np.zeros(model.vocab_size)
    d_alpha[rows] = model.pi[rows] * s * d * (gap * pull).sum(axis=1)
    return d_alpha, (model.pi[rows] * s) @ gap


def small_disturbance_risk(model: ReducedModel, alpha: ArrayLike, beta: ArrayLike) -> Float[np.ndarray, " V"]:
    """Leading order of `excess_risk` for a small disturbance:

        KL(p_v || q_v)  ~  Var_{p_v}(e^alpha_v beta + B) / (2 (e^alpha_v + W)^2),

    which for a constant `beta` is `Var_{p_v}(B) / (2 (e^alpha_v + W)^2)`: e^(-2 alpha), the price of an imperfect sink.

    Args:
      alpha: `[V]` logits to the first token.
      beta: `[V]` value of the first token.

    Returns:
      `[V]` in nats, NaN for tokens that are not modelled.

    Source: derived here from the reduced model. Assumption: the disturbance of the logits is much below 1; the
    relative error is of its order.
    """
    p, _, _, x = _disturbance(model, alpha, beta)
    out = np.full(model.vocab_size, np.nan)
    out[model.modelled] = (p * x**2).sum(axis=1) / 2
    return out
