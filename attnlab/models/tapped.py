"""A model that gives its activations to the loss as well: for training on more than what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jaxtyping import Array, Key

from attnlab.models.base import Compute, Model, Params, Remat
from attnlab.tape import Edit, Place, Sites, Tape


class _Both(Sites):
    """Calls the sites of who runs the model, then reads."""

    def __init__(self, outer: Sites, taps: tuple[str, ...]):
        super().__init__(taps)
        self._outer = outer

    def wants(self, name: str) -> bool:
        return self._outer.wants(name) or super().wants(name)

    def offer(self, name: str) -> None:
        self._outer.offer(name)
        super().offer(name)

    def lack(self, name: str, why: str) -> None:
        self._outer.lack(name, why)
        super().lack(name, why)

    def __call__(self, name: str, value: jax.Array) -> jax.Array:
        return super().__call__(name, self._outer(name, value))

    def at(self, place: str) -> Place:
        return Place(self, place)

    def nested(self) -> Sites:
        return self._sharing(_Both(self._outer.nested(), self._read))

    def found(self) -> Any:
        return super().found(), self._outer.found()

    def adopt(self, found: Any) -> None:
        ours, theirs = found
        super().adopt(ours)
        self._outer.adopt(theirs)


@dataclass(frozen=True)
class Tapped(Model):
    """`forward` gives `(what the model says, {name: activation})`; everything else is the model's own.

    Train it with a loss that takes such a pair (`attnlab.training.Aligned`); its parameters are those of `model`, so
    what was trained is measured with `model`.

    Attributes:
      model: any model. taps: names or patterns of the activations wanted.
    """

    model: Any
    taps: tuple[str, ...]

    def init(self, key: Key[Array, ""]) -> Params:
        """Those of the model."""
        return self.model.init(key)

    def forward(self, params: Params, inputs: Any, sites: Sites) -> tuple[Any, Tape]:
        """`(output, tape)`; edits hold before the activations are read."""
        both = _Both(sites, self.taps)
        output = self.model.forward(params, inputs, both)
        return output, both.finish()

    def apply(  # pyright: ignore[reportIncompatibleMethodOverride]  (what it says is a pair)
        self, params: Params, inputs: Any, *, tape: Sequence[str] = (), edits: Sequence[Edit] = ()
    ) -> tuple[tuple[Any, Tape], Tape]:
        """As `Model.apply`: `(what forward gives, tape)`."""
        sites = Sites(tape, edits, inputs)
        return self.forward(params, inputs, sites), sites.finish()

    def computed(self, compute: Compute, remat: Remat | None = None) -> Tapped:
        """With the model so computed."""
        return replace(self, model=self.model.computed(compute, remat))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "model":
            raise AttributeError(name)
        return getattr(self.model, name)
