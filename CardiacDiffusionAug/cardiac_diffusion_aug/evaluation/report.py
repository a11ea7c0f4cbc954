"""Reports: figures with their bars, plots and pictures, as one HTML page that needs nothing else, and as JSON."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..disk import write_whole, writing_to
from ..preview import case_tile
from ..slices import FloatArray, LabelArray

PAGE, FIGURES = "report.html", "report.json"
FORMAT = 1
CSS_DPI = 110
"""Dots per inch at which a plot is shown: its small print is legible then."""

CaseArrays = tuple[FloatArray | None, LabelArray]


@dataclass(frozen=True)
class Bar:
    """What a figure should reach: at least, or else at most, `limit`."""

    limit: float
    at_least: bool


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        key, name: for programs and for people.
        value: None where it was not measured; `words` then say why.
        interval: of 95 %.
        real: the same figure of real slices.
        bar: what it should reach.
        unit: of the value.
        words: what it means.
    """

    key: str
    name: str
    value: float | None
    interval: tuple[float, float] | None = None
    real: float | None = None
    bar: Bar | None = None
    unit: str = ""
    words: str = ""

    @property
    def good(self) -> bool | None:
        """Whether it reaches its bar; None without a bar or a value, or where either is NaN or infinite."""
        value, limit = _finite(self.value), None if self.bar is None else _finite(self.bar.limit)
        if self.bar is None or value is None or limit is None:
            return None
        return value >= limit if self.bar.at_least else value <= limit


@dataclass(frozen=True)
class Histogram:
    """Values of real slices and of synthetic ones."""

    title: str
    unit: str
    real: npt.ArrayLike
    synthetic: npt.ArrayLike


@dataclass(frozen=True)
class Curves:
    """Lines by name, each as (x, y).

    Attributes:
        intervals: of the points of a line by its name, as (lower ends, upper ends).
        ticks: values of x where the axis is marked, on a scale of ratios; an even scale without any.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]
    intervals: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]] = field(default_factory=dict)
    ticks: Sequence[float] = ()


@dataclass(frozen=True)
class Points:
    """Points by name, each as (x, y)."""

    title: str
    x_label: str
    y_label: str
    points: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Table:
    """Texts in rows and columns."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Sheet:
    """Cases as pictures: image (H, W) in [-1, 1] or None, and mask, each with a caption."""

    title: str
    cases: Sequence[CaseArrays]
    captions: Sequence[str]


@dataclass(frozen=True)
class Pairs:
    """Cases two by two, each pair with a caption."""

    title: str
    rows: Sequence[tuple[CaseArrays, CaseArrays, str]]


@dataclass(frozen=True)
class Section:
    """One topic of a report."""

    key: str
    title: str
    words: str
    figures: Sequence[Figure] = ()
    plots: Sequence[Histogram | Curves | Points] = ()
    sheets: Sequence[Sheet | Pairs] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Report:
    """A title, what it is about by name, topics, and plain sentences for the top.

    Attributes:
        heads: of the columns of values, of a figure and of what stands beside it.
    """

    title: str
    facts: Mapping[str, str]
    sections: Sequence[Section]
    summary: Sequence[str] = field(default_factory=list)
    heads: tuple[str, str] = ("Ours", "Real")


def write_report(report: Report, folder: Path) -> Path:
    """Write `report.html` and `report.json` into a folder, and return the path of the page.

    Raises:
        CardiacError: the folder cannot be written.
        ValueError: two figures share their key, so that one would be lost.
    """
    text = json.dumps(_as_json(report), indent=1, allow_nan=False) + "\n"
    # Both before either is written: the two files of a folder shall tell of the same report.
    page = page_html(report)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FIGURES, text.encode("utf-8"))
        # A file name that is not UTF-8 reaches Python as lone surrogates, which nothing can encode.
        write_whole(folder / PAGE, page.encode("utf-8", "replace"))
    return folder / PAGE


def _as_json(report: Report) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for section in report.sections:
        for figure in section.figures:
            key = f"{section.key}.{figure.key}"
            if key in figures:
                raise ValueError(f"Two figures of the report have the key {key!r}; give each its own.")
            figures[key] = figure_json(figure)
    return {
        "format": FORMAT,
        "title": report.title,
        "summary": list(report.summary),
        "facts": dict(report.facts),
        "figures": figures,
    }


def figure_json(figure: Figure) -> dict[str, Any]:
    """A figure as values that JSON holds."""
    bar, interval = figure.bar, figure.interval
    return {
        "name": figure.name,
        "value": _finite(figure.value),
        "interval": None if interval is None else [_finite(end) for end in interval],
        "real": _finite(figure.real),
        "bar": None if bar is None else {"limit": _finite(bar.limit), "at_least": bool(bar.at_least)},
        "good": figure.good,
        "unit": figure.unit,
        "words": figure.words,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #566170; --line: #dce1e7; --paper: #fff; --band: #f4f6f8;
  --good: #14703c; --missed: #a3321f; }
@media screen and (prefers-color-scheme: dark) { :root { color-scheme: dark; --ink: #e6e9ee; --soft: #a3adbb;
  --line: #343d48; --paper: #14181d; --band: #1d232a; --good: #6fcf97; --missed: #ff9b85; } }
body { margin: 0 auto; max-width: 1100px; padding: 3rem 1.5rem 5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 1.5rem; } h2 { margin: 4rem 0 .6rem; font-size: 1.4rem; }
h3 { margin: 2.5rem 0 .8rem; font-size: 1.05rem; } p { max-width: 46rem; margin: .6rem 0; }
.summary { background: var(--band); border-left: 4px solid var(--soft); border-radius: 0 6px 6px 0;
  padding: .6rem 1.2rem; font-size: 1.1rem; margin-bottom: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem 1.2rem .45rem 0;
  border-bottom: 1px solid var(--line); } th:last-child, td:last-child { padding-right: 0; }
thead th, .facts th { color: var(--soft); font-weight: 600; } .facts { width: auto; } .facts td { width: 100%; }
.facts th { white-space: nowrap; } .figures th:nth-child(1) { width: 38%; }
.figures th:nth-child(2) { width: 22%; } .figures th:nth-child(3), .figures th:nth-child(5) { width: 12%; }
.figures td:first-child { min-width: 14rem; }
.figures td + td, .texts td { white-space: nowrap; font-variant-numeric: tabular-nums; }
.topic th { padding-top: 1.4rem; } .topic a { color: inherit; text-decoration-color: var(--soft); }
small { color: var(--soft); font-size: .88em; } td small.words { display: block; line-height: 1.4; }
.good, .missed { font-weight: 600; } .good { color: var(--good); } .missed { color: var(--missed); }
.unknown { color: var(--soft); }
figure { margin: 1.2rem 0; break-inside: avoid; } figcaption { color: var(--soft); font-size: .88rem; }
img { max-width: 100%; height: auto; display: block; } .plot img { background: #fff; border-radius: 6px;
  border: 1px solid var(--line); box-sizing: border-box; padding: 8px; }
.tiles { display: grid; gap: 1.1rem 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); }
.tiles.masks { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.tiles figure { margin: 0; } .tiles figcaption { margin-top: .3rem; }
.side { display: flex; gap: 6px; } .side img { flex: 1 1 0; min-width: 0; align-self: flex-start; }
@media (max-width: 45rem) { th, td { padding-right: .7rem; } .figures td:first-child { min-width: 7rem; }
  .figures td + td, .texts td { white-space: normal; } }
@media print { html { font-size: 10.5px; } body { padding: 0; font-size: 1rem; max-width: none; }
  .wide { overflow: visible; } .figures td:first-child { min-width: 0; } h2, h3 { break-after: avoid; }
  h2 { margin-top: 2.5rem; } tr { break-inside: avoid; } .topic { break-after: avoid; }
  .plot img { max-height: 21cm; object-fit: contain; } .summary { print-color-adjust: exact; }
  .tiles { grid-template-columns: 1fr 1fr; } .tiles.masks { grid-template-columns: repeat(6, 1fr); } }
"""
# The page holds what others wrote, such as patients' names; a browser shall load nothing and run nothing for it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page_html(report: Report) -> str:
    """The page as text."""
    facts = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in report.facts.items()
    )
    summary = "".join(f"<p>{escape(sentence)}</p>" for sentence in report.summary)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head>\n<body><h1>{escape(report.title)}</h1>\n"
        + (f'<div class="summary">{summary}</div>\n' if summary else "")
        + (f'<table class="facts"><tbody>{facts}</tbody></table>\n' if facts else "")
        + _overview(report)
        + "".join(_section_html(section, index, report.heads) for index, section in enumerate(report.sections))
        + "</body></html>\n"
    )


def _overview(report: Report) -> str:
    """Every figure of the report in one table, by topic."""
    groups = [
        f'<tr class="topic"><th colspan="5" scope="rowgroup"><a href="#topic-{index}">{escape(section.title)}</a>'
        f"</th></tr>{''.join(_row(figure, words=_finite(figure.value) is None) for figure in section.figures)}"
        for index, section in enumerate(report.sections)
        if section.figures
    ]
    return f"<h2>All figures</h2>{_table(groups, report.heads)}" if groups else ""


def _section_html(section: Section, index: int, heads: tuple[str, str]) -> str:
    rows = "".join(_row(figure, words=True) for figure in section.figures)
    table = (_table([rows], heads) if rows else "") + "".join(map(_texts_html, section.tables))
    words = f"<p>{escape(section.words)}</p>" if section.words else ""
    sheets = "".join(_sheet_html(sheet) for sheet in section.sheets)
    return f'<h2 id="topic-{index}">{escape(section.title)}</h2>{words}{table}{_plots_html(section.plots)}{sheets}\n'


def _texts_html(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>\n" for row in table.rows)
    return (
        f'<h3>{escape(table.title)}</h3><div class="wide"><table class="texts"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>\n"
    )


def _table(groups: Sequence[str], heads: tuple[str, str]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("Figure", *heads, "Bar", "Verdict"))
    bodies = "".join(f"<tbody>{rows}</tbody>\n" for rows in groups)
    return f'<div class="wide"><table class="figures"><thead><tr>{head}</tr></thead>{bodies}</table></div>\n'


def _row(figure: Figure, words: bool) -> str:
    meaning = f'<small class="words">{escape(figure.words)}</small>' if words and figure.words else ""
    cells = (_value_html(figure), *map(escape, (_number(figure.real, figure.unit), _bar(figure))), _verdict(figure))
    return f"<tr><td>{escape(figure.name)}{meaning}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"


def _value_html(figure: Figure) -> str:
    value = escape(_number(figure.value, figure.unit))
    low, high = ("", "") if figure.interval is None else map(_number, figure.interval)
    return f"{value} <small>({low} to {high})</small>" if value and low and high else value


def _bar(figure: Figure) -> str:
    limit = "" if figure.bar is None else _number(figure.bar.limit, figure.unit)
    return f"{'at least' if figure.bar.at_least else 'at most'} {limit}" if figure.bar and limit else ""


def _verdict(figure: Figure) -> str:
    """A sign and a word, so that nothing hangs on the colour."""
    if _finite(figure.value) is None:
        return '<span class="unknown">○ not measured</span>'
    if figure.good is None:
        return "" if figure.bar is None else '<span class="unknown">○ not judged</span>'
    return '<span class="good">✓ good</span>' if figure.good else '<span class="missed">✗ missed</span>'


def _number(value: float | None, unit: str = "") -> str:
    """Three digits after the point, but whole where large, and never 0.000 for what is not zero."""
    value = _finite(value)
    if value is None:
        return ""
    size = abs(value)
    if size >= 1000 or (size >= 10 and value == round(value)):
        text = f"{value:,.0f}" if size < 1e9 else f"{value:.3g}"
    else:
        text = f"{value:.3f}" if size >= 0.0005 or size == 0 else f"{value:.1e}"
    return f"{text} {typeset(unit)}".rstrip()


def typeset(unit: str) -> str:
    """A unit as print has it, such as mm² for mm^2; nothing for a pure number."""
    return "" if unit == "1" else unit.replace("^2", "²").replace("^3", "³")


def _plots_html(plots: Sequence[Histogram | Curves | Points]) -> str:
    """All histograms in one picture, then each set of curves, and all points in one picture."""
    from .plots import DPI, draw_curves, draw_histograms, draw_points

    histograms = [plot for plot in plots if isinstance(plot, Histogram)]
    pictures = []
    if histograms:
        titles = ", ".join(plot.title for plot in histograms)
        pictures.append(("Distributions", draw_histograms(histograms), f"Histograms, real and ours: {titles}"))
    pictures += [(plot.title, draw_curves(plot), plot.title) for plot in plots if isinstance(plot, Curves)]
    points = [plot for plot in plots if isinstance(plot, Points)]
    if points:
        pictures.append(("Points", draw_points(points), f"Points: {', '.join(plot.x_label for plot in points)}"))
    return "".join(
        f'<h3>{escape(title)}</h3><figure class="plot">{_img(png, text, CSS_DPI / DPI)}</figure>\n'
        for title, png, text in pictures
    )


def _sheet_html(sheet: Sheet | Pairs) -> str:
    if isinstance(sheet, Sheet):
        cases = zip(sheet.cases, sheet.captions, strict=True)
        tiles = [_tile_html([case_tile(*case)], caption) for case, caption in cases]
        masks_only = all(image is None for image, _ in sheet.cases)
    else:
        tiles = [_tile_html([_pair_tile(left), _pair_tile(right)], caption) for left, right, caption in sheet.rows]
        masks_only = False
    kind = "tiles masks" if masks_only else "tiles"
    return f'<h3>{escape(sheet.title)}</h3><div class="{kind}">{"".join(tiles)}</div>\n' if tiles else ""


def _tile_html(tiles: Sequence[npt.NDArray[np.uint8]], caption: str) -> str:
    pictures = "".join(_img(_png(tile), caption) for tile in tiles)
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><div class="side">{pictures}</div>{text}</figure>\n'


def _pair_tile(case: CaseArrays) -> npt.NDArray[np.uint8]:
    """Image with outlines, and its mask in colours."""
    tile = case_tile(*case)
    return tile[:, tile.shape[1] // 3 :] if case[0] is not None else tile


def _img(png: bytes, text: str, scale: float = 1.0) -> str:
    """A picture within the page, shown at `scale` CSS pixels for each of its own."""
    width, height = (round(side * scale) for side in Image.open(io.BytesIO(png)).size)
    source = base64.b64encode(png).decode("ascii")
    return f'<img alt="{escape(text)}" width="{width}" height="{height}" src="data:image/png;base64,{source}">'


def _png(array: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="PNG")
    return stream.getvalue()
