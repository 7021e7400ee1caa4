"""The sweep of the tests in a process of its own, which kills itself at a chosen moment (see `killed_run`).

python killed_sweep.py PATH MOMENT COUNT
"""

from __future__ import annotations

import sys

import jax
import sweep_cases
from killed_run import arm

from attnlab.training.keeper import Keeper

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    path, moment, count = sys.argv[1:]
    Keeper._wait = lambda self: 0.0  # a state after every chunk
    arm(moment, int(count))
    sweep_cases.train(path)
