"""What a case may be asked for: phase of the cycle, diagnostic group, slice level. Each is optional."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import CardiacError

PHASES = ("ED", "ES")
GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
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

    def as_dict(self) -> dict[str, Any]:
        """Attributes as plain values."""
        return {"phase": self.phase, "group": self.group, "level": self.level}


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
