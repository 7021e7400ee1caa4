"""What all models share: `apply`, made of a model's own `forward`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Array, Float

from attnlab.tape import Edit, Sites, Tape

Params = dict[str, Any]


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
