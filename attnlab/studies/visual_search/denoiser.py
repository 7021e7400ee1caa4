"""A denoising autoencoder of single items: through a narrow code and back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from attnlab.config import require
from attnlab.models.base import Model, Params
from attnlab.models.layers import draw, linear, matrix
from attnlab.tape import Sites


@dataclass(frozen=True)
class Denoiser(Model):
    """`x -> relu(x W + b) W' + b' -> the same back`: `C` channels, `hidden` units, `width` numbers of code."""

    channels: int
    hidden: int = 16
    width: int = 4

    def __post_init__(self):
        for name in ("channels", "hidden", "width"):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= 1, f"Denoiser.{name}", value, "an integer >= 1")

    def init(self, key: Key[Array, ""]) -> Params:
        """Matrices and biases as `torch.nn.Linear` starts, `encode` and `decode` of two layers each."""
        sizes = (self.channels, self.hidden, self.width, self.hidden, self.channels)
        layers = [
            {"w": matrix("torch", (a, b), a, 0.0), "b": matrix("torch", (b,), a, 0.0)} for a, b in pairwise(sizes)
        ]
        names = (("encode", layers[:2]), ("decode", layers[2:]))
        return draw(key, {name: dict(zip("01", two, strict=True)) for name, two in names})

    def code(self, params: Params, x: Float[Array, "*B C"]) -> Float[Array, "*B K"]:
        """The code of an answer of the eye."""
        return _two_layers(params["encode"], x)

    def forward(self, params: Params, inputs: Float[Array, "*B C"], sites: Sites) -> Float[Array, "*B C"]:
        """The answer without noise. Sites: `code` `[*B, width]`, `prediction`."""
        return sites("prediction", _two_layers(params["decode"], sites("code", self.code(params, inputs))))


def _two_layers(params: Any, x: Array) -> Array:
    hidden = jax.nn.relu(linear(x, params["0"]["w"]) + params["0"]["b"])
    return linear(hidden, params["1"]["w"]) + params["1"]["b"]


def denoised(model: Denoiser, params: Params, x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
    """What comes back of an answer."""
    return jnp.asarray(model.apply(params, x)[0])
