"""Several processes that run one program: who this one is, what they say to each other, how they fail together.

The engine is `jax.distributed`: every process runs the same commands in the same order, and a computation over the
mesh of all their devices is one computation. What happens beside it (files, decisions that depend on a clock) is done
by `together` or `lead`, so that a failure of one process is an error of all, and not a wait without end.

With one process everything here is a plain call.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

HEARTBEAT_SECONDS = 30  # a process that has not been heard of for so long is lost; one that dies is noticed at once
_BLOCK = (
    2**16
)  # bytes that every message has; a longer one has 2, 4, ... times as many, so that few programs are compiled


class HostsError(RuntimeError):
    """The processes could not be joined, or one of them failed or is gone."""


def count() -> int:
    """Number of processes; 1 unless `connect` (or `jax.distributed.initialize`) was called."""
    if "jax" not in sys.modules:
        return 1
    import jax

    return jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """Which of them this one is, from 0."""
    if count() == 1:
        return 0
    import jax

    return jax.process_index()


def leads() -> bool:
    """Whether this is the process that writes what is written once."""
    return index() == 0


def connect(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> tuple[int, int]:
    """Join the other processes; before anything is computed. Returns index and number.

    Args:
      coordinator: `host:port` of process 0. None: what Slurm, Open MPI, Kubernetes or the TPU pod says.
      num_processes, process_id: how many, and which this one is; the same default.

    Raises:
      HostsError: the processes could not be found, or not be reached.
    """
    import jax

    jax.config.update(
        "jax_enable_preemption_service", False
    )  # it would swallow SIGTERM, which ends a run (stopping.py)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError, TypeError) as error:
        given = f"coordinator={coordinator!r}, num_processes={num_processes!r}, process_id={process_id!r}"
        raise HostsError(
            f"the processes could not be joined ({given}): {error} Start it under Slurm, Open MPI, Kubernetes or on a "
            "TPU pod, or say it: --coordinator HOST:PORT --num-processes N --process-id I, the same address and number "
            "for all."
        ) from error
    return jax.process_index(), jax.process_count()


def gather(values: Any) -> np.ndarray:
    """`values` (an array or numbers) of every process. `[P, ...]`"""
    array = np.asarray(values)
    if count() == 1:
        return array[None]
    from jax.experimental import multihost_utils

    with contact():
        return np.asarray(multihost_utils.process_allgather(array))


def exchange(message: Any) -> list[Any]:
    """A JSON value of every process, by index."""
    if count() == 1:
        return [message]
    raw = np.frombuffer(json.dumps(message).encode() + b"\n", np.uint8)

    def ask(blocks: int) -> list[bytes]:
        padded = np.zeros(_BLOCK * blocks, np.uint8)
        padded[: len(raw)] = raw[: len(padded)]
        return [found.tobytes().rstrip(b"\0") for found in gather(padded)]

    blocks, found = 1, ask(1)
    while not all(text.endswith(b"\n") for text in found):  # all see the same, so all ask again
        blocks *= 2
        found = ask(blocks)
    return [json.loads(text) for text in found]


def together[T](work: Callable[[], T]) -> list[T]:
    """What `work()` (a JSON value) is on every process, by index. If it fails on one, it fails on all.

    It begins when all have come here: what a process read before is not changed under its eyes.

    Raises:
      HostsError: it failed on another process. Here, what it raised here.
    """
    if count() == 1:
        return [work()]
    gather(0)
    try:
        found = {"value": work()}
    except BaseException as error:
        exchange({"error": f"{type(error).__name__}: {error}"})
        raise
    answers = exchange(found)
    for number, answer in enumerate(answers):
        if "error" in answer:
            raise HostsError(f"process {number} of {count()} failed: {answer['error']}")
    return [answer["value"] for answer in answers]


def lead[T](work: Callable[[], T]) -> T:
    """`work()` (a JSON value) of process 0, which alone does it; all others wait for it, and get what it returned."""
    return together(lambda: work() if leads() else None)[0]  # type: ignore[return-value]  (0 leads)


@contextmanager
def contact() -> Iterator[None]:
    """What the runtime raises inside when another process is gone becomes a `HostsError`."""
    import jax

    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if count() == 1:
            raise
        reason = str(error).split("\n")[0]
        raise HostsError(
            f"process {index()} of {count()} lost contact with another one ({reason}). What was recorded is safe; "
            "start all processes again with `attnlab resume PATH`; their number may be another one."
        ) from error
