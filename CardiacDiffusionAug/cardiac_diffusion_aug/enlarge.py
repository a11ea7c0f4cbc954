"""Cases added to an nnU-Net v2 raw data set that somebody else made, in its own labels and format.

Each case is written whole into the hidden folder `.adding` first. Then its image and its mask are moved to their
places, and `dataset.json` counts them. The file `.adding/name` tells which case is on its way, so that after a kill in
between the next `Enlarger` keeps what came whole and removes what did not.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from .datasets.case import Case
from .datasets.nnunet import ending_of, order_of
from .datasets.pairing import files_by_stem
from .disk import append_line, is_plain_name, reason_not_written, write_whole, writing_to
from .errors import CardiacError, shown
from .export import DATASET, IMAGES, LABELS, MADE_BY
from .labels import NUM_CLASSES
from .manifest import COLUMNS, MANIFEST, csv_line
from .slices import as_stack, read_json, same_geometry

ADDING, NAME = ".adding", "name"
CHANNEL = "_0000"
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Formats of a single file that keep spacing and direction."""
HEADER = 1024
GREY_LEVELS = 255


class Enlarger:
    """Adds cases to an nnU-Net v2 raw data set; none that is there is ever changed.

    Attributes:
        folder: of the data set.
        order: its label order, from `dataset.json`.
        ending: of its files.
        count: cases there now.

    Args:
        folder: with `imagesTr`, `labelsTr` and `dataset.json`.

    Raises:
        CardiacError: it is no such data set, or one that cannot be added to: of other structures, several channels, or
            a format that keeps no spacing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not all(os.path.isdir(folder / part) for part in (IMAGES, LABELS)):
            raise CardiacError(
                f"{folder} is no nnU-Net v2 raw data set ({IMAGES}, {LABELS} and {DATASET}); choose one.", "bad_output"
            )
        description, path = read_json(folder / DATASET), folder / DATASET
        self.order, self.ending = order_of(description, path), ending_of(description, path)
        self._values = self._own_values()
        self._require_usable(description)
        self._window = (0, GREY_LEVELS) if MADE_BY in description else None
        with writing_to(folder, "try again"):
            self._mend()
        self._names = self._taken()
        self.count = self._counted(read_json(path))

    def add(
        self, name: str, image: sitk.Image, mask: sitk.Image, facts: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """Write a case; it is there whole, or not at all.

        Args:
            name: of the case; where it is taken, `NAME_2` or the next that is free.
            image, mask: a slice or a stack each, of the same geometry; labels in the values used here.
            facts: values of the manifest's columns, for a data set that this program made.

        Returns:
            `name` that it got, and the paths `image` and `mask`.

        Raises:
            CardiacError: image and mask do not fit each other or the data set, the disk is full, or the folder cannot
                be written.
        """
        stacks = self._checked(name, image, mask)
        name = self._free(name)
        files = self.files(name)
        staged = [self.folder / ADDING / Path(path).name for path in files.values()]
        with writing_to(self.folder, "add the case again"):
            (self.folder / ADDING).mkdir(exist_ok=True)
            try:
                for stack, path in zip(stacks, staged, strict=True):
                    _write(stack, path)
                write_whole(self.folder / ADDING / NAME, name.encode())
                self._append_to_manifest(name, facts or {})
                for path, target in zip(staged, files.values(), strict=True):
                    os.replace(path, target)
                self._describe(name)
            except BaseException:
                for path in (*staged, *map(Path, files.values()), self.folder / ADDING / NAME):
                    path.unlink(missing_ok=True)
                raise
        # What is left here is found to be whole.
        with suppress(OSError):
            (self.folder / ADDING / NAME).unlink()
        self._names.add(name.casefold())
        return {"name": name, **files}

    def find(self, name: str, image: sitk.Image, mask: sitk.Image) -> str | None:
        """The name under which this very case was added before, or None."""
        for candidate in _candidates(name):
            files = self.files(candidate)
            if not all(os.path.isfile(path) for path in files.values()):
                return None
            there = Case(candidate, candidate, Path(files["image"]), Path(files["mask"]), self.order)
            with suppress(CardiacError):
                loaded = there.load()
                assert loaded.mask is not None
                if _equal(loaded.image, as_stack(image, name)) and _equal(loaded.mask, as_stack(mask, name)):
                    return candidate
        return None

    def files(self, name: str) -> dict[str, str]:
        """Paths of a case's image and mask."""
        return {
            "image": str(self.folder / IMAGES / f"{name}{CHANNEL}{self.ending}"),
            "mask": str(self.folder / LABELS / f"{name}{self.ending}"),
        }

    def finish(self) -> int:
        """Leave nothing but the data set, and return the number of its cases."""
        with suppress(OSError):
            (self.folder / ADDING).rmdir()
        return self.count

    def _own_values(self) -> npt.NDArray[np.unsignedinteger]:
        """The data set's value of each label used here."""
        values = {own: value for value, own in self.order.items()}
        if len(values) != len(self.order):
            raise CardiacError(
                f"{self.folder / DATASET} gives several labels to one structure; give each a single one.", "bad_output"
            )
        table = np.array([values[own] for own in range(NUM_CLASSES)])
        return table.astype(np.uint8 if table.max() < 256 else np.uint16)

    def _require_usable(self, description: Mapping[str, Any]) -> None:
        path, channels = self.folder / DATASET, description.get("channel_names")
        if not isinstance(channels, dict | list) or len(channels) != 1:
            raise CardiacError(f'{path} does not name its one channel; add "channel_names": {{"0": "cine MR"}}.')
        if self.ending not in ENDINGS:
            raise CardiacError(
                f"{path} asks for files that end in {shown(self.ending)}; only {', '.join(ENDINGS)} can be added.",
                "bad_output",
            )

    def _checked(self, name: str, image: sitk.Image, mask: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
        """The stacks as they are written: the mask in the data set's own values."""
        if not is_plain_name(name) or name.startswith("."):
            raise CardiacError(f"A case cannot be named {shown(name)}, since files could not; rename it.")
        image, mask = as_stack(image, name), as_stack(mask, name)
        if not same_geometry(image, mask):
            raise CardiacError(
                f"Image and mask of {name} differ in size, spacing, origin or direction; resample the mask."
            )
        grey, labels = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(mask)
        if not np.isfinite(grey).all():
            raise CardiacError(f"{name} holds NaN or infinite grey levels; replace them before use.")
        if not np.isin(labels, range(NUM_CLASSES)).all():
            raise CardiacError(f"The mask of {name} holds labels besides 0, 1 (LV), 2 (MYO) and 3 (RV); remove them.")
        if self._window is not None and not (self._window[0] <= grey.min() and grey.max() <= self._window[1]):
            raise CardiacError(
                f"{name} holds grey levels outside 0 to {GREY_LEVELS}, which {self.folder} was made with; "
                "choose another data set."
            )
        own = sitk.GetImageFromArray(self._values[labels.astype(np.intp)])
        own.CopyInformation(image)
        return image, own

    def _free(self, name: str) -> str:
        return next(
            free
            for free in _candidates(name)
            if free.casefold() not in self._names and not any(map(os.path.exists, self.files(free).values()))
        )

    def _taken(self) -> set[str]:
        """Names that are used, in lower case, since not every file system tells cases apart."""
        description = read_json(self.folder / DATASET)
        listed = description.get("dataset")
        names = [
            *files_by_stem(self.folder / IMAGES, (f"{CHANNEL}{self.ending}",)),
            *files_by_stem(self.folder / LABELS, (self.ending,)),
            *(listed if isinstance(listed, dict) else ()),
            *(row[0] for row in self._manifest() or [] if row),
        ]
        return {name.casefold() for name in names}

    def _manifest(self) -> list[list[str]] | None:
        """The lines of the manifest without its head, or None where this program did not write it."""
        path = self.folder / MANIFEST
        if not path.is_file():
            return None
        text = path.read_text(encoding="utf-8", errors="replace")
        if not text.startswith(csv_line(COLUMNS).decode()) or not text.endswith("\n"):
            return None
        with suppress(csv.Error):
            return list(csv.reader(io.StringIO(text)))[1:]
        return None

    def _append_to_manifest(self, name: str, facts: Mapping[str, Any]) -> None:
        # The line alone does no harm: a case without files is passed over by all who read it.
        if self._manifest() is not None:
            row = {**dict.fromkeys(COLUMNS, ""), "patient": name, "kept": "yes", **facts, "name": name}
            append_line(self.folder / MANIFEST, csv_line([row[column] for column in COLUMNS]))

    def _describe(self, name: str) -> None:
        """Let `dataset.json` list and count a case that is there."""
        path = self.folder / DATASET
        description = read_json(path)
        image, mask = (Path(file).relative_to(self.folder).as_posix() for file in self.files(name).values())
        if isinstance(description.get("dataset"), dict):
            description["dataset"][name] = {"images": [image], "label": mask}
        if isinstance(description.get("training"), list):
            entry = self._entry(description["training"], name)
            description["training"] += [entry] if entry not in description["training"] else []
        description["numTraining"] = self._counted(description)
        write_whole(path, (json.dumps(description, indent=4) + "\n").encode())
        self.count = description["numTraining"]

    def _counted(self, description: Mapping[str, Any]) -> int:
        """As nnU-Net counts: what `dataset` lists, or else the images."""
        listed = description.get("dataset")
        if isinstance(listed, dict):
            return len(listed)
        return len(files_by_stem(self.folder / IMAGES, (f"{CHANNEL}{self.ending}",)))

    def _entry(self, entries: list[Any], name: str) -> Any:
        """An entry of the list `training` in the manner of those that are there."""
        default = {"image": f"./{IMAGES}/{name}{self.ending}", "label": f"./{LABELS}/{name}{self.ending}"}
        example = entries[0] if entries else default
        if isinstance(example, str):
            return self._like(example, name)
        if isinstance(example, dict) and all(isinstance(value, str) for value in example.values()):
            return {key: self._like(value, name) for key, value in example.items()}
        return default

    def _like(self, example: str, name: str) -> str:
        folder, slash, file = example.rpartition("/")
        ending = self.ending if file.endswith(self.ending) else ""
        channel = CHANNEL if file.endswith(CHANNEL + ending) else ""
        return f"{folder}{slash}{name}{channel}{ending}"

    def _mend(self) -> None:
        """Bring to an end what a kill interrupted."""
        adding = self.folder / ADDING
        if not adding.is_dir():
            return
        told = adding / NAME
        name = told.read_text(encoding="utf-8", errors="replace") if told.is_file() else ""
        if is_plain_name(name):
            there = [path for path in map(Path, self.files(name).values()) if path.is_file()]
            if len(there) == len(self.files(name)):
                self._describe(name)
            else:
                for path in there:
                    path.unlink()
        shutil.rmtree(adding)


def _candidates(name: str) -> Iterator[str]:
    return itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))


def _equal(a: sitk.Image, b: sitk.Image) -> bool:
    return same_geometry(a, b) and np.array_equal(sitk.GetArrayViewFromImage(a), sitk.GetArrayViewFromImage(b))


def _write(stack: sitk.Image, path: Path) -> None:
    """Write an image, and see that it came whole.

    Raises:
        OSError: it did not, such as on a full disk.
    """
    try:
        sitk.WriteImage(stack, str(path), useCompression=True)
        ok = _equal(sitk.ReadImage(str(path)), stack)
    except RuntimeError:
        ok = False
    # ITK does not notice that a disk is full, and leaves a file that breaks off.
    if not ok:
        path.unlink(missing_ok=True)
        raise reason_not_written(path, HEADER + stack.GetNumberOfPixels() * stack.GetSizeOfPixelComponent())
