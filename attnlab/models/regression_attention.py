"""One attention layer that reads a prompt of labelled pairs and predicts the label of a query (He et al., 2503.12734).

No positions, no MLP, no norm, no residual stream, no bias: the whole model is its circuits KQ and OV, and what the
paper proves about it is said of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from attnlab.attention.base import WeightMap
from attnlab.attention.maps import SOFTMAX
from attnlab.config import require
from attnlab.models.base import Model, Params
from attnlab.models.factored import Factored
from attnlab.models.layers import Draw, draw, matrix
from attnlab.models.prompts import Circuits as Circuits
from attnlab.models.prompts import directions, mixed, read_prompt, scores
from attnlab.tape import Sites
from toy_tasks.base import Prompt

Form = Literal["separate", "merged", "reduced"]
Start = Literal["torch", "small", "small_kq", "opposite"]
_KQ = ("query", "key", "kq", "omega")


@dataclass(frozen=True)
class RegressionAttention(Model):
    """The label of a query, read off the pairs of its context by `H` heads.

        yhat = sum_h (sum_c A^h_c z_c) OV^h,   A^h = map(z_1 KQ^h z_q, ..., z_C KQ^h z_q),   z = (x, y), z_q = (x_q, 0).

    The query is no key. `D = d + m` is the width of a token; heads are as wide (`K = D`), which is part of the result:
    narrower heads cannot have a KQ proportional to the identity.

    Attributes:
      dim: `d`, width of an input.
      num_heads: `H`.
      num_outputs: `m`, labels of a pair.
      form: `separate`: `query, key, value [D, H, K]`, `output [H, K, m]`, with `KQ = W_K W_Q^T / sqrt(K)` and
        `OV = W_V W_O`. `merged`: `kq [H, D, D]`, `ov [H, D, m]`. `reduced`: `omega [H]`, `mu [H, m]`, with
        `KQ = diag(omega, ..., omega, 0)` and `OV = mu` on the labels alone.
      map: from attention logits to weights (`attnlab.attention.maps`).
      start: initial values. `torch`: U(-1, 1) / sqrt(fan in), as `torch.nn.Linear`; `merged` and `reduced` get
        N(0, scale^2) instead. The authors' small starts: `small`: `scale` times the identity in every matrix (all heads
        are equal, and stay so); `opposite`: the same, with `W_Q` (or `kq`, `omega`) negative in every second head;
        `small_kq`: the same in `W_Q` and `W_K` (or `kq`, `omega`) only, the rest as in `torch`.
      scale: of the start.
    """

    dim: int
    num_heads: int = 2
    num_outputs: int = 1
    form: Form = "separate"
    map: WeightMap = SOFTMAX
    start: Start = "torch"
    scale: float = 0.02

    num_layers = 1

    def __post_init__(self):
        for name in ("dim", "num_heads", "num_outputs"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(whole, f"RegressionAttention.{name}", value, "an integer >= 1")
        for name, kind in (("form", Form), ("start", Start)):
            value = getattr(self, name)
            require(value in get_args(kind), f"RegressionAttention.{name}", value, " | ".join(get_args(kind)))
        require(self.scale > 0, "RegressionAttention.scale", self.scale, "a number > 0")

    @property
    def width(self) -> int:
        """`D`, the width of a token."""
        return self.dim + self.num_outputs

    def init(self, key: Key[Array, ""]) -> Params:
        """Initial parameters; see `form` and `start`."""
        found: Params = {}
        for name, shape in self._shapes().items():
            fan_in = self.width * self.num_heads if name == "output" else self.width
            if self.start in ("small", "opposite") or (self.start == "small_kq" and name in _KQ):
                found[name] = self._identity(name, shape)
            elif self.form == "separate":
                found[name] = matrix("torch", shape, fan_in, 0.0)
            else:
                found[name] = Draw("normal", shape, self.scale)
        return draw(key, found)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        wide, heads, out = self.width, self.num_heads, self.num_outputs
        if self.form == "separate":
            return dict.fromkeys(("query", "key", "value"), (wide, heads, wide)) | {"output": (heads, wide, out)}
        if self.form == "merged":
            return {"kq": (heads, wide, wide), "ov": (heads, wide, out)}
        return {"omega": (heads,), "mu": (heads, out)}

    def _identity(self, name: str, shape: tuple[int, ...]) -> Array:
        """`scale` times the identity in every head (ones in a vector); labels go to outputs."""
        eye = np.eye(self.width)
        one = eye[:, self.dim :] if name in ("ov", "output") else np.ones(shape[1:]) if len(shape) < 3 else eye
        flip = self.start == "opposite" and name in ("query", "kq", "omega")
        per_head = [(-1 if flip and head % 2 else 1) * self.scale * one for head in range(self.num_heads)]
        return jnp.asarray(np.stack(per_head, axis=1 if name in ("query", "key", "value") else 0), float)

    def construct(self, omega: Any, mu: Any) -> Params:
        """Parameters whose head `h` has `KQ = diag(omega_h, 0)` and `OV = (0, mu_h)`.

        Args:
          omega: `[H]`, or `[H, d]` for a diagonal that differs by coordinate (not in the form `reduced`).
          mu: `[H, m]`, or `[H]` for one output.
        """
        heads, d, wide, out = self.num_heads, self.dim, self.width, self.num_outputs
        omega, mu = jnp.asarray(omega, float), jnp.asarray(mu, float)
        mu = mu[:, None] if mu.ndim == out == 1 else mu
        require(omega.shape in ((heads,), (heads, d)), "omega", omega.shape, f"({heads},) or ({heads}, {d})")
        require(mu.shape == (heads, out), "mu", mu.shape, f"({heads}, {out})")
        if self.form == "reduced":
            require(omega.ndim == 1, "omega", omega.shape, f"({heads},) in the form 'reduced'")
            return {"omega": omega, "mu": mu}
        diagonal = omega if omega.ndim == 2 else jnp.broadcast_to(omega[:, None], (heads, d))
        kq = jnp.zeros((heads, wide, wide)).at[:, jnp.arange(d), jnp.arange(d)].set(diagonal)
        ov = jnp.zeros((heads, wide, out)).at[:, d:].set(jnp.eye(out) * mu[:, None, :])
        if self.form == "merged":
            return {"kq": kq, "ov": ov}
        eye = jnp.broadcast_to(jnp.eye(wide)[:, None], (wide, heads, wide))
        query = jnp.moveaxis(kq, (0, 1, 2), (1, 2, 0)) * wide**0.5
        return {"query": query, "key": eye, "value": eye, "output": ov}

    def circuits(self, params: Params) -> Circuits:
        """KQ and OV of every head, whatever the form; leading axes of the parameters stay."""
        if self.form == "merged":
            return Circuits(params["kq"], params["ov"])
        if self.form == "separate":
            kq = jnp.einsum("...ihk,...jhk->...hij", params["key"], params["query"]) * self.width**-0.5
            return Circuits(kq, jnp.einsum("...ihk,...hko->...hio", params["value"], params["output"]))
        inputs = jnp.diag(jnp.arange(self.width) < self.dim)
        labels = jnp.eye(self.width)[:, self.dim :]
        return Circuits(params["omega"][..., None, None] * inputs, params["mu"][..., None, :] * labels)

    def kq(self, params: Params, layer: int = 0, head: int = 0) -> Factored:
        """`W_K W_Q^T / sqrt(K)` of one head, `[D, D]`: the logit of query `z_q` at the token `z` is `z KQ z_q`."""
        self._check(layer, head)
        if self.form == "separate":
            query = jnp.swapaxes(params["query"][..., :, head, :], -1, -2)
            return Factored(params["key"][..., :, head, :] * self.width**-0.5, query)
        return Factored.whole(self.circuits(params).kq[..., head, :, :])

    def ov(self, params: Params, layer: int = 0, head: int = 0) -> Factored:
        """`W_V W_O` of one head, `[D, m]`: attending to the token `z` adds `z OV` to the prediction."""
        self._check(layer, head)
        if self.form == "separate":
            return Factored(params["value"][..., :, head, :], params["output"][..., head, :, :])
        return Factored.whole(self.circuits(params).ov[..., head, :, :])

    def _check(self, layer: int, head: int) -> None:
        require(layer == 0, "layer", layer, "0: this model has one layer")
        require(0 <= head < self.num_heads, "head", head, f"0 to {self.num_heads - 1}")

    def forward(self, params: Params, inputs: Prompt | Float[Array, "*B U D"], sites: Sites) -> Float[Array, "*B 1 m"]:
        """The prediction of the query's label.

        `inputs` is a `Prompt`, or tokens whose last one is the query (layout `masked_key`; its label is not read).

        Sites, in order: `blocks.0.attn.{logits, weights}` `[*B, H, 1, C]`, `blocks.0.attn.head_out` `[*B, H, 1, m]`,
        `prediction` `[*B, 1, m]`.
        """
        prompt = read_prompt(inputs, self.dim, self.num_outputs)
        kq, ov = self.circuits(params)
        asks = directions(prompt.query, kq)
        logits = sites("blocks.0.attn.logits", scores(asks, prompt.x, prompt.y)[..., None, :])
        weights = sites("blocks.0.attn.weights", self.map(logits, jnp.ones(logits.shape[-2:], bool)))[..., 0, :]
        head_out = sites("blocks.0.attn.head_out", mixed(weights, prompt.x, prompt.y, ov)[..., None, :])
        return sites("prediction", jnp.sum(head_out, axis=-3))
