"""Our functions as `flax.nnx` modules: a mechanism in your own network, a whole transformer in your own training loop.

The modules hold parameters and nothing else; calling one calls the same pure function that the rest of the library
calls. Import this module by name (`import attnlab.nnx`): `attnlab` itself does not load `flax.nnx`.

Example:
  layer = attnlab.nnx.Attention(64, num_heads=4, mechanism=attnlab.attention.sigmoid, rngs=nnx.Rngs(0))
  y = layer(x)                                            # [*B, T, 64], causal
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from attnlab.attention import Dims, Mechanism, causal_mask, softmax
from attnlab.attention.base import HostOrDevice
from attnlab.config import build, require
from attnlab.models.attention_layer import AttentionOptions, attend, init_attention
from attnlab.models.layers import InitKind, draw
from attnlab.models.transformer import Transformer
from attnlab.tape import Edit, Tape


def _hold(tree: Any) -> Any:
    return nnx.data(jax.tree.map(nnx.Param, tree))


def _plain(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[...], tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


class Attention(nnx.Module):
    """Multi-head attention with any mechanism: projections, mixing, output matrix; no biases.

    Args:
      width, num_heads: `D`, `H`.
      mechanism: from `attnlab.attention`, or your own.
      head_dim: `K`; None = `D / H`.
      init_kind, init_std: initial values of matrices, as for `Transformer`; by default those of `torch.nn.Linear`.
      rngs: for the initial values.
      **options: any field of `attnlab.models.attention_layer.AttentionOptions`: `positions` (`rope`, `alibi` or `none`,
        what lives inside attention), `short_conv`, `qk_norm`, `head_norm` ...

    Raises:
      ConfigError: an option that there is not, or a value that it does not have.
    """

    def __init__(
        self,
        width: int,
        num_heads: int = 1,
        mechanism: Mechanism = softmax,
        *,
        head_dim: int | None = None,
        init_kind: InitKind = "torch",
        init_std: float = 0.02,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        self.options: AttentionOptions = build(AttentionOptions, options)
        positions = self.options.positions
        require(positions in ("rope", "alibi", "none"), "Attention.positions", positions, "rope | alibi | none")
        allowed = get_args(InitKind)
        require(init_kind in allowed, "Attention.init_kind", init_kind, " | ".join(allowed))
        if head_dim is None:
            require(width % num_heads == 0, "Attention.width", width, f"a multiple of num_heads={num_heads}")
        dims = Dims(num_heads, width // num_heads if head_dim is None else head_dim, width)
        if positions == "rope":
            require(dims.head_dim % 2 == 0, "Attention.head_dim", dims.head_dim, "even, for rope")
        self.mechanism = mechanism
        drawn = draw(rngs.params(), init_attention(dims, init_kind, init_std, self.options))
        self.params = _hold(drawn | {"mechanism": mechanism.init(rngs.params(), dims)})

    def __call__(
        self,
        x: Float[Array, "*B T D"],
        mask: Bool[HostOrDevice, "*M T U"] | None = None,
        *,
        qk_from: Float[Array, "*C T D"] | None = None,
    ) -> Float[Array, "*B T D"]:
        """`mask` is True where a query may look; None = causal. Queries and keys are read from `qk_from` if given."""
        seen = causal_mask(x.shape[-2]) if mask is None else mask
        return attend(self.mechanism, _plain(self.params), x, mask=seen, options=self.options, qk_from=qk_from)


class TransformerModule(nnx.Module):
    """A `Transformer` with its parameters.

    Args:
      model: the settings; what a `Transformer` can do, this can.
      params: what `model.init` returns, or a snapshot of a run; None draws new ones from `rngs`.
    """

    def __init__(self, model: Transformer, params: Any = None, *, rngs: nnx.Rngs | None = None):
        if (params is None) == (rngs is None):
            raise ValueError("TransformerModule: give either params or rngs (to draw new ones).")
        self.model = model
        self.params = _hold(model.init(rngs.params()) if rngs is not None else params)

    def __call__(
        self, inputs: Int[Array, "*B T"] | Float[Array, "*B T I"], *, edits: Sequence[Edit] = ()
    ) -> Float[Array, "*B T V"]:
        """Logits of the next token, or numbers, if `model` says those."""
        return self.read(inputs, edits=edits)[0]

    def read(
        self,
        inputs: Int[Array, "*B T"] | Float[Array, "*B T I"],
        *,
        tape: Sequence[str] = (),
        edits: Sequence[Edit] = (),
    ) -> tuple[Float[Array, "*B T V"], Tape]:
        """Logits or numbers, and the activations named in `tape` (`Transformer.apply`)."""
        return self.model.apply(self.plain(), inputs, tape=tape, edits=edits)

    def plain(self) -> Any:
        """The parameters as the plain pytree that every other part of the library reads."""
        return _plain(self.params)
