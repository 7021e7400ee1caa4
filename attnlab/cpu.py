"""Use every CPU core: one virtual JAX device per core, each single-threaded, with the seeds sharded over them.

Two seeds on two cores then train independently, which is faster than both cores sharing every small matrix product.
It must be called before JAX looks for its devices; the command line does. On GPU and TPU it changes nothing.
"""

from __future__ import annotations

import os

_THREADS = "--xla_cpu_multi_thread_eigen=false"
_COUNT = "--xla_force_host_platform_device_count"


def cores() -> int:
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def flags(devices: int) -> str:
    """The value of `XLA_FLAGS` for `devices` virtual devices, in front of whatever is set already (which wins)."""
    given = os.environ.get("XLA_FLAGS", "")
    added = [] if _COUNT in given else [f"{_COUNT}={devices}", _THREADS]
    return " ".join([*added, given]).strip()


def use_all_cores(seeds: int | None = None) -> int:
    """Set `XLA_FLAGS` for one device per core, at most one per seed; returns their number.

    With a single device JAX's own threading is left on. Raises `RuntimeError` if JAX has fewer devices already.
    """
    number = cores() if seeds is None else max(1, min(cores(), seeds))
    if number == 1:
        return 1
    value = flags(number)
    if os.environ.get("XLA_FLAGS") == value:
        return number
    import sys

    if "jax" in sys.modules:
        import jax
        from jax._src import xla_bridge

        if xla_bridge.backends_are_initialized():
            if jax.device_count() >= number:
                return number
            raise RuntimeError(
                "use_all_cores: JAX has its devices already; call it first, before anything is computed with jax."
            )
    os.environ["XLA_FLAGS"] = value
    return number
