"""What a measure yields, and how times are taken."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any


@dataclass(frozen=True)
class Result:
    """One number. `goal` is a bound: `"<= 1.0"`, or None where there is no goal."""

    name: str
    value: float
    unit: str
    goal: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        sign, bound = self.goal.split()
        compare = {"<": float.__lt__, "<=": float.__le__, ">": float.__gt__}[sign]
        return compare(float(self.value), float(bound))

    def to_json(self) -> dict[str, Any]:
        value = float(f"{self.value:.4g}")
        same = {"name": self.name, "value": value, "unit": self.unit, "goal": self.goal, "met": self.met}
        return {**same, "details": dict(self.details)}

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"  goal {self.goal}: {'met' if self.met else 'MISSED'}"
        return f"{self.name:34s} {self.value:10.4g} {self.unit:12s}{goal}"


Times = dict[str, list[float]]


def alternate(
    variants: Mapping[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Times:
    """Seconds of each variant, one after the other, `rounds` times, after one round that does not count."""
    seconds: Times = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, variant in variants.items():
            began = clock()
            variant()
            if number:
                seconds[name].append(clock() - began)
    return seconds


def noise(seconds: Times) -> dict[str, float]:
    """Median over fastest, by variant: 1 on a quiet machine."""
    return {name: round(statistics.median(found) / min(found), 3) for name, found in seconds.items()}


def describe_machine() -> dict[str, Any]:
    """Device, cores, load and versions."""
    import jax

    from attnlab.cpu import cores

    devices = jax.devices()
    return {
        "device": {"kind": devices[0].device_kind, "platform": devices[0].platform, "count": len(devices)},
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {name: metadata.version(name) for name in ("attnlab", "jax", "jaxlib", "numpy")},
    }
