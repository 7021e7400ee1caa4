"""Figures of whole circuits: KQ beside OV head by head, KQ over training, one matrix against what theory says it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnlab.report.style import DIVERGING, INK, MUTED, check, new_figure, style

NUMBERED = 8  # matrices up to this size have their entries written into the cells
UNREAD = "#eef0f3"


def circuit_maps(
    groups: Mapping[str, tuple[Any, Any]],
    labels: Sequence[str],
    *,
    unread: int = 0,
    notes: Mapping[str, Sequence[str]] | None = None,
    columns: int = 4,
    title: str = "KQ and OV at the end of training",
) -> Figure:
    """KQ of every head with its OV at its right, entries written into the cells.

    Args:
      groups: name of a model -> (KQ `[H, D, D]`, row = key, column = query; OV `[H, D, m]`). A model's heads share one
        colour scale for KQ and one for OV, symmetric about 0.
      labels: D names of the coordinates of a token.
      unread: so many last columns of KQ reach no prediction; they are crossed out and left out of the scale.
      notes: model -> a line per head.
      columns: heads in a row; models follow each other in a row as long as they fit whole.
      title: the finding.

    Returns:
      The figure.
    """
    check(groups, "groups", "empty", "name -> (KQ [H, D, D], OV [H, D, m])", "Give one model at least.")
    size, lines = len(labels), dict(notes or {})
    models = {name: _circuits(name, kq, ov, size) for name, (kq, ov) in groups.items()}
    check(0 <= unread < size, "unread", unread, f"0 to {size - 1}", "Count the last columns of KQ.")
    for name, given in lines.items():
        ok = name in models and len(given) == len(models[name][0])
        check(ok, f"notes[{name!r}]", list(given), "one line per head of a model in groups", "Add what lacks.")
    panels = [(name, h) for name, (kq, _) in models.items() for h in range(len(kq))]
    places = _flow({name: len(kq) for name, (kq, _) in models.items()}, columns)
    wide, rows = max(c for _, c in places) + 1, max(r for r, _ in places) + 1
    with style():
        height = 2.35 if size <= 6 else 2.5
        figure = new_figure(title, max(5.0, min(11.0, 0.4 + 2.65 * wide)), 0.55 + height * rows)
        grid = figure.add_gridspec(rows, wide)
        for (name, h), (row, column) in zip(panels, places, strict=True):
            kq, ov = models[name]
            axes = figure.add_subplot(grid[row, column])
            start = size + 0.7  # where OV begins, a gap to the right of KQ
            _matrix(axes, kq[h], labels, labels, _symmetric(kq[..., : size - unread]), unread)
            _matrix(axes, ov[h], [], [], _symmetric(ov), start=start)
            places_of = [*range(size), *(start + i for i in range(ov.shape[-1]))]
            axes.set_xticks(places_of, [*labels, *_outputs(ov.shape[-1])])
            axes.set_xlim(-0.5, places_of[-1] + 0.5)
            head = f"{name}, head {h + 1}" if len(kq) > 1 else name
            axes.set_title("\n".join([head, *([lines[name][h]] if name in lines else [])]), fontsize=8.5)
            for text, x in (("KQ, column: query", (size - 1) / 2), ("OV", (start + places_of[-1]) / 2)):
                axes.text(x, size + 0.65, text, ha="center", va="center", fontsize=8)
            if column == 0:
                axes.set_ylabel("row: key", fontsize=8)
        if unread:
            text = "crossed out: multiplies the query's empty label, so no prediction and no gradient sees it"
            figure.supxlabel(text, x=0.99, ha="right", fontsize=7.5, color=MUTED)
        return figure


def circuit_evolution(
    steps: Any,
    kq: Any,
    *,
    unread: int = 0,
    notes: Sequence[Sequence[str]] | None = None,
    title: str = "KQ over training",
) -> Figure:
    """KQ of every head (rows) at several steps (columns), all on one colour scale.

    Args:
      steps: `[N]`, the steps shown.
      kq: `[N, H, D, D]`.
      unread: as in `circuit_maps`.
      notes: `N` lists of `H` short texts, written above the maps.
      title: the finding.

    Returns:
      The figure.
    """
    at, values = np.asarray(steps), np.asarray(kq, dtype=np.float64)
    good = values.ndim == 4 and values.shape[0] == at.size and values.shape[2] == values.shape[3] and values.size
    check(good, "kq", f"of shape {values.shape}", f"[{at.size}, H, D, D]", "Steps first, then heads.")
    count, heads, size = values.shape[:3]
    check(0 <= unread < size, "unread", unread, f"0 to {size - 1}", "Count the last columns of KQ.")
    ok = notes is None or (len(notes) == count and all(len(n) == heads for n in notes))
    check(ok, "notes", notes, f"{count} lists of {heads} texts", "One per map.")
    norm = _symmetric(values[..., : size - unread])
    with style():
        figure = new_figure(title, 1.3 + 1.5 * count, 0.75 + 1.5 * heads)
        grid = figure.subplots(heads, count, squeeze=False)
        for h, row in enumerate(grid):
            for n, axes in enumerate(row):
                _matrix(axes, values[n, h], [""] * size, [""] * size, norm, unread, numbers=False)
                above = f"step {int(at[n]):,}\n" if h == 0 else ""
                axes.set_title(above + (notes[n][h] if notes else ""), fontsize=8, loc="center", pad=3)
            row[0].set_ylabel(f"head {h + 1}", fontsize=8.5)
        every = list(grid.ravel())
        bar = figure.colorbar(ScalarMappable(norm, DIVERGING), ax=every, fraction=0.02, pad=0.01, aspect=30)
        bar.set_label("KQ (row: key, column: query)")
        bar.outline.set_linewidth(0.5)  # type: ignore[operator]
        return figure


def matrix_comparison(
    matrices: Mapping[str, Any],
    row_labels: Sequence[str],
    col_labels: Sequence[str],
    *,
    columns: int = 4,
    ylabel: str = "",
    xlabel: str = "",
    title: str = "Measured against theory",
) -> Figure:
    """Matrices of one shape side by side on one symmetric colour scale, entries written into the cells.

    Args:
      matrices: name -> `[R, C]`: what was measured, what theory says, their difference, the spread over seeds.
      row_labels, col_labels: R and C names.
      columns: matrices in a row.
      ylabel, xlabel: what a row and a column are.
      title: the finding.

    Returns:
      The figure.
    """
    check(matrices, "matrices", "empty", "name -> [R, C]", "Give one at least.")
    want = (len(row_labels), len(col_labels))
    values = {name: np.asarray(m, dtype=np.float64) for name, m in matrices.items()}
    for name, value in values.items():
        field = f"matrices[{name!r}]"
        check(value.shape == want, field, f"of shape {value.shape}", str(want), "Give all the same rows and columns.")
    wide = min(columns, len(values))
    rows = -(-len(values) // wide)
    norm = _symmetric(np.stack(list(values.values())))
    with style():
        cell = 0.36 if want[1] > 4 else 0.5
        figure = new_figure(title, max(5.5, 0.7 + wide * (0.5 + cell * want[1])), 0.6 + rows * (0.75 + cell * want[0]))
        grid = figure.subplots(rows, wide, squeeze=False)
        for axes, (name, value) in zip(grid.ravel(), values.items(), strict=False):
            _matrix(axes, value, row_labels, col_labels, norm)
            axes.set_title(name, fontsize=8.5)
            axes.set_xlabel(xlabel, fontsize=8)
        for axes in grid.ravel()[len(values) :]:
            axes.set_visible(False)
        for row in grid:
            row[0].set_ylabel(ylabel, fontsize=8)
        return figure


def _circuits(name: str, kq: Any, ov: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    key_query, out = np.asarray(kq, dtype=np.float64), np.asarray(ov, dtype=np.float64)
    ok = key_query.ndim == 3 and key_query.shape[1:] == (size, size)
    want = f"[H, {size}, {size}] as the labels say"
    check(ok, f"KQ of {name!r}", f"of shape {key_query.shape}", want, "Heads first.")
    ok = out.ndim == 3 and out.shape[:2] == key_query.shape[:2]
    want = f"[{len(key_query)}, {size}, m] as KQ says"
    check(ok, f"OV of {name!r}", f"of shape {out.shape}", want, "Heads first, outputs last.")
    return key_query, out


def _flow(heads: Mapping[str, int], columns: int) -> list[tuple[int, int]]:
    """Row and column of every head: a model begins a new row if it does not fit whole into what is left of one."""
    places, row, column = [], 0, 0
    for count in heads.values():
        if column and column + count > columns:
            row, column = row + 1, 0
        for _ in range(count):
            if column == columns:
                row, column = row + 1, 0
            places.append((row, column))
            column += 1
    return places


def _symmetric(values: np.ndarray) -> Normalize:
    top = float(np.max(np.abs(values[np.isfinite(values)]), initial=0.0)) or 1.0
    return Normalize(-top, top)


def _outputs(count: int) -> list[str]:
    return ["ŷ"] if count == 1 else [f"ŷ{chr(0x2081 + i)}" for i in range(count)]


def _matrix(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    norm: Normalize,
    unread: int = 0,
    numbers: bool = True,
    start: float = 0,
) -> None:
    """Draw a matrix whose first column is centred at `start`."""
    height, width = values.shape
    read = width - unread
    shown = values.copy()
    shown[:, read:] = np.nan
    extent = (start - 0.5, start + width - 0.5, height - 0.5, -0.5)
    image = np.ma.masked_invalid(shown)
    axes.imshow(image, cmap=DIVERGING, norm=norm, interpolation="nearest", aspect="equal", extent=extent)
    border = {"fill": False, "edgecolor": MUTED, "linewidth": 0.6, "clip_on": False}
    axes.add_patch(Rectangle((start - 0.5, -0.5), width, height, **border))  # type: ignore[arg-type]
    if unread:
        place = (read - 0.5, -0.5)
        hatch = {"facecolor": UNREAD, "edgecolor": "#b6bcc6", "hatch": "xxxx", "linewidth": 0}
        axes.add_patch(Rectangle(place, unread, height, **hatch))  # type: ignore[arg-type]
        axes.plot([read - 0.5] * 2, [-0.5, height - 0.5], color="#2e7d32", linewidth=1.2, linestyle=(0, (3, 2)))
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, pad=2, labelsize=7.5)
    if rows and columns:
        axes.set_xticks(range(width) if any(columns) else [], columns if any(columns) else [])
        axes.set_yticks(range(height) if any(rows) else [], rows if any(rows) else [])
    if numbers and max(height, width) <= NUMBERED:
        for (i, j), value in np.ndenumerate(values[:, :read]):
            if np.isfinite(value):
                dark = abs(norm(value) - 0.5) > 0.32
                axes.text(
                    start + j, i, _entry(value), ha="center", va="center", fontsize=5.5 if height > 6 else 6,
                    color="white" if dark else INK if abs(norm(value) - 0.5) > 0.03 else MUTED,
                )  # fmt: skip


def _entry(value: float) -> str:
    """Two decimals, without the zero before the point: .17, −2.65, 0."""
    text = f"{value:.2f}" if abs(value) < 9.95 else f"{value:.1f}"
    if float(text) == 0:
        return "0"
    return text.replace("0.", ".", 1).replace("-", "−") if abs(value) < 0.995 else text.replace("-", "−")
