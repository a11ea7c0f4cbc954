"""Files that belong together by name, what their names tell, and what a JSON table of labels means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..attributes import PHASES
from ..errors import CardiacError
from ..labels import BACKGROUND, LabelOrder, order_from_names, value_of_name

EXAMPLE = '{"LV": 1, "MYO": 2, "RV": 3}'
_NAME_PARTS = re.compile(r"(?:_(?:ed|es|frame\d+|slice\d+))+$", re.IGNORECASE)


def patient_and_phase(name: str) -> tuple[str, str | None]:
    """The patient and the phase that a case's name tells.

    The patient is what stands before `_ED`, `_ES`, `_frameNN` and `_sliceNN` at the end, so that all frames and
    slices of a person fall on one side of a split.
    """
    match = _NAME_PARTS.search(name)
    if match is None:
        return name, None
    phases = [part for part in match.group().upper().split("_") if part in PHASES]
    return name[: match.start()] or name, phases[0] if len(phases) == 1 else None


def nifti(folder: Path, stem: str) -> Path | None:
    """The NIfTI file of that name, compressed or not, or None."""
    return next((p for p in (folder / f"{stem}.nii.gz", folder / f"{stem}.nii") if p.is_file()), None)


def files_by_stem(folder: Path, endings: Iterable[str]) -> dict[str, Path]:
    """Files of a folder by their name without its ending, sorted; hidden files are left out.

    Raises:
        CardiacError: two files differ in their ending alone.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        ending = next((e for e in endings if path.name.lower().endswith(e.lower())), None)
        if ending is None or path.name.startswith(".") or not path.is_file():
            continue
        stem = path.name[: -len(ending)]
        if stem in found:
            raise CardiacError(f"{folder} holds {found[stem].name} and {path.name} for one case; remove one of them.")
        found[stem] = path
    return found


def require_images(masks: Mapping[str, Path], images: Mapping[str, Path], folder: Path) -> None:
    """Check that each mask has an image.

    Raises:
        CardiacError: a mask has none.
    """
    orphan = next((path for stem, path in masks.items() if stem not in images), None)
    if orphan is not None:
        raise CardiacError(f"{orphan} has no image of that name in {folder}; add the image or remove the mask.")


def order_from_json(labels: object, source: str) -> LabelOrder:
    """Label order from a JSON table of names and values.

    Args:
        labels: the table as read.
        source: what it came from, for the error text.

    Raises:
        CardiacError: it is not a table of one whole number a name, or does not tell LV, MYO and RV.
    """
    if not isinstance(labels, dict) or not labels:
        raise CardiacError(f"{source} has no table of labels; write it as {EXAMPLE}.")
    for name, value in labels.items():
        _check_label(name, value, source)
    used = list(labels.values())
    repeated = next((value for value in used if used.count(value) > 1), None)
    if repeated is not None:
        raise CardiacError(f"{source} gives the value {repeated} to two labels; give each its own, as in {EXAMPLE}.")
    return order_from_names(labels, source)


def _check_label(name: str, value: object, source: str) -> None:
    if name.lower() == "ignore":
        raise CardiacError(
            f"{source} names an 'ignore' label, so its masks are incomplete; complete them and remove that label."
        )
    if isinstance(value, list):
        raise CardiacError(
            f"{source} defines the label {name!r} as a region of several values; "
            f"give each structure a single value of its own, as in {EXAMPLE}."
        )
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise CardiacError(f"{source} gives {value!r} as the value of {name!r}; write whole numbers, as in {EXAMPLE}.")
    own = value_of_name(name)
    if own is not None and (value == 0) != (own == BACKGROUND):
        raise CardiacError(f"{source} gives {name!r} the value {value}, but 0 is the background and nothing else is.")
