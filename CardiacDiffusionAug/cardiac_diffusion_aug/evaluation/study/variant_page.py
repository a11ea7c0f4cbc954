"""What the page of a study says of its variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..report import Points, Section, Table
from .benefit import LESS_IS_BETTER, MEASURES
from .variant_results import correlation_text

Facts = Mapping[str, Any]
SHOWN = ("adherence", "frechet_ratio", "kernel_ratio", "recall_ratio", "shape")
"""Measures in the table of variants."""


def variant_sections(variants: Mapping[str, Facts]) -> list[Section]:
    """The variants of every number of patients, and quality beside benefit; nothing where none was tried."""
    if not variants:
        return []
    words = (
        "Each changes one thing of the arm with real and made slices. Differences of Dice in points, paired by patient "
        "and seed, with 95 % intervals by bootstrap over the patients: beside strong traditional augmentation, and "
        "beside the same arm as the study has it. Quality is reckoned as evaluate does, beside the test patients, from "
        "whom no generator learns. Its judge is a network that may have learned from training patients outside the "
        "fraction, and whose snapshot may have been chosen by test patients, as that of acdc-unet was: it judges only, "
        "and no arm sees it. A pretrained generator learned from patients outside the fraction too. What a generator "
        "gives when asked for attributes is not measured here."
    )
    tables = [_table(count, found) for count, found in variants.items()]
    tables += [_further(count, found) for count, found in variants.items() if any(r["further"] for r in found["rows"])]
    sections = [Section("variants", "Variants", words, tables=tables)]
    plots, rows = [], []
    for count, found in variants.items():
        facts = found["quality_against_benefit"]
        plots += _plots(count, facts["points"])
        rows += [
            [count, _described(key), str(c["sets"]), correlation_text(c), f"{c['p']:.2g}"]
            for key, c in facts["correlation"].items()
            if c is not None
        ]
    if plots:
        words = (
            "Does what looks better help more? Each point is a set of made slices: its quality, and the points of Dice "
            "over strong traditional augmentation that it gave. The correlation is Spearman's, of ranks, with a 95 % "
            "interval by bootstrap over the test patients, which does not hold the chance of the seeds; p is that of a "
            "permutation test over the sets. Many are tested, so that a p just below 0.05 among them tells little."
        )
        head = ["Patients", "Measure", "Sets", "Rank correlation with the gain", "p"]
        tables = [Table("Rank correlation", head, rows)] if rows else []
        sections.append(Section("benefit", "Quality against benefit", words, plots=plots, tables=tables))
    return sections


def _table(count: str, found: Facts) -> Table:
    head = ["Variant", "Made", "Seeds", "Over traditional", "Over the arm as it is", *map(_described, SHOWN)]
    rows = []
    for row in found["rows"]:
        quality = row["quality"] or {}
        told = ["" if quality.get(key) is None else f"{quality[key]:.2f}" for key in SHOWN]
        gains = [_points(row["over_traditional"]), _points(row["over_both"])]
        rows.append([row["words"], str(row["made"]), _seeds(row["over_traditional"]), *gains, *told])
    return Table(f"{count} patients", head, rows)


def _further(count: str, found: Facts) -> Table:
    head = ["Variant", "Over traditional", "Over the arm as it is"]
    rows = [
        [row["words"], _points(row["further"]["over_traditional"]), _points(row["further"]["over_both"])]
        for row in found["rows"]
        if row["further"] is not None
    ]
    return Table(f"{count} patients, further data", head, rows)


def _seeds(facts: Facts | None) -> str:
    return "" if facts is None else ", ".join(map(str, facts["of_seeds"]))


def _points(facts: Facts | None) -> str:
    if facts is None or facts["mean"] is None:
        return ""
    if facts["interval"] is None:
        return f"{facts['mean']:+.1f}"
    low, high = facts["interval"]
    return f"{facts['mean']:+.1f} ({low:+.1f} to {high:+.1f})"


def _plots(count: str, points: list[dict[str, Any]]) -> list[Points]:
    plots = []
    for key, title in MEASURES.items():
        known = {point["name"]: (point[key], point["gain"]) for point in points if point[key] is not None}
        if len(known) > 1:
            better = "less" if key in LESS_IS_BETTER else "more"
            plots.append(Points(title, f"{count} patients; {better} is better", "gain, points of Dice", known))
    return plots


def _described(key: str) -> str:
    return f"{MEASURES[key]}{' (less is better)' if key in LESS_IS_BETTER else ''}"
