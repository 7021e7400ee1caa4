"""What all models share: `apply`, made of a model's own `forward`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from jaxtyping import Array, Float

from attnlab.config import ConfigError
from attnlab.tape import Edit, Sites, Tape

Params = dict[str, Any]
Compute = Literal["params", "bfloat16"]
"""dtype of activations and of what matrix products multiply: that of the parameters, or bfloat16."""
Remat = Literal["none", "attention", "layers"]
"""What a gradient makes again in place of keeping it: nothing; what is between queries, keys, values and what the heads
read out; all within a layer."""


class Model:
    """A model says what it computes in `forward(params, inputs, sites)`, calling `sites(name, value)` on the way."""

    def forward(self, params: Params, inputs: Any, sites: Sites) -> Any:
        """`apply` with a given `Sites`."""
        raise NotImplementedError

    def apply(
        self, params: Params, inputs: Any, *, tape: Sequence[str] = (), edits: Sequence[Edit] = ()
    ) -> tuple[Float[Array, "*B T V"], Tape]:
        """What the model says of each position (see `forward`), and the activations named in `tape`.

        Args:
          params: of `init`.
          inputs: what `forward` reads.
          tape: names or patterns of the activations wanted (`forward` lists them).
          edits: changes of activations (`attnlab.tape`, `attnlab.edits`).

        Raises:
          SiteError: a pattern in `tape` or `edits` that matches no activation.
        """
        sites = Sites(tape, edits, inputs)
        return self.forward(params, inputs, sites), sites.finish()

    def computed(self, compute: Compute, remat: Remat | None = None) -> Self:
        """The same function of the same parameters, otherwise computed; `remat=None` leaves that as it is.

        Raises:
          ConfigError: a model without a choice.
        """
        if compute == "params" and remat in (None, "none"):
            return self
        raise ConfigError(
            f"precision, remat: got {compute!r}, {remat!r} for {type(self).__name__}, which is computed in one way "
            "only; allowed is precision.full or precision.highest, and remat=None. Transformer has a choice; a model "
            "of your own has it with a method computed(compute, remat)."
        )
