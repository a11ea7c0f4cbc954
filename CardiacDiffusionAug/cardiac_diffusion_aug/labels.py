"""Structures of the short-axis heart, their values here and elsewhere, colours and SNOMED CT codes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import CardiacError

BACKGROUND, LV, MYO, RV = range(4)
NUM_CLASSES = 4

LabelOrder = Mapping[int, int]
"""Maps each value of a source to the value used here."""


@dataclass(frozen=True)
class Structure:
    """One labelled structure; `color` is sRGB in 0..255."""

    value: int
    key: str
    name: str
    color: tuple[int, int, int]
    snomed_ct: str


STRUCTURES = (
    Structure(LV, "LV", "Left ventricle cavity", (216, 67, 67), "87878005"),
    Structure(MYO, "MYO", "Left ventricle myocardium", (86, 178, 96), "74281007"),
    Structure(RV, "RV", "Right ventricle cavity", (66, 121, 219), "53085002"),
)

LABEL_VALUES = {"background": BACKGROUND, **{structure.key: structure.value for structure in STRUCTURES}}
"""Names and values, as `dataset.json` and `bundle.json` state them."""

ACDC_ORDER: LabelOrder = {0: BACKGROUND, 1: RV, 2: MYO, 3: LV}
MNMS_ORDER: LabelOrder = {0: BACKGROUND, 1: LV, 2: MYO, 3: RV}

_NAMES = {
    "background": BACKGROUND,
    "bg": BACKGROUND,
    "lv": LV,
    "lvcavity": LV,
    "lvc": LV,
    "lvbp": LV,
    "lvbloodpool": LV,
    "leftventricle": LV,
    "leftventriclecavity": LV,
    "leftventricularcavity": LV,
    "leftventricularbloodpool": LV,
    "myo": MYO,
    "myocardium": MYO,
    "mlv": MYO,
    "lvm": MYO,
    "lvmyo": MYO,
    "lvmyocardium": MYO,
    "leftventriclemyocardium": MYO,
    "leftventricularmyocardium": MYO,
    "rv": RV,
    "rvc": RV,
    "rvcavity": RV,
    "rvbp": RV,
    "rvbloodpool": RV,
    "rightventricle": RV,
    "rightventriclecavity": RV,
    "rightventricularcavity": RV,
    "rightventricularbloodpool": RV,
}


def value_of_name(name: str) -> int | None:
    """The value used here for a structure's name in any common spelling, or None when unknown."""
    return _NAMES.get("".join(c for c in name.lower() if c.isalnum()))


def order_from_names(names: Mapping[str, int], source: str) -> LabelOrder:
    """Label order from a table of names and values, as nnU-Net's `dataset.json` holds it.

    Args:
        names: structure name to value in the source.
        source: what the table came from, for the error text.

    Raises:
        CardiacError: a name is unknown, a value cannot be that structure's, or one of the three structures is missing.
    """
    return _order(names.items(), source)


def _order(pairs: Iterable[tuple[str, int]], source: str) -> LabelOrder:
    order: dict[int, int] = {0: BACKGROUND}
    for name, value in pairs:
        known = value_of_name(name)
        if known is None:
            raise CardiacError(
                f"{source} names a label {name!r} that is neither LV, MYO nor RV; "
                "rename it there, or pass the order as --labels LV=1,MYO=2,RV=3."
            )
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise CardiacError(f"{source} gives {value!r} as the value of {name!r}; labels are whole numbers from 0.")
        if order.setdefault(value, known) != known:
            other = "the background" if value == 0 else "another structure"
            raise CardiacError(f"{source} gives {name!r} the value {value}, which is {other}; give it one of its own.")
    missing = [s.key for s in STRUCTURES if s.value not in order.values()]
    if missing:
        raise CardiacError(f"{source} has no label for {' and '.join(missing)}; all of LV, MYO and RV are needed.")
    return order


def parse_order(text: str) -> LabelOrder:
    """Label order from text such as `LV=1,MYO=2,RV=3`.

    Raises:
        CardiacError: the text is not of that form or a structure is missing.
    """
    pairs = []
    for part in text.split(","):
        name, _, value = part.partition("=")
        if not re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
            raise CardiacError(f"The label order {text!r} is not understood; write it as LV=1,MYO=2,RV=3.")
        pairs.append((name.strip(), int(value)))
    return _order(pairs, f"The label order {text!r}")


def remap(mask: npt.NDArray[np.generic], order: LabelOrder, source: str) -> npt.NDArray[np.uint8]:
    """A mask in the values used here.

    Args:
        mask: integer values of any shape; whole-numbered floats are taken too.
        order: value in `mask` to value here.
        source: name of the file, for the error text.

    Raises:
        CardiacError: the mask holds NaN, fractions, or a value that `order` does not name.
    """
    values = np.unique(mask)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise CardiacError(f"{source} is not a label map: it holds fractions or NaN; export it as whole-number labels.")
    unknown = [int(v) for v in values if int(v) not in order]
    if unknown:
        shown = ", ".join(map(str, unknown[:5]))
        raise CardiacError(
            f"{source} holds the label {shown} that its order ({describe_order(order)}) does not name; "
            "give the right order as --labels LV=1,MYO=2,RV=3."
        )
    result = np.zeros(mask.shape, np.uint8)
    for value in values:
        result[mask == value] = order[int(value)]
    return result


def dice(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Overlap 2 |A and B| / (|A| + |B|) (Dice 1945) of two regions; NaN where both are empty."""
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else float("nan")


def dice_of_structures(found: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8]) -> list[float]:
    """Dice of LV, MYO and RV in two label arrays of any shape; NaN where neither has the structure."""
    return [dice(found == structure.value, true == structure.value) for structure in STRUCTURES]


def describe_order(order: LabelOrder) -> str:
    """`LV=1,MYO=2,RV=3` for an order; the inverse of `parse_order`."""
    keys = {BACKGROUND: "background", **{s.value: s.key for s in STRUCTURES}}
    return ",".join(f"{keys[own]}={value}" for value, own in sorted(order.items()) if value != 0)
