"""What a case may be asked for: phase of the cycle, diagnostic group, slice level. Each is optional."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .errors import CardiacError

PHASES = ("ED", "ES")
GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
UNKNOWN_INDEX = -1
LEVELS = {"apical": 1 / 6, "mid": 0.5, "basal": 5 / 6}


@dataclass(frozen=True)
class Attributes:
    """Attributes of one slice.

    Attributes:
        phase: `ED` (end-diastole) or `ES` (end-systole).
        group: `NOR` normal, `MINF` infarction, `DCM` dilated, `HCM` hypertrophic cardiomyopathy,
            `RV` abnormal right ventricle: the groups of ACDC.
        level: 0 at the apex to 1 at the base.
    """

    phase: str | None = None
    group: str | None = None
    level: float | None = None

    def __post_init__(self) -> None:
        if self.phase is not None and self.phase not in PHASES:
            raise CardiacError(f"There is no phase {self.phase!r}; ask for {' or '.join(PHASES)}.")
        if self.group is not None and self.group not in GROUPS:
            raise CardiacError(f"There is no group {self.group!r}; ask for one of {', '.join(GROUPS)}.")
        if self.level is not None and not 0 <= self.level <= 1:
            raise CardiacError(f"The slice level {self.level} is not between 0 (apex) and 1 (base).")

    @property
    def asked(self) -> bool:
        """Whether any attribute is set."""
        return not (self.phase is None and self.group is None and self.level is None)

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.as_dict().items() if value is not None)

    def as_dict(self) -> dict[str, Any]:
        """Attributes as plain values."""
        return {"phase": self.phase, "group": self.group, "level": self.level}


AttributeTable = Sequence[Sequence[float]]
"""Rows of phase index, group index, level and count of training slices; -1 where unknown."""

LEVEL_TOLERANCE = 0.15


def drawn(table: AttributeTable, asked: Attributes, place: float) -> Attributes:
    """What is asked, and the rest as it goes together with that in the training data.

    Args:
        table: of the training data; nothing is added where it is empty.
        asked: stays as it is.
        place: 0..1, which of the fitting training slices it is taken from; the same place picks alike slices for
            requests that differ a little.
    """
    phase, group = _index(PHASES, asked.phase), _index(GROUPS, asked.group)
    rows = [r for r in table if phase in (UNKNOWN_INDEX, r[0]) and group in (UNKNOWN_INDEX, r[1])]
    if asked.level is not None:
        rows = [r for r in rows if abs(r[2] - asked.level) <= LEVEL_TOLERANCE] or rows
    if not rows:
        return asked
    rows = sorted(rows, key=lambda r: (r[1], r[0], r[2]))
    left = place * sum(r[3] for r in rows)
    for row in rows:
        left -= row[3]
        if left < 0:
            break
    return Attributes(
        asked.phase or (PHASES[int(row[0])] if row[0] >= 0 else None),
        asked.group or (GROUPS[int(row[1])] if row[1] >= 0 else None),
        asked.level if asked.level is not None else (row[2] if row[2] >= 0 else None),
    )


def balanced(table: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """The table of the training data with as much weight on each diagnostic group as on the others."""
    totals: dict[float, float] = {}
    for row in table:
        totals[row[1]] = totals.get(row[1], 0.0) + row[3]
    return [(*row[:3], row[3] / totals[row[1]]) for row in table]


def _index(names: tuple[str, ...], name: str | None) -> int:
    return UNKNOWN_INDEX if name is None else names.index(name)


def parse_level(text: str | float | None) -> float | None:
    """Slice level from a word (`apical`, `mid`, `basal`) or a number from 0 (apex) to 1 (base).

    Raises:
        CardiacError: the text is neither.
    """
    if text is None or text == "":
        return None
    if isinstance(text, str) and text.strip().lower() in LEVELS:
        return LEVELS[text.strip().lower()]
    try:
        return float(text)
    except ValueError as error:
        raise CardiacError(
            f"There is no slice level {text!r}; ask for {', '.join(LEVELS)}, or a number from 0 (apex) to 1 (base)."
        ) from error
