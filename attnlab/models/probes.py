"""Probes of frozen tokens: pool `T` vectors into one, normalise over the batch, read classes by a linear map.

    mean       z = mean_t x_t                                           D C + C numbers
    efficient  a_q = softmax_t(x_t . u_q / sqrt(D)),  z_q = sum_t a_qt x_t V_q      Q D + D^2 / s more
    attention  the same with a_h = softmax_t(x_t W_K^h . (u W_Q)^h / sqrt(K)), z = [z_1 .. z_H] W_O    D + 4 D^2 more

`V_q` is the query's slice of one matrix `D -> D / s`: efficient probing has queries and values, no keys, no output
matrix. With one learned query the attention of `H` heads is efficient probing with `Q = H` queries in other parameters
(`u_h = sqrt(D / K) W_K^h (u W_Q)^h`, the classifier `W_O W`), so it can do nothing more (derived here).

Source: arXiv 2506.10178 and its code: the scale sqrt(D), queries N(0, .02^2), BatchNorm without gain and shift before
the classifier. The code keeps running means for it; here `folded` puts those of given tokens into the classifier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from attnlab.config import require
from attnlab.models.base import Model, Params
from attnlab.models.layers import Draw, draw, linear, matrix
from attnlab.tape import Sites

_EPS = 1e-5
P = TypeVar("P", bound="Probe")


@dataclass(frozen=True)
class Probe(Model):
    """What all probes share. They read `[*B, T, D]`, any activation of a trained model, and say a class per sequence.

    Attributes:
      dim: `D`, of a token. num_classes: `C`.
      batch_norm: whether features have mean 0 and variance 1 over the batch. They then depend on the batch: train in
        whole batches (`microbatch=batch_size`), and measure what `folded` gives.
    """

    dim: int
    num_classes: int
    batch_norm: bool = True

    def __post_init__(self):
        for name in ("dim", "num_classes"):
            _count(self, name)

    @property
    def features(self) -> int:
        """`M`, numbers that the classifier reads."""
        return self.dim

    def init(self, key: Key[Array, ""]) -> Params:
        """Initial parameters: those of the pooling, `classifier` `[M, C]`, `bias` `[C]`."""
        classes = matrix("torch", (self.features, self.num_classes), self.features, 0.0)
        return draw(key, {**self._pooling(), "classifier": classes, "bias": jnp.zeros(self.num_classes)})

    @property
    def size(self) -> int:
        """How many parameters there are."""
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))

    def forward(self, params: Params, inputs: Float[Array, "*B T D"], sites: Sites) -> Float[Array, "*B T C"]:
        """Logits of the sequence's class, the same at every position.

        Sites, in order: `weights` `[*B, Q, T]` (not of the mean), `pooled` `[*B, M]`, `features` `[*B, M]`, `logits`.
        """
        width = inputs.shape[-1]
        require(width == self.dim, "inputs", f"vectors of width {width}", f"dim={self.dim}")
        x = sites("pooled", self._pool(params, inputs, sites))
        if self.batch_norm:
            mean, scale = _statistics(x)
            x = (x - mean) * scale
        said = linear(sites("features", x), params["classifier"]) + params["bias"]
        said = jnp.broadcast_to(said[..., None, :], (*inputs.shape[:-1], self.num_classes))
        return sites("logits", said)

    def folded(self: P, params: Params, tokens: Float[Array, "*B T D"]) -> tuple[P, Params]:
        """The probe without `batch_norm` that normalises by the statistics of these tokens, and its parameters."""
        alone = replace(self, batch_norm=False)
        if not self.batch_norm:
            return alone, params
        mean, scale = _statistics(self._pool(params, tokens, Sites()))
        classes = params["classifier"] * scale[:, None]
        return alone, {**params, "classifier": classes, "bias": params["bias"] - mean @ classes}

    def _pooling(self) -> Params:
        return {}

    def _pool(self, params: Params, x: Float[Array, "*B T D"], sites: Sites) -> Float[Array, "*B M"]:
        raise NotImplementedError


@dataclass(frozen=True)
class MeanProbe(Probe):
    """The mean over tokens and a linear map: the linear probe of pooled tokens."""

    def _pool(self, params: Params, x: Float[Array, "*B T D"], sites: Sites) -> Float[Array, "*B M"]:
        return jnp.mean(x, axis=-2)


@dataclass(frozen=True)
class EfficientProbe(Probe):
    """Efficient probing. Parameters: `query` `[Q, D]`, `value` `[D, D / s]`, and the classifier's.

    Attributes:
      queries: `Q`, a divisor of `D / s`. shrink: `s`, a divisor of `D`: values have width `D / s`.
    """

    queries: int = 1
    shrink: int = 1

    def __post_init__(self):
        super().__post_init__()
        _count(self, "queries")
        _count(self, "shrink")
        require(self.dim % self.shrink == 0, "EfficientProbe.shrink", self.shrink, f"a divisor of dim={self.dim}")
        fits = self.features % self.queries == 0
        require(fits, "EfficientProbe.queries", self.queries, f"a divisor of dim / shrink = {self.features}")

    @property
    def features(self) -> int:
        return self.dim // self.shrink

    def _pooling(self) -> Params:
        value = matrix("torch", (self.dim, self.features), self.dim, 0.0)
        return {"query": Draw("normal", (self.queries, self.dim), 0.02), "value": value}

    def _pool(self, params: Params, x: Float[Array, "*B T D"], sites: Sites) -> Float[Array, "*B M"]:
        scores = jnp.einsum("...td,qd->...qt", x, params["query"]) * self.dim**-0.5
        weights = sites("weights", jax.nn.softmax(scores))
        values = linear(x, params["value"])
        values = values.reshape(*values.shape[:-1], self.queries, -1)
        pooled = jnp.einsum("...qt,...tqk->...qk", weights, values)
        return pooled.reshape(*x.shape[:-2], self.features)


@dataclass(frozen=True)
class AttentionProbe(Probe):
    """Cross-attention of one learned query, in full: `seed` `[D]`, `query, key, value, output` `[D, D]`, classifier.

    Attributes:
      num_heads: `H`, a divisor of `D`.
    """

    num_heads: int = 4

    def __post_init__(self):
        super().__post_init__()
        _count(self, "num_heads")
        require(self.dim % self.num_heads == 0, "AttentionProbe.num_heads", self.num_heads, f"a divisor of {self.dim}")

    def _pooling(self) -> Params:
        names = ("query", "key", "value", "output")
        found: dict[str, Any] = {name: matrix("torch", (self.dim, self.dim), self.dim, 0.0) for name in names}
        return found | {"seed": Draw("normal", (self.dim,), 0.02)}

    def _pool(self, params: Params, x: Float[Array, "*B T D"], sites: Sites) -> Float[Array, "*B M"]:
        heads = (self.num_heads, self.dim // self.num_heads)
        asked = (params["seed"] @ params["query"]).reshape(heads)
        keys, values = (linear(x, params[name]).reshape(*x.shape[:-1], *heads) for name in ("key", "value"))
        weights = sites("weights", jax.nn.softmax(jnp.einsum("...thk,hk->...ht", keys, asked) * heads[1] ** -0.5))
        pooled = jnp.einsum("...ht,...thk->...hk", weights, values)
        return pooled.reshape(*x.shape[:-2], self.dim) @ params["output"]

    def as_efficient(self, params: Params) -> tuple[EfficientProbe, Params]:
        """Efficient probing with `H` queries that says the same; of a probe without `batch_norm` (see `folded`)."""
        hint = "Take what `folded` gives: a norm after the output matrix is no norm before it."
        require(not self.batch_norm, "AttentionProbe.batch_norm", True, "False", hint)
        heads = (self.num_heads, self.dim // self.num_heads)
        asked = (params["seed"] @ params["query"]).reshape(heads)
        query = jnp.einsum("dhk,hk->hd", params["key"].reshape(self.dim, *heads), asked) * self.num_heads**0.5
        other = EfficientProbe(self.dim, self.num_classes, False, self.num_heads)
        classes = params["output"] @ params["classifier"]
        return other, {"query": query, "value": params["value"], "classifier": classes, "bias": params["bias"]}


def _statistics(x: Float[Array, "*B M"]) -> tuple[Float[Array, " M"], Float[Array, " M"]]:
    """Mean, and one over the standard deviation, over all axes but the last."""
    axes = tuple(range(x.ndim - 1))
    return jnp.mean(x, axis=axes), jax.lax.rsqrt(jnp.var(x, axis=axes) + _EPS)


def _count(probe: Any, name: str) -> None:
    value = getattr(probe, name)
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    require(whole, f"{type(probe).__name__}.{name}", value, "an integer >= 1")
