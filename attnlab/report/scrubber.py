"""The data behind the scrubber over training: matrices as bytes, curves, labels (`viewer/scrubber.js` draws it)."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from attnlab.report.tables import show_token

Kind = Literal["sequential", "diverging"]


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """One matrix that changes over training: an attention map, a KQ or an OV circuit.

    Args:
      name: what the reader chooses it by, with layer and head (`"attention, layer 0, head 0"`).
      frames: [S, N, R, C] for S seeds, N steps, R rows and C columns; [N, R, C] is one seed.
      row_labels: R labels, for example the query tokens.
      col_labels: C labels, for example the key tokens.
      kind: `sequential` for attention (white to blue), `diverging` for KQ and OV (blue, white at 0, red).
      row_title: what a row is.
      col_title: what a column is.
    """

    name: str
    frames: np.ndarray
    row_labels: Sequence[str]
    col_labels: Sequence[str]
    kind: Kind = "sequential"
    row_title: str = "row"
    col_title: str = "column"

    def __post_init__(self) -> None:
        frames = np.asarray(self.frames, dtype=np.float64)
        frames = frames[None] if frames.ndim == 3 else frames
        want = (len(self.row_labels), len(self.col_labels))
        if frames.ndim != 4 or frames.shape[2:] != want or not frames.size:
            raise ValueError(
                f"frames of panel {self.name!r} has shape {frames.shape}; allowed: [S, N, {want[0]}, {want[1]}] "
                "as the labels say. Order the axes as seeds, steps, rows, columns."
            )
        if self.kind not in ("sequential", "diverging"):
            raise ValueError(
                f"kind of panel {self.name!r} is {self.kind!r}; allowed: sequential, diverging. Choose one."
            )
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "row_labels", tuple(show_token(str(label)) for label in self.row_labels))
        object.__setattr__(self, "col_labels", tuple(show_token(str(label)) for label in self.col_labels))


@dataclasses.dataclass(frozen=True, eq=False)
class Scrubber:
    """Everything that one scrubber shows.

    Args:
      steps: the N training steps of the frames, increasing.
      seeds: names of the S seeds.
      panels: at least one matrix over training; the first three are shown at the start.
      curves: name -> [S, M], for example the risks; M = N unless `curve_steps` is given.
      curve_steps: the M steps of the curves; by default `steps`.
      note: a line under the scrubber; what was left out is added to it.
    """

    steps: np.ndarray
    seeds: Sequence[Any]
    panels: Sequence[Panel]
    curves: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    curve_steps: np.ndarray | None = None
    note: str = ""

    def __post_init__(self) -> None:
        steps = np.asarray(self.steps)
        curve_steps = steps if self.curve_steps is None else np.asarray(self.curve_steps)
        for field, value in (("steps", steps), ("curve_steps", curve_steps)):
            if value.ndim != 1 or not value.size or np.any(np.diff(value) <= 0) or value[0] < 0:
                raise ValueError(f"{field} is {value}; allowed: increasing numbers >= 0. Sort them and drop repeats.")
        if not self.panels:
            raise ValueError("panels is empty; allowed: at least one Panel. Add an attention map.")
        want = (len(self.seeds), steps.size)
        for panel in self.panels:
            if panel.frames.shape[:2] != want:
                raise ValueError(
                    f"frames of panel {panel.name!r} has {panel.frames.shape[:2]} seeds and steps; allowed: {want} "
                    "as seeds and steps say. Give every panel the same seeds and steps."
                )
        curves = {str(name): np.atleast_2d(np.asarray(c, dtype=np.float64)) for name, c in self.curves.items()}
        for name, curve in curves.items():
            if curve.shape != (want[0], curve_steps.size):
                raise ValueError(
                    f"curves[{name!r}] has shape {curve.shape}; allowed: [{want[0]}, {curve_steps.size}]. "
                    "Give one value per seed and step."
                )
        for field, value in (("steps", steps), ("curve_steps", curve_steps), ("curves", curves)):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "panels", tuple(self.panels))
        object.__setattr__(self, "seeds", tuple(self.seeds))

    def thin(self, n_frames: int, num_seeds: int | None = None) -> Scrubber:
        """At most `n_frames` steps, chosen evenly in log(1 + step), and the first `num_seeds` seeds.

        The first and the last step stay; curves keep all their steps; the note says what was left out.
        """
        if n_frames < 2:
            raise ValueError(f"n_frames is {n_frames}; allowed: at least 2. The first and the last step stay.")
        keep = log_spaced_indices(self.steps, n_frames)
        seeds = slice(None, num_seeds)
        notes = [self.note] if self.note else []
        if keep.size < self.steps.size:
            notes.append(f"{keep.size} of {self.steps.size} recorded steps are shown, evenly in log step.")
        if num_seeds is not None and num_seeds < len(self.seeds):
            notes.append(f"{num_seeds} of {len(self.seeds)} seeds are shown.")
        return Scrubber(
            steps=self.steps[keep],
            seeds=self.seeds[seeds],
            panels=[dataclasses.replace(panel, frames=panel.frames[seeds][:, keep]) for panel in self.panels],
            curves={name: curve[seeds] for name, curve in self.curves.items()},
            curve_steps=self.curve_steps,
            note=" ".join(notes),
        )

    def capped(self, max_bytes: int) -> Scrubber:
        """The same scrubber with as many steps as fit into `max_bytes` of JSON (but never fewer than two)."""
        result, n_frames = self, self.steps.size
        while (size := len(result.to_json())) > max_bytes and n_frames > 2:
            n_frames = max(2, min(n_frames - 1, int(0.97 * n_frames * max_bytes / size)))
            result = self.thin(n_frames)
        return result

    def to_json(self) -> str:
        """The data for `viewer/scrubber.js`: frames quantised to bytes per frame, deflated, base64."""
        return json.dumps(
            {
                "steps": [_plain(step) for step in self.steps],
                "curve_steps": [_plain(step) for step in self.curve_steps],  # type: ignore[union-attr]
                "seeds": [_plain(seed) for seed in self.seeds],
                "note": self.note,
                "curves": {name: [_numbers(row) for row in curve] for name, curve in self.curves.items()},
                "panels": [_panel_json(panel) for panel in self.panels],
            },
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )


def quantise(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bytes and range of each frame: value ≈ lo + byte · (hi − lo) / 255, wrong by at most (hi − lo) / 255 / 2.

    Args:
      frames: [S, N, R, C]. A frame with any value that is not finite gets lo = hi = NaN and bytes 0.

    Returns:
      bytes uint8 [S, N, R, C], lo [S, N], hi [S, N].
    """
    finite = np.isfinite(frames).all(axis=(2, 3))
    safe = np.where(finite[:, :, None, None], frames, 0.0)
    low, high = safe.min(axis=(2, 3)), safe.max(axis=(2, 3))
    span = np.where(high > low, high - low, 1.0)
    scaled = (safe - low[:, :, None, None]) / span[:, :, None, None]
    return np.rint(scaled * 255).astype(np.uint8), np.where(finite, low, np.nan), np.where(finite, high, np.nan)


def dequantise(codes: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The values [S, N, R, C] that the page shows for bytes [S, N, R, C] and ranges [S, N]."""
    return low[:, :, None, None] + codes * (high - low)[:, :, None, None] / 255.0


def log_spaced_indices(steps: np.ndarray, count: int) -> np.ndarray:
    """Indices of at most `count` steps, first and last among them, as even in log(1 + step) as the steps allow."""
    if count >= len(steps):
        return np.arange(len(steps))
    where = np.log1p(np.asarray(steps, dtype=np.float64))
    best = np.array([0, len(steps) - 1])
    # Early steps are sparse in log step, so several targets share one step: ask for more until enough are different.
    for targets in range(count, 50 * count):
        wanted = np.linspace(where[0], where[-1], targets)
        right = np.clip(np.searchsorted(where, wanted), 1, len(where) - 1)
        found = np.unique(np.where(wanted - where[right - 1] <= where[right] - wanted, right - 1, right))
        if len(found) > count:
            break
        best = found
    return best


def viewer_source(name: str) -> str:
    """The text of `scrubber.js`, `scrubber.css` or `report.css`, as shipped in the package."""
    return (files("attnlab.report") / "viewer" / name).read_text(encoding="utf-8")


def _panel_json(panel: Panel) -> dict[str, Any]:
    codes, low, high = quantise(panel.frames)
    return {
        "name": panel.name,
        "kind": panel.kind,
        "row_title": panel.row_title,
        "col_title": panel.col_title,
        "row_labels": list(panel.row_labels),
        "col_labels": list(panel.col_labels),
        "lo": [_numbers(row, digits=9) for row in low],
        "hi": [_numbers(row, digits=9) for row in high],
        "frames": base64.b64encode(zlib.compress(codes.tobytes(), 9)).decode("ascii"),
    }


def _numbers(row: np.ndarray, digits: int = 5) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in row.tolist()]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    number = float(value)
    return int(number) if number.is_integer() else float(f"{number:.9g}")
