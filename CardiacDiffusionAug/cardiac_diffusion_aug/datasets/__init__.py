"""Readers of data sets: each recognizes its layout and yields cases with the label order stated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ..errors import CardiacError
from . import acdc, mnms, mnms2, nnunet, pairs
from .case import Case, LoadedCase

__all__ = ["Case", "LoadedCase", "Reader", "find_reader", "read_cases"]


class Reader(Protocol):
    """A module that reads one layout."""

    NAME: str
    DESCRIPTION: str

    def recognizes(self, root: Path) -> bool:
        """Whether the folder has this layout."""

    def cases(self, root: Path) -> Iterator[Case]:
        """The cases of the folder."""


READERS: tuple[Reader, ...] = (acdc, mnms, mnms2, nnunet, pairs)
"""The first that recognizes a folder reads it, so that the most particular layouts come first."""


def find_reader(root: Path) -> Reader:
    """The reader whose layout the folder has.

    Raises:
        CardiacError: there is no such folder, or no reader knows its layout.
    """
    if not root.is_dir():
        raise CardiacError(f"There is no folder {root}; check the path of the data set.")
    for reader in READERS:
        if reader.recognizes(root):
            return reader
    known = "; ".join(reader.DESCRIPTION for reader in READERS)
    raise CardiacError(f"The layout of {root} is not known; arrange it as one of: {known}.")


def read_cases(root: Path, rejected: bool = False) -> tuple[Reader, list[Case]]:
    """The reader that recognized the folder, and all its cases.

    Args:
        root: the folder.
        rejected: whether also those that a manifest calls rejected.

    Raises:
        CardiacError: the layout is unknown, no case has a mask, or two cases have one name.
    """
    reader = find_reader(root)
    found = list(nnunet.cases(root, rejected) if reader is nnunet else reader.cases(root))
    if not any(case.labelled for case in found):
        raise CardiacError(
            f"{root} was read as {reader.DESCRIPTION}, but no patient in it has a mask; add the label files."
        )
    repeated = [name for name, count in Counter(case.name for case in found).items() if count > 1]
    if repeated:
        raise CardiacError(
            f"{root} holds the case {repeated[0]} twice; remove the folder or file that is one too many."
        )
    return reader, found
