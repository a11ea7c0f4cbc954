"""Which patients train and which validate. Slices of a person look alike, so that a split by slice would flatter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CardiacError

RULES = "'fraction 0.2', 'mod 5 == 4', 'list FILE' or 'none'"


@dataclass(frozen=True)
class Split:
    """Patients of a data set.

    Attributes:
        train: those that a network learns from, sorted.
        validation: those that it is judged by, sorted.
        rule: what they were chosen by.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    rule: str

    def as_dict(self) -> dict[str, Any]:
        """The split as values that JSON holds."""
        return {"train": list(self.train), "validation": list(self.validation), "rule": self.rule}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Split:
        """The inverse of `as_dict`.

        Raises:
            CardiacError: the values are not those of a split.
        """
        lists = [values.get(name) for name in ("train", "validation")]
        rule = values.get("rule")
        if not isinstance(rule, str) or not all(_holds_names(names) for names in lists):
            raise CardiacError(
                "The stored split is damaged: it needs the lists train and validation, and rule; make it anew."
            )
        train, validation = (tuple(names or ()) for names in lists)
        return cls(train, validation, rule)


def split_patients(patients: Iterable[str], rule: str, seed: int = 0) -> Split:
    """Choose the patients that validate; all others train.

    Args:
        patients: in any order, which does not matter; repeated ones count once.
        rule: `mod N == R` takes those whose number, at the end of the name, leaves R when divided by N;
            `fraction F` a share at random; `list FILE` those that a text file names, one a line; `none` nobody.
        seed: of the choice at random.

    Raises:
        CardiacError: the rule is not understood, does not fit the patients, or leaves none to train.
    """
    known = _distinct(patients)
    validation = _validation(known, rule, seed)
    train = tuple(patient for patient in known if patient not in validation)
    if not train:
        raise CardiacError(
            f"The split {rule!r} leaves none of {len(known)} patients for training; let fewer validate, or 'none'."
        )
    return Split(train, tuple(sorted(validation)), rule)


def take_patients(patients: Iterable[str], amount: int | float | str | Path, seed: int = 0) -> tuple[str, ...]:
    """Choose some of the training patients, for studies of small data sets.

    Smaller choices of one seed lie within larger ones, so that a study compares the same patients plus more.

    Args:
        patients: in any order, which does not matter; repeated ones count once.
        amount: how many (`8`), which share (`0.1`, up to `1.0`), or a text file that names them, one a line.
        seed: of the choice at random.

    Returns:
        The chosen patients, sorted.

    Raises:
        CardiacError: the amount is not understood, or more than there are.
    """
    known = _distinct(patients)
    value = _number(amount)
    if value is None:
        return tuple(_listed(known, Path(str(amount)).expanduser()))
    if isinstance(value, float) and not 0 < value <= 1:
        raise CardiacError(
            f"{amount} is no share of the patients; give one above 0 and up to 1, or a whole number of them."
        )
    count = _share(known, value) if isinstance(value, float) else value
    if not 1 <= count <= len(known):
        raise CardiacError(f"{amount} patients are asked for, but there are {len(known)}; ask for 1 to {len(known)}.")
    return tuple(sorted(_shuffled(known, "take", seed)[:count]))


def _validation(known: list[str], rule: str, seed: int) -> set[str]:
    words = rule.strip()
    if words == "none":
        return set()
    if match := re.fullmatch(r"mod\s+(\d+)\s*==\s*(\d+)", words):
        return _of_remainder(known, int(match.group(1)), int(match.group(2)), rule)
    if match := re.fullmatch(r"fraction\s+(\d*\.?\d+)", words):
        return _at_random(known, float(match.group(1)), seed)
    if match := re.fullmatch(r"list\s+(\S.*)", words):
        return set(_listed(known, Path(match.group(1)).expanduser()))
    raise CardiacError(f"The split {rule!r} is not understood; write it as {RULES}.")


def _of_remainder(known: list[str], divisor: int, remainder: int, rule: str) -> set[str]:
    if remainder >= divisor:
        raise CardiacError(f"No number satisfies the split {rule!r}; the remainder must be below the divisor.")
    chosen = {patient for patient in known if _number_of(patient, rule) % divisor == remainder}
    if not chosen:
        raise CardiacError(f"No patient satisfies the split {rule!r}; choose another, or 'none' to validate on nobody.")
    return chosen


def _number_of(patient: str, rule: str) -> int:
    match = re.search(r"[0-9]+$", patient)
    if match is None:
        raise CardiacError(
            f"The split {rule!r} needs numbered patients, but {patient} does not end in a number; use 'fraction 0.2'."
        )
    return int(match.group())


def _at_random(known: list[str], fraction: float, seed: int) -> set[str]:
    if not 0 < fraction < 1:
        raise CardiacError(
            f"The share {fraction:g} for validation is not between 0 and 1; write 'fraction 0.2', or 'none'."
        )
    return set(_shuffled(known, "validation", seed)[: _share(known, fraction)])


def _listed(known: list[str], path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CardiacError(f"{path} cannot be read as a list of patients; give a text file with one a line.") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise CardiacError(f"{path} names no patient; write one a line.")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CardiacError(
            f"{path} names {', '.join(unknown[:3])}, which the data set does not have; "
            f"its patients are named like {known[0] if known else 'nothing'}."
        )
    return sorted(set(names))


def _shuffled(known: list[str], purpose: str, seed: int) -> list[str]:
    # A hash orders each patient by itself: the same for any order of input, number of patients, and platform.
    return sorted(known, key=lambda patient: hashlib.sha256(f"{purpose}/{seed}/{patient}".encode()).digest())


def _share(known: list[str], fraction: float) -> int:
    return max(1, int(len(known) * fraction + 0.5))


def _number(amount: int | float | str | Path) -> int | float | None:
    if isinstance(amount, str):
        for kind in (int, float):
            try:
                return kind(amount)
            except ValueError:
                continue
    return None if isinstance(amount, str | Path) else amount


def _distinct(patients: Iterable[str]) -> list[str]:
    known = sorted(set(patients))
    if not known:
        raise CardiacError("There is no patient to choose from; check the data set.")
    return known


def _holds_names(names: object) -> bool:
    return isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
