"""Reports: figures with their bars, plots and pictures, as one HTML page that needs nothing else, and as JSON."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..disk import write_whole, writing_to
from ..preview import GAP, case_tile
from ..slices import FloatArray, LabelArray

PAGE, FIGURES = "report.html", "report.json"
CAPTION_HEIGHT = 22
SHEET_COLUMNS = 2
FORMAT = 1

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
        """Whether it reaches its bar; None without a bar or a value."""
        if self.bar is None or self.value is None or not math.isfinite(self.value):
            return None
        return self.value >= self.bar.limit if self.bar.at_least else self.value <= self.bar.limit


@dataclass(frozen=True)
class Histogram:
    """Values of real slices and of synthetic ones."""

    title: str
    unit: str
    real: npt.ArrayLike
    synthetic: npt.ArrayLike


@dataclass(frozen=True)
class Curves:
    """Lines by name, each as (x, y)."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]


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
    plots: Sequence[Histogram | Curves] = ()
    sheets: Sequence[Sheet | Pairs] = ()


@dataclass(frozen=True)
class Report:
    """A title, what it is about by name, topics, and plain sentences for the top."""

    title: str
    facts: Mapping[str, str]
    sections: Sequence[Section]
    summary: Sequence[str] = field(default_factory=list)


def write_report(report: Report, folder: Path) -> Path:
    """Write `report.html` and `report.json` into a folder, and return the path of the page.

    Raises:
        CardiacError: the folder cannot be written.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_as_json(report), indent=1, allow_nan=False)
        write_whole(folder / FIGURES, (text + "\n").encode("utf-8"))
        write_whole(folder / PAGE, _page(report).encode("utf-8"))
    return folder / PAGE


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "title": report.title,
        "summary": list(report.summary),
        "facts": dict(report.facts),
        "figures": {f"{section.key}.{f.key}": _figure_json(f) for section in report.sections for f in section.figures},
    }


def _figure_json(figure: Figure) -> dict[str, Any]:
    bar = figure.bar and {"limit": _finite(figure.bar.limit), "at_least": figure.bar.at_least}
    return {
        "name": figure.name,
        "value": _finite(figure.value),
        "interval": figure.interval and [_finite(end) for end in figure.interval],
        "real": _finite(figure.real),
        "bar": bar,
        "good": figure.good,
        "unit": figure.unit,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --paper: #fff; --band: #f5f7f9;
  --good: #14703c; --missed: #a3321f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b4; --line: #38414d; --paper: #14181d;
  --band: #1c2229; --good: #6fcf97; --missed: #ff9b85; } }
body { margin: 0 auto; max-width: 1100px; padding: 2.5rem 1.5rem 5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; } h2 { margin: 3.5rem 0 .5rem; font-size: 1.4rem; }
h3 { margin: 2rem 0 .5rem; font-size: 1.05rem; } p { max-width: 46rem; }
.summary { border-left: 4px solid var(--soft); padding: .2rem 0 .2rem 1rem; font-size: 1.1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .95rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; } td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.words, .facts td:first-child { color: var(--soft); } .good { color: var(--good); } .missed { color: var(--missed); }
.good, .missed { font-weight: 600; white-space: nowrap; }
figure { margin: 1.5rem 0; } figcaption { color: var(--soft); margin-bottom: .4rem; font-weight: 600; }
img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 4px; }
@media print { h2 { break-before: page; } figure { break-inside: avoid; } }
"""


def _page(report: Report) -> str:
    sections = "".join(_section_html(section) for section in report.sections)
    facts = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in report.facts.items())
    summary = "".join(f"<p>{escape(sentence)}</p>" for sentence in report.summary)
    judged = [figure for section in report.sections for figure in section.figures if figure.bar is not None]
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(report.title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>{escape(report.title)}</h1>"
        f'<div class="summary">{summary}</div><table class="facts"><tbody>{facts}</tbody></table>'
        + (f"<h2>All figures with a bar</h2>{_table(judged, words=False)}" if judged else "")
        + f"{sections}</body></html>\n"
    )


def _section_html(section: Section) -> str:
    from .plots import draw_curves, draw_histograms

    histograms = [plot for plot in section.plots if isinstance(plot, Histogram)]
    pictures = [_figure_html("", draw_histograms(histograms), "Distributions")] if histograms else []
    pictures += [_figure_html(p.title, draw_curves(p), p.title) for p in section.plots if isinstance(p, Curves)]
    for sheet in section.sheets:
        draw: Callable[[Any], bytes] = _draw_sheet if isinstance(sheet, Sheet) else _draw_pairs
        filled = sheet.cases if isinstance(sheet, Sheet) else sheet.rows
        pictures += [_figure_html(sheet.title, draw(sheet), sheet.title)] if len(filled) else []
    table = _table(section.figures, words=True) if section.figures else ""
    return f"<h2>{escape(section.title)}</h2><p>{escape(section.words)}</p>{table}{''.join(pictures)}"


def _table(figures: Sequence[Figure], words: bool) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("Figure", "Made", "Real", "Bar", "", *(("",) if words else ())))
    rows = "".join(_row(figure, words) for figure in figures)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(figure: Figure, words: bool) -> str:
    value = "not measured" if _finite(figure.value) is None else _number(figure.value)
    if figure.interval is not None and _finite(figure.value) is not None:
        value += f" ({_number(figure.interval[0])} to {_number(figure.interval[1])})"
    bar = (
        "" if figure.bar is None else f"{'at least' if figure.bar.at_least else 'at most'} {_number(figure.bar.limit)}"
    )
    verdict = {
        True: '<span class="good">&#10003; good</span>',
        False: '<span class="missed">&#10007; missed</span>',
        None: "" if figure.bar is None else "&#8211; not measured",
    }[figure.good]
    real = "" if _finite(figure.real) is None else _number(figure.real)
    unit = f" {figure.unit}" if figure.unit else ""
    cells = f"<td>{escape(figure.name)}</td>" + "".join(
        f'<td class="number">{cell}</td>' for cell in (escape(value + unit), real, bar, verdict)
    )
    meaning = f'<td class="words">{escape(figure.words)}</td>' if words else ""
    return f"<tr>{cells}{meaning}</tr>"


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _figure_html(title: str, png: bytes, alternative: str) -> str:
    caption = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    source = base64.b64encode(png).decode()
    return f'<figure>{caption}<img alt="{escape(alternative)}" src="data:image/png;base64,{source}"></figure>'


def _draw_sheet(sheet: Sheet) -> bytes:
    tiles = [_captioned(case_tile(*case), caption) for case, caption in zip(sheet.cases, sheet.captions, strict=True)]
    return _png(_in_columns(tiles, SHEET_COLUMNS))


def _draw_pairs(pairs: Pairs) -> bytes:
    tiles = [
        _captioned(np.concatenate([_pair_tile(left), _pair_tile(right)], axis=1), caption)
        for left, right, caption in pairs.rows
    ]
    return _png(_in_columns(tiles, SHEET_COLUMNS))


def _pair_tile(case: CaseArrays) -> npt.NDArray[np.uint8]:
    """Image with outlines, and its mask in colours."""
    tile = case_tile(*case)
    return tile[:, tile.shape[1] // 3 :] if case[0] is not None else tile


def _captioned(tile: npt.NDArray[np.uint8], caption: str) -> npt.NDArray[np.uint8]:
    strip = Image.new("RGB", (tile.shape[1], CAPTION_HEIGHT), "white")
    # The built-in font has no letters beyond these.
    text = caption.encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(strip).text((2, 5), text, fill=(40, 50, 60), font_size=14)
    return np.concatenate([np.asarray(strip), tile])


def _in_columns(tiles: Sequence[npt.NDArray[np.uint8]], columns: int) -> npt.NDArray[np.uint8]:
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _png(array: npt.NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
