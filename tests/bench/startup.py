"""What one waits for before anything trains. Each in processes of its own."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attnlab.cpu import cores, flags
from tests.bench.result import Result
from tests.bench.seeds import child


def _wall(command: Sequence[str], rounds: int) -> list[float]:
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def imports(quick: bool) -> Iterator[Result]:
    """`import attnlab` in a fresh Python, the start of Python included; then with the names that need jax."""
    rounds = 2 if quick else 7
    for name, code, goal in (
        ("import_attnlab", "import attnlab", "< 2"),
        ("import_all_names", "import attnlab; [getattr(attnlab, name) for name in attnlab.__all__]", None),
    ):
        seconds = _wall([sys.executable, "-c", code], rounds)
        yield Result(name, statistics.median(seconds), "s", goal, {"fastest": round(min(seconds), 3)})


def help_text(quick: bool) -> Iterator[Result]:
    """`attnlab --help`."""
    beside = Path(sys.executable).with_name("attnlab")
    command = [str(beside)] if beside.exists() else [shutil.which("attnlab") or "attnlab"]
    seconds = _wall([*command, "--help"], 2 if quick else 7)
    yield Result("attnlab_help", statistics.median(seconds), "s", "< 0.5", {"fastest": round(min(seconds), 3)})


def compile_time(quick: bool) -> Iterator[Result]:
    """Trace, lower and compile the program of a laptop run with all its records, no cache; initial values apart."""
    found = [child("compiling", flags=flags(cores())) for _ in range(1 if quick else 3)]
    total = [one["lower"] + one["compile"] for one in found]
    best = found[total.index(min(total))]
    yield Result("compile_time", statistics.median(total), "s", "< 15", {n: round(x, 2) for n, x in best.items()})


MEASURES = {"imports": imports, "help": help_text, "compile_time": compile_time}
