"""Attention forward and backward beside the fused attention of PyTorch on the same cores, in turn.

PyTorch is no dependency: `TORCH_PYTHON=/path/to/python python -m tests.bench --only attention` names an interpreter
that has it. Each side is a process of its own that waits while the other one works.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnlab.cpu import cores
from tests.bench.result import Result

SHAPES = ((64, 4, 256, 16), (16, 4, 256, 64))
PAGES = {"default pages": "", "huge pages": "glibc.malloc.hugetlb=1"}
RUNS, REST = 3, 0.2  # runs a turn; seconds between turns, in which the other side's threads stop waiting busily


class Side:
    """A process that answers requests."""

    def __init__(self, command: list[str], tunables: str):
        env = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        env |= {"GLIBC_TUNABLES": tunables} if tunables else {}
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, shape: tuple[int, ...], runs: int) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(*shape, runs, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args}: ended with {self.process.wait()}")
        time.sleep(REST)
        return json.loads(line)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def attention_over_torch(quick: bool) -> Iterator[Result]:
    """Causal attention with gradient at T = 256 over PyTorch's fused one on the same cores; needs TORCH_PYTHON."""
    other = os.environ.get("TORCH_PYTHON")
    if not other:
        told = "attention_over_torch: SKIPPED. Set TORCH_PYTHON to a Python that has PyTorch (CPU) and NumPy."
        print(told, file=sys.stderr)
        return
    script = str(Path(__file__).with_name("attention_torch.py"))
    commands = {"ours": [sys.executable, "-m", "tests.bench.attention_here"], "torch": [other, script, str(cores())]}
    sides = {(who, pages): Side(command, PAGES[pages]) for pages in PAGES for who, command in commands.items()}
    try:
        for shape in SHAPES:
            yield from _compared(sides, shape, 1 if quick else 9)
    finally:
        for side in sides.values():
            side.end()


def _compared(sides: dict[tuple[str, str], Side], shape: tuple[int, ...], rounds: int) -> Iterator[Result]:
    first = {name: side.ask(shape, 1) for name, side in sides.items()}
    squares = [answer["squares"] for answer in first.values()]
    if max(squares) > min(squares) * (1 + 1e-4):  # float32 sums of some million squares
        raise RuntimeError(f"{shape}: the gradients differ, sums of squares {squares}")
    seconds, processor = ({name: [] for name in sides} for _ in range(2))
    for _ in range(rounds):
        for name, side in sides.items():
            answer = side.ask(shape, RUNS)
            seconds[name] += answer["seconds"]
            processor[name] += answer["processor"]
    best, busy = ({name: min(found) for name, found in times.items()} for times in (seconds, processor))
    batch, heads, num, width = shape
    for pages in PAGES:
        both = {who: best[who, pages] for who in ("ours", "torch")}
        details = {
            "shape": dict(B=batch, H=heads, T=num, K=width),
            "ms": {who: round(1e3 * x, 2) for who, x in both.items()},
            "ratio_of_processor_seconds": round(busy["ours", pages] / busy["torch", pages], 3),
            "noise": {who: round(statistics.median(seconds[who, pages]) / x, 3) for who, x in both.items()},
            "threads": cores(),
            "pages": pages,
            "torch": first["torch", pages]["torch"],
        }
        name = f"attention_over_torch_K{width}{'_huge' if PAGES[pages] else ''}"
        yield Result(name, both["ours"] / both["torch"], "ratio", "<= 1.3", details)


MEASURES = {"attention_over_torch": attention_over_torch}
