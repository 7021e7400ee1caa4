"""How a query reads a context of labelled pairs, without a key or a value per token and head."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.config import require
from toy_tasks.base import Prompt


class Circuits(NamedTuple):
    """What attention reads and writes, of every head, multiplied out (they are `D x D` with `D = d + m`, no more).

    Attributes:
      kq: `Float[*S, H, D, D]`, row = coordinate of the key token, column = of the query token; scale included.
      ov: `Float[*S, H, D, m]`, row = coordinate of the value token, column = output.
    """

    kq: Array
    ov: Array


def read_prompt(inputs: Prompt | Float[Array, "*B U D"], dim: int, num_outputs: int) -> Prompt:
    """`inputs` as a prompt, if its inputs and labels have these widths."""
    prompt = inputs if isinstance(inputs, Prompt) else Prompt.of(inputs, dim)
    widths = (prompt.x.shape[-1], prompt.y.shape[-1])
    allowed = f"inputs of width dim={dim} and num_outputs={num_outputs} labels"
    require(widths == (dim, num_outputs), "inputs", f"inputs of width {widths[0]} and {widths[1]} labels", allowed)
    return prompt


def directions(query: Float[Array, "*B a"], kq: Float[Array, "H D D"]) -> Float[Array, "*B H D"]:
    """`KQ^h z_q`: KQ meets the query first, one direction per head instead of a key per token and head.

    Of `query` the first numbers may be given; the others are 0.
    """
    return jnp.einsum("...j,hij->...hi", query, kq[..., : query.shape[-1]])


def scores(asks: Float[Array, "*B H D"], x: Float[Array, "*B C d"], y: Float[Array, "*B C m"]) -> Array:
    """`z_c . KQ^h z_q` `[*B, H, C]` for `z = (x, y)`, which are never put side by side."""
    d = x.shape[-1]
    of_x = jnp.einsum("...hi,...ci->...hc", asks[..., :d], x)
    return of_x + jnp.einsum("...hi,...ci->...hc", asks[..., d:], y)


def mixed(
    weights: Float[Array, "*B H C"], x: Float[Array, "*B C d"], y: Float[Array, "*B C m"], ov: Float[Array, "H D o"]
) -> Float[Array, "*B H o"]:
    """`(sum_c A^h_c z_c) OV^h`."""
    d = x.shape[-1]
    mean_x = jnp.einsum("...hc,...ci->...hi", weights, x)
    mean_y = jnp.einsum("...hc,...co->...ho", weights, y)
    return jnp.einsum("...hi,hio->...ho", mean_x, ov[:, :d]) + jnp.einsum("...hi,hio->...ho", mean_y, ov[:, d:])
