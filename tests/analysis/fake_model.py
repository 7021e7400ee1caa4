"""A model whose activations are given: the probes can be asked for closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from attnlab.tape import Sites


@dataclass(frozen=True, eq=False)
class Fake:
    """`apply` offers the activations in `sites` (name -> array `[B, ...]`) whatever the parameters."""

    sites: dict[str, Any]
    vocab_size: int
    num_layers: int = 1
    num_heads: int = 1

    def apply(self, params, tokens, *, tape=(), edits=()):
        sites = Sites(tape, edits, tokens)
        for name, value in self.sites.items():
            sites(name, jnp.asarray(value))
        return jnp.zeros((*tokens.shape, self.vocab_size)), sites.finish()
