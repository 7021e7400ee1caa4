"""The look of every figure: palette, rc settings, token labels, axes, direct labels, spread over seeds.

Figures are `matplotlib.figure.Figure` objects; pyplot and its global state are never touched. Mathematical text parsing
is off, so a `$` in a vocabulary is only a dollar sign; formulas are written in Unicode.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsFloat

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

# Okabe and Ito's palette, safe for the common forms of colour blindness.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#B0609B", "#C98A00", "#56B4E9"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
INK, MUTED, FAINT = "#22262b", "#6b7280", "#d5d9df"
TRIGGER, SINK, ORDINARY = "#C8102E", BLUE, "#9aa3af"
# The same stops are in viewer/scrubber.js.
SEQUENTIAL = LinearSegmentedColormap.from_list(
    "attnlab_sequential", ["#ffffff", "#dbe9f6", "#9dc9e2", "#4393c7", "#08519c", "#08234d"]
)
DIVERGING = LinearSegmentedColormap.from_list(
    "attnlab_diverging", ["#053c6e", "#3f8fc4", "#c3dcec", "#ffffff", "#f9cbae", "#dd6f3a", "#7d1d0a"]
)
RC: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a919c",
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.titlesize": 9.5,
    "axes.unicode_minus": True,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": "#e9ecf0",
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "savefig.bbox": None,
    "savefig.facecolor": "white",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": "#4b5360",
    "xtick.labelsize": 8,
    "ytick.color": "#4b5360",
    "ytick.labelsize": 8,
}
DPI = 130


@contextmanager
def style() -> Iterator[None]:
    """The settings of every figure, for as long as the context lasts."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)  # type: ignore[arg-type]
        yield


def new_figure(title: str, width: float, height: float) -> Figure:
    """An empty figure (inches) whose title, at the left, states the finding."""
    figure = Figure(figsize=(width, height), layout="constrained")
    # Bold 11 pt letters are about a tenth of an inch wide; a longer title is broken into lines.
    figure.suptitle(
        textwrap.fill(title, max(20, int(width / 0.101))), x=0.012, ha="left", fontsize=11, fontweight="bold", color=INK
    )
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr]
    return figure


def save_png(figure: Figure, path: str | Path | Any) -> None:
    """Write a figure as PNG (130 dots per inch); the same figure gives the same bytes."""
    with style():
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def token_colour(token: str, triggers: Collection[str], sink: str | None) -> str:
    """Red for a trigger, blue for the sink token, ink otherwise."""
    return TRIGGER if token in triggers else SINK if token == sink else INK


def check(ok: object, field: str, value: object, allowed: str, action: str) -> None:
    """Raise the one kind of error this package raises: field, value, allowed, what to do."""
    if not ok:
        raise ValueError(f"{field} is {value}; allowed: {allowed}. {action}")


def as_curves(values: Any, field: str, length: int | None = None) -> np.ndarray:
    """Curves [S, N] as float64; a curve [N] is one seed."""
    array = np.asarray(values, dtype=np.float64)
    array = array[None] if array.ndim == 1 else array
    check(array.ndim == 2 and array.size, field, f"shape {array.shape}", "[S, N] or [N]", "Put seeds first.")
    if length is not None:
        check(array.shape[1] == length, field, f"shape {array.shape}", f"[S, {length}]", "Give one value per step.")
    return array


def as_axis(values: Any, field: str) -> np.ndarray:
    """Steps or times [N], strictly increasing."""
    array = np.asarray(values, dtype=np.float64)
    ok = array.ndim == 1 and array.size and np.all(np.isfinite(array)) and np.all(np.diff(array) > 0)
    check(ok, field, f"shape {array.shape}" if array.ndim != 1 else array, "increasing [N]", "Sort it, drop repeats.")
    return array


def over_seeds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median, smallest, largest over axis 0, ignoring what is not finite; NaN where nothing is left."""
    finite = np.where(np.isfinite(values), values, np.nan)
    result = np.full((3, *finite.shape[1:]), np.nan)
    some = ~np.all(np.isnan(finite), axis=0)
    part = finite[:, some]
    if part.size:
        result[:, some] = np.nanmedian(part, axis=0), np.nanmin(part, axis=0), np.nanmax(part, axis=0)
    return result[0], result[1], result[2]


def draw_curves(
    axes: Axes, x: np.ndarray, curves: np.ndarray, colour: str, thin: bool = True, **kwargs: Any
) -> np.ndarray:
    """Median over seeds as a line, the range as a band, single seeds as thin lines if there are at most eight."""
    median, low, high = over_seeds(curves)
    if len(curves) > 1:
        axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        if thin and len(curves) <= 8:
            axes.plot(x, curves.T, color=colour, alpha=0.35, linewidth=0.7)
    axes.plot(x, median, color=colour, **kwargs)
    return median


def last_finite(values: np.ndarray) -> float:
    """The last finite entry of a curve [N], or NaN."""
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if finite.size else math.nan


def short_step(value: SupportsFloat, _: object = None) -> str:
    """0, 200, 1k, 2.5k, 100k, 1M, 10⁹."""
    value = float(value)
    if abs(value) >= 1e9:
        return power_of_ten(value)
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(value: SupportsFloat, _: object = None) -> str:
    """Plain from 0.001 to 9999, else 10⁻⁵ or 3·10⁻⁵."""
    value = float(value)
    if value <= 0 or not math.isfinite(value):
        return f"{value:.4g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    if -3 <= exponent <= 3:
        return f"{value:.4g}"
    front = value / 10.0**exponent
    power = "10" + str(exponent).translate(_SUPERSCRIPT)
    return power if abs(front - 1) < 1e-6 else f"{front:.3g}·{power}"


def log_axis(axes: Axes, which: str, label: Callable[..., str] = power_of_ten) -> None:
    """Make the x or y axis logarithmic, with labels that need no mathematical text."""
    if not math.isfinite(axes.dataLim.minposx if which == "x" else axes.dataLim.minposy):
        return  # nothing positive to show: a linear axis says so better than an error
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", nonpositive="mask")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    decades = math.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    stride = max(1, math.ceil(decades / 7))
    if stride > 1:
        powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        axis.set_major_locator(FixedLocator([10.0**p for p in powers if p % stride == 0]))
    else:
        axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(label))
    axis.set_minor_formatter(NullFormatter())
    if decades > 7:
        axis.set_minor_locator(NullLocator())
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)


def split_steps(axes: Axes, last: float, split: SupportsFloat | None, mark: bool = True) -> None:
    """Steps linear up to `split`, logarithmic after it, each half of the width (linear only if `last` <= `split`)."""
    split = last if split is None else float(split)
    if last <= 1.02 * split:
        axes.set_xlim(0, last)
        axes.xaxis.set_major_formatter(FuncFormatter(short_step))
        return
    # In symlog the linear part is linscale / (1 - 1/base) decades long; make that as long as the logarithmic part.
    axes.set_xscale("symlog", linthresh=split, linscale=0.9 * math.log10(last / split))
    early = [split * part / 5 for part in range(6)]
    late = [split * front * 10.0**power for power in range(8) for front in (2, 5, 10)]
    late = [step for step in late if step <= last * 1.001]
    if math.log10(last / split) > 1.5:
        late = [step for step in late if math.log10(step / split) % 1 < 1e-9]
    axes.xaxis.set_major_locator(FixedLocator(early + late))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(short_step))
    axes.set_xlim(0, last)
    axes.axvline(split, color=MUTED, linewidth=1.1, linestyle=(0, (4, 2)), zorder=1)
    if mark:
        for text, shift, align in (("linear", -4, "right"), ("log", 4, "left")):
            axes.annotate(
                text,
                (split, 1.0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(shift, 2),
                textcoords="offset points",
                ha=align,
                fontsize=7,
                va="bottom",
                color=MUTED,
            )


def direct_labels(axes: Axes, labels: Sequence[tuple[float, str, str]], height: float, size: float | int = 8.5) -> None:
    """Write (y, text, colour) at the right end of the axes, pushed apart so that they do not overlap.

    `height` is the height of the axes in inches (an estimate is enough); call it when the limits are final.
    """
    spots = []
    for value, text, colour in labels:
        point = axes.transData.transform((1.0, value))[1] if math.isfinite(value) else math.nan
        where = axes.transAxes.inverted().transform((0.0, point))[1] if math.isfinite(point) else 0.5
        spots.append([min(max(float(where), 0.0), 1.0), text, colour])
    spots.sort(key=lambda spot: spot[0])
    for position, spot in zip(
        spread_apart([s[0] for s in spots], [s[1].count("\n") + 1 for s in spots], 1.3 * size / 72 / height),
        spots,
        strict=True,
    ):
        axes.annotate(
            spot[1],
            (1.0, position),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            color=spot[2],
            fontsize=size,
            va="center",
            ha="left",
            annotation_clip=False,
        )


def spread_apart(positions: Sequence[float], lines: Sequence[int], line_height: float) -> list[float]:
    """Move sorted positions apart by the heights of their texts, within [0, 1] if there is room."""
    result = list(positions)
    for _ in range(200):
        if result:
            result[0] = max(result[0], line_height * (lines[0] - 1) / 2)
            result[-1] = min(result[-1], 1 - line_height * (lines[-1] - 1) / 2)
        moved = False
        for i in range(len(result) - 1):
            gap = line_height * (lines[i] + lines[i + 1]) / 2 - (result[i + 1] - result[i])
            if gap > 1e-6:
                result[i] -= gap / 2
                result[i + 1] += gap / 2
                moved = True
        if not moved:
            break
    return result


def horizontal(axes: Axes, value: SupportsFloat, label: str, colour: str = INK, align: str = "right") -> None:
    """A dashed reference line with its name written on it."""
    value = float(value)
    axes.axhline(value, color=colour, linewidth=1.1, linestyle=(0, (5, 2)), zorder=2.5)
    x = 0.99 if align == "right" else 0.01
    axes.annotate(
        label,
        (x, value),
        xycoords=axes.get_yaxis_transform(),
        xytext=(0, 2.5),
        textcoords="offset points",
        ha=align,
        va="bottom",
        fontsize=7.5,
        color=colour,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.75, "linewidth": 0},
    )


def event_lines(axes: Axes, events: Mapping[str, float], label: bool = True) -> None:
    """Thin vertical lines with their names at the top."""
    for name, step in events.items():
        axes.axvline(step, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
        if label:
            axes.annotate(
                name,
                (step, 1.0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=MUTED,
            )
