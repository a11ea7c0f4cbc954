"""ACDC as the challenge ships it (Bernard et al., IEEE TMI 37(11):2514-2525, 2018).

`patientNNN/Info.cfg` names the ED and ES frames (from 1) and the group. The frames lie beside it as 3D files
`patientNNN_frameFF.nii.gz` with `..._frameFF_gt.nii.gz`, or only in the cine `patientNNN_4d.nii.gz`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..attributes import GROUPS, PHASES
from ..errors import CardiacError
from ..labels import ACDC_ORDER
from .case import Case

NAME = "acdc"
DESCRIPTION = "ACDC (folders patientNNN with Info.cfg)"


def recognizes(root: Path) -> bool:
    """Whether the folder is, or holds one level down, ACDC's patient folders."""
    return any(True for _ in _patient_folders(root))


def cases(root: Path) -> Iterator[Case]:
    """ED and ES of each patient, by number.

    Raises:
        CardiacError: an `Info.cfg` cannot be understood or a frame it names is missing.
    """
    for folder in _patient_folders(root):
        facts = _read_info(folder / "Info.cfg")
        for phase in PHASES:
            if phase in facts:
                yield _case(folder, facts, phase)


def _patient_folders(root: Path) -> list[Path]:
    found = {p.parent for pattern in ("patient*/Info.cfg", "*/patient*/Info.cfg") for p in root.glob(pattern)}
    return sorted(found, key=lambda p: p.name)


def _read_info(path: Path) -> dict[str, str]:
    facts = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            facts[key.strip()] = value.strip()
    if not any(phase in facts for phase in PHASES):
        raise CardiacError(f"{path} names neither an ED nor an ES frame; restore it from the challenge's archive.")
    return facts


def _case(folder: Path, facts: dict[str, str], phase: str) -> Case:
    patient = folder.name
    if not facts[phase].isdecimal() or int(facts[phase]) < 1:
        raise CardiacError(
            f"{folder / 'Info.cfg'} gives {facts[phase]!r} as the {phase} frame; a number from 1 is needed."
        )
    number = int(facts[phase])
    stem = f"{patient}_frame{number:02d}"
    image, frame = _existing(folder, stem), None
    if image is None:
        image, frame = _existing(folder, f"{patient}_4d"), number - 1
    if image is None:
        raise CardiacError(f"{folder} lacks {stem}.nii.gz, which its Info.cfg names as {phase}; restore the file.")
    group = facts.get("Group")
    return Case(
        name=f"{patient}_{phase}",
        patient=patient,
        image_path=image,
        mask_path=_existing(folder, f"{stem}_gt"),
        order=ACDC_ORDER,
        frame=frame,
        phase=phase,
        group=group if group in GROUPS else None,
    )


def _existing(folder: Path, stem: str) -> Path | None:
    return next((p for p in (folder / f"{stem}.nii.gz", folder / f"{stem}.nii") if p.is_file()), None)
