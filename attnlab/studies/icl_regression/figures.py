"""The figures of the study, each from what the lab has measured, theory beside it."""

from __future__ import annotations

from typing import Any

from attnlab.studies.icl_regression.lab import Lab

Drawn = dict[str, tuple[str, Any]]


def figures(lab: Lab) -> Drawn:
    """File name -> (caption, figure), for the runs that the preset has."""
    return {}


def scrubbers(lab: Lab) -> dict[str, Any]:
    """Heading -> scrubber."""
    return {}
