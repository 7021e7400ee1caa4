"""Run by `seed_cost` and `regression_seeds` where JAX threads each operation over all cores: fused, step by step.

The loop is what one writes without this laboratory: a jitted update, called from Python, on the whole batch at once,
its data made on the device in the same program. It reads the loss every 10 steps, so it need not wait for every one.
"""

from __future__ import annotations

import json
import sys

import jax

from attnlab import keys
from attnlab.training.program import initial_state, make_step
from tests.bench import regression
from tests.bench.laptop import Steps, config
from tests.bench.result import alternate


def main(task: str, rounds: int, steps: int, *size: int) -> None:
    settings = config(steps, 1, *size) if task == "bigram-backcopy" else regression.settings(steps, 1)
    update = make_step(settings.task, settings.model, settings.loss, settings.batch_size, None)
    jitted = jax.jit(update, donate_argnums=(3,))
    root = keys.root(0)
    held = [initial_state(settings.model, settings.optimizer, root)]

    def loop() -> None:
        for step in range(steps):
            held[0] = jitted(settings.optimizer, root, (), held[0])
            if step % 10 == 9:
                float(held[0].loss_sum)
        jax.block_until_ready(held[0])

    fused = Steps(settings)
    found = alternate({"loop over steps, all cores": loop, "1 seed, all cores": fused}, rounds)
    per_pass = steps / fused.seed_steps  # of the fused seed one pass is one chunk
    print(json.dumps({name: [x * (per_pass if "seed" in name else 1) for x in taken] for name, taken in found.items()}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
