"""The sharded run of the tests in a process of its own, which kills itself at a chosen moment.

    python killed_run.py PATH run|resume [MOMENT [COUNT]]

MOMENT names a function of the run (a key of `MOMENTS`) with `before ` or `after `; the process gets SIGKILL at the
COUNT-th call of it. Or MOMENT is a number: seconds after the first state was saved.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading

import jax
from training_cases import train

import attnlab as al
from attnlab.training.keeper import Keeper
from attnlab.training.session import Session
from attnlab.trajectory import TrajectoryWriter, state, store
from attnlab.trajectory.journal import JournalFile

MOMENTS = {
    "advance": (Session, "advance"),
    "chunk file": (store, "write_durably"),
    "journal line": (JournalFile, "append"),
    "writer append": (TrajectoryWriter, "append"),
    "state save": (state, "save"),
    "state notes": (state, "write_notes"),
    "finish": (TrajectoryWriter, "finish"),
}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str, count: int) -> None:
    """Have this process killed at `moment`."""
    when, _, what = moment.partition(" ")
    owner, name = MOMENTS[what] if what else MOMENTS["state save"]
    original, calls = getattr(owner, name), itertools.count(1)

    def wrapped(*args, **kwargs):
        number = next(calls)  # whichever thread calls, no two get the same
        if when == "before" and number == count:
            kill()
        result = original(*args, **kwargs)
        if when == "after" and number == count:
            kill()
        if not what and number == 1:
            threading.Timer(float(moment), kill).start()
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    path, action, *moment = sys.argv[1:]
    Keeper._wait = lambda self: 0.0  # a state after every chunk
    if moment:
        arm(moment[0], int(moment[1]) if len(moment) > 1 else 1)
    if action == "run":
        train(path, devices=jax.devices())
    else:
        al.resume(path)
