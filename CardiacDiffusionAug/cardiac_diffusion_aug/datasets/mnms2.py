"""M&Ms-2 as the challenge ships it (Martín-Isla et al., IEEE JBHI 27(7):3302-3313, 2023).

`dataset/NNN` holds `NNN_SA_ED.nii.gz` with `NNN_SA_ED_gt.nii.gz`, and ES likewise; its long-axis views and cines are
left aside. `dataset_information.csv` beside `dataset` names the disease, vendor, scanner and field strength.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..attributes import PHASES
from ..errors import CardiacError
from ..labels import MNMS_ORDER
from .case import Case
from .pairing import nifti
from .tables import Row, index_rows, read_table

NAME = "mnms2"
DESCRIPTION = "M&Ms-2 (folders dataset/NNN beside dataset_information.csv)"

TABLE = "dataset_information.csv"
GROUP_OF = {"NOR": "NOR", "HCM": "HCM", "LV": "DCM", "RV": "RV"}


def recognizes(root: Path) -> bool:
    """Whether the folder is M&Ms-2, its `dataset`, or holds it one level down."""
    return _base(root) is not None


def cases(root: Path) -> Iterator[Case]:
    """ED and ES of each patient, by number.

    Raises:
        CardiacError: the table is missing or damaged, it lacks a patient, or a patient lacks an image.
    """
    base = _base(root) or root
    table = base / TABLE
    if not table.is_file():
        raise CardiacError(f"{base} lacks {TABLE}; copy it there from the challenge's archive.")
    rows = index_rows(read_table(table, ("SUBJECT_CODE", "DISEASE")), "subject_code", table, _bare)
    for folder in _patient_folders(base):
        row = rows.get(_bare(folder.name))
        if row is None:
            raise CardiacError(
                f"{table} does not list the patient {folder.name}; restore the table or remove {folder}."
            )
        for phase in PHASES:
            yield _case(folder, phase, row)


def _bare(code: str) -> str:
    """A patient's number without leading zeros, which the table may have lost."""
    return code.lstrip("0")


def _base(root: Path) -> Path | None:
    """The folder that holds the table, or where it should be."""
    if root.name == "dataset" and _patient_folders(root.parent):
        return root.parent
    found = [p.parent for pattern in (TABLE, "dataset", f"*/{TABLE}", "*/dataset") for p in sorted(root.glob(pattern))]
    return next((base for base in found if (base / TABLE).is_file() or _patient_folders(base)), None)


def _patient_folders(base: Path) -> list[Path]:
    folders = sorted((base / "dataset").glob("[0-9]*"))
    return [p for p in folders if any(nifti(p, f"{p.name}_SA_{phase}") for phase in PHASES)]


def _case(folder: Path, phase: str, row: Row) -> Case:
    stem = f"{folder.name}_SA_{phase}"
    image = nifti(folder, stem)
    if image is None:
        raise CardiacError(f"{folder} lacks {stem}.nii.gz; restore the file or remove the folder.")
    return Case(
        name=f"{folder.name}_{phase}",
        patient=folder.name,
        image_path=image,
        mask_path=nifti(folder, f"{stem}_gt"),
        order=MNMS_ORDER,
        phase=phase,
        group=GROUP_OF.get(row["disease"].upper()),
        facts={name: row.get(name, "") for name in ("vendor", "scanner", "field")},
    )
