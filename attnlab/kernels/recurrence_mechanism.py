"""Mechanisms of the recurrent family whose parallel form is the Pallas kernel."""

from __future__ import annotations

from dataclasses import dataclass, fields

from jaxtyping import Array

from attnlab.attention import delta_net, gated_delta_net, linear
from attnlab.attention.base import AttentionOutput, no_site, wants
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.scan import Steps
from attnlab.config import require
from attnlab.kernels.recurrence import check_chunk, recurrence
from attnlab.kernels.targets import PALLAS, Pallas


@dataclass(frozen=True)
class RecurrentKernel(Recurrent):
    """A `Recurrent` with the same parameters, values and gradients, its sequences mixed by `kernels.recurrence`.

    Where someone looks at the map (the map view, a site `weights` that is read or edited), and in a decode step, it is
    what `Recurrent` makes of the same slots. In a model:
    `Transformer(..., mechanism=attnlab.kernels.delta_net_kernel)`.

    Attributes:
      chunk: tokens per chunk of the kernel, a power of 2 and at least 16.
      pallas: for which chip, or interpreted. There is no other form behind it: on a CPU, uninterpreted, an error.

    Raises:
      ConfigError: a rule with a recurrence per channel; when it is applied, one with decays per channel.
    """

    chunk: int | None = 64
    pallas: Pallas = PALLAS

    def __post_init__(self):
        super().__post_init__()
        require(not self.rule.channelwise, f"{self.name}.rule", self.rule, "one without a recurrence per channel")
        check_chunk(f"{self.name}.chunk", self.chunk)

    def apply(self, params, q, k, v, *, x=None, mask=None, bias=None, view="parallel", site=no_site) -> AttentionOutput:
        looked_at = view == "map" or wants(site, "weights")
        mix = self.plain().apply if looked_at else super().apply
        return mix(params, q, k, v, x=x, mask=mask, bias=bias, view=view, site=site)

    def plain(self) -> Recurrent:
        """The same without the kernel."""
        return Recurrent(**{field.name: getattr(self, field.name) for field in fields(Recurrent)})

    def sequence(self, steps: Steps, v: Array, memory: Array) -> tuple[Array, Array]:
        assert self.chunk is not None  # see __post_init__
        return recurrence(steps, v, memory, chunk=self.chunk, pallas=self.pallas)


def by_kernel(mechanism: Recurrent, *, chunk: int = 64, pallas: Pallas = PALLAS) -> RecurrentKernel:
    """A mechanism of the catalogue with the kernel in it, `<name>_kernel`."""
    slots = {field.name: getattr(mechanism, field.name) for field in fields(Recurrent)}
    return RecurrentKernel(**slots | {"name": f"{mechanism.name}_kernel", "chunk": chunk}, pallas=pallas)


linear_kernel = by_kernel(linear)
delta_net_kernel = by_kernel(delta_net)
gated_delta_net_kernel = by_kernel(gated_delta_net)
