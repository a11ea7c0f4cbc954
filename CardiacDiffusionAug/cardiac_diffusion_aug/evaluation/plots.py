"""Plots of reports, as PNG files in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .report import Curves, Histogram

COLUMNS, DPI, WIDTH = 3, 110, 9.6
PANEL_HEIGHT, CURVES_HEIGHT = 2.3, 4.2
BINS = 24
REAL_COLOR, MADE_COLOR, INK = "#b4bcc7", "#c2410c", "#3b4654"
LINE_COLORS = ("#c2410c", "#1d5fa8", "#14703c", "#6b3fa0", "#8a6d00", "#3b4654")


def draw_histograms(plots: Sequence[Histogram]) -> bytes:
    """Small histograms side by side: real slices filled, made ones as a line, each with an area of one."""
    columns = min(COLUMNS, len(plots))
    rows = -(-len(plots) // columns)
    canvas = Canvas(figsize=(WIDTH, PANEL_HEIGHT * rows), dpi=DPI, layout="constrained")
    axes = canvas.subplots(rows, columns, squeeze=False).ravel()
    for one, plot in zip(axes, plots, strict=False):
        _histogram(one, plot)
    for one in axes[len(plots) :]:
        one.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        canvas.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return _png(canvas)


def draw_curves(plot: Curves) -> bytes:
    """Lines with a mark at each point."""
    canvas = Canvas(figsize=(WIDTH, CURVES_HEIGHT), dpi=DPI, layout="constrained")
    axes = canvas.subplots()
    for index, (name, (x, y)) in enumerate(plot.lines.items()):
        color = LINE_COLORS[index % len(LINE_COLORS)]
        axes.plot(np.asarray(x), np.asarray(y), marker="o", markersize=4, color=color, label=name)
    axes.set_xlabel(plot.x_label, color=INK)
    axes.set_ylabel(plot.y_label, color=INK)
    axes.grid(color="#e5e8ec", linewidth=0.8)
    if plot.lines:
        axes.legend(frameon=False, fontsize=9)
    _plain(axes)
    return _png(canvas)


def _histogram(axes: Axes, plot: Histogram) -> None:
    axes.set_title(plot.title, fontsize=9.5, color=INK, loc="left")
    axes.set_xlabel("" if plot.unit in ("", "1") else plot.unit, fontsize=8.5, color=INK)
    axes.set_yticks([])
    _plain(axes)
    real, made = (_finite(values) for values in (plot.real, plot.synthetic))
    both = np.concatenate([real, made])
    if not len(both):
        axes.text(0.5, 0.5, "no values", ha="center", va="center", transform=axes.transAxes, color=INK, fontsize=9)
        return
    low, high = float(both.min()), float(both.max())
    bins = np.linspace(low, high if high > low else low + 1, BINS + 1).tolist()
    if len(real):
        axes.hist(real, bins, density=True, color=REAL_COLOR, label="real")
    if len(made):
        axes.hist(made, bins, density=True, histtype="step", color=MADE_COLOR, linewidth=1.6, label="made")


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=8.5, colors=INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _finite(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(values, float)
    return array[np.isfinite(array)]


def _png(canvas: Canvas) -> bytes:
    stream = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(stream)
    return stream.getvalue()
