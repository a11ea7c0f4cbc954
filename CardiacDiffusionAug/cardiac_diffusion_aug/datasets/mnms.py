"""M&Ms as the challenge ships it (Campello et al., IEEE TMI 40(12):3543-3554, 2021).

`Training/Labeled`, `Training/Unlabeled`, `Validation` and `Testing` hold `CODE/CODE_sa.nii.gz` and, where there are
labels, `CODE/CODE_sa_gt.nii.gz`: cines of which the ED and ES frames alone are labelled. The table beside them names
these frames (from 0), the pathology, the vendor and the centre.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ..attributes import PHASES
from ..errors import CardiacError
from ..labels import MNMS_ORDER
from .case import Case
from .pairing import nifti
from .tables import Row, index_rows, read_table

NAME = "mnms"
DESCRIPTION = (
    "M&Ms (Training/Labeled, Validation and Testing beside the table ..._Dataset_information_..._opendataset.csv)"
)

SUBSETS = ("Training/Labeled", "Training/Unlabeled", "Validation", "Testing")
GROUP_OF = {"NOR": "NOR", "DCM": "DCM", "HCM": "HCM", "ARV": "RV"}


def recognizes(root: Path) -> bool:
    """Whether the folder holds, itself or one level down, M&Ms's table or patients."""
    return _table(root) is not None or any(nifti(folder, f"{folder.name}_sa") for _, folder in _patient_folders(root))


def cases(root: Path) -> Iterator[Case]:
    """ED and ES of each patient, by code; patients without labels too.

    Raises:
        CardiacError: the table is missing or damaged, it lacks a patient, or a patient lacks the image.
    """
    table = _table(root)
    if table is None:
        raise CardiacError(f"{root} lacks the table ..._Dataset_information_..._opendataset.csv; copy it there.")
    rows = index_rows(read_table(table, ("External code", *PHASES)), "external code", table)
    for subset, folder in _patient_folders(root):
        if folder.name not in rows:
            raise CardiacError(
                f"{table} does not list the patient {folder.name}; restore the table or remove {folder}."
            )
        yield from _cases_of(folder, subset, rows[folder.name], table)


def _table(root: Path) -> Path | None:
    found = sorted(p for pattern in ("*.csv", "*/*.csv") for p in root.glob(pattern) if _names_table(p.name.lower()))
    return min(found, key=lambda p: len(p.parts), default=None)


def _names_table(name: str) -> bool:
    return "dataset_information" in name and name.endswith("opendataset.csv") and not name.startswith(".")


def _patient_folders(root: Path) -> list[tuple[str, Path]]:
    found = [
        (subset, folder)
        for subset in SUBSETS
        for pattern in (f"{subset}/*", f"*/{subset}/*")
        for folder in root.glob(pattern)
        if folder.is_dir() and not folder.name.startswith(".")
    ]
    return sorted(found, key=lambda item: item[1].name)


def _cases_of(folder: Path, subset: str, row: Row, table: Path) -> Iterator[Case]:
    code = folder.name
    image, mask = nifti(folder, f"{code}_sa"), nifti(folder, f"{code}_sa_gt")
    if image is None:
        raise CardiacError(f"{folder} lacks {code}_sa.nii.gz; restore the file or remove the folder.")
    frames = {phase: _frame(row[phase.lower()], code, phase, table) for phase in PHASES if row[phase.lower()]}
    if mask is not None and not frames:
        raise CardiacError(
            f"{table} names neither an ED nor an ES frame of {code}, which has labels; restore the table."
        )
    for phase, frame in frames.items():
        yield Case(
            name=f"{code}_{phase}",
            patient=code,
            image_path=image,
            mask_path=mask,
            order=MNMS_ORDER,
            frame=frame,
            phase=phase,
            group=GROUP_OF.get(row.get("pathology", "").upper()),
            facts={
                "vendor": row.get("vendorname") or row.get("vendor", ""),
                "centre": row.get("centre", ""),
                "subset": subset,
            },
        )


def _frame(text: str, code: str, phase: str, table: Path) -> int:
    # A column with gaps becomes one of floats when a data frame saves the table again.
    match = re.fullmatch(r"(\d+)(\.0*)?", text)
    if match is None:
        raise CardiacError(f"{table} gives {text!r} as the {phase} frame of {code}; a number from 0 is needed.")
    return int(match.group(1))
