"""Plots of reports, as PNG files in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from .report import typeset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

    from .report import Curves, Histogram, Points

COLUMNS, DPI, WIDTH = 3, 165, 9.56
PANEL_HEIGHT, LEGEND_HEIGHT, CURVES_HEIGHT = 2.1, 0.35, 4.2
POINTS_SCALE, NAME_HEIGHT, NAME_COLUMNS = 1.25, 0.22, 3
BINS = 25
INTERVAL_SHIFT = 0.02
FAR = 2.0
"""Where the range of all values is this many times that of the inner 96 %, the plot keeps to the latter."""
REAL_COLOR, OUR_COLOR, INK, GRID = "#b4bcc7", "#c2410c", "#3b4654", "#e5e8ec"
LINE_COLORS = ("#c2410c", "#1d5fa8", "#14703c", "#6b3fa0", "#8a6d00", "#3b4654")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw_histograms(plots: Sequence[Histogram]) -> bytes:
    """Small histograms side by side: real slices filled, ours as an outline, each with an area of one."""
    columns = min(COLUMNS, len(plots))
    rows = -(-len(plots) // columns)
    width = WIDTH if columns > 1 else WIDTH / 2
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    canvas = Canvas(figsize=(width, PANEL_HEIGHT * rows + LEGEND_HEIGHT), dpi=DPI, layout=layout)
    axes = canvas.subplots(rows, columns, squeeze=False).ravel()
    for one, plot in zip(axes, plots, strict=False):
        _histogram(one, plot)
    for one in axes[len(plots) :]:
        one.set_axis_off()
    keys = [Patch(color=REAL_COLOR, label="real"), Patch(edgecolor=OUR_COLOR, fill=False, linewidth=1.6, label="ours")]
    _finish(canvas.legend(handles=keys, loc="outside upper left", ncols=2, frameon=False, fontsize=9))
    return _png(canvas)


def draw_curves(plot: Curves) -> bytes:
    """Lines told apart by colour and by the marks at their points; a point that is NaN leaves a gap."""
    canvas = Canvas(figsize=(WIDTH, CURVES_HEIGHT), dpi=DPI, layout="constrained")
    axes = canvas.subplots()
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    _plain(axes)
    axes.set_xlabel(_text(typeset(plot.x_label)), color=INK, parse_math=False)
    axes.set_ylabel(_text(typeset(plot.y_label)), color=INK, parse_math=False)
    if not any(_both_finite(x, y) for x, y in plot.lines.values()):
        _say_empty(axes)
        return _png(canvas)
    lines: list[Line2D] = []
    for index, (name, (x, y)) in enumerate(plot.lines.items()):
        color, marker = LINE_COLORS[index % len(LINE_COLORS)], MARKERS[index % len(MARKERS)]
        # Side by side, for intervals at one x would hide each other.
        shift = 1 + INTERVAL_SHIFT * (index - (len(plot.lines) - 1) / 2) if plot.intervals else 1.0
        places = np.asarray(x, float) * shift
        lines += axes.plot(places, np.asarray(y, float), marker=marker, markersize=5, color=color)
        if name in plot.intervals:
            low, high = (np.asarray(ends, float) for ends in plot.intervals[name])
            axes.vlines(places, low, high, color=color, linewidth=1.2, alpha=0.7)
    if len(plot.ticks):
        axes.set_xscale("log")
        axes.set_xticks(list(plot.ticks), [f"{tick:g}" for tick in plot.ticks])
        axes.minorticks_off()
    _finish(canvas.legend(lines, [*map(_text, plot.lines)], loc="outside right upper", frameon=False, fontsize=9))
    return _png(canvas)


def draw_points(plots: Sequence[Points]) -> bytes:
    """Small plots of points side by side, numbered, with the names of the numbers below."""
    names = list(dict.fromkeys(name for plot in plots for name in plot.points))
    columns = min(COLUMNS, len(plots))
    rows = -(-len(plots) // columns)
    height = PANEL_HEIGHT * POINTS_SCALE * rows + NAME_HEIGHT * -(-len(names) // NAME_COLUMNS) + LEGEND_HEIGHT
    canvas = Canvas(figsize=(WIDTH, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    axes = canvas.subplots(rows, columns, squeeze=False).ravel()
    for one, plot in zip(axes, plots, strict=False):
        _plain(one)
        one.grid(color=GRID, linewidth=0.8)
        one.set_axisbelow(True)
        one.margins(0.12)
        one.set_title(_text(plot.title), fontsize=10, color=INK, loc="left", parse_math=False)
        one.set_xlabel(_text(plot.x_label), fontsize=9, color=INK, labelpad=2, parse_math=False)
        one.set_ylabel(_text(plot.y_label), fontsize=9, color=INK, labelpad=2, parse_math=False)
        for name, (x, y) in plot.points.items():
            one.plot([x], [y], "o", color=OUR_COLOR, markersize=4)
            number = str(names.index(name) + 1)
            one.annotate(number, (x, y), (4, 3), textcoords="offset points", fontsize=8.5, color=INK)
    for one in axes[len(plots) :]:
        one.set_axis_off()
    keys = [Line2D([], [], linestyle="", label=_text(f"{index + 1}  {name}")) for index, name in enumerate(names)]
    style = {"frameon": False, "fontsize": 9, "handlelength": 0, "handletextpad": 0}
    _finish(canvas.legend(handles=keys, loc="outside lower left", ncols=NAME_COLUMNS, **style))
    return _png(canvas)


def _histogram(axes: Axes, plot: Histogram) -> None:
    axes.set_title(_text(plot.title), fontsize=10, color=INK, loc="left", parse_math=False)
    axes.set_xlabel(_text(typeset(plot.unit)), fontsize=9, color=INK, labelpad=2, parse_math=False)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    _plain(axes)
    real, ours = (_finite(values) for values in (plot.real, plot.synthetic))
    both = np.concatenate([real, ours])
    if not len(both):
        _say_empty(axes)
        return
    low, high = _span(both)
    if low > both.min() or high < both.max():
        label = f"{typeset(plot.unit)} (end bars: and beyond)".strip()
        axes.set_xlabel(_text(label), fontsize=9, color=INK, labelpad=2, parse_math=False)
    real, ours = (np.clip(values, low, high) for values in (real, ours))
    bins = _bins(low, high)
    if len(real):
        axes.hist(real, bins, density=True, color=REAL_COLOR)
    if len(ours):
        axes.hist(ours, bins, density=True, histtype="step", color=OUR_COLOR, linewidth=1.6)


def _span(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Range to draw: all, unless a few far values would press the others into a bar or two."""
    low, high = float(values.min()), float(values.max())
    inner = np.percentile(values, (2, 98))
    if 0 < (inner[1] - inner[0]) * FAR < high - low:
        return float(inner[0]), float(inner[1])
    return low, high


def _bins(low: float, high: float) -> list[float]:
    """Edges of common bins; around a value that is constant, a little room."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = max(0.5, 0.05 * abs(low))
        low, high = low - room, high + room
    return np.linspace(low, high, BINS + 1).tolist()


def _say_empty(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no values", ha="center", va="center", transform=axes.transAxes, color=INK, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8.5, colors=INK, length=3)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _finish(legend: Legend) -> None:
    for text in legend.get_texts():
        text.set_color(INK)
        text.set_parse_math(False)


def _text(text: str) -> str:
    """Text that can be drawn: what is no UTF-8 in a file name becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _both_finite(x: npt.ArrayLike, y: npt.ArrayLike) -> bool:
    return bool((np.isfinite(np.asarray(x, float)) & np.isfinite(np.asarray(y, float))).any())


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, float)
    return array[np.isfinite(array)]


def _png(canvas: Canvas) -> bytes:
    stream = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(stream)
    return stream.getvalue()
