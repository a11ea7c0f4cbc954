"""Cases of the scene on disk, a case at a step: data sets, plain pairs, or a contact sheet."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from pathlib import Path

import SimpleITK as sitk

from cardiac_diffusion_aug.disk import whole, writing_to
from cardiac_diffusion_aug.errors import CardiacError

from .cases import KEPT, REJECTED, CaseSet
from .pictures import contactSheet

JOB = "slicer-save"
PREVIEW_CASES = 16
FACTS = ("phase", "group", "level", "seed", "case", "variation", "model", "checks")
"""Columns of the table that the manifest has too."""


class Format(enum.Enum):
    """What cases are saved as."""

    NNUNET = "nnU-Net data set"
    INTO = "Into an nnU-Net data set that is there"
    NIFTI = "NIfTI pairs"
    NRRD = "NRRD pairs"
    SHEET = "Contact sheet (PNG)"

    def label(self) -> str:
        """For people."""
        return self.value


class Which(enum.Enum):
    """Which cases are saved."""

    KEPT = "Kept cases"
    NOT_REJECTED = "All but the rejected ones"
    ALL = "All cases"

    def label(self) -> str:
        """For people."""
        return self.value


SUFFIXES = {Format.NIFTI: ".nii.gz", Format.NRRD: ".nrrd"}


def chosenCases(cases: CaseSet, which: Which) -> list[int]:
    """Numbers of the cases to save.

    Raises:
        CardiacError: there are none.
    """
    wanted = {
        Which.KEPT: lambda state: state == KEPT,
        Which.NOT_REJECTED: lambda state: state != REJECTED,
        Which.ALL: lambda state: True,
    }[which]
    chosen = [number for number, state in enumerate(cases.column("state")) if wanted(state)]
    if not chosen:
        raise CardiacError(f"{cases.name} has none of what is to be saved ({which.value}); keep cases with the key K.")
    return chosen


def needsPermission(folder: Path, form: Format) -> bool:
    """Whether saving would replace what is there; a data set that is added to keeps all that it has."""
    if form is Format.INTO:
        return False
    if form is Format.SHEET:
        return folder.is_file()
    return folder.is_dir() and any(folder.iterdir())


def saveSteps(
    cases: CaseSet, numbers: Sequence[int], target: Path, form: Format, overwrite: bool = False
) -> Iterator[tuple[int, int]]:
    """Save cases, one a step.

    Args:
        cases: the set.
        numbers: of the cases.
        target: folder; for a contact sheet the file.
        form: what to save as.
        overwrite: whether an earlier data set of this program, or files of the same names, may be replaced.

    Yields:
        How many are done, and of how many.

    Raises:
        CardiacError: the target holds something else, the disk is full, or it may not be written.
    """
    total = len(numbers)
    yield 0, total
    if form is Format.SHEET:
        yield from _saveSheet(cases, numbers, target, overwrite)
        return
    add = {
        Format.NNUNET: _newDataSet,
        Format.INTO: _oldDataSet,
        Format.NIFTI: _pairs,
        Format.NRRD: _pairs,
    }[form](cases, target, form, overwrite)
    next(add)
    try:
        for done, number in enumerate(numbers, 1):
            add.send(number)
            yield done, total
        if form is Format.NNUNET:
            for _step in _preview(cases, numbers[:PREVIEW_CASES], target):
                yield total, total
    finally:
        # Also after a cancellation what is there is brought to its end.
        add.close()


def _newDataSet(cases: CaseSet, folder: Path, form: Format, overwrite: bool) -> Iterator[None]:
    from cardiac_diffusion_aug.export import DatasetWriter

    writer = DatasetWriter(folder, {"job": JOB, "cases": cases.name}, overwrite=overwrite)
    try:
        while True:
            number = yield
            row = cases.row(number)
            facts = {
                key: row[key] for key in ("phase", "group", "level", "seed", "case", "variation", "model", "checks")
            }
            name = fileName(row["name"])
            writer.add(name, *cases.stacks(number), {**facts, "patient": name, "kept": _kept(row["state"])})
    finally:
        # Its own preview would take too long at once.
        writer.finish(draw=False)


def _kept(state: str) -> str:
    return {KEPT: "yes", REJECTED: "no"}.get(state, "")


def _oldDataSet(cases: CaseSet, folder: Path, form: Format, overwrite: bool) -> Iterator[None]:
    from cardiac_diffusion_aug.enlarge import Enlarger

    enlarger = Enlarger(folder)
    try:
        while True:
            number = yield
            enlarger.add(fileName(cases.row(number)["name"]), *cases.stacks(number))
    finally:
        enlarger.finish()


def _pairs(cases: CaseSet, folder: Path, form: Format, overwrite: bool) -> Iterator[None]:
    suffix = SUFFIXES[form]
    with writing_to(folder, "try again"):
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        _writeOrder(folder)
    while True:
        number = yield
        name = fileName(cases.row(number)["name"])
        for part, stack in zip(("images", "masks"), cases.stacks(number), strict=True):
            _write(stack, folder / part / f"{name}{suffix}", overwrite)


def _writeOrder(folder: Path) -> None:
    import json

    from cardiac_diffusion_aug.disk import write_whole
    from cardiac_diffusion_aug.labels import STRUCTURES

    write_whole(folder / "labels.json", json.dumps({s.key: s.value for s in STRUCTURES}).encode())


def _write(stack: sitk.Image, path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise CardiacError(f"{path} is there already; choose another folder, or allow it to be replaced.", "bad_output")
    with writing_to(path.parent, "try again"), whole(path) as part:
        try:
            sitk.WriteImage(stack, str(part), useCompression=True)
        except RuntimeError as error:
            raise OSError(f"{path} could not be written") from error


def _saveSheet(cases: CaseSet, numbers: Sequence[int], path: Path, overwrite: bool) -> Iterator[tuple[int, int]]:
    if path.exists() and not overwrite:
        raise CardiacError(f"{path} is there already; choose another name, or allow it to be replaced.", "bad_output")
    with writing_to(path.parent, "try again"):
        for done, _step in enumerate(contactSheet(map(cases.stacks, numbers), len(numbers), path)):
            yield min(done, len(numbers)), len(numbers)
    yield len(numbers), len(numbers)


def _preview(cases: CaseSet, numbers: Sequence[int], folder: Path) -> Iterator[tuple[int, int]]:
    from cardiac_diffusion_aug.export import PREVIEW

    yield from _saveSheet(cases, numbers, folder / PREVIEW, overwrite=True)


def fileName(name: str) -> str:
    """A name as all file systems take it."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip("._")
    return plain or "case"
