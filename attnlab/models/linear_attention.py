"""Linear self-attention on labelled pairs and a query: the model in which in-context regression is solved by hand.

Zhang, Frei, Bartlett (2306.09927): one layer, gradient flow, closed form of its limit. Von Oswald et al. (2212.07677)
and Ahn et al. (2306.00297): layers as steps of gradient descent, with a preconditioner, or with a change of the inputs
on the way (GD++).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from attnlab.config import require
from attnlab.models import linear_constructions
from attnlab.models.base import Model, Params
from attnlab.models.factored import Factored
from attnlab.models.layers import Draw, draw
from attnlab.models.prompts import Circuits, directions, mixed, read_prompt, scores
from attnlab.tape import Sites
from toy_tasks.base import Prompt

Form = Literal["merged", "separate"]
Start = Literal["normal", "scaled", "torch", "zhang"]


@dataclass(frozen=True)
class LinearAttention(Model):
    """`L` layers on the tokens `z_c = (x_c, y_c)` of a context and, last, the query `z_q = (x_q, 0)`:

        z_t <- z_t + (1 / rho) sum_h sum_u (z_u KQ^h z_t) z_u OV^h,        yhat = read * (labels of z_q after L layers).

    No softmax, no positions, no norm, no bias; every token is updated, the query is a key only if `query_is_key`.
    Vectors are rows: in the column letters of the papers `KQ = W_KQ = W_K^T W_Q` and `OV = W_PV^T = (P W_V)^T`.

    Attributes:
      dim, num_outputs: `d`, `m`; a token has `D = d + m` numbers.
      num_layers, num_heads: `L`, `H`.
      shared: whether all layers have the same parameters (von Oswald's recurrent model).
      residual: whether a layer adds to the tokens or takes their place.
      rho: what sums over the context are divided by. `length`: the number `C` of labelled pairs in the prompt at hand,
        whatever it was in training (Zhang, Ahn). A number: always that; the training length makes it the unnormalised
        sum whose predictions grow with the context. `none`: 1 (von Oswald).
      query_is_key: Zhang: yes; von Oswald, Ahn: no.
      read: -1 (von Oswald, Ahn) or 1 (Zhang) times the query's labels is the prediction. More than one step of gradient
        descent needs -1: what is added to the labels of the query is then what is taken from those of the context.
      form: `merged`: `kq [L, H, D, D]`, `ov [L, H, D, D]`. `separate`: `query, key, value [L, D, H, K]`,
        `output [L, H, K, D]`, with `KQ = W_K W_Q^T` and `OV = W_V W_O`. If `shared`, the first axis is 1.
      head_dim: `K` of the form `separate`; None = `D`.
      start: initial values of every matrix. `normal`: N(0, scale^2). `scaled`: N(0, scale / fan_in) (von Oswald: scale
        .002 / L, cut at two standard deviations). `torch`: scale * U(-1, 1) / sqrt(fan_in). `zhang`: see `zhang`.
      scale: of the start.
    """

    dim: int
    num_layers: int = 1
    num_heads: int = 1
    num_outputs: int = 1
    shared: bool = False
    residual: bool = True
    rho: Literal["length", "none"] | float = "length"
    query_is_key: bool = False
    read: int = -1
    form: Form = "merged"
    head_dim: int | None = None
    start: Start = "normal"
    scale: float = 0.02

    def __post_init__(self):
        for name in ("dim", "num_layers", "num_heads", "num_outputs", "head_dim"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            whole |= name == "head_dim" and value is None
            require(whole, f"LinearAttention.{name}", value, "an integer >= 1")
        for name, kind in (("form", Form), ("start", Start)):
            value = getattr(self, name)
            require(value in get_args(kind), f"LinearAttention.{name}", value, " | ".join(get_args(kind)))
        number = isinstance(self.rho, int | float) and not isinstance(self.rho, bool) and self.rho > 0
        require(
            number or self.rho in ("length", "none"), "LinearAttention.rho", self.rho, "length | none | a number > 0"
        )
        require(self.read in (1, -1), "LinearAttention.read", self.read, "1 or -1")
        require(self.scale > 0, "LinearAttention.scale", self.scale, "a number > 0")
        if self.form == "merged":
            require(self.head_dim is None, "LinearAttention.head_dim", self.head_dim, "None in the form 'merged'")

    @property
    def width(self) -> int:
        """`D`, the width of a token."""
        return self.dim + self.num_outputs

    # ---- parameters

    def init(self, key: Key[Array, ""]) -> Params:
        """Initial parameters; see `form` and `start`."""
        if self.start == "zhang":
            return self.zhang(self.scale)
        wide, inner, heads = self.width, self.head_dim or self.width, self.num_heads
        layers = 1 if self.shared else self.num_layers
        if self.form == "merged":
            shapes = dict.fromkeys(("kq", "ov"), (layers, heads, wide, wide))
        else:
            shapes = dict.fromkeys(("query", "key", "value"), (layers, wide, heads, inner))
            shapes |= {"output": (layers, heads, inner, wide)}
        return draw(key, {name: self._draw(name, shape) for name, shape in shapes.items()})

    def _draw(self, name: str, shape: tuple[int, ...]) -> Draw:
        fan_in = self.num_heads * shape[-2] if name == "output" else self.width
        if self.start == "torch":
            return Draw("uniform", shape, self.scale * fan_in**-0.5)
        return Draw("normal", shape, self.scale if self.start == "normal" else (self.scale / fan_in) ** 0.5)

    def construct(self, kq: Any, ov: Any) -> Params:
        """Parameters with given circuits.

        Args:
          kq, ov: `[H, D, D]`, the same in every layer, or `[L, H, D, D]`; rows of `kq` and `ov` are coordinates of the
            key token, columns of `kq` those of the query token, of `ov` those of the token that is written.
        """
        heads, wide, layers = self.num_heads, self.width, 1 if self.shared else self.num_layers
        params: Params = {}
        for name, value in (("kq", kq), ("ov", ov)):
            value = jnp.asarray(value, float)
            one, all_ = (heads, wide, wide), (layers, heads, wide, wide)
            require(value.shape in (one, all_), name, value.shape, f"{one} or {all_}")
            params[name] = jnp.broadcast_to(value, all_)
        if self.form == "merged":
            return params
        inner = self.head_dim or wide
        require(inner >= wide, "LinearAttention.head_dim", inner, f"at least D={wide}, to hold any circuit")
        eye = jnp.broadcast_to(jnp.eye(wide, inner)[:, None], (layers, wide, heads, inner))
        narrow = [(0, 0)] * 3
        query = jnp.pad(jnp.einsum("lhij->ljhi", params["kq"]), [*narrow, (0, inner - wide)])
        output = jnp.pad(params["ov"], [(0, 0), (0, 0), (0, inner - wide), (0, 0)])
        return {"query": query, "key": eye, "value": eye, "output": output}

    def zhang(self, scale: Any, theta: Any = None) -> Params:
        """Zhang et al.'s start: `W_PV = scale [[0, 0], [0, I]]`, `W_KQ = scale [[Theta Theta^T, 0], [0, 0]]`.

        The first matrix is the one that raises the prediction: its sign is `read`.

        Args:
          scale: of both.
          theta: `Theta [d, r]`, divided here so that `|Theta Theta^T|_F = 1`; None = the identity.
        """
        one = linear_constructions.zhang(self.dim, self.num_outputs, scale, theta, self.read)
        return self.construct(*(jnp.broadcast_to(c, (self.num_heads, *c.shape)) for c in one))

    def gradient_descent(self, eta: Any, *, gamma: Any = 0.0, preconditioner: Any = None) -> Params:
        """Von Oswald's construction: each layer is a step of gradient descent on the squared error of the context.

            W <- W + (eta / rho) sum_c (y_c - W x_c) x_c^T A     from W = 0,        yhat = W x_q,

        held as residuals: every token `t` has its label less what is predicted so far, the query minus its prediction,

            y_t <- y_t - (eta / rho) sum_c y_c (x_c . A x_t),      x_t <- x_t - (gamma / rho) sum_c x_c (x_c . A x_t).

        The second, for the inputs of context and query alike, is GD++; both change at once. Head 0 does all of it, the
        others are 0.

        Args:
          eta: step size, a number or one per layer.
          gamma: that of GD++, likewise.
          preconditioner: `A`, `[d, d]` or `[L, d, d]`; None = the identity.
        """
        if self.num_layers > 1:
            require(self.read == -1, "LinearAttention.read", self.read, "-1 for more than one step")
            require(self.residual, "LinearAttention.residual", self.residual, "True for more than one step")
            require(not self.query_is_key, "LinearAttention.query_is_key", True, "False for more than one step")
        layers = 1 if self.shared else self.num_layers
        sizes = (self.dim, self.num_outputs, layers)
        idle = jnp.zeros((layers, self.num_heads - 1, self.width, self.width))
        active = linear_constructions.gradient_descent(*sizes, eta, gamma, preconditioner, self.read)
        return self.construct(*(jnp.concatenate([c[:, None], idle], axis=1) for c in active))

    # ---- circuits

    def circuits(self, params: Params) -> Circuits:
        """KQ and OV of every head, whatever the form; leading axes of the parameters stay. `1 / rho` is not in them.

        Of one layer `kq [H, D, D]` and `ov [H, D, m]` as in `RegressionAttention`: what attending adds to the
        prediction, the sign `read` included. Of several `[L, H, D, D]` both, `ov` being what it adds to the stream.
        """
        kq, ov = self._stacked(params)
        if self.num_layers == 1:
            return Circuits(kq[..., 0, :, :, :], self.read * ov[..., 0, :, :, self.dim :])
        shape = (*kq.shape[:-4], self.num_layers, *kq.shape[-3:])
        return Circuits(jnp.broadcast_to(kq, shape), jnp.broadcast_to(ov, shape))

    def _stacked(self, params: Params) -> Circuits:
        """`[*S, L, H, D, D]`, one layer if shared."""
        if self.form == "merged":
            return Circuits(params["kq"], params["ov"])
        kq = jnp.einsum("...ihk,...jhk->...hij", params["key"], params["query"])
        return Circuits(kq, jnp.einsum("...ihk,...hko->...hio", params["value"], params["output"]))

    def kq(self, params: Params, layer: int = 0, head: int = 0) -> Factored:
        """`W_K W_Q^T` of one head, `[D, D]`: the logit of query `z_t` at the token `z_u` is `z_u KQ z_t`."""
        layer = self._check(layer, head)
        if self.form == "merged":
            return Factored.whole(params["kq"][..., layer, head, :, :])
        query = jnp.swapaxes(params["query"][..., layer, :, head, :], -1, -2)
        return Factored(params["key"][..., layer, :, head, :], query)

    def ov(self, params: Params, layer: int = 0, head: int = 0) -> Factored:
        """`W_V W_O` of one head, `[D, D]`: attending to the token `z` with weight 1 adds `z OV` to a token."""
        layer = self._check(layer, head)
        if self.form == "merged":
            return Factored.whole(params["ov"][..., layer, head, :, :])
        return Factored(params["value"][..., layer, :, head, :], params["output"][..., layer, head, :, :])

    def _check(self, layer: int, head: int) -> int:
        """Where the parameters of `layer` are."""
        require(0 <= layer < self.num_layers, "layer", layer, f"0 to {self.num_layers - 1}")
        require(0 <= head < self.num_heads, "head", head, f"0 to {self.num_heads - 1}")
        return 0 if self.shared else layer

    # ---- what it computes

    def forward(self, params: Params, inputs: Prompt | Float[Array, "*B U D"], sites: Sites) -> Float[Array, "*B 1 m"]:
        """The prediction of the query's label.

        `inputs` is a `Prompt`, or tokens whose last one is the query (layout `masked_key`; its label is not read).

        Sites, in order: per layer `blocks.{l}.attn.in` `[*B, C + 1, D]`, `blocks.{l}.attn.{logits, weights}`
        `[*B, H, T, U]`, `blocks.{l}.attn.head_out` `[*B, H, T, D]`, `blocks.{l}.attn.out` and `blocks.{l}.out`
        `[*B, T, D]`, where `U` counts the keys (`C`, or `C + 1` with the query) and `T = C + 1`, but 1 in the last
        layer, of which the query alone is needed; then `prediction` `[*B, 1, m]`.
        """
        prompt = read_prompt(inputs, self.dim, self.num_outputs)
        rho = self._rho(prompt.x.shape[-2])
        kq, ov = self._stacked(params)
        last = self.num_layers - 1
        asked, x, y = prompt.query, prompt.x, prompt.y
        if last > 0 or sites.wants("blocks.0.attn.in"):
            z = prompt.tokens
            for layer in range(last):
                at = 0 if self.shared else layer
                z = self._layer(f"blocks.{layer}", kq[at], ov[at], z, rho, sites)
            z = sites(f"blocks.{last}.attn.in", z)
            asked, x, y = z[..., -1, :], z[..., :-1, : self.dim], z[..., :-1, self.dim :]
        else:
            sites.offer("blocks.0.attn.in")
        labels = self._ask(f"blocks.{last}", kq[-1], ov[-1], (asked, x, y), rho, sites)
        return sites("prediction", self.read * labels)

    def _rho(self, context: int) -> float:
        if isinstance(self.rho, str):
            return 1.0 if self.rho == "none" else float(max(context, 1))
        return float(self.rho)

    def _layer(self, place: str, kq: Array, ov: Array, z: Array, rho: float, sites: Sites) -> Float[Array, "*B T D"]:
        """All tokens after a layer: `z_t KQ^T (sum_u z_u z_u^T) OV`, unless someone asks for the map."""
        z = sites(f"{place}.attn.in", z)
        keys = z if self.query_is_key else z[..., :-1, :]
        names = [f"{place}.attn.{name}" for name in ("logits", "weights", "head_out")]
        if any(map(sites.wants, names)):
            logits = sites(names[0], jnp.einsum("...ui,hij,...tj->...htu", keys, kq, z))
            weights = sites(names[1], logits / rho)
            head_out = sites(names[2], jnp.einsum("...htu,...ui,hio->...hto", weights, keys, ov))
            out = jnp.sum(head_out, axis=-3)
        else:
            for name in names:
                sites.offer(name)
            second = jnp.einsum("...ui,...uj->...ij", keys, keys) / rho
            out = z @ jnp.einsum("hji,...jk,hko->...io", kq, second, ov)
        out = sites(f"{place}.attn.out", out)
        return sites(f"{place}.out", z + out if self.residual else out)

    def _ask(
        self, place: str, kq: Array, ov: Array, tokens: tuple[Array, Array, Array], rho: float, sites: Sites
    ) -> Float[Array, "*B 1 m"]:
        """The labels of the query after the last layer; `tokens` are the query (or its input), `x` and `y`."""
        query, x, y = tokens
        d, known = self.dim, query.shape[-1]
        names = [f"{place}.{name}" for name in ("attn.head_out", "attn.out", "out")]
        whole = any(map(sites.wants, names))
        asks = directions(query, kq)
        logits = scores(asks, x, y)
        if self.query_is_key:
            own = jnp.einsum("...hi,...i->...h", asks[..., :known], query)
            logits = jnp.concatenate([logits, own[..., None]], axis=-1)
        logits = sites(f"{place}.attn.logits", logits[..., None, :])
        weights = sites(f"{place}.attn.weights", logits / rho)[..., 0, :]
        written = ov if whole else ov[..., d:]
        head_out = mixed(weights[..., : x.shape[-2]], x, y, written)
        if self.query_is_key:
            value = jnp.einsum("...i,hio->...ho", query, written[:, :known])
            head_out = head_out + weights[..., -1:] * value
        if not whole:
            for name in names:
                sites.offer(name)
            labels = jnp.sum(head_out, axis=-2)
            return (labels + query[..., d:] if self.residual and known > d else labels)[..., None, :]
        out = sites(names[1], jnp.sum(sites(names[0], head_out[..., None, :]), axis=-3))
        stream = jnp.pad(query, [(0, 0)] * (query.ndim - 1) + [(0, self.width - known)])[..., None, :]
        return sites(names[2], stream + out if self.residual else out)[..., d:]
