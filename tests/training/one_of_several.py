"""The run of the tests as one of several processes of one device each, which may kill itself at a chosen moment.

    python one_of_several.py INDEX COUNT PORT PATH ACTION SEEDS SHARDS [MOMENT [COUNT]]

ACTION is `run` or `resume`; MOMENT as in `killed_run.py`. Ends with status 3 and a sentence if another process is gone,
without waiting for it.
"""

from __future__ import annotations

import os
import sys

import jax
from killed_run import arm
from training_cases import train

import attnlab as al
from attnlab import hosts
from attnlab.training.keeper import Keeper

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 1)
    index, count, port, path, action, seeds, shards, *moment = sys.argv[1:]
    Keeper._wait = lambda self: 0.0  # a state after every chunk
    if int(count) > 1:
        hosts.connect(f"127.0.0.1:{port}", int(count), int(index))
    if moment:
        arm(moment[0], int(moment[1]))
    settings = {"seeds": int(seeds), "devices": jax.devices(), "data_shards": int(shards)}
    try:
        run = train(path, al.adamw(1e-2), **settings) if action == "run" else al.resume(path, data_shards=int(shards))
    except hosts.HostsError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(3)
    print(run.outcome.tolist())
