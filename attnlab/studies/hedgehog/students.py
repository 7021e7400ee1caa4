"""Feature maps with a learned affine map in front, like Hedgehog's in all but the function: its controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.attention import recurrent_catalogue as catalogue
from attnlab.attention.features import Hedgehog, elu_plus_one
from attnlab.attention.recurrent import Recurrent


def elu_of(y: Float[Array, "*B T M"]) -> Float[Array, "*B T M"]:
    """`elu(y) + 1`."""
    return elu_plus_one(y)


def mirrored_elu(y: Float[Array, "*B T M"]) -> Float[Array, "*B T N"]:
    """`[elu(y) + 1, elu(-y) + 1]`: as many features as Hedgehog."""
    return jnp.concatenate([elu_plus_one(y), elu_plus_one(-y)], axis=-1)


def relu_of(y: Float[Array, "*B T M"]) -> Float[Array, "*B T M"]:
    """`max(y, 0)`, the function of T2R (2103.13076)."""
    return jax.nn.relu(y)


def _control(name: str, form: Callable[[Array], Array]) -> Recurrent:
    """Hedgehog with another function: learned `W` (the identity first), `b`, others for queries than for keys."""
    return replace(catalogue.hedgehog, name=name, feature=Hedgehog(form, scale=1.0))


elu_learned = _control("elu_learned", elu_of)
elu_mirrored = _control("elu_mirrored", mirrored_elu)
relu_learned = _control("relu_learned", relu_of)

# Students by the name that figures and claims use; Taylor has nothing to learn.
STUDENTS = {
    "hedgehog": catalogue.hedgehog,
    "hedgehog_split": catalogue.hedgehog_split,
    "elu_learned": elu_learned,
    "relu_learned": relu_learned,
    "taylor": catalogue.taylor,
}
CONTROLS = {"elu_mirrored": elu_mirrored}


def one_chunk(mechanism: Recurrent, length: int) -> Recurrent:
    """The same mechanism, its parallel form in one chunk: the fastest at the short lengths of a study."""
    return replace(mechanism, chunk=length)
