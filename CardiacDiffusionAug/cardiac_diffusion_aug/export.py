"""Data sets on disk: nnU-Net v2 raw with a manifest, in which every file is whole at any moment.

dataset.json                labels, number of cases, and the settings they were made with
manifest.csv                a line a case, written after its files
imagesTr/NAME_0000.nii.gz   grey levels
labelsTr/NAME.nii.gz        0 background, 1 LV, 2 MYO, 3 RV
preview.png                 the first cases, for the eye

While a case is written, the hidden file `.unfinished` holds its name, so that what was interrupted can be removed.

Several processes may make parts of one data set in the same folder at the same time. Each has both files for itself,
`.manifest-2of4.csv` and `.unfinished-2of4`, and writes to none that another writes to. Whichever ends as the last one,
or any later process without a part, gathers their lines in `manifest.csv`.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .disk import append_line, is_plain_name, part_of, reason_not_written, whole, write_whole, writing_to
from .errors import CardiacError, shown
from .labels import LABEL_VALUES
from .manifest import COLUMNS, MANIFEST, csv_line, manifest_name, part_manifests, place, read_rows
from .parts import Part
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

DATASET, PREVIEW, UNFINISHED = "dataset.json", "preview.png", ".unfinished"
IMAGES, LABELS = "imagesTr", "labelsTr"
SUFFIX = ".nii.gz"
NIFTI_HEADER = 352
CHUNK = 1 << 20
MADE_BY = "cardiac_diffusion_aug"
PREVIEW_CASES = 16
PART = "([0-9]+of[0-9]+)"
HIDDEN = re.compile(
    rf"\.part-(?:{PART}-)?(?:manifest\.csv|dataset\.json|preview\.png)"
    rf"|\.part-\.manifest-{PART}\.csv|\.unfinished(?:-{PART})?"
)
"""What a process that was killed may leave in the folder, with the part that it made."""
BEGUN = re.compile(rf"\.part-(?:{PART}-)?dataset\.json")


class DatasetWriter:
    """Writes cases into a folder, and knows which are there already.

    Attributes:
        done: names of the cases that were there at the start.
        count: cases there now, as far as is known: other parts may have added to them.
        finished: whether all that is there has its line in the manifest of the whole.

    Args:
        folder: of the data set; made when absent.
        settings: what the cases are made with; a resumed data set must have the same.
        resume: go on with a data set of the same settings.
        overwrite: remove the cases of an earlier run first.
        part: that this process makes, while others make theirs; it goes on with what they made.

    Raises:
        CardiacError: the folder holds something else, an earlier run without `resume` or `overwrite`, one of other
            settings, or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        resume: bool = False,
        overwrite: bool = False,
        part: Part | None = None,
    ) -> None:
        self.folder, self._part = folder, part
        self._writer = str(part or "")
        self._manifest = folder / manifest_name(part)
        self._marker = folder / (UNFINISHED if part is None else f"{UNFINISHED}-{part}")
        # As they come back from the file.
        self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings)))
        self.finished = False
        with writing_to(folder):
            names = self._earlier_cases(resume, overwrite)
            self.done = frozenset(names)
            self.count, self._first = len(names), names[:PREVIEW_CASES]
            folder.mkdir(parents=True, exist_ok=True)
            # Before all else: it says whose folder this is.
            if part is None:
                self._write_dataset_json()
            else:
                self._claim()
            for name in (IMAGES, LABELS):
                (folder / name).mkdir(exist_ok=True)
            if not self._manifest.exists():
                write_whole(self._manifest, csv_line(COLUMNS))

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
            # One short write, which a kill does or leaves out: the name is whole or empty. Until then nothing of the
            # case is there.
            self._marker.write_bytes(name.encode())
            try:
                write_stack(image, Path(files["image"]))
                write_stack(mask, Path(files["mask"]))
                append_line(self._manifest, csv_line([row[column] for column in COLUMNS]))
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

    def finish(self, draw: bool = True, wanted: Iterable[str] = ()) -> Path:
        """Bring manifest, `dataset.json` and, unless told otherwise, the preview up to date.

        Args:
            draw: whether to draw the preview.
            wanted: names of all cases of all parts; a part leaves everything as it is while one is missing.

        Returns:
            The preview's path.
        """
        preview = self.folder / PREVIEW
        with writing_to(self.folder):
            self._marker.unlink(missing_ok=True)
            self.finished = self._gather(wanted)
            if self.finished:
                self._write_dataset_json()
                if self._first and draw:
                    with whole(preview, self._writer) as part:
                        contact_sheet([self._tile(name) for name in self._first], part)
        return preview

    def _earlier_cases(self, resume: bool, overwrite: bool) -> list[str]:
        """Names of the cases to go on from; what an interrupted run left unfinished is removed."""
        if self.folder.exists() and not self.folder.is_dir():
            raise CardiacError(f"{self.folder} is a file; choose a folder for --output.", "bad_output")
        there = list(self.folder.iterdir()) if self.folder.is_dir() else []
        if all(BEGUN.fullmatch(path.name) for path in there):
            # Parts that begin at this moment need theirs.
            for path in there if self._part is None else []:
                path.unlink()
            return []
        # What other parts have made so far is no earlier run.
        joins = self._part is not None and not (self._manifest.exists() or (self.folder / MANIFEST).exists())
        require_permission(self.folder, self.settings, resume or joins, overwrite)
        manifests = self._manifests()
        names = list(dict.fromkeys(row[0] for path in manifests for row in read_rows(path)))
        self._remove_unfinished(names)
        if not overwrite:
            return self._cases_there(manifests)
        for name in names:
            self._remove_files(name)
        for leftover in (*manifests, self.folder / PREVIEW):
            leftover.unlink(missing_ok=True)
        return []

    def _manifests(self) -> list[Path]:
        """That of the whole comes last: a process that gathers writes it before it takes those of the parts away."""
        return [*part_manifests(self.folder), self.folder / MANIFEST]

    def _cases_there(self, manifests: Iterable[Path]) -> list[str]:
        """Names of the cases that are there; this writer's own manifest keeps the lines of no others."""
        names: dict[str, None] = {}
        for path in manifests:
            if path != self._manifest:
                names.update((row[0], None) for row in self._rows_there(path))
        with whole(self._manifest) as part, part.open("wb") as stream:
            stream.write(csv_line(COLUMNS))
            for row in self._rows_there(self._manifest):
                stream.write(csv_line(row))
                names[row[0]] = None
        return list(names)

    def _rows_there(self, manifest: Path) -> Iterator[list[str]]:
        """Lines of cases whose files are there."""
        for row in read_rows(manifest):
            if all(Path(path).is_file() for path in self.files(row[0]).values()):
                yield row

    def _gather(self, wanted: Iterable[str]) -> bool:
        """Bring the lines of all parts into the manifest of the whole, in order of the cases.

        A part does so only when all cases are there, for then no other part has anything left to write. Should two of
        them do it at once, they write the same.

        Returns:
            Whether the manifest is whole.
        """
        parts = part_manifests(self.folder)
        if self._part is None and not parts:
            return True
        # A later line replaces an earlier one: what somebody changed in the manifest of the whole stays.
        lines = {
            row[0]: (place(row), row[0], csv_line(row))
            for path in (*parts, self.folder / MANIFEST)
            for row in self._rows_there(path)
        }
        if self._part is not None and not all(name in lines for name in wanted):
            return False
        ordered = sorted(lines.values())
        with whole(self.folder / MANIFEST, self._writer) as part, part.open("wb") as stream:
            stream.write(csv_line(COLUMNS))
            stream.writelines(line for _, _, line in ordered)
        self.count, self._first = len(ordered), [name for _, name, _ in ordered[:PREVIEW_CASES]]
        for path in parts:
            path.unlink(missing_ok=True)
        # Of processes that were killed, and whose cases another one made.
        for path in self.folder.glob(f"{UNFINISHED}*"):
            with suppress(FileNotFoundError):
                # Whoever was killed at its first byte named nothing, and wrote nothing.
                if path.read_text(encoding="utf-8") in {"", *lines}:
                    path.unlink()
        return True

    def _remove_unfinished(self, names: Collection[str]) -> None:
        """Remove what was interrupted: of this part alone, since others may be at work, or of all."""
        for path in list(self.folder.iterdir()):
            match = HIDDEN.fullmatch(path.name)
            if match is None or (self._part is not None and str(self._part) not in match.groups()):
                continue
            if path.name.startswith(UNFINISHED):
                name = path.read_text(encoding="utf-8")
                if is_plain_name(name) and name not in names:
                    self._remove_files(name)
            path.unlink()

    def _remove_files(self, name: str) -> None:
        for path in map(Path, self.files(name).values()):
            path.unlink(missing_ok=True)
            part_of(path).unlink(missing_ok=True)

    def _claim(self) -> None:
        """Begin the data set, or find that another part, with the same settings, has begun it."""
        path = self.folder / DATASET
        begun = part_of(path, self._writer)
        begun.write_bytes(self._description())
        try:
            os.link(begun, path)
        except FileExistsError:
            require_permission(self.folder, self.settings, resume=True, overwrite=False)
        except OSError:
            # Not every file system has links; of two that begin at the same moment, one is then not asked.
            os.replace(begun, path)
        finally:
            begun.unlink(missing_ok=True)

    def _write_dataset_json(self) -> None:
        write_whole(self.folder / DATASET, self._description(), self._writer)

    def _description(self) -> bytes:
        content = {
            "channel_names": {"0": "cine MR"},
            "labels": LABEL_VALUES,
            "numTraining": self.count,
            "file_ending": SUFFIX,
            MADE_BY: self.settings,
        }
        return (json.dumps(content, indent=2) + "\n").encode()

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
