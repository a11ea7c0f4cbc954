"""Data sets on disk: nnU-Net v2 raw with a manifest, in which every file is whole at any moment.

dataset.json                labels, number of cases, and the settings they were made with
manifest.csv                a line a case, written after its files
imagesTr/NAME_0000.nii.gz   grey levels
labelsTr/NAME.nii.gz        0 background, 1 LV, 2 MYO, 3 RV
preview.png                 the first cases, for the eye
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from .errors import CardiacError
from .labels import STRUCTURES
from .preview import contact_sheet
from .slices import LabelArray, read_image

MANIFEST, DATASET, PREVIEW = "manifest.csv", "dataset.json", "preview.png"
IMAGES, LABELS = "imagesTr", "labelsTr"
SUFFIX = ".nii.gz"
MADE_BY = "cardiac_diffusion_aug"
PREVIEW_CASES = 16
COLUMNS = (
    "name",
    "patient",
    "seed",
    "case",
    "variation",
    "slice",
    "phase",
    "group",
    "level",
    "source",
    "model",
    "model_version",
    "model_sha256",
    "steps",
    "guidance_scale",
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
        self.folder, self.settings = folder, dict(settings)
        with _explained(folder):
            self._prepare(resume, overwrite)
            names = self._read_manifest()
            self.done = frozenset(names)
            self.count, self._first = len(names), names[:PREVIEW_CASES]
            for name in (IMAGES, LABELS):
                (folder / name).mkdir(parents=True, exist_ok=True)
            self._write_dataset_json()
            if not (folder / MANIFEST).exists():
                _write_whole(folder / MANIFEST, (_csv_line(COLUMNS)).encode())

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
        with _explained(self.folder):
            files = self.files(name)
            _write_stack(image, Path(files["image"]))
            _write_stack(mask, Path(files["mask"]))
            _append_whole(self.folder / MANIFEST, _csv_line([row[column] for column in COLUMNS]).encode())
        self.count += 1
        self._first += [name] if len(self._first) < PREVIEW_CASES else []

    def files(self, name: str) -> dict[str, str]:
        """Paths of a case's image and mask."""
        return {
            "image": str(self.folder / IMAGES / f"{name}_0000{SUFFIX}"),
            "mask": str(self.folder / LABELS / f"{name}{SUFFIX}"),
        }

    def finish(self) -> Path:
        """Bring `dataset.json` and the preview up to date, and return the preview's path."""
        preview = self.folder / PREVIEW
        with _explained(self.folder):
            self._write_dataset_json()
            if self._first:
                part = preview.with_name(f".{PREVIEW}.part")
                contact_sheet([self._read_tile(name) for name in self._first], part)
                os.replace(part, preview)
        return preview

    def _prepare(self, resume: bool, overwrite: bool) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise CardiacError(f"{self.folder} is a file; choose a folder for --output.", "bad_output")
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return
        earlier = self._earlier_settings()
        if earlier is None:
            raise CardiacError(
                f"{self.folder} holds files that this program did not make; choose an empty folder.", "bad_output"
            )
        if overwrite:
            self._remove_cases()
        elif not resume:
            raise CardiacError(
                f"{self.folder} holds an earlier run; choose another folder, or add --resume to go on with it "
                "or --overwrite to replace it.",
                "bad_output",
            )
        elif earlier != self._plain_settings():
            differing = [k for k in self.settings if earlier.get(k) != self._plain_settings()[k]]
            raise CardiacError(
                f"{self.folder} was made with another {', '.join(differing) or 'setting'}; resume with the same "
                "settings, or choose another folder.",
                "bad_output",
            )

    def _earlier_settings(self) -> dict[str, Any] | None:
        try:
            settings = json.loads((self.folder / DATASET).read_text(encoding="utf-8"))[MADE_BY]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return settings if isinstance(settings, dict) else None

    def _plain_settings(self) -> dict[str, Any]:
        return dict(json.loads(json.dumps(self.settings)))

    def _remove_cases(self) -> None:
        for name in self._read_manifest():
            for path in self.files(name).values():
                Path(path).unlink(missing_ok=True)
        for leftover in (MANIFEST, PREVIEW):
            (self.folder / leftover).unlink(missing_ok=True)

    def _read_manifest(self) -> list[str]:
        path = self.folder / MANIFEST
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as stream:
            return [row["name"] for row in csv.DictReader(stream)]

    def _write_dataset_json(self) -> None:
        content = {
            "channel_names": {"0": "cine MR"},
            "labels": {"background": 0, **{s.key: s.value for s in STRUCTURES}},
            "numTraining": self.count,
            "file_ending": SUFFIX,
            MADE_BY: self.settings,
        }
        _write_whole(self.folder / DATASET, (json.dumps(content, indent=2) + "\n").encode())

    def _read_tile(self, name: str) -> tuple[Any, LabelArray]:
        image, mask = (sitk.GetArrayFromImage(read_image(Path(path))) for path in self.files(name).values())
        middle = len(mask) // 2
        return image[middle].astype("float32") / 127.5 - 1, mask[middle]


def _csv_line(values: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(["" if value is None else value for value in values])
    return buffer.getvalue()


def _write_stack(stack: sitk.Image, path: Path) -> None:
    part = path.with_name(f".part-{path.name}")
    try:
        sitk.WriteImage(stack, str(part), useCompression=True)
        os.replace(part, path)
    except RuntimeError as error:
        # SimpleITK does not say why it could not write; the file system does.
        _probe(path.parent)
        raise OSError(errno.EIO, f"cannot write {path}") from error
    finally:
        part.unlink(missing_ok=True)


def _probe(folder: Path) -> None:
    path = folder / ".probe"
    try:
        path.write_bytes(bytes(1 << 20))
    finally:
        path.unlink(missing_ok=True)


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _append_whole(path: Path, line: bytes) -> None:
    # One write of one short line: a process that is killed has written all of it or nothing.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, "no space left")
    finally:
        os.close(descriptor)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CardiacError(
                f"The disk that holds {folder} is full; free some space and go on with --resume.", "disk_full"
            ) from error
        raise CardiacError(
            f"{folder} cannot be written ({error.strerror or error}); choose a folder that you may write to.",
            "bad_output",
        ) from error
