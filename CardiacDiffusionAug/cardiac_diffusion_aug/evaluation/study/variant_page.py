"""What the page of a study says of its variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..report import Points, Section, Table
from .benefit import MEASURES
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
        "beside the same arm as the study has it. Quality is reckoned as evaluate does, beside the test patients, by a "
        "network that may have learned from training patients outside the fraction: it judges only, and no arm sees it."
    )
    tables = [_table(count, found) for count, found in variants.items()]
    sections = [Section("variants", "Variants", words, tables=tables)]
    plots, rows = [], []
    for count, found in variants.items():
        facts = found["quality_against_benefit"]
        plots += _plots(count, facts["points"])
        rows += [
            [count, MEASURES[key], str(c["sets"]), correlation_text(c)]
            for key, c in facts["correlation"].items()
            if c is not None
        ]
    if plots:
        words = (
            "Does what looks better help more? Each point is a set of made slices: its quality, and the points of Dice "
            "over strong traditional augmentation that it gave. The correlation is Spearman's, of ranks, with a 95 % "
            "interval by bootstrap over the test patients."
        )
        head = ["Patients", "Measure", "Sets", "Rank correlation with the gain"]
        tables = [Table("Rank correlation", head, rows)] if rows else []
        sections.append(Section("benefit", "Quality against benefit", words, plots=plots, tables=tables))
    return sections


def _table(count: str, found: Facts) -> Table:
    head = ["Variant", "Made", "Over traditional", "Over the arm as it is", *(MEASURES[key] for key in SHOWN)]
    rows = []
    for row in found["rows"]:
        quality = row["quality"] or {}
        told = ["" if quality.get(key) is None else f"{quality[key]:.2f}" for key in SHOWN]
        made = "" if row["made"] is None else str(row["made"])
        rows.append([row["words"], made, _points(row["over_traditional"]), _points(row["over_both"]), *told])
    return Table(f"{count} patients", head, rows)


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
            plots.append(Points(f"{count} patients", title, "gain, points of Dice", known))
    return plots
