"""Gradient flow of small models: `dp/dt = -grad loss(p)`, what gradient descent becomes as its rate goes to zero.

Time is steps x learning rate: `n` steps of gradient descent at rate `lr` end near the flow at `t = n lr`, `O(lr)` off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from numpy.typing import ArrayLike

from attnlab.config import require

Method = Literal["RK45", "DOP853", "Radau", "BDF", "LSODA"]


class FlowError(RuntimeError):
    """The solver could not reach the last time."""


def gradient_flow(
    loss: Callable[[Any], Array],
    params: Any,
    times: ArrayLike,
    *,
    rtol: float = 1e-8,
    atol: float = 1e-10,
    method: Method = "DOP853",
) -> Any:
    """Parameters on the flow `dp/dt = -grad loss(p)` that starts in `params` at `times[0]`.

    Solved by `scipy.integrate.solve_ivp` in float64, whatever `jax_enable_x64` says elsewhere: parameters are made
    float64 and the gradient is compiled under `jax.enable_x64`. Constants inside `loss` keep the precision they have.

    Args:
      loss: scalar function of the parameters, e.g. `losses.on_batch(model, task.sample(key, 4096))`.
      params: where the flow starts; a pytree of floating-point arrays.
      times: `[N]`, rising; the first is the time of the start.
      rtol, atol: bounds on the local error of every parameter.
      method: `DOP853` or `RK45` where nothing is stiff; `Radau`, `BDF`, `LSODA` get the exact Hessian, `P x P`.

    Returns:
      The pytree of `params` with leaves `[N, ...]`, numpy float64.

    Raises:
      FlowError: the solver gave up, or the loss ceased to be finite on the way.

    Example:
      flow = gradient_flow(lambda p: 0.5 * p @ H @ p, p0, np.linspace(0, 5, 50))    # expm(-H t) @ p0
    """
    from scipy.integrate import solve_ivp

    at = np.atleast_1d(np.asarray(times, np.float64))
    rising = at.ndim == 1 and at.size >= 2 and np.all(np.isfinite(at)) and np.all(np.diff(at) > 0)
    require(bool(rising), "times", times, "at least two finite numbers that rise")
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = f"params{jax.tree_util.keystr(path)}"
        require(jnp.issubdtype(jnp.result_type(leaf), jnp.floating), name, leaf, "an array of real numbers")
    with jax.enable_x64(True):
        start, unravel = ravel_pytree(jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), params))
        value = jax.eval_shape(lambda flat: loss(unravel(flat)), start)
        require(getattr(value, "shape", None) == (), "loss", value, "a function with one number as its value")
        gradient = jax.jit(jax.grad(lambda flat: loss(unravel(flat))))
        hessian = jax.jit(jax.jacfwd(gradient)) if method in ("Radau", "BDF", "LSODA") else None

        def velocity(time: float, flat: np.ndarray) -> np.ndarray:
            found = np.asarray(gradient(flat))
            if not np.all(np.isfinite(found)):
                raise FlowError(f"gradient_flow: the gradient is not finite at time {time:g}; the flow cannot go on.")
            return -found

        options: dict[str, Any] = {} if hessian is None else {"jac": lambda time, flat: -np.asarray(hessian(flat))}
        found = solve_ivp(velocity, at[[0, -1]], np.asarray(start), method, t_eval=at, rtol=rtol, atol=atol, **options)
        if not found.success:
            raise FlowError(
                f"gradient_flow: {method} stopped at time {found.t[-1] if found.t.size else at[0]:g}: {found.message}"
            )
        return jax.tree.map(np.asarray, jax.vmap(unravel)(jnp.asarray(found.y.T)))
