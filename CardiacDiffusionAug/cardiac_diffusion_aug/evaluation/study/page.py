"""The result of a study, for people: one page that says in plain words what synthetic pairs are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ...datasets import Case
from ...labels import STRUCTURES, dice_of_structures
from ...slices import (
    FloatArray,
    LabelArray,
    grid_around,
    heart_center,
    intensity_window,
    read_image,
    resample_image,
    resample_labels,
    rescale,
)
from ..report import Bar, Curves, Figure, Pairs, Report, Section, Table, page_html
from ..scores import WORST, Score
from .ledger import Ledger, write_shared
from .plan import ARMS, BOTH, COPYING, SCORES, SYNTHETIC, TRADITIONAL, Fraction, Unit
from .results import DICE, HAUSDORFF, KEYS, MEAN, PAIRS, read_cells, worst_volumes
from .scoring import SMALL_OBJECT_MM2, mask_path
from .variant_page import variant_sections

PAGE, FIGURES = "study.html", "study.json"
FEW_PATIENTS = 8
"""Up to so many, synthetic pairs must add the points that were claimed for them."""
GAIN_BAR, ALONE_BAR = 5.0, 0.97
BASELINE_BARS = {"LV": 0.92, "MYO": 0.87, "RV": 0.86}
"""What strong traditional augmentation must reach with all patients, or it is a straw man."""
FAILURES = 4
STRUCTURE_KEYS = [s.key for s in STRUCTURES]
Facts = Mapping[str, Any]


def write_page(folder: Path, title: str, facts: Mapping[str, str], found: Facts, pictures: Sequence[Pairs]) -> Path:
    """Write the page into the study's folder, and return its path.

    Args:
        folder: of the study.
        title: of the page.
        facts: what it is about, by name.
        found: contents of `study.json`.
        pictures: of failures.
    """
    report = Report(title, facts, _sections(found, pictures), found["sentences"], ("Value", "Beside"))
    write_shared(folder / PAGE, page_html(report).encode("utf-8", "replace"))
    return folder / PAGE


def failure_pictures(
    ledger: Ledger, units: Sequence[Unit], fractions: Sequence[Fraction], cases: Sequence[Case]
) -> list[Pairs]:
    """The worst volumes of the two arms that matter, each at its worst slice: reference on the left, found right."""
    cells = read_cells(ledger, units)
    by_name = {case.name: case for case in cases}
    pictures = []
    for fraction in fractions:
        for arm in (TRADITIONAL, BOTH):
            own = {seed: cell for (n, a, seed), cell in cells.items() if (n, a) == (fraction.count, arm)}
            chosen = [(seed, s) for seed, s in worst_volumes(own, FAILURES) if s.case in by_name]
            rows = []
            for seed, score in chosen:
                masks = ledger.folder / fraction.folder / f"{arm}-{seed}" / SCORES / "masks"
                rows.append(_failure(by_name[score.case], masks, score, seed))
            if rows:
                pictures.append(Pairs(f"Worst volumes: {fraction.name}, {ARMS[arm]}", rows))
    return pictures


Tile = tuple[FloatArray, LabelArray]


def _failure(case: Case, masks: Path, score: Score, seed: int) -> tuple[Tile, Tile, str]:
    loaded = case.load()
    assert loaded.mask is not None
    grid = grid_around(loaded.image, heart_center(sitk.GetArrayViewFromImage(loaded.mask)))
    image = resample_image(loaded.image, grid)
    image = rescale(image, case.window or intensity_window(image, case.name))
    true, found = (resample_labels(m, grid) for m in (loaded.mask, read_image(mask_path(masks, case))))
    dices = [_mean_dice(a, b) for a, b in zip(found, true, strict=True)]
    row = int(np.nanargmin(dices)) if np.isfinite(dices).any() else 0
    caption = (
        f"{case.name}, slice {row}, seed {seed}: Dice {score.dice:.2f} of the volume, {dices[row]:.2f} of the slice"
    )
    return (image[row], true[row]), (image[row], found[row]), f"{caption}. Reference left, found right."


def _mean_dice(found: LabelArray, true: LabelArray) -> float:
    """Of the structures that either shows; NaN where neither shows any."""
    values = [value for value in dice_of_structures(found, true) if np.isfinite(value)]
    return float(np.mean(values)) if values else float("nan")


def _sections(found: Facts, pictures: Sequence[Pairs]) -> list[Section]:
    fractions = sorted(found["arms"], key=int)
    sections = [_gain_section(found, fractions), _dice_section(found, fractions), _pairs_section(found, fractions)]
    if found["copying"]:
        sections.append(_copying_section(found))
    sections += variant_sections(found["variants"])
    further = found["further"]
    if further is not None:
        words = (
            f"The same U-Nets on {further['data']}, {further['volumes']} volumes that the study neither learned from "
            "nor selected by."
        )
        tables = [*_arm_tables(further, fractions), *_pair_tables(further, fractions)]
        sections.append(Section("further", "Further data", words, tables=tables))
    words = (
        "To be looked at by eye; they tell more than a mean: the four worst volumes of an arm, at their worst slice."
    )
    sections.append(Section("failures", "Failures", words, sheets=pictures))
    rows = [[line] for line in found["not_run"]] + [[f"{k}: {v}"] for k, v in found["failed"].items()]
    left = [Table("Not run", ["What is missing"], rows)] if rows else []
    sections.append(Section("method", "How this was measured", found["method"], tables=left))
    return sections


def _gain_section(found: Facts, fractions: Sequence[str]) -> Section:
    figures = []
    for name in fractions:
        whole = int(name) == found["patients"]["training"]
        facts = found["comparisons"][name].get(f"{BOTH}-{TRADITIONAL}")
        if facts is not None:
            figures += _gain_figures(name, facts, whole)
        alone = found["comparisons"][name].get(f"{SYNTHETIC}-{TRADITIONAL}")
        if alone is not None:
            bar = Bar(ALONE_BAR, True) if whole else None
            words = "Mean Dice of made slices alone, divided by that of real ones alone, both strongly augmented."
            figures.append(
                Figure(
                    f"alone_{name}",
                    f"Made only / real only, {name} patients",
                    alone["ratio"],
                    None,
                    1.0,
                    bar,
                    words=words,
                )
            )
        if whole and TRADITIONAL in found["arms"][name]:
            own = found["arms"][name][TRADITIONAL][DICE]
            figures += [
                Figure(
                    f"baseline_{key}",
                    f"{key} Dice of traditional augmentation, all patients",
                    own[key]["mean"],
                    _pair(own[key]),
                    None,
                    Bar(limit, True),
                )
                for key, limit in BASELINE_BARS.items()
            ]
    words = (
        "Dice with synthetic pairs less Dice with strong traditional augmentation alone, in points (hundredths), by "
        "patient and averaged over seeds. Intervals are of 95 %, by bootstrap over the test patients; they do not hold "
        "the chance in which patients were taken for training."
    )
    return Section("gain", "What synthetic pairs add", words, figures, _curves(found, fractions))


def _gain_figures(name: str, facts: Facts, whole: bool) -> list[Figure]:
    gain = facts[DICE][MEAN]
    bar = Bar(GAIN_BAR, True) if int(name) <= FEW_PATIENTS else Bar(0.0, True) if whole else None
    p = "" if gain["p"] is None else f"p = {gain['p']:.3g} by the signed-rank test over {gain['patients']} patients; "
    words = f"{p}seeds {', '.join(str(s) for s in facts['seeds'])}: {', '.join(f'{v:.1f}' for v in gain['seeds'])}."
    figures = [
        Figure(f"gain_{name}", f"Gain with {name} patients", gain["mean"], _pair(gain), None, bar, "points", words)
    ]
    if gain["interval"] is not None and int(name) <= FEW_PATIENTS:
        figures.append(
            Figure(
                f"sure_{name}",
                f"Lower end of its interval, {name} patients",
                gain["interval"][0],
                bar=Bar(0.0, True),
                unit="points",
            )
        )
    hard = {
        "worst": ("Gain in the worst tenth of the volumes", facts["worst_dice"]),
        "small": (f"Gain in small objects, below {SMALL_OBJECT_MM2:.0f} mm²", facts["small_dice"][MEAN]),
    }
    for key, (text, own) in hard.items():
        bar = Bar(0.0, True) if int(name) <= FEW_PATIENTS else None
        figures.append(
            Figure(
                f"{key}_{name}",
                f"{text}, {name} patients",
                own["mean"],
                _pair(own),
                None,
                bar,
                "points",
                "Over traditional augmentation alone, of the seeds that both arms have.",
            )
        )
    return figures


def _curves(found: Facts, fractions: Sequence[str]) -> list[Curves]:
    ticks = [int(name) for name in fractions]
    plots = []
    for measure, title, label in (
        (DICE, "Dice by number of patients", "Dice"),
        (HAUSDORFF, "95 % Hausdorff distance by number of patients", "mm"),
    ):
        lines, intervals = {}, {}
        for arm, words in ARMS.items():
            own = [found["arms"][name].get(arm, {}).get(measure, {}).get(MEAN) for name in fractions]
            if any(own):
                lines[words] = (ticks, _column(own, "mean"))
                intervals[words] = (_column(own, "interval", 0), _column(own, "interval", 1))
        if lines:
            plots.append(
                Curves(f"{title}, mean of the structures", "training patients", label, lines, intervals, ticks)
            )
    gains = {
        key: [found["comparisons"][n].get(f"{BOTH}-{TRADITIONAL}", {}).get(DICE, {}).get(key) for n in fractions]
        for key in KEYS
    }
    if any(gains[MEAN]):
        lines = {key: (ticks, _column(own, "mean")) for key, own in gains.items()}
        intervals = {key: (_column(own, "interval", 0), _column(own, "interval", 1)) for key, own in gains.items()}
        plots.append(
            Curves("Gain by number of patients", "training patients", "points of Dice", lines, intervals, ticks)
        )
    return plots


def _column(rows: Sequence[Facts | None], key: str, end: int | None = None) -> list[float]:
    values = [None if row is None else row[key] for row in rows]
    if end is not None:
        values = [None if value is None else value[end] for value in values]
    return [float("nan") if value is None else float(value) for value in values]


def _dice_section(found: Facts, fractions: Sequence[str]) -> Section:
    words = (
        "Means over the test patients and seeds, with 95 % intervals by bootstrap over the patients. The spread is the "
        "standard deviation of the seeds' means. The 95 % Hausdorff distance leaves out patients in some of whose "
        "volumes a structure has no distance, since it was not found at all, or found where there is none; an arm for "
        "which this happens more often looks better by it. How often, over volumes, structures and seeds, is told "
        "beside it."
    )
    return Section("arms", "Every arm", words, tables=_arm_tables(found, fractions))


def _arm_tables(found: Facts, fractions: Sequence[str]) -> list[Table]:
    tables = []
    for name in fractions:
        arms = found["arms"][name]
        if arms:
            overlap = [[ARMS[arm], *_dice_cells(facts)] for arm, facts in arms.items()]
            far = [[ARMS[arm], *_distance_cells(facts)] for arm, facts in arms.items()]
            head = ["Arm", "Seeds", *STRUCTURE_KEYS, "Mean", "Spread", f"Worst {WORST:.0%}", "Small objects"]
            tables.append(Table(f"{name} patients: Dice", head, overlap))
            head = ["Arm", *STRUCTURE_KEYS, "Mean", "Without a distance"]
            tables.append(Table(f"{name} patients: 95 % Hausdorff distance in mm", head, far))
    return tables


def _dice_cells(facts: Facts) -> list[str]:
    dice = facts[DICE]
    seeds = [value for value in dice[MEAN]["seeds"] if value is not None]
    return [
        ", ".join(map(str, facts["seeds"])),
        *(_text(dice[key], 3) for key in STRUCTURE_KEYS),
        _text(dice[MEAN], 3, interval=True),
        f"{float(np.std(seeds, ddof=1)):.3f}" if len(seeds) > 1 else "",
        _text(facts["worst_dice"], 3),
        _text(facts["small_dice"][MEAN], 3),
    ]


def _distance_cells(facts: Facts) -> list[str]:
    far, missed = facts[HAUSDORFF], facts["no_distance"]
    told = [_text(far[key], 1, interval=key == MEAN) for key in KEYS]
    return [*told, f"{missed['count']} of {missed['of']}"]


def _pairs_section(found: Facts, fractions: Sequence[str]) -> Section:
    words = (
        "Differences paired by patient, averaged over the seeds that both arms have: of Dice in points, of distances "
        "in mm (less is better), with 95 % intervals by bootstrap over the patients, and p of the signed-rank test. "
        "Many are tested, so that a p just below 0.05 among them tells little."
    )
    return Section("pairs", "Arms compared", words, tables=_pair_tables(found, fractions))


def _pair_tables(found: Facts, fractions: Sequence[str]) -> list[Table]:
    head = ["Arms", "Structure", "Dice", "p", "Distance", "p", "Small objects", "p"]
    tables = []
    for name in fractions:
        rows = []
        for first, second in PAIRS:
            facts = found["comparisons"][name].get(f"{first}-{second}")
            for key in KEYS if facts else ():
                cells = [facts[m][key] for m in (DICE, HAUSDORFF, "small_dice")]
                texts = [t for c in cells for t in (_text(c, 1, True), "" if c["p"] is None else f"{c['p']:.2g}")]
                rows.append([f"{first} - {second}" if key == KEYS[0] else "", key, *texts])
        if rows:
            tables.append(Table(f"{name} patients", head, rows))
    return tables


def _copying_section(found: Facts) -> Section:
    figures = []
    for name, facts in found["copying"].items():
        for figure in facts["figures"]:
            bar = None if figure["bar"] is None else Bar(figure["bar"]["limit"], figure["bar"]["at_least"])
            figures.append(
                Figure(
                    f"{figure['key']}_{name}",
                    f"{figure['name']}, {name} patients",
                    figure["value"],
                    _ends(figure["interval"]),
                    figure["real"],
                    bar,
                    words=figure["words"],
                )
            )
    words = (
        "Does the generator of a fraction repeat its patients? Distances of made slices to the nearest slice of the "
        "fraction's patients, beside those of the test patients. Generators of few patients copy first."
    )
    return Section(COPYING, "Copying", words, figures)


def _pair(facts: Facts) -> tuple[float, float] | None:
    return _ends(facts["interval"])


def _ends(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])


def _text(facts: Facts, digits: int, interval: bool = False) -> str:
    if facts["mean"] is None:
        return ""
    text = f"{facts['mean']:.{digits}f}"
    if interval and facts.get("interval") is not None:
        low, high = facts["interval"]
        text += f" ({low:.{digits}f} to {high:.{digits}f})"
    return text
