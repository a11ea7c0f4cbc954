"""Data sets on disk: nnU-Net v2 raw with a manifest, in which every file is whole at any moment.

dataset.json                labels, number of cases, and the settings they were made with
manifest.csv                a line a case, written after its files
imagesTr/NAME_0000.nii.gz   grey levels
labelsTr/NAME.nii.gz        0 background, 1 LV, 2 MYO, 3 RV
preview.png                 the first cases, for the eye

While a case is written, the hidden file `.unfinished` holds its name, so that what was interrupted can be removed.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .disk import append_line, is_plain_name, part_of, reason_not_written, whole, write_whole, writing_to
from .errors import CardiacError, shown
from .labels import LABEL_VALUES, STRUCTURES
from .preview import contact_sheet
from .slices import (
    GRID_SIZE,
    GRID_SPACING,
    FloatArray,
    LabelArray,
    grid_around,
    heart_center,
    read_image,
    resample_image,
    resample_labels,
)

MANIFEST, DATASET, PREVIEW, UNFINISHED = "manifest.csv", "dataset.json", "preview.png", ".unfinished"
IMAGES, LABELS = "imagesTr", "labelsTr"
SUFFIX = ".nii.gz"
NIFTI_HEADER = 352
CHUNK = 1 << 20
MADE_BY = "cardiac_diffusion_aug"
PREVIEW_CASES = 16
COLUMNS = (
    "name",
    "patient",
    "seed",
    "case",
    "variation",
    "slice",
    "asked",
    "phase",
    "group",
    "level",
    "source",
    "model",
    "model_version",
    "model_sha256",
    "steps",
    "guidance_scale",
    "checks",
    "draws",
    "rejected",
    *(f"dice_{structure.key}" for structure in STRUCTURES),
    "kept",
)


class DatasetWriter:
    """Writes cases into a folder, and knows which are there already.

    Attributes:
        done: names of the cases that were there at the start.
        count: cases there now.

    Args:
        folder: of the data set; made when absent.
        settings: what the cases are made with; a resumed data set must have the same.
        resume: go on with a data set of the same settings.
        overwrite: remove the cases of an earlier run first.

    Raises:
        CardiacError: the folder holds something else, an earlier run without `resume` or `overwrite`, one of other
            settings, or cannot be written.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], resume: bool = False, overwrite: bool = False
    ) -> None:
        self.folder = folder
        # As they come back from the file.
        self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings)))
        with writing_to(folder):
            names = self._earlier_cases(resume, overwrite)
            self.done = frozenset(names)
            self.count, self._first = len(names), names[:PREVIEW_CASES]
            folder.mkdir(parents=True, exist_ok=True)
            # Before all else: it says whose folder this is.
            self._write_dataset_json()
            for name in (IMAGES, LABELS):
                (folder / name).mkdir(exist_ok=True)
            if not names:
                write_whole(folder / MANIFEST, csv_line(COLUMNS))

    def add(self, name: str, image: sitk.Image, mask: sitk.Image, facts: Mapping[str, Any]) -> None:
        """Write a case: its files first, then its line.

        Args:
            name: of the case, unique.
            image, mask: stacks of the same geometry; labels in the values used here.
            facts: values of `COLUMNS`.

        Raises:
            CardiacError: the disk is full or the folder cannot be written.
        """
        row = {**dict.fromkeys(COLUMNS, ""), "kept": "yes", **facts, "name": name}
        with writing_to(self.folder):
            files = self.files(name)
            write_whole(self.folder / UNFINISHED, name.encode())
            try:
                write_stack(image, Path(files["image"]))
                write_stack(mask, Path(files["mask"]))
                append_line(self.folder / MANIFEST, csv_line([row[column] for column in COLUMNS]))
            except BaseException:
                self._remove_files(name)
                raise
        self.count += 1
        self._first += [name] if len(self._first) < PREVIEW_CASES else []

    def files(self, name: str) -> dict[str, str]:
        """Paths of a case's image and mask."""
        return {
            "image": str(self.folder / IMAGES / f"{name}_0000{SUFFIX}"),
            "mask": str(self.folder / LABELS / f"{name}{SUFFIX}"),
        }

    def finish(self, draw: bool = True) -> Path:
        """Bring `dataset.json` and, unless told otherwise, the preview up to date, and return the preview's path."""
        preview = self.folder / PREVIEW
        with writing_to(self.folder):
            (self.folder / UNFINISHED).unlink(missing_ok=True)
            self._write_dataset_json()
            if self._first and draw:
                with whole(preview) as part:
                    contact_sheet([self._tile(name) for name in self._first], part)
        return preview

    def _earlier_cases(self, resume: bool, overwrite: bool) -> list[str]:
        """Names of the cases to go on from; what an interrupted run left unfinished is removed."""
        if self.folder.exists() and not self.folder.is_dir():
            raise CardiacError(f"{self.folder} is a file; choose a folder for --output.", "bad_output")
        begun = part_of(self.folder / DATASET)
        if not self.folder.is_dir() or all(path == begun for path in self.folder.iterdir()):
            return []
        require_permission(self.folder, self.settings, resume, overwrite)
        names = [row[0] for row in self._rows()]
        self._remove_unfinished(names)
        if not overwrite:
            return self._rewrite_manifest()
        for name in names:
            self._remove_files(name)
        for leftover in (MANIFEST, PREVIEW):
            (self.folder / leftover).unlink(missing_ok=True)
        return []

    def _rows(self) -> Iterator[list[str]]:
        """The manifest's lines without its head; one that a crash tore is left out.

        Raises:
            CardiacError: it is not as this program wrote it.
        """
        path = self.folder / MANIFEST
        if not path.exists():
            return
        seen: set[str] = set()
        try:
            with path.open(newline="", encoding="utf-8-sig") as stream:
                reader = csv.reader(_whole_lines(stream))
                if next(reader, None) != list(COLUMNS):
                    raise ValueError("other columns")
                for row in reader:
                    # The name becomes a path, of files that may be removed.
                    if len(row) != len(COLUMNS) or not is_plain_name(row[0]):
                        raise ValueError(row)
                    if row[0] not in seen:
                        seen.add(row[0])
                        yield row
        except (ValueError, csv.Error) as error:
            raise CardiacError(
                f"{path} is not as this program wrote it; restore it, or choose another folder.", "bad_output"
            ) from error

    def _rewrite_manifest(self) -> list[str]:
        """Keep the lines of the cases that are there, and return their names."""
        names = []
        with whole(self.folder / MANIFEST) as part, part.open("wb") as stream:
            stream.write(csv_line(COLUMNS))
            for row in self._rows():
                if all(Path(path).is_file() for path in self.files(row[0]).values()):
                    stream.write(csv_line(row))
                    names.append(row[0])
        return names

    def _remove_unfinished(self, names: Sequence[str]) -> None:
        for path in (self.folder / name for name in (MANIFEST, DATASET, PREVIEW, UNFINISHED)):
            part_of(path).unlink(missing_ok=True)
        marker = self.folder / UNFINISHED
        if marker.is_file():
            name = marker.read_text(encoding="utf-8")
            if is_plain_name(name) and name not in names:
                self._remove_files(name)
            marker.unlink()

    def _remove_files(self, name: str) -> None:
        for path in map(Path, self.files(name).values()):
            path.unlink(missing_ok=True)
            part_of(path).unlink(missing_ok=True)

    def _write_dataset_json(self) -> None:
        content = {
            "channel_names": {"0": "cine MR"},
            "labels": LABEL_VALUES,
            "numTraining": self.count,
            "file_ending": SUFFIX,
            MADE_BY: self.settings,
        }
        write_whole(self.folder / DATASET, (json.dumps(content, indent=2) + "\n").encode())

    def _tile(self, name: str) -> tuple[FloatArray, LabelArray]:
        image, mask = (read_image(Path(path)) for path in self.files(name).values())
        return _on_model_grid(image, mask)


def require_permission(folder: Path, settings: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
    """Check that a folder which is not empty may be written to.

    Args:
        folder: with the results of an earlier run, perhaps.
        settings: of this run, as they come back from JSON.
        resume, overwrite: what the user allows.

    Raises:
        CardiacError: the folder holds something else, or an earlier run that must not be touched.
    """
    earlier = earlier_settings(folder)
    if earlier is None:
        raise CardiacError(
            f"{folder} holds files that this program did not make; choose an empty folder.", "bad_output"
        )
    if earlier.get("job") != settings.get("job"):
        raise CardiacError(
            f"{folder} holds what {shown(earlier.get('job'))} made; choose another folder for "
            f"{shown(settings.get('job'))}.",
            "bad_output",
        )
    if not resume and not overwrite:
        raise CardiacError(
            f"{folder} holds an earlier run; choose another folder, or add --resume to go on with it "
            "or --overwrite to replace it.",
            "bad_output",
        )
    if resume and earlier != settings:
        differing = [name for name in settings if earlier.get(name) != settings[name]]
        raise CardiacError(
            f"{folder} was made with another {', '.join(differing) or 'setting'}; resume with the same "
            "settings, or choose another folder.",
            "bad_output",
        )


def earlier_settings(folder: Path) -> dict[str, Any] | None:
    """What the data set in a folder was made with, or None where this program did not make it."""
    try:
        settings = json.loads((folder / DATASET).read_bytes())[MADE_BY]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def csv_line(values: Sequence[Any]) -> bytes:
    """A line of the manifest."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(["" if value is None else value for value in values])
    return buffer.getvalue().encode()


def _whole_lines(stream: Iterator[str]) -> Iterator[str]:
    return (line for line in stream if line.endswith("\n"))


def write_stack(stack: sitk.Image, path: Path) -> None:
    """Write an image as compressed NIfTI; the file appears whole or not at all.

    Raises:
        OSError: it could not be written, such as on a full disk.
    """
    size = NIFTI_HEADER + stack.GetNumberOfPixels() * stack.GetSizeOfPixelComponent()
    with whole(path) as part:
        try:
            sitk.WriteImage(stack, str(part), useCompression=True)
            ok = _unpacked_size(part) == size
        except (RuntimeError, EOFError, zlib.error, gzip.BadGzipFile):
            ok = False
        # ITK does not notice that a disk is full, and leaves a file that breaks off.
        if not ok:
            part.unlink(missing_ok=True)
            raise reason_not_written(path, size)


def _unpacked_size(path: Path) -> int:
    with gzip.open(path) as stream:
        return sum(map(len, iter(lambda: stream.read(CHUNK), b"")))


def _on_model_grid(image: sitk.Image, mask: sitk.Image) -> tuple[FloatArray, LabelArray]:
    """The slice with most of the heart, so that all tiles of a preview have one size and one scale."""
    labels = sitk.GetArrayFromImage(mask) > 0
    index = int(labels.sum(axis=(1, 2)).argmax())
    image, mask, labels = image[:, :, index : index + 1], mask[:, :, index : index + 1], labels[index : index + 1]
    if mask.GetSize()[:2] != (GRID_SIZE, GRID_SIZE) or not np.allclose(mask.GetSpacing()[:2], GRID_SPACING):
        center = heart_center(labels if labels.any() else np.ones_like(labels))
        grid = grid_around(mask, center)
        return resample_image(image, grid)[0] / 127.5 - 1, resample_labels(mask, grid)[0]
    return sitk.GetArrayFromImage(image)[0].astype(np.float32) / 127.5 - 1, sitk.GetArrayFromImage(mask)[0]
