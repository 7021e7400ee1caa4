"""The test body that kernels share: held to a reference in float64 in value and gradient, and to themselves to the bit.

A kernel and its reference are functions of the same arguments (arrays, or trees of them) to an array or a tree.
Arguments are given as NumPy arrays; what is of a float type is rounded to `dtype` first, so that both see the same
numbers, and what is not (masks, positions) goes in as it is. The gradient is that of `sum(w * out)` with normal `w`.

Example:
  def kernel(q, k, v): return attention(q, k, v, interpret=True)
  def reference(q, k, v): return jax.nn.softmax(q @ k.mT) @ v          # runs in float64, differentiated by JAX
  found = holds_to_reference(kernel, reference, (q, k, v), bound=1e-6, reason="sums of 23 numbers, each to 6e-8")
  is_the_same_every_time(kernel, (q, k, v))
  maps_over_seeds(kernel, [(q, k, v), (k, q, v)], bound=1e-6, reason="the order of sums may differ")
  reads_nothing_hidden(kernel, (q, k, v), (q, k_with_nan_where_hidden, v))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Function = Callable[..., Any]


class Found(NamedTuple):
    """`out` of a function, and the gradients by those of its arguments that were asked for, leaves in NumPy."""

    out: Any
    gradients: tuple[Any, ...]


def is_float(x: Any) -> bool:
    """Whether an array is of a float type, bfloat16 too."""
    return jnp.issubdtype(np.asarray(x).dtype, jnp.floating)


def rounded(args: Sequence[Any], dtype: Any) -> tuple[Any, ...]:
    """The floats among the leaves in `dtype`."""
    return jax.tree.map(lambda x: np.asarray(x).astype(dtype) if is_float(x) else np.asarray(x), tuple(args))


def differentiable(args: Sequence[Any]) -> tuple[int, ...]:
    """Places of the arguments that are made of floats alone."""
    return tuple(i for i, x in enumerate(args) if jax.tree.leaves(x) and all(map(is_float, jax.tree.leaves(x))))


def cotangent(function: Function, args: Sequence[Any], seed: int = 9) -> Any:
    """Standard normal weights of the output, float64 with so few digits that every float type holds them."""
    rng = np.random.default_rng(seed)

    def normal(x: Any) -> np.ndarray:
        return rng.normal(size=x.shape).astype(jnp.bfloat16).astype(np.float64)

    return jax.tree.map(normal, jax.eval_shape(function, *args))


def with_gradient(function: Function, grad_argnums: Sequence[int]) -> Function:
    """`(w, *args) -> Found`."""

    def total(w: Any, *args: Any) -> Any:
        out = function(*args)
        return sum(jnp.sum(a * b.astype(a.dtype)) for a, b in zip(*map(jax.tree.leaves, (w, out)), strict=True)), out

    def run(w: Any, *args: Any) -> Found:
        pulled, out = jax.grad(total, tuple(i + 1 for i in grad_argnums), has_aux=True)(w, *args)
        return Found(out, pulled)

    return run


def measured(
    function: Function, args: Sequence[Any], *, dtype: Any, grad_argnums: Sequence[int] | None = None, jit: bool = True
) -> Found:
    """`function` and its gradients in `dtype` (float64: with 64 bits switched on)."""
    args = rounded(args, dtype)
    wrt = differentiable(args) if grad_argnums is None else tuple(grad_argnums)
    wide = np.dtype(dtype) == np.float64
    with jax.enable_x64(wide):
        w = jax.tree.map(lambda x: x.astype(np.float64 if wide else np.float32), cotangent(function, args))
        run = with_gradient(function, wrt)
        return jax.tree.map(np.asarray, (jax.jit(run) if jit else run)(w, *args))


def close(found: Any, expected: Any, bound: float, reason: str) -> None:
    """Leaf by leaf: the same shapes, all finite, and the largest difference at most `bound` times the largest number.

    `bound=0` asks for equal bits. Where `expected` is all zeros, so is what is found.
    """
    assert reason, "a tolerance has a reason"
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(expected)]
    for path, a, b in zip(paths, *map(jax.tree.leaves, (found, expected)), strict=True):
        assert a.shape == b.shape, (path, a.shape, b.shape)
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        assert np.isfinite(a).all(), f"{path} is not finite"
        off, size = np.max(np.abs(a - b), initial=0), np.max(np.abs(b), initial=0)
        assert off <= bound * size, f"{path}: {off:.3g} off, of {size:.3g}; allowed is {bound:g} of it: {reason}"


def holds_to_reference(
    kernel: Function,
    reference: Function,
    args: Sequence[Any],
    *,
    bound: float,
    reason: str,
    gradient_bound: float | None = None,
    grad_argnums: Sequence[int] | None = None,
    dtype: Any = np.float32,
) -> Found:
    """The value of `kernel` in `dtype`, and its gradients, are those of `reference` in float64.

    Args:
      bound: largest difference over the largest number of the leaf.
      gradient_bound: that of gradients; None = the same.
      reason: for both.
      grad_argnums: None = all arguments of floats.

    Returns:
      what the kernel gave.
    """
    args = rounded(args, dtype)
    found = measured(kernel, args, dtype=dtype, grad_argnums=grad_argnums)
    expected = measured(reference, args, dtype=np.float64, grad_argnums=grad_argnums)
    close(found.out, expected.out, bound, reason)
    close(found.gradients, expected.gradients, bound if gradient_bound is None else gradient_bound, reason)
    return found


def is_the_same_every_time(
    kernel: Function, args: Sequence[Any], *, grad_argnums: Sequence[int] | None = None, dtype: Any = np.float32
) -> None:
    """Two calls of the compiled kernel and its gradient agree to the bit."""
    args = rounded(args, dtype)
    wrt = differentiable(args) if grad_argnums is None else tuple(grad_argnums)
    with jax.enable_x64(False):
        w = jax.tree.map(lambda x: x.astype(np.float32), cotangent(kernel, args))
        run = jax.jit(with_gradient(kernel, wrt))
        same_bits(run(w, *args), run(w, *args))


def same_bits(one: Any, two: Any) -> None:
    """Equal to the bit, leaf by leaf."""
    for a, b in zip(*map(jax.tree.leaves, (one, two)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def is_the_same_without_jit(
    kernel: Function,
    args: Sequence[Any],
    *,
    bound: float,
    reason: str,
    grad_argnums: Sequence[int] | None = None,
    dtype: Any = np.float32,
) -> None:
    """Operation by operation as in one program; `bound=0`: to the bit."""
    found, expected = (measured(kernel, args, dtype=dtype, grad_argnums=grad_argnums, jit=jit) for jit in (False, True))
    close(found, expected, bound, reason)


def maps_over_seeds(
    kernel: Function,
    draws: Sequence[Sequence[Any]],
    *,
    bound: float,
    reason: str,
    grad_argnums: Sequence[int] | None = None,
    dtype: Any = np.float32,
) -> None:
    """`vmap` over the arguments of several seeds gives what each gives alone, gradients too; `bound=0`: to the bit."""
    draws = [rounded(args, dtype) for args in draws]
    wrt = differentiable(draws[0]) if grad_argnums is None else tuple(grad_argnums)
    with jax.enable_x64(False):
        w = jax.tree.map(lambda x: x.astype(np.float32), cotangent(kernel, draws[0]))
        run = with_gradient(kernel, wrt)
        alone, together = jax.jit(run), jax.jit(jax.vmap(run, (None, *[0] * len(draws[0]))))
        stacked = jax.tree.map(lambda *x: np.stack(x), *draws)
        expected = jax.tree.map(lambda *x: np.stack(x), *(alone(w, *args) for args in draws))
        close(jax.tree.map(np.asarray, together(w, *stacked)), expected, bound, reason)


def reads_nothing_hidden(
    kernel: Function,
    args: Sequence[Any],
    changed: Sequence[Any],
    *,
    grad_argnums: Sequence[int] | None = None,
    dtype: Any = np.float32,
) -> None:
    """Other numbers where nobody may look leave output and gradients as they are, to the bit.

    Args:
      changed: `args` with something else (huge, or nan if the kernel promises that) in hidden places.
    """
    one, two = (measured(kernel, x, dtype=dtype, grad_argnums=grad_argnums) for x in (args, changed))
    same_bits(one, two)
