"""The dynamics of the reduced models: exact gradient flow, gradient descent, and Adam.

`gradient_flow` is solved in logarithmic time, `u = log(1 + t)`, by a stiff solver, since sink logits grow like `log t`:
from 0 to 1e12 is as far as 28 units of `u`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory import backcopy_reduced, relu_flow
from theory.backcopy_reduced import ReducedModel

Optimizer = Literal["gradient_flow", "sgd", "adam"]
Attention = Literal["softmax", "relu"]
Gradient = Callable[[check.Array], check.Array]


@dataclass(frozen=True, eq=False)
class FlowSolution:
    """A trajectory of the reduced model.

    Attributes:
      times: `[N]` flow times, or numbers of optimizer steps.
      alpha: `[N, V]` logits to the first token; entries of tokens that are not modelled keep their start.
      beta: `[N, V]` value of the first token.
      loss: `[N]`.
    """

    times: Float[np.ndarray, " N"]
    alpha: Float[np.ndarray, "N V"]
    beta: Float[np.ndarray, "N V"]
    loss: Float[np.ndarray, " N"]


def integrate(
    model: ReducedModel,
    alpha0: ArrayLike,
    beta0: ArrayLike,
    times: ArrayLike,
    *,
    freeze: Literal["alpha", "beta"] | None = None,
    optimizer: Optimizer = "gradient_flow",
    attention: Attention = "softmax",
    learning_rate: float = 1e-2,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    method: Literal["LSODA", "Radau", "BDF"] = "LSODA",
) -> FlowSolution:
    """Train the reduced model from a given start.

        gradient_flow:  d theta / dt = - grad loss(theta)
        sgd:            theta <- theta - learning_rate grad loss(theta)
        adam:           as published, with bias correction and no weight decay

    Args:
      model: constants of the loss.
      alpha0: `[V]` start of the sink logits, or one number for all.
      beta0: `[V]` start of the first token's value, or one number for all.
      times: `[N]` increasing; flow times, or whole numbers of steps for `sgd` and `adam` (step `n` of SGD corresponds
        to the flow time `n learning_rate`).
      freeze: the parameter that does not move.
      optimizer: see above.
      attention: `softmax`, or `relu` for the model of `theory.relu_flow`.
      learning_rate: of `sgd` and `adam`.
      betas: of `adam`.
      eps: of `adam`.
      rtol: relative tolerance of the flow's solver.
      atol: absolute tolerance of the flow's solver.
      method: the flow's solver, one of SciPy's stiff ones.

    Returns:
      The trajectory at `times`.

    Raises:
      ValueError: for a wrong shape or choice, times that do not increase, or steps that are not whole.
      RuntimeError: if the solver gives up.
    """
    size = model.vocab_size
    when = check.times("times", times)
    check.choice("freeze", freeze, (None, "alpha", "beta"))
    check.choice("optimizer", optimizer, ("gradient_flow", "sgd", "adam"))
    check.choice("attention", attention, ("softmax", "relu"))
    start = np.concatenate(
        [
            check.vector(name, np.broadcast_to(np.asarray(x, dtype=np.float64), (size,)), size)
            for name, x in (("alpha0", alpha0), ("beta0", beta0))
        ]
    )
    moves = np.repeat([freeze != "alpha", freeze != "beta"], size)
    gradients, loss = (backcopy_reduced.gradients, backcopy_reduced.loss)
    if attention == "relu":
        gradients, loss = (relu_flow.relu_gradients, relu_flow.relu_loss)

    def gradient(theta: check.Array) -> check.Array:
        return np.concatenate(gradients(model, theta[:size], theta[size:])) * moves

    if optimizer == "gradient_flow":
        path = _flow(gradient, start, when, rtol, atol, method)
    else:
        check.number("learning_rate", learning_rate, 0.0, strict=True)
        if (when != np.round(when)).any():
            raise check.fail("times", when.tolist(), "whole numbers of steps", "Round them.")
        momentum = tuple(check.number("betas", b, 0.0, 1.0) for b in betas) if optimizer == "adam" else None
        path = _descend(gradient, start, when.astype(int), learning_rate, momentum, eps)
    values = np.array([loss(model, theta[:size], theta[size:]) for theta in path])
    return FlowSolution(when, path[:, :size], path[:, size:], values)


def _flow(gradient: Gradient, start: check.Array, when: check.Array, rtol: float, atol: float, method: str):
    """Gradient flow in `u = log(1 + t)`: `d theta / du = -(1 + t) grad`."""
    from scipy.integrate import solve_ivp  # here, so that importing the package stays fast

    nodes = np.log1p(when)
    if nodes[-1] == 0:
        return start[None]
    solution = solve_ivp(
        lambda u, theta: -np.exp(u) * gradient(theta),
        (0.0, nodes[-1]),
        start,
        method=method,
        t_eval=nodes,
        rtol=rtol,
        atol=atol,
    )
    if not solution.success:
        raise RuntimeError(f"the solver {method} stopped: {solution.message} Try another method or a larger rtol.")
    return solution.y.T


def _descend(
    gradient: Gradient,
    start: check.Array,
    when: np.ndarray,
    learning_rate: float,
    momentum: tuple[float, ...] | None,
    eps: float,
) -> check.Array:
    """Gradient descent, or Adam if `momentum = (beta1, beta2)`, recorded after each number of steps in `when`."""
    theta, first, second = start.copy(), np.zeros_like(start), np.zeros_like(start)
    recorded, wanted = [], set(when.tolist())
    if 0 in wanted:
        recorded.append(theta.copy())
    for step in range(1, int(when[-1]) + 1):
        slope = gradient(theta)
        if momentum is not None:
            b1, b2 = momentum
            first, second = b1 * first + (1 - b1) * slope, b2 * second + (1 - b2) * slope**2
            slope = (first / (1 - b1**step)) / (np.sqrt(second / (1 - b2**step)) + eps)
        theta = theta - learning_rate * slope
        if step in wanted:
            recorded.append(theta)
    return np.array(recorded)
