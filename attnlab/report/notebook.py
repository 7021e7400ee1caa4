"""The scrubber as a Jupyter widget; anywidget is an optional extra and is imported on first use."""

from __future__ import annotations

import functools
from typing import Any, SupportsFloat

from attnlab.report.scrubber import Scrubber, viewer_source


@functools.cache
def _widget_class() -> type:
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError(
            'show() needs anywidget, which is not installed. Run: pip install "attnlab[notebooks]". '
            "Without Jupyter, attnlab.report.write_report(path, scrubbers=[...]) puts the same view into one HTML file."
        ) from error

    class ScrubberWidget(anywidget.AnyWidget):
        """Heat maps over training; `step` follows the slider, and setting it moves the slider."""

        _esm = viewer_source("scrubber.js")
        _css = viewer_source("scrubber.css")
        data = traitlets.Unicode("{}").tag(sync=True)
        step = traitlets.Float(0.0).tag(sync=True)

    return ScrubberWidget


def show(scrubber: Scrubber, *, step: SupportsFloat | None = None, max_bytes: int = 8_000_000) -> Any:
    """Show a scrubber in a notebook.

    Args:
      scrubber: what to show.
      step: the step to start at; by default the last.
      max_bytes: steps are thinned out until the data fits; the note under the widget says so.

    Returns:
      The widget; `widget.step` is the step shown.
    """
    if not isinstance(scrubber, Scrubber):
        raise ValueError(f"scrubber is a {type(scrubber).__name__}; allowed: attnlab.report.Scrubber. Build one first.")
    start = float(scrubber.steps[-1]) if step is None else float(step)
    return _widget_class()(data=scrubber.capped(max_bytes).to_json(), step=start)
