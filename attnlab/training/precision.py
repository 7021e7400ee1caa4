"""In which precision a run computes. Its parameters and its optimizer's moments are float32 whatever that is.

Three policies:

- `full` (the default): float32, products as the backend does them. On a TPU that is bfloat16 passes, on a GPU TF32.
- `highest`: float32 with exact products everywhere, in the records too: what comparisons with theory need on a TPU.
- `bfloat16`: the step rounds what enters the residual stream and every matrix to bfloat16 and multiplies those. Sums,
  norms, logits, attention maps, the loss, gradients of parameters and the optimizer are float32, and what is not
  made for narrow numbers is computed in float32 (`Transformer.compute`). Records are evaluated on the parameters
  themselves by the model as given, in float32: a trajectory means the same in every precision.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax

from attnlab.config import ConfigError, require
from attnlab.models.base import Compute, Remat

Products = Literal["default", "highest"]


@dataclass(frozen=True)
class Precision:
    """What a step computes with.

    Attributes:
      compute: dtype of activations and of what matrix products multiply; `params`: that of the parameters.
      products: how float32 matrices are multiplied: as the backend does by default, or without rounding the factors.
    """

    compute: Compute = "params"
    products: Products = "default"

    def __post_init__(self):
        for name, kind in (("compute", Compute), ("products", Products)):
            allowed = " | ".join(get_args(kind))
            require(getattr(self, name) in get_args(kind), f"Precision.{name}", getattr(self, name), allowed)

    @property
    def name(self) -> str:
        """What tables and the command line call it."""
        words = [w for w in (self.compute, self.products) if w not in ("params", "default")]
        return "+".join(words) or "full"

    def scope(self) -> AbstractContextManager[Any]:
        """What is traced in it multiplies float32 matrices as `products` says."""
        return nullcontext() if self.products == "default" else jax.default_matmul_precision(self.products)


full = Precision()
bfloat16 = Precision(compute="bfloat16")
highest = Precision(products="highest")


def called(name: str) -> Precision:
    """The policy of that name.

    Raises:
      ConfigError: there is none.
    """
    known = {policy.name: policy for policy in (full, bfloat16, highest)}
    require(name in known, "precision", name, " | ".join(known))
    return known[name]


def computed(model: Any, precision: Precision, remat: Remat | None) -> Any:
    """The model as a training step computes it.

    Raises:
      ConfigError: a model that cannot be computed so.
    """
    require(
        isinstance(precision, Precision), "precision", precision, "one of attnlab.precision: full, bfloat16, highest"
    )
    require(remat in (None, *get_args(Remat)), "remat", remat, f"None | {' | '.join(get_args(Remat))}")
    if precision.compute == "params" and remat is None:
        return model
    if not hasattr(model, "computed"):
        hint = "Give it a method computed(compute, remat), or leave precision.compute and remat as they are."
        raise ConfigError(
            f"precision, remat: got {precision.name!r}, {remat!r}; {type(model).__name__} has no choice. {hint}"
        )
    return model.computed(precision.compute, remat)
