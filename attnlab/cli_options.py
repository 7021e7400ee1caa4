"""Groups of options that commands share. Loads no jax."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path


@dataclasses.dataclass
class TaskOptions:
    """Bigram-Backcopy on real text."""

    length: int = 64
    """Positions T."""
    num_triggers: int = 3
    """The k most frequent characters are triggers."""
    triggers: str | None = None
    """Or: these characters are."""
    text: Path | None = None
    """Bigram law of this text file; default: Tiny Shakespeare."""
    bos: bool = True
    """Begin every sequence with <s>."""
    smoothing: float = 0.0
    """Share of the uniform law mixed into every row."""


@dataclasses.dataclass
class ModelOptions:
    """The tiny transformer."""

    num_layers: int = 1
    num_heads: int = 1
    width: int = 64
    mlp_width: int | None = None
    mechanism: str = "softmax"
    """Attention mechanism, by name."""
    positions: str = "learned"
    """learned, sinusoidal, rope, alibi or none."""
    norm: str = "layernorm"
    """layernorm, rmsnorm or none."""
    no_attention: tuple[int, ...] = ()
    """Layers without attention."""
    no_mlp: tuple[int, ...] = ()
    """Layers without MLP."""


@dataclasses.dataclass
class OptimizerOptions:
    """Constant rates; defaults of the paper."""

    name: str = "adamw"
    """adamw, adam or sgd."""
    learning_rate: float = 1e-3
    momentum: float = 0.0
    """sgd only."""
    weight_decay: float = 1e-4
    """adamw and sgd."""


@dataclasses.dataclass
class HostOptions:
    """Several processes that run this command together, on one machine or many."""

    distributed: bool = False
    """This is one of them; under Slurm, Open MPI, Kubernetes and on a TPU pod they find each other."""
    coordinator: str | None = None
    """Elsewhere: host:port of process 0, the same for all."""
    num_processes: int | None = None
    """Elsewhere: how many there are."""
    process_id: int | None = None
    """Elsewhere: which this one is, from 0."""

    def join(self, seeds: int) -> None:
        """Take the devices for so many seeds, and meet the other processes. Before anything is computed."""
        from attnlab import hosts
        from attnlab.config import require
        from attnlab.cpu import use_all_cores

        use_all_cores(seeds)
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "distributed"}
        if not self.distributed:
            for name, value in named.items():
                require(value is None, f"--{name.replace('_', '-')}", value, "nothing without --distributed")
            return
        index, count = hosts.connect(**named)
        if index:
            print(f"attnlab: process {index} of {count}; process 0 speaks", file=sys.stderr, flush=True)
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (to the end of the process)
