"""Where a model looks, made comparable: maps relative to a reference, shifts of gaze, gradients in the map, crops.

All are functions of maps `A`; none is an edit. `hit_rate` says how often the largest entry is the wanted key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab import edits as ed


def relative_map(
    asked: Float[Array, "*B U"], general: Float[Array, "*B U"], ridge: float = 0.0
) -> Float[Array, "*B U"]:
    """`A_q / (A_g + λ)`: attention for a question over that for a general instruction.

    If `A_q = N S / Z` (noise of the input times what the question means) and `A_g` is in proportion to `N`, the ranking
    is that of `S` as `λ -> 0`; where `A_g <~ λ` it is biased down. CARVE (2509.06461), and without `λ` the `rel-att` of
    2502.17422.
    """
    return asked / (general + ridge)


def gaze_shift(maps: Float[Array, "*B M U"]) -> Float[Array, "*B U"]:
    """GIFT's saliency (2510.22067): `Σ_m max(0, A_m - A_{m-1})` over the query tokens, normalised to sum 1 (0 if none).

    Keys whose attention is constant or falls have none: sinks drop out by construction.
    """
    raised = jnp.sum(jnp.maximum(jnp.diff(maps, axis=-2), 0), axis=-2)
    total = jnp.sum(raised, axis=-1, keepdims=True)
    return raised / jnp.where(total == 0, 1, total)


def pattern_gradients(
    model: Any, params: Any, inputs: Any, score: Callable[[Array], Array], layers: tuple[int, ...]
) -> tuple[Float[Array, "L B H T U"], Float[Array, "L B H T U"]]:
    """The maps of `layers`, and `∂ score / ∂ A`, the maps taken as free (`edits.pattern_add` at 0, not renormalised).

    `score` of the logits is a number: a sum over sequences gives every sequence its own gradient.
    """
    names = tuple(f"blocks.{layer}.attn.weights" for layer in layers)
    _, tape = model.apply(params, inputs, tape=names)
    maps = [tape[name] for name in names]

    def of(changes: list[Array]) -> Array:
        held = tuple(ed.pattern_add(layer, change) for layer, change in zip(layers, changes, strict=True))
        return score(model.apply(params, inputs, edits=held)[0])

    return jnp.stack(maps), jnp.stack(jax.grad(of)([jnp.zeros_like(x) for x in maps]))


def gradient_attention(weights: Float[Array, "*B H T U"], gradient: Float[Array, "*B H T U"]) -> Float[Array, "*B T U"]:
    """`grad-att` (2502.17422): the mean over heads of `A max(0, ∂ log p / ∂A)`."""
    return jnp.mean(weights * jnp.maximum(gradient, 0), axis=-3)


def hit_rate(
    maps: Float[Array, "B U"], target: Int[Array, " B"], keys: Bool[Array, " U"], where: Bool[Array, " B"] | None = None
) -> Float[Array, ""]:
    """Share of sequences whose largest entry among `keys` is the target; only those in `where`."""
    found = jnp.argmax(jnp.where(keys, maps, -jnp.inf), axis=-1) == target
    kept = jnp.ones(found.shape, bool) if where is None else where
    return jnp.sum(found & kept) / jnp.sum(kept)


def best_crop(
    grid: Float[Array, "Y X"], sizes: tuple[int, ...]
) -> tuple[Int[Array, ""], Int[Array, ""], Int[Array, ""]]:
    """The window to crop (2502.17422): per size the place of the largest sum; of the sizes, that whose best sum exceeds
    the mean of its four neighbours the most, per area. Returns `(size, row, column)` of its upper left corner."""
    gains, corners = [], []
    for size in sizes:
        sums = jax.lax.reduce_window(grid, 0.0, jax.lax.add, (size, size), (1, 1), "valid")
        rows, columns = sums.shape
        at = jnp.argmax(sums)
        y, x = at // columns, at % columns
        around = [(y + dy, x + dx) for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))]
        inside = jnp.array([(b >= 0) & (b < rows) & (a >= 0) & (a < columns) for b, a in around])
        values = jnp.array([sums[jnp.clip(b, 0, rows - 1), jnp.clip(a, 0, columns - 1)] for b, a in around])
        mean = jnp.sum(jnp.where(inside, values, 0)) / jnp.maximum(jnp.sum(inside), 1)
        gains.append((sums[y, x] - mean) / size**2)
        corners.append(jnp.stack([jnp.asarray(size), y, x]))
    best = jnp.stack(corners)[jnp.argmax(jnp.stack(gains))]
    return best[0], best[1], best[2]
