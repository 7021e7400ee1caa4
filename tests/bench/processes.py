"""What it costs that a run is of several processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attnlab import trajectory
from tests.bench.result import Result

SINGLE_THREADED = "--xla_cpu_multi_thread_eigen=false"


def processes(quick: bool) -> Iterator[Result]:
    """A run of two processes of one device each over the same run of one process with two: all but compiling."""
    rounds, steps = (1, 60) if quick else (2, 500)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for count in seconds:
            seconds[count].append(_train(count, steps))
    details = {f"{count} processes, s": [round(x, 2) for x in found] for count, found in seconds.items()}
    yield Result("two_processes_over_one", min(seconds[2]) / min(seconds[1]), "ratio", None, details)


def _train(count: int, steps: int) -> float:
    """Seconds of `attnlab run` with four seeds on two devices, without what it took to compile."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_FLAGS", "JAX_"))}
    env = kept | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={2 // count} {SINGLE_THREADED}"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        command = [sys.executable, "-m", "attnlab.cli", "run", "--steps", str(steps), "--path", str(path)]
        joined = ["--distributed", "--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id"]
        running = [
            subprocess.Popen(
                [*command, *([] if count == 1 else [*joined, str(index)])], env=env, stdout=subprocess.DEVNULL
            )
            for index in range(count)
        ]
        if any(process.wait() for process in running):
            raise RuntimeError(f"{' '.join(command)} failed as {count} processes")
        summary = trajectory.open(path).summary
    assert summary is not None
    return summary["stats"]["seconds"] - summary["stats"]["compile_seconds"]


MEASURES = {"processes": processes}
