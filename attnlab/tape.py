"""Reading and writing activations by name, under jit, vmap and grad.

A model calls `sites(name, value)` wherever an activation is born. *Reading*: name what is wanted (`fnmatch` patterns
such as `blocks.*.attn.weights`) and get a flat dict back. *Writing*: an `Edit` is a pure function applied at a named
site; its numbers are arrays passed as arguments, so changing them does not retrace, `vmap` over them works, and they
serve inside the training step as at inference. What is not named costs nothing; a name that matches nothing is
an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

Tape = dict[str, jax.Array]


class SiteError(KeyError):
    """A name that matches no activation of this model."""

    def __str__(self) -> str:
        return str(self.args[0])


@struct.dataclass
class Edit:
    """At every site matching `site`: `x -> where(mask, transform(x, value), x)`.

    Attributes:
      site: pattern of site names, for example `blocks.0.attn.head_out`.
      transform: pure `(x, value, inputs) -> x'`; `inputs` are the token ids `[..., T]` that the model reads, or the
        activation named by `reads`.
      value: array (or None) that `transform` uses; broadcast against the site's shape.
      mask: `Bool`, broadcast against the site's shape: where the edit holds. None = everywhere.
      reads: another activation of the same place, born earlier in the same pass (`v`: at `blocks.0.attn.head_out` that
        is `blocks.0.attn.v`), given to `transform` in the place of the inputs; of several, a tuple. None = the inputs.
    """

    site: str = struct.field(pytree_node=False)
    transform: Callable[[jax.Array, Any, Any], jax.Array] = struct.field(pytree_node=False)
    value: Any = None
    mask: Any = None
    reads: str | tuple[str, ...] | None = struct.field(pytree_node=False, default=None)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of all that it reads."""
        return () if self.reads is None else (self.reads,) if isinstance(self.reads, str) else self.reads

    def __call__(self, x: jax.Array, inputs: Any) -> jax.Array:
        new = self._fit("a value", self.transform(x, self.value, inputs), x).astype(x.dtype)
        return new if self.mask is None else jnp.where(self._fit("a mask", self.mask, x), new, x)

    def _fit(self, what: str, value: Any, x: jax.Array) -> jax.Array:
        value = jnp.asarray(value)
        try:
            return jnp.broadcast_to(value, x.shape)
        except ValueError as error:
            raise ValueError(
                f"edit of {self.site!r}: got {what} of shape {value.shape}; allowed is what broadcasts to the "
                f"activation, of shape {x.shape}."
            ) from error


def _replace(x, value, inputs):
    return value


def _scale(x, value, inputs):
    return x * value


def _add(x, value, inputs):
    return x + value


def _mix(x, value, inputs):
    new, amount = value
    return (1 - amount) * x + amount * new  # exact at both ends


def head_mask(num_heads: int, heads: Sequence[int] | int, axis: int = -3) -> jax.Array:
    """`Bool` mask that selects `heads` on axis -3 of `[..., H, T, K]` (or of `[..., H, T, U]`)."""
    chosen = (heads,) if isinstance(heads, int) else tuple(heads)
    if not chosen:
        raise ValueError("heads: got none; allowed is one head or more (an edit of nothing is a mistake).")
    for head in chosen:
        if not 0 <= head < num_heads:
            raise ValueError(f"heads: got {head}; allowed is 0 to {num_heads - 1}.")
    mask = jnp.zeros(num_heads, bool).at[jnp.array(chosen)].set(True)
    return mask.reshape((num_heads,) + (1,) * (-axis - 1))


def zero(site: str, mask: Any = None) -> Edit:
    """Zero ablation: `x -> 0` where `mask` holds."""
    return Edit(site, _replace, jnp.zeros(()), mask)


def replace(site: str, value: Any, mask: Any = None) -> Edit:
    """`x -> value` where `mask` holds (set, mean ablation, or patch from another run's tape)."""
    return Edit(site, _replace, jnp.asarray(value), mask)


def scale(site: str, factor: Any, mask: Any = None) -> Edit:
    """`x -> factor * x` where `mask` holds."""
    return Edit(site, _scale, jnp.asarray(factor), mask)


def add(site: str, value: Any, mask: Any = None) -> Edit:
    """`x -> x + value` where `mask` holds (steering, logit bias)."""
    return Edit(site, _add, jnp.asarray(value), mask)


def mix(site: str, value: Any, amount: Any, mask: Any = None) -> Edit:
    """`x -> (1 - amount) x + amount * value` where `mask` holds."""
    return Edit(site, _mix, (jnp.asarray(value), jnp.asarray(amount)), mask)


class Sites:
    """What a model calls at each site during one trace; holds what is read and what is edited."""

    def __init__(self, read: Sequence[str] = (), edits: Sequence[Edit] = (), inputs: Any = None):
        self._read = (read,) if isinstance(read, str) else tuple(read)
        self._edits = (edits,) if isinstance(edits, Edit) else tuple(edits)
        self._inputs = inputs
        self._sources = {source for edit in self._edits for source in edit.sources}
        self._kept: Tape = {}
        self._used: set[str] = set()
        self._seen: list[str] = []
        self._lacking: dict[str, str] = {}
        self.tape: Tape = {}

    def wants(self, name: str) -> bool:
        """Whether anyone reads or edits `name`: models skip what nobody asks for."""
        asked = any(fnmatchcase(name, p) for p in (*self._read, *(e.site for e in self._edits)))
        return asked or name.rpartition(".")[2] in self._sources

    def offer(self, name: str) -> None:
        """Say that `name` exists although this trace did not compute it."""
        self._seen.append(name)

    def lack(self, name: str, why: str) -> None:
        """Say that there is no `name` in this model, and why."""
        self._lacking[name] = why

    def __call__(self, name: str, value: jax.Array) -> jax.Array:
        self._seen.append(name)
        for edit in self._edits:
            if fnmatchcase(name, edit.site):
                value = edit(value, self._inputs if edit.reads is None else self._earlier(name, edit))
                self._used.add(edit.site)
        if name.rpartition(".")[2] in self._sources:
            self._kept[name] = value
        for pattern in self._read:
            if fnmatchcase(name, pattern):
                self.tape[name] = value
                self._used.add(pattern)
        return value

    def _earlier(self, name: str, edit: Edit) -> Any:
        """What `edit` reads of the place that `name` is at."""
        wanted = [".".join((*name.split(".")[:-1], source)) for source in edit.sources]
        for source in wanted:
            if source not in self._kept:
                known = ", ".join(dict.fromkeys(self._seen))
                raise SiteError(
                    f"edit of {name!r}: {source!r}, which it reads, is not born before it. Before it: {known}."
                )
        return self._kept[wanted[0]] if isinstance(edit.reads, str) else tuple(self._kept[s] for s in wanted)

    def at(self, place: str) -> Place:
        """The sites whose names begin with `place.`, called by what follows."""
        return Place(self, place)

    def nested(self) -> Sites:
        """The same readers and edits, for a function whose values leave it only as results (`rematerialised`)."""
        return self._sharing(Sites(self._read, self._edits, self._inputs))

    def _sharing(self, inner: Sites) -> Sites:
        """`inner`, with the notes of these sites on names and a copy of what they kept."""
        inner._used, inner._seen, inner._lacking = self._used, self._seen, self._lacking
        inner._kept = dict(self._kept)
        return inner

    def found(self) -> Any:
        """What was read and kept, as a pytree."""
        return self.tape, self._kept

    def adopt(self, found: Any) -> None:
        """Take over what the sites of a nested function found."""
        tape, kept = found  # sorted by name on the way
        self.tape |= {name: tape[name] for name in self._seen if name in tape}
        self._kept |= kept

    def finish(self) -> Tape:
        """The tape. Raises `SiteError` for a pattern that met no site."""
        for pattern in (*self._read, *(e.site for e in self._edits)):
            if pattern not in self._used:
                known = ", ".join(dict.fromkeys(self._seen))
                why = {why for name, why in self._lacking.items() if fnmatchcase(name, pattern)}
                reasons = f" ({' '.join(sorted(why))})" if why else ""
                raise SiteError(f"tape/edit: {pattern!r} matches no activation of this model{reasons}. Known: {known}.")
        return self.tape


class Place:
    """`Sites` within a part of a model: `place("weights", value)` is `sites("blocks.0.attn.weights", value)`."""

    def __init__(self, sites: Sites, place: str):
        self._sites, self._place = sites, place

    def __call__(self, name: str, value: jax.Array) -> jax.Array:
        return self._sites(f"{self._place}.{name}", value)

    def wants(self, name: str) -> bool:
        return self._sites.wants(f"{self._place}.{name}")

    def offer(self, name: str) -> None:
        self._sites.offer(f"{self._place}.{name}")

    def lack(self, name: str, why: str) -> None:
        self._sites.lack(f"{self._place}.{name}", why)

    def nested(self) -> Place:
        return Place(self._sites.nested(), self._place)

    def found(self) -> Any:
        return self._sites.found()

    def adopt(self, found: Any) -> None:
        self._sites.adopt(found)


def rematerialised(sites: Any, run: Callable[..., Any], *args: Any) -> Any:
    """`run(sites, *args)`, of which a gradient keeps the arguments and the results and makes all else again.

    Activations that are read come out of it, edits hold in it. `sites`: a `Sites` or a `Place`.
    """

    def alone(*args: Any) -> Any:
        inside = sites.nested()
        return run(inside, *args), inside.found()

    result, found = jax.checkpoint(alone)(*args)
    sites.adopt(found)
    return result


def names(apply: Callable[..., Any], *args: Any) -> list[str]:
    """Every activation name of a model: `names(lambda s: model.forward(params, tokens, s))`, traced, not computed."""
    sites = Sites(read=("*",))
    jax.eval_shape(lambda *a: apply(*a, sites), *args)
    return list(dict.fromkeys(sites._seen))
