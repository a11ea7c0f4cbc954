"""Finished parts of a long evaluation, kept so that one which was interrupted need not do them again."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..disk import whole, writing_to

Arrays = Mapping[str, npt.NDArray[np.generic]]
KEY = "_made_from"
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class Parts:
    """Arrays by name in a hidden folder.

    Args:
        folder: of the report.
        key: of all that the parts are made from; parts of another key are made anew.

    Raises:
        CardiacError: the folder cannot be written, which is better known before the work than after it.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder / ".parts", key
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """The arrays of a part: those that were kept, or else made and kept now.

        Raises:
            CardiacError: they cannot be kept.
        """
        path = self.folder / f"{name}.npz"
        kept = self._read(path)
        if kept is not None:
            return kept
        made = make()
        with self._writing(), whole(path) as part:
            np.savez(part, **{KEY: np.array(self.key)}, **made)  # type: ignore[arg-type]
        return made

    def clear(self) -> None:
        """Remove them, once the report is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _writing(self) -> AbstractContextManager[None]:
        return writing_to(self.folder.parent, "start it again, and it goes on where it was")

    def _read(self, path: Path) -> Arrays | None:
        if not path.is_file():
            return None
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except DAMAGED:
            return None  # Only a lost shortcut: it is made anew.
        return arrays if str(arrays.pop(KEY, "")) == self.key else None
