"""The authors' NumPy sampler, number for number: to stand on the very batch that their published risks come from.

Their code grows one sequence after another, and takes one `rng.choice(V, p=row)` per character, even at a trigger,
where it throws the choice away. `choice` spends one double per call, `searchsorted(cumsum(row), u, side="right")`; so
a block `rng.random((B, T))` holds exactly their draws, and all sequences can grow side by side.

Reference: code of arXiv 2410.13835 (BBM/data.py, class bbm). Evaluation batch: seed (42, 27), 512 sequences of 256
inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from toy_tasks.bigram_backcopy import BigramBackcopy

EVALUATION_SEED = (42, 27)


def replay(
    task: BigramBackcopy, batch_size: int = 512, seed: int | Sequence[int] = EVALUATION_SEED
) -> Int[np.ndarray, "B L"]:
    """The first `B` sequences, of `L = T + 1` tokens, of the authors' sampler from `default_rng(seed)`.

    `task.batch` makes a batch of them.

    Raises ValueError for a task their class `bbm` does not cover (no bos, or a variant).
    """
    if not task.bos or task.variant != "backcopy" or task.mix_p != 1.0:
        raise ValueError(
            f"replay covers the plain task with bos; got bos={task.bos}, variant={task.variant!r}, mix_p={task.mix_p}."
        )
    uniform = np.random.default_rng(seed).random((batch_size, task.length))
    edges = np.cumsum(task.rows, axis=1)
    edges /= edges[:, -1:]
    triggers = np.append(task.is_trigger[: task.num_characters], False)
    tokens = np.full((batch_size, task.length + 1), task.num_characters, np.int32)
    for i in range(task.length):
        current = tokens[:, i]
        drawn = (edges[current] <= uniform[:, i, None]).sum(1)
        tokens[:, i + 1] = np.where(triggers[current], tokens[:, max(i - 1, 0)], drawn)
    return tokens
