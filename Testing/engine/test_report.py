"""Reports: one page that needs nothing else, and figures that any program can read."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.evaluation.plots import draw_curves, draw_histograms
from cardiac_diffusion_aug.evaluation.report import (
    Bar,
    CaseArrays,
    Curves,
    Figure,
    Histogram,
    Pairs,
    Report,
    Section,
    Sheet,
    write_report,
)
from cardiac_diffusion_aug.labels import LV, MYO

SINGLE: Any = np.float32
"""What means of numpy arrays often are; unlike `np.float64` it is no `float`."""
NAN, INF = float("nan"), float("inf")
HOSTILE = "<script>alert('x')</script>\" onload=\"y & z"
ALONE = "\udcff"
"""What a file name that is not UTF-8 holds in Python."""
VOID = {"meta", "img", "br", "link", "hr", "input", "source", "col", "wbr"}


class Page(HTMLParser):
    """Tags with their attributes, and text by the tag around it; every tag must be closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        """All that is read."""
        return "".join(self.words)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of the tags of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def row(self, name: str) -> list[str]:
        """The first row whose first cell begins with a name."""
        return next(row for row in self.rows if row[0].startswith(name))


def case(image: bool = True, size: int = 16) -> CaseArrays:
    mask = np.zeros((size, size), np.uint8)
    mask[4:12, 4:12], mask[6:10, 6:10] = MYO, LV
    grey = np.linspace(-1, 1, size * size, dtype=np.float32).reshape(size, size)
    return (grey if image else None), mask


def report_of(*figures: Figure, **parts: Any) -> Report:
    return Report("A title", {"Model": "acdc-128"}, [Section("topic", "A topic", "Its words.", figures, **parts)])


def written(report: Report, folder: Path) -> tuple[Page, dict[str, Any]]:
    page = write_report(report, folder)
    return Page(page.read_text(encoding="utf-8")), strict(folder / "report.json")


def strict(path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return result


def pictures(page: Page) -> list[Image.Image]:
    sources = [str(one["src"]).removeprefix("data:image/png;base64,") for one in page.all("img")]
    return [Image.open(io.BytesIO(base64.b64decode(source, validate=True))).convert("RGB") for source in sources]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.fixture(scope="module")
def full() -> Report:
    """One of everything."""
    figures = [
        Figure("pass", "Pass rate", 0.95, (0.9, 0.98), 0.97, Bar(0.9, True), words="The more the better."),
        Figure("area", "Area", 1543.2, real=1480.0, bar=Bar(1500.0, False), unit="mm^2"),
        Figure("kernel", "Kernel distance", None, bar=Bar(3.0, False), words="Too few slices."),
    ]
    histograms = [Histogram(f"quantity {k}", "mm", np.arange(9.0) * k, np.arange(5.0)) for k in range(1, 5)]
    curves = Curves("Dice", "patients", "Dice", {"real": ([1, 2], [0.5, 0.6]), "both": ([1, 2], [0.6, 0.7])})
    sheets = [Sheet("Some cases", [case(), case(image=False)], ["first", "second"])]
    pairs = [Pairs("Nearest", [(case(), case(), "0.1: patient001_ED")])]
    first = Section("first", "First topic", "Words.", figures, [*histograms, curves], [*sheets, *pairs])
    return Report("All of it", {"Seed": "0"}, [first, Section("empty", "Second topic", "No more.")], ["Two sentences."])


# Good and missed


@pytest.mark.parametrize(
    ("value", "bar", "good"),
    [
        (0.9, Bar(0.8, True), True),
        (0.7, Bar(0.8, True), False),
        (0.8, Bar(0.8, True), True),
        (0.7, Bar(0.8, False), True),
        (0.9, Bar(0.8, False), False),
        (0.8, Bar(0.8, False), True),
        (0.8, None, None),
        (None, Bar(0.8, True), None),
        (NAN, Bar(0.8, True), None),
        (-INF, Bar(0.8, False), None),
        (0.8, Bar(NAN, True), None),
        (0.8, Bar(NAN, False), None),
        (np.float64(0.9), Bar(np.float64(0.8), True), True),
        (SINGLE(0.7), Bar(SINGLE(0.8), True), False),
    ],
)
def test_a_figure_reaches_its_bar_or_not(value: float | None, bar: Bar | None, good: bool | None) -> None:
    assert Figure("k", "n", value, bar=bar).good is good


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("k", "It", 2.0, bar=Bar(1.0, True)), "✓ good"),
        (Figure("k", "It", 2.0, bar=Bar(1.0, False)), "✗ missed"),
        (Figure("k", "It", None, bar=Bar(1.0, False)), "○ not measured"),
        (Figure("k", "It", NAN), "○ not measured"),
        (Figure("k", "It", 2.0, bar=Bar(NAN, True)), "○ not judged"),
        (Figure("k", "It", 2.0), ""),
    ],
)
def test_the_verdict_is_a_sign_and_a_word(figure: Figure, verdict: str, tmp_path: Path) -> None:
    page, _ = written(report_of(figure), tmp_path)
    assert [row[4] for row in page.rows if row[0] == "It"] == [verdict, verdict]


# Figures as text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.000"),
        (0.94472, "0.945"),
        (-3.5, "-3.500"),
        (16.0, "16"),
        (99.25, "99.250"),
        (12345.6, "12,346"),
        (3.2e-6, "3.2e-06"),
        (2e12, "2e+12"),
    ],
)
def test_numbers_are_short_and_never_falsely_zero(value: float, text: str, tmp_path: Path) -> None:
    page, found = written(report_of(Figure("k", "It", value)), tmp_path)
    assert page.row("It")[1] == text
    assert found["figures"]["topic.k"]["value"] == value


def test_a_row_holds_the_figure_with_all_beside_it(full: Report, tmp_path: Path) -> None:
    page, _ = written(full, tmp_path)
    assert page.rows[1] == ["Figure", "Ours", "Real", "Bar", "Verdict"]
    assert page.row("Pass rate") == ["Pass rate", "0.950 (0.900 to 0.980)", "0.970", "at least 0.900", "✓ good"]
    assert page.row("Area") == ["Area", "1,543 mm²", "1,480 mm²", "at most 1,500 mm²", "✗ missed"]


def test_the_top_table_has_every_figure_and_says_why_one_is_missing(full: Report, tmp_path: Path) -> None:
    text = write_report(full, tmp_path).read_text(encoding="utf-8")
    top = Page(re.search(r"<table class=\"figures\">.*?</table>", text, re.DOTALL).group())  # type: ignore[union-attr]
    assert [row[0] for row in top.rows] == [
        "Figure",
        "First topic",
        "Pass rate",
        "Area",
        "Kernel distanceToo few slices.",
    ]


@pytest.mark.parametrize("interval", [(NAN, 1.0), (0.0, INF), None])
def test_an_interval_without_an_end_is_not_shown(interval: tuple[float, float] | None, tmp_path: Path) -> None:
    page, _ = written(report_of(Figure("k", "It", 0.5, interval)), tmp_path)
    assert page.row("It")[1] == "0.500"


# The page


def test_the_page_needs_nothing_else(full: Report, tmp_path: Path) -> None:
    page, _ = written(full, tmp_path)
    named = {str(attributes.get("id")) for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name == "href":
                assert str(value).removeprefix("#") in named
            if name == "src":
                assert str(value).startswith("data:image/png;base64,")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import", text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_every_picture_is_whole_and_says_what_it_shows(full: Report, tmp_path: Path) -> None:
    page, _ = written(full, tmp_path)
    found = pictures(page)
    # Four histograms are one picture, and a pair is two.
    assert len(found) == 1 + 1 + 2 + 2
    for tag, picture in zip(page.all("img"), found, strict=True):
        assert tag["alt"]
        assert int(str(tag["width"])) / int(str(tag["height"])) == pytest.approx(
            picture.width / picture.height, rel=0.01
        )
    for caption in ("first", "second", "0.1: patient001_ED", "Some cases", "Nearest", "Two sentences."):
        assert caption in page.text


def test_tiles_are_in_the_order_of_their_captions(tmp_path: Path) -> None:
    dark, bright = ((np.full((16, 16), grey, np.float32), np.zeros((16, 16), np.uint8)) for grey in (-1, 1))
    page, _ = written(report_of(sheets=[Pairs("p", [(dark, bright, "dark, bright")])]), tmp_path)
    left, right = pictures(page)
    assert np.asarray(left).max() == 0
    assert np.asarray(right)[:, : right.width // 2].min() == 255


def test_cases_need_a_caption_each(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_report(report_of(sheets=[Sheet("s", [case(), case()], ["one"])]), tmp_path)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    figure = Figure(HOSTILE, HOSTILE, 1.0, real=1.0, bar=Bar(0, True), unit=HOSTILE, words=HOSTILE)
    section = Section(
        HOSTILE,
        HOSTILE,
        HOSTILE,
        [figure],
        [Histogram(HOSTILE, HOSTILE, [1, 2], [2, 3]), Curves(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: ([1, 2], [1, 2])})],
        [Sheet(HOSTILE, [case()], [HOSTILE]), Pairs(HOSTILE, [(case(), case(), HOSTILE)])],
    )
    page, found = written(Report(HOSTILE, {HOSTILE: HOSTILE}, [section], [HOSTILE]), tmp_path)
    assert not page.all("script")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    # Each place that takes text shows it, most of them in the table at the top and in the topic.
    assert page.text.count(HOSTILE) > 15
    assert found["figures"][f"{HOSTILE}.{HOSTILE}"]["name"] == HOSTILE


def test_names_that_are_not_utf8_do_not_cost_the_report(tmp_path: Path) -> None:
    plots = [Histogram(ALONE, ALONE, [1, 2], [2]), Curves(ALONE, ALONE, ALONE, {ALONE: ([1], [1])})]
    sheets = [Sheet(ALONE, [case()], [ALONE])]
    report = replace(report_of(Figure("k", ALONE, 1.0), plots=plots, sheets=sheets), title=f"set {ALONE}")
    page, found = written(report, tmp_path)
    assert "set ?" in page.text
    assert found["title"] == f"set {ALONE}"


@pytest.mark.parametrize(
    "sections", [[], [Section("a", "Alone", "")], [Section("a", "Alone", "", sheets=[Sheet("s", [], [])])]]
)
def test_a_report_may_be_empty(sections: list[Section], tmp_path: Path) -> None:
    page, found = written(Report("Nothing yet", {}, sections), tmp_path)
    assert page.all("table") == []
    assert page.all("img") == []
    assert "Nothing yet" in page.text
    assert found == {"format": 1, "title": "Nothing yet", "summary": [], "facts": {}, "figures": {}}


# The figures as JSON


def test_the_json_has_every_figure(full: Report, tmp_path: Path) -> None:
    _, found = written(full, tmp_path)
    assert list(found) == ["format", "title", "summary", "facts", "figures"]
    assert (found["summary"], found["facts"]) == (["Two sentences."], {"Seed": "0"})
    assert list(found["figures"]) == ["first.pass", "first.area", "first.kernel"]
    assert found["figures"]["first.pass"] == {
        "name": "Pass rate",
        "value": 0.95,
        "interval": [0.9, 0.98],
        "real": 0.97,
        "bar": {"limit": 0.9, "at_least": True},
        "good": True,
        "unit": "",
        "words": "The more the better.",
    }
    missing = found["figures"]["first.kernel"]
    assert (missing["value"], missing["good"], missing["interval"], missing["real"]) == (None, None, None, None)


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    figure = Figure("k", "It", NAN, (NAN, INF), -INF, Bar(NAN, True))
    _, found = written(report_of(figure), tmp_path)
    one = found["figures"]["topic.k"]
    assert (one["value"], one["interval"], one["real"], one["bar"]["limit"], one["good"]) == (
        None,
        [None, None],
        None,
        None,
        None,
    )


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    low, high = np.array([0.25, 0.75], np.float32)
    bar = Bar(np.float64(0.5), True)
    _, found = written(report_of(Figure("k", "It", SINGLE(0.5), (low, high), np.float64(1), bar)), tmp_path)
    one = found["figures"]["topic.k"]
    assert (one["value"], one["interval"], one["real"], one["good"]) == (0.5, [0.25, 0.75], 1.0, True)


def test_no_figure_is_lost_to_another_of_its_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"topic\.k"):
        write_report(report_of(Figure("k", "One", 1.0), Figure("k", "Other", 2.0)), tmp_path)
    assert list(tmp_path.iterdir()) == []


# Files


def test_a_report_replaces_an_earlier_one(full: Report, tmp_path: Path) -> None:
    written(report_of(Figure("k", "It", 1.0)), tmp_path / "new" / "folder")
    page, found = written(full, tmp_path / "new" / "folder")
    assert "All of it" in page.text
    assert found["title"] == "All of it"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CardiacError, match="choose a folder") as error:
        write_report(report_of(), tmp_path / "file")
    assert error.value.code == "bad_output"


def test_what_cannot_be_drawn_leaves_no_part_of_a_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same first dimension"):
        write_report(report_of(plots=[Curves("c", "x", "y", {"a": ([1, 2], [1])})]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_drawn_leaves_the_earlier_report(full: Report, tmp_path: Path) -> None:
    """Both files of it: a page and figures of two reports would contradict each other."""
    write_report(full, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="same first dimension"):
        write_report(report_of(plots=[Curves("c", "x", "y", {"a": ([1, 2], [1])})]), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# Plots


@pytest.mark.parametrize(
    ("real", "ours"),
    [
        ([NAN, NAN], [NAN]),
        ([], []),
        ([3.0, 3.0], [3.0]),
        ([0.0], [0.0]),
        ([1e17, 1e17], [1e17]),
        ([1.0, 1.0 + 2e-16], [1.0]),
        ([1.0, INF, NAN], [2.0, -INF]),
        ([1.0, 2.0], []),
        ([], [1.0, 2.0]),
    ],
)
def test_histograms_take_whatever_was_measured(real: list[float], ours: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = pixels(draw_histograms([Histogram("title", "mm", real, ours)]))
    assert has_color(drawn, GREY) is any(map(math.isfinite, real))
    assert has_color(drawn, ORANGE) is any(map(math.isfinite, ours))


def test_a_few_far_values_do_not_press_the_others_together() -> None:
    near = np.linspace(0.0, 1.0, 300)
    plain, far = (
        pixels(draw_histograms([Histogram("t", "", values, near)])) for values in (near, np.append(near, 50.0))
    )
    widths = [(drawn[drawn.shape[0] // 4 :] == GREY).all(-1).any(0).sum() for drawn in (plain, far)]
    assert widths[1] > 0.9 * widths[0]
    # What lies beyond is in the last bar, and the axis says so.
    last = [drawn[-drawn.shape[0] // 10 :] for drawn in (plain, far)]
    assert (last[1] < 128).all(-1).sum() > (last[0] < 128).all(-1).sum()


GREY, ORANGE = (0xB4, 0xBC, 0xC7), (0xC2, 0x41, 0x0C)


def has_color(drawn: np.ndarray, color: tuple[int, int, int]) -> bool:
    """Whether a colour is below the legend, which always shows both."""
    return bool((drawn[drawn.shape[0] // 4 :] == color).all(-1).any())


def test_both_sets_share_their_bins() -> None:
    """The values are the same, so that the outline runs around the filled bars and nowhere else."""
    values = np.random.default_rng(0).normal(size=500)
    one = pixels(draw_histograms([Histogram("t", "", values, values)]))
    below = one[one.shape[0] // 4 :]
    grey, orange = ((below == color).all(-1) for color in (GREY, ORANGE))
    # Wherever a bar is filled, the outline is the highest mark above it.
    for column in np.nonzero(grey.any(0))[0]:
        assert orange[:, column].any()
        assert orange[:, column].argmax() <= grey[:, column].argmax()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 3, 2), (12, 3, 4)])
def test_histograms_fill_a_grid(count: int, columns: int, rows: int) -> None:
    drawn = pixels(draw_histograms([Histogram(f"t{k}", "mm", [1.0, 2.0], [NAN]) for k in range(count)]))
    below = (drawn[drawn.shape[0] // (6 * rows) :] == GREY).all(-1)
    assert runs(below.any(0)) == 2 * columns
    assert runs(below.any(1)) == rows


def runs(there: np.ndarray) -> int:
    """Stretches of true values."""
    return int((np.diff(np.r_[False, there].astype(int)) == 1).sum())


@pytest.mark.parametrize("text", [r"a $\bad{ $", "$", "100 %", "_hidden", "", "Fréchet ≥ 2 mm²"])
def test_any_text_can_be_drawn(text: str) -> None:
    assert pixels(draw_histograms([Histogram(text, text, [1, 2], [1])])).size
    assert pixels(draw_curves(Curves(text, text, text, {text: ([1, 2], [1, 2])}))).size


@pytest.mark.parametrize("name", ["name", "_name"])
def test_the_legend_names_each_line(name: str) -> None:
    """matplotlib by itself leaves out names that begin with an underscore."""
    drawn = pixels(draw_curves(Curves("t", "x", "y", {name: ([1, 2], [1, 2])})))
    corner = drawn[: drawn.shape[0] // 4, -drawn.shape[1] // 8 :]
    assert (corner < 128).all(-1).any()


@pytest.mark.parametrize(
    "lines",
    [{}, {"nothing": ([], [])}, {"nan": ([1.0, 2.0], [NAN, NAN])}],
    ids=["no lines", "no points", "all NaN"],
)
def test_curves_without_points_say_so(lines: dict[str, Any]) -> None:
    """As text in the middle, where an empty grid would have none."""
    drawn = pixels(draw_curves(Curves("t", "x", "y", lines)))
    height, width = drawn.shape[:2]
    middle = drawn[height // 2 - height // 10 : height // 2, width // 2 - width // 10 : width // 2 + width // 10]
    assert (middle < 128).all(-1).any()


def test_lines_of_one_colour_have_other_marks_and_the_other_way_round() -> None:
    def last_of(count: int) -> np.ndarray:
        """The same line drawn as the last of several, the others without a point."""
        lines = {f"line {k}": ([1.0, 2.0], [NAN, NAN] if k < count - 1 else [1.0, 2.0]) for k in range(count)}
        drawn = pixels(draw_curves(Curves("t", "x", "y", lines)))
        return drawn[:, : drawn.shape[1] * 3 // 4]

    # There are six colours and seven marks.
    first, seventh, eighth = map(last_of, (1, 7, 8))
    assert (first != seventh).any()
    assert (first != eighth).any()
