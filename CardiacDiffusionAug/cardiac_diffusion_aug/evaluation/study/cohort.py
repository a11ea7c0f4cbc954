"""Whose slices a study teaches, selects by and tests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle import BUNDLE_FILE, GENERATOR, NETWORKS, Bundle, load_bundle
from ...datasets import Case
from ...datasets.pack import SlicePack
from ...datasets.splits import split_patients, take_patients
from ...errors import CardiacError
from ..copying import SAME_RECORDING, nearest
from ..sets import real_set
from .ledger import write_shared
from .plan import Fraction, numbers

ALL = "all"
REPEATED = 0.5
"""Share of a test patient's slices above which the patient is taken for one of the training patients once more."""


@dataclass(frozen=True)
class Cohort:
    """The patients of a data set.

    Attributes:
        slices: of each training patient, those that show a heart.
        test: patients whom nothing is ever learned from or selected by.
        left_out: test patients whose recording the training patients hold too.
    """

    slices: Mapping[str, int]
    test: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def pool(self) -> tuple[str, ...]:
        """The training patients."""
        return tuple(sorted(self.slices))

    @property
    def everyone(self) -> list[str]:
        """All patients."""
        return sorted([*self.slices, *self.test, *self.left_out])

    def as_dict(self) -> dict[str, Any]:
        """As values that JSON holds."""
        return {"slices": dict(self.slices), "test": list(self.test), "left_out": list(self.left_out)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cohort:
        """The inverse of `as_dict`."""
        slices = {str(name): int(count) for name, count in values["slices"].items()}
        return cls(slices, tuple(values["test"]), tuple(values["left_out"]))


def find_cohort(pack: SlicePack, rule: str) -> Cohort:
    """The patients of a data set, of whom those that the rule keeps for validation are the test patients.

    Raises:
        CardiacError: the rule leaves nobody to test on.
    """
    names = sorted(set(pack.patients.tolist()))
    split = split_patients(names, rule)
    if not split.validation:
        raise CardiacError(f"The split {rule!r} keeps none of {len(names)} patients to test on; choose another.")
    training, test = (real_set(pack.of_patients(part)) for part in (split.train, split.validation))
    same = nearest(test.images, training.images, "image")[0] < SAME_RECORDING
    twice = [p for p in np.unique(test.patients).tolist() if same[test.patients == p].mean() > REPEATED]
    kept = tuple(p for p in split.validation if p not in twice)
    if not kept:
        raise CardiacError(
            "The training patients hold the recordings of all test patients too; choose another --split."
        )
    patients, counts = np.unique(training.patients, return_counts=True)
    shown = dict(zip(patients.tolist(), counts.tolist(), strict=True))
    return Cohort({p: int(shown.get(p, 0)) for p in split.train}, kept, tuple(twice))


def find_fractions(cohort: Cohort, wanted: str, seed: int, select_share: float) -> tuple[list[Fraction], list[int]]:
    """The fractions of the training patients, smallest first, each within the next, and numbers that are too large.

    Args:
        cohort: whose training patients.
        wanted: numbers of patients and `all`, with commas between.
        seed: of the choice at random.
        select_share: of a fraction's patients, for the choice of the snapshot; 0 for nobody.

    Raises:
        CardiacError: the numbers are not understood, or no fraction is left.
    """
    words = [word.strip() for word in wanted.split(",")]
    counts = set(
        numbers(",".join(w for w in words if w != ALL), "--fractions", "4,8,all") if set(words) != {ALL} else []
    )
    most = len(cohort.pool)
    too_large = sorted(count for count in counts if count > most)
    counts = {count for count in counts if count <= most} | ({most} if ALL in words else set())
    if not counts:
        raise CardiacError(f"--fractions asks for {wanted} patients, but {most} train; ask for 1 to {most}, or all.")
    return [_fraction(cohort, count, seed, select_share) for count in sorted(counts)], too_large


def _fraction(cohort: Cohort, count: int, seed: int, select_share: float) -> Fraction:
    chosen = take_patients(cohort.pool, count, seed)
    select: tuple[str, ...] = ()
    if select_share:
        if count < 2:
            raise CardiacError("One patient cannot both train and select; use --selection last, or larger --fractions.")
        select = split_patients(chosen, f"fraction {select_share:g}", seed).validation
    train = tuple(p for p in chosen if p not in select)
    return Fraction(train, select, sum(cohort.slices[p] for p in train), count == len(cohort.pool))


def require_same_patients(cohort: Cohort, cases: Sequence[Case], folder: Path) -> None:
    """Check that a data set still holds the patients that a study began with.

    Raises:
        CardiacError: it does not.
    """
    now = {case.patient for case in cases if case.labelled}
    missing = sorted(set(cohort.everyone) - now)
    if missing:
        raise CardiacError(
            f"{folder} is a study of {len(cohort.everyone)} patients, of whom --data lacks {missing[0]}; give the same "
            "data, or choose another folder."
        )


def require_within(bundle: Bundle, fraction: Fraction) -> None:
    """Check that a generator learned from the patients of a fraction only.

    Raises:
        CardiacError: it saw others, or does not say whom it saw.
    """
    for part in NETWORKS[GENERATOR]:
        seen = bundle.training_patients(part)
        if seen is None:
            raise CardiacError(
                f"The model {bundle.name} does not say which patients its {part} was trained on, so that it may have "
                f"seen more than the {fraction.name} of this fraction; give one that train-masks, train-images and "
                "build-model made.",
                "bad_model",
            )
        strangers = sorted(set(seen) - fraction.patients)
        if strangers:
            raise CardiacError(
                f"The {part} of the model {bundle.name} was trained on {len(set(seen))} patients, among them "
                f"{strangers[0]}, who is not one of the {fraction.name} of this fraction, so that its gain would be "
                "flattered; give a generator of these patients only, or let the study train it.",
                "bad_model",
            )


def require_without(bundle: Bundle, cohort: Cohort) -> None:
    """Check that a pretrained generator learned from no patient who tests.

    Raises:
        CardiacError: it did, or does not say whom it saw.
    """
    for part in NETWORKS[GENERATOR]:
        seen = bundle.training_patients(part)
        if seen is None:
            raise CardiacError(
                f"The model {bundle.name} does not say which patients its {part} was trained on, so that it may have "
                "seen those who test; give one that train-masks, train-images and build-model made.",
                "bad_model",
            )
        tests = sorted({*cohort.test, *cohort.left_out} & set(seen))
        if tests:
            raise CardiacError(
                f"The {part} of the model {bundle.name} was trained on {tests[0]}, who is a test patient of this "
                "study; give a model that saw none of them, or another --split.",
                "bad_model",
            )


def find_generators(folder: Path, fractions: Sequence[Fraction]) -> dict[int, Bundle]:
    """The generator of each fraction, by its number of patients.

    Args:
        folder: a model for all, or a folder with a model for each fraction, named 4, 8 or all.
        fractions: to find them for.

    Raises:
        CardiacError: one is missing, damaged, or saw other patients than those of its fraction.
    """
    found = {}
    for fraction in fractions:
        names = [str(fraction.count), *([ALL] if fraction.whole else [])]
        places = [folder] if (folder / BUNDLE_FILE).is_file() else [folder / name for name in names]
        place = next((p for p in places if (p / BUNDLE_FILE).is_file()), None)
        if place is None:
            raise CardiacError(
                f"{folder} holds no model for {fraction.name}; name its folder {' or '.join(names)}, or let the study "
                "train it.",
                "bad_model",
            )
        found[fraction.count] = load_bundle(place, GENERATOR)
        require_within(found[fraction.count], fraction)
    return found


def write_lists(fraction: Fraction, folder: Path) -> tuple[Path, Path]:
    """Write whom a fraction trains and selects by, one a line, and return the two paths."""
    paths = (folder / fraction.folder / "train.txt", folder / fraction.folder / "select.txt")
    for path, names in zip(paths, (fraction.train, fraction.select), strict=True):
        write_shared(path, "".join(f"{name}\n" for name in names).encode())
    return paths


def cohort_json(cohort: Cohort, fractions: Sequence[Fraction]) -> dict[str, Any]:
    """Who is who, for people who read the results."""
    return {
        "test": list(cohort.test),
        "left_out": list(cohort.left_out),
        "fractions": {str(f.count): {"train": list(f.train), "select": list(f.select)} for f in fractions},
    }
