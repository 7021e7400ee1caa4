"""The papers' optimizers as plain values whose numbers may be an axis.

Each is a frozen pytree of hyperparameters with `transform()`, the optax transformation. A field may be an array
`[S]`: seed `s` then trains with entry `s`, in the same compiled program. Nothing is scheduled: constant rates, no
warm-up, no clipping, as in Guo et al. (2410.13835); for anything else give an `optax.GradientTransformation`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import jax
import numpy as np
import optax
from flax import struct

from attnlab.config import require

Number = Any  # float, or Float[S]
Places = Collection[tuple[str, ...]]  # of leaves in the tree of parameters: the keys on the way, as text


@runtime_checkable
class Optimizer(Protocol):
    """Anything with `transform() -> optax.GradientTransformation`."""

    def transform(self) -> optax.GradientTransformation: ...


@runtime_checkable
class Decaying(Optimizer, Protocol):
    """An optimizer whose weight decay can spare the parameters at some places."""

    def transform_except(self, places: Places) -> optax.GradientTransformation: ...


def rule_of(optimizer: Optimizer, places: Places = frozenset()) -> optax.GradientTransformation:
    """`optimizer.transform()`, its weight decay sparing the parameters at `places`, if it has one and there are any.

    A transformation of your own decides for itself: give it `mask=decayed(model.undecayed)`.
    """
    if places and isinstance(optimizer, Decaying):
        return optimizer.transform_except(places)
    return optimizer.transform()


def decayed(places: Places) -> Callable[[Any], Any] | None:
    """`mask(params)`: a tree of the same structure, False at `places`; None if there are none."""
    if not places:
        return None

    def mask(params: Any) -> Any:
        def here(path: Sequence[Any], _: Any) -> bool:
            return tuple(jax.tree_util.keystr((key,), simple=True) for key in path) not in places

        return jax.tree_util.tree_map_with_path(here, params)

    return mask


@struct.dataclass
class AdamW:
    """Adam with decoupled decay: `p -= lr (m / (sqrt(v) + eps) + weight_decay p)` (1711.05101).

    What the model names in `undecayed` does not decay: rates of forgetting of recurrent mechanisms and the like. Of a
    model without such mechanisms everything decays.
    """

    learning_rate: Number = 1e-3
    b1: Number = 0.9
    b2: Number = 0.99
    eps: Number = 1e-8
    weight_decay: Number = 1e-4

    def transform(self) -> optax.GradientTransformation:
        return self.transform_except(frozenset())

    def transform_except(self, places: Places) -> optax.GradientTransformation:
        moments, mask = (self.b1, self.b2, self.eps), decayed(places)
        return optax.adamw(self.learning_rate, *moments, weight_decay=self.weight_decay, mask=mask)


@struct.dataclass
class Adam:
    """`p -= lr m / (sqrt(v) + eps)` with bias-corrected moments (1412.6980)."""

    learning_rate: Number = 1e-3
    b1: Number = 0.9
    b2: Number = 0.999
    eps: Number = 1e-8

    def transform(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate, self.b1, self.b2, self.eps)


@struct.dataclass
class SGD:
    """`m = momentum m + g + weight_decay p; p -= lr m` (decay enters the momentum, as in `torch.optim.SGD`).

    What the model names in `undecayed` does not decay.
    """

    learning_rate: Number = 1e-2
    momentum: Number = 0.0
    weight_decay: Number = 0.0

    def transform(self) -> optax.GradientTransformation:
        return self.transform_except(frozenset())

    def transform_except(self, places: Places) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay, decayed(places)),
            optax.trace(decay=self.momentum),
            optax.scale_by_learning_rate(self.learning_rate),
        )


@struct.dataclass
class Custom:
    """An optax transformation of your own. It cannot be rebuilt from a file: `resume` needs it passed again.

    What is random in it (`optax.add_noise`) is the same for every seed.
    """

    of: optax.GradientTransformation = struct.field(pytree_node=False)

    def transform(self) -> optax.GradientTransformation:
        return self.of


def adamw(learning_rate: Number = 1e-3, b1=0.9, b2=0.99, eps=1e-8, weight_decay=1e-4) -> AdamW:
    """AdamW with the defaults of Guo et al. (2410.13835): betas (0.9, 0.99), decay 1e-4."""
    return AdamW(learning_rate, b1, b2, eps, weight_decay)


def adam(learning_rate: Number = 1e-3, b1=0.9, b2=0.999, eps=1e-8) -> Adam:
    return Adam(learning_rate, b1, b2, eps)


def sgd(learning_rate: Number = 1e-2, momentum: Number = 0.0, weight_decay: Number = 0.0) -> SGD:
    return SGD(learning_rate, momentum, weight_decay)


def as_optimizer(value: Any) -> Optimizer:
    """An `Optimizer` from one, or from an optax transformation. Lists of numbers become arrays, one entry per seed."""
    if isinstance(value, optax.GradientTransformation):
        return Custom(value)
    require(
        isinstance(value, Optimizer) and not isinstance(value, type),
        "optimizer",
        value,
        "attnlab.adamw(...), adam(...), sgd(...), an optax transformation, or None for AdamW(1e-3)",
    )
    found = (
        {f.name: getattr(value, f.name) for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else {}
    )
    lists = {name: np.asarray(x) for name, x in found.items() if type(x) in (list, tuple)}
    return dataclasses.replace(cast(Any, value), **lists) if lists else cast(Optimizer, value)
