"""Nothing is trained: every claim is measured on mechanisms with given queries, keys and values."""

from __future__ import annotations

from typing import Any

from attnlab.studies.local_linear import identities, iterations, rates, stream
from attnlab.studies.local_linear.figures import figures as figures
from attnlab.studies.measured import Experiment

THEORY: dict[str, Any] = {
    "identities": identities.identities,
    "gradients": identities.gradients,
    "iterations": iterations.iterations,
    "streams": stream.streams,
    "expected": stream.expected,
    "surprise": stream.surprise,
    "rates": rates.rates,
}


def experiments(preset: str) -> dict[str, Experiment]:
    """None."""
    return {}
