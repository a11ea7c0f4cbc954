"""nnU-Net v2 raw: `imagesTr/NAME_0000.nii.gz`, `labelsTr/NAME.nii.gz` and `dataset.json`, which names the labels.

`manifest.csv`, which this program's own data sets hold, tells patients, phases and groups; without it names do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..attributes import GROUPS, PHASES
from ..errors import CardiacError
from ..labels import LabelOrder
from ..manifest import COLUMNS, part_manifests, read_rows
from ..slices import read_json
from .case import Case
from .pairing import files_by_stem, order_from_json, patient_and_phase, require_images
from .tables import Row, index_rows, read_table

NAME = "nnunet"
DESCRIPTION = "nnU-Net v2 raw (imagesTr, labelsTr and dataset.json)"

MADE_BY, OWN_WINDOW = "cardiac_diffusion_aug", (0.0, 255.0)
"""What this program's own data sets hold, and the grey levels that stand for -1 and 1 in them."""
IMAGES, LABELS, DATASET, MANIFEST = "imagesTr", "labelsTr", "dataset.json", "manifest.csv"


def recognizes(root: Path) -> bool:
    """Whether the folder holds nnU-Net's training images."""
    return (root / IMAGES).is_dir()


def cases(root: Path, rejected: bool = False) -> Iterator[Case]:
    """The training cases by name.

    Args:
        root: the folder.
        rejected: whether also those that the manifest calls rejected; `facts` tells, as `kept`, what it says.

    Raises:
        CardiacError: `dataset.json` or the manifest cannot be understood, or a mask has no image.
    """
    description = read_json(root / DATASET)
    order, ending = order_of(description, root / DATASET), ending_of(description, root / DATASET)
    images = files_by_stem(root / IMAGES, (f"_0000{ending}",))
    masks = files_by_stem(root / LABELS, (ending,)) if (root / LABELS).is_dir() else {}
    require_images(masks, images, root / IMAGES)
    # While parts of a data set are made, each has a manifest of its own.
    rows = (row for path in part_manifests(root) for row in read_rows(path))
    manifest = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in rows} | _manifest(root / MANIFEST)
    window = OWN_WINDOW if MADE_BY in description else None
    for name, image in images.items():
        row = manifest.get(name, {})
        if rejected or row.get("kept", "").lower() != "no":
            yield _case(name, image, masks.get(name), order, row, window)


def order_of(description: dict[str, Any], path: Path) -> LabelOrder:
    """The label order of a data set.

    Args:
        description: content of `dataset.json`.
        path: of that file, for the error text.

    Raises:
        CardiacError: it is not told, or not of this version.
    """
    labels = description.get("labels")
    if isinstance(labels, dict) and "0" in labels:
        raise CardiacError(
            f"{path} is of nnU-Net version 1; convert the data set with nnUNetv2_convert_old_nnUNet_dataset."
        )
    return order_from_json(labels, str(path))


def ending_of(description: dict[str, Any], path: Path) -> str:
    """The ending of all files of a data set, such as `.nii.gz`; the arguments are those of `order_of`.

    Raises:
        CardiacError: it is not told, or there are several channels.
    """
    channels = description.get("channel_names")
    if isinstance(channels, dict | list) and len(channels) > 1:
        raise CardiacError(f"{path} names {len(channels)} channels; make a data set of the cine channel alone.")
    ending = description.get("file_ending")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise CardiacError(f'{path} does not tell the file ending; add "file_ending": ".nii.gz" or what it is.')
    return ending


def _manifest(path: Path) -> dict[str, Row]:
    rows = read_table(path) if path.is_file() else []
    # Other programs write files of that name too.
    return index_rows(rows, "name", path) if rows and {"name", "patient"} <= rows[0].keys() else {}


def _case(
    name: str, image: Path, mask: Path | None, order: LabelOrder, row: Row, window: tuple[float, float] | None
) -> Case:
    patient, phase = patient_and_phase(name)
    told, group = row.get("phase"), row.get("group")
    return Case(
        name=name,
        patient=row.get("patient") or patient,
        image_path=image,
        mask_path=mask,
        order=order,
        phase=told if told in PHASES else phase,
        group=group if group in GROUPS else None,
        window=window,
        facts={"kept": row["kept"].lower()} if "kept" in row else {},
    )
