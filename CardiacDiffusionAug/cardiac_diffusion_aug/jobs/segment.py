"""The job that labels the heart in scans and measures it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CardiacError
from .base import Context, Job, option, warm_segmenter

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..datasets import Case
    from ..measurements import Frame
    from ..segmentation import Segmentation, Segmenter

MASK_MARKS = ("_gt", "_mask", "_seg", "_label")
"""Endings of names that tell a mask, which is no scan."""
CHANNEL = "_0000"
"""What nnU-Net appends to the name of an image."""
PREVIEW, PREVIEW_SCANS = "preview.png", 16


@dataclass(frozen=True)
class Scan:
    """A file to segment, or one frame of it.

    Attributes:
        name: of the result.
        path: of the image.
        case: of a data set, where it is part of one.
    """

    name: str
    path: Path
    case: Case | None = None

    def load(self) -> sitk.Image:
        """The image: a slice, a stack or a cine."""
        from ..slices import read_image

        return read_image(self.path) if self.case is None else replace(self.case, mask_path=None).load().image

    @property
    def patient_and_phase(self) -> tuple[str, str | None]:
        """As the data set states them, or else as the name tells."""
        from ..datasets.pairing import patient_and_phase

        return (self.case.patient, self.case.phase) if self.case else patient_and_phase(self.name)


@dataclass
class _Folder:
    """The folder of the results; nothing in it is touched before the first of them is ready."""

    path: Path
    settings: dict[str, Any]
    overwrite: bool
    claimed: bool = False

    def claim(self) -> None:
        """Remove earlier results that are to be replaced, and make the folder this run's own."""
        from ..disk import write_whole
        from ..export import DATASET, MADE_BY, SUFFIX
        from ..labels import LABEL_VALUES
        from ..measurements import TABLE

        if self.claimed:
            return
        earlier = [*self.path.glob(f"*{SUFFIX}"), self.path / TABLE, self.path / PREVIEW] if self.overwrite else []
        for old in earlier:
            old.unlink(missing_ok=True)
        content = {"labels": LABEL_VALUES, "file_ending": SUFFIX, MADE_BY: self.settings}
        write_whole(self.path / DATASET, (json.dumps(content, indent=2) + "\n").encode())
        self.claimed = True


@dataclass
class _Results:
    """What a run collects: measured frames, and tiles for the preview."""

    frames: list[Frame] = field(default_factory=list)
    tiles: list[Any] = field(default_factory=list)

    def add(self, scan: Scan, images: Sequence[sitk.Image], masks: Sequence[sitk.Image]) -> dict[str, Any]:
        """Measure a scan, and return what is told of it."""
        from ..measurements import Frame, function_of, volumes_of

        patient, phase = scan.patient_and_phase
        several = len(masks) > 1
        own = [Frame(patient, scan.name, i if several else None, phase, volumes_of(m)) for i, m in enumerate(masks)]
        self.frames += own
        if len(self.tiles) < PREVIEW_SCANS:
            self.tiles.append(_tile(images[0], masks[0]))
        found = function_of(own) if several else None
        return found.values | {"mass": found.mass} if found else dict(own[0].volumes)

    def write_preview(self, folder: Path) -> Path:
        """Draw the first scans with their outlines."""
        from ..disk import whole, writing_to
        from ..preview import contact_sheet

        path = folder / PREVIEW
        with writing_to(folder), whole(path) as part:
            contact_sheet(self.tiles, part)
        return path


def _tile(image: sitk.Image, mask: sitk.Image) -> tuple[Any, Any]:
    """The slice with most of the heart on the model's grid, or the middle one where there is none."""
    import numpy as np
    import SimpleITK as sitk

    from ..slices import grid_around, heart_center, intensity_window, resample_image, resample_labels, rescale

    labels = sitk.GetArrayFromImage(mask) > 0
    areas = labels.sum(axis=(1, 2))
    index = int(areas.argmax()) if areas.any() else len(areas) // 2
    image, mask, labels = (image[:, :, index : index + 1], mask[:, :, index : index + 1], labels[index : index + 1])
    grid = grid_around(image, heart_center(labels if labels.any() else np.ones_like(labels)))
    array = resample_image(image, grid)
    try:
        window = intensity_window(array, "the tile")
    except CardiacError:
        # Where no heart was found, there may be nothing to see at all.
        window = float(array.min()), float(array.min()) + 1
    return rescale(array, window)[0], resample_labels(mask, grid)[0]


@dataclass(kw_only=True)
class Segment(Job):
    """Labels on each scan's own grid, volumes, and the function of the heart."""

    NAME: ClassVar[str] = "segment"
    HELP: ClassVar[str] = "label the heart in scans, and measure it"

    input: Path = option(..., "a scan (slice, stack or 4D cine), a folder of scans, or a data set")
    output: Path = option(..., "folder for the masks, measurements.csv and preview.png")
    model: str = option("acdc-unet", "name or folder of the segmentation model")
    split: str | None = option(
        None, "of a data set, only the patients that this rule keeps for validation, such as 'mod 5 == 4'"
    )
    insist: bool = option(False, "label also what does not look like a short-axis scan of the heart")
    device: str = option("auto", "auto, cuda, cuda:1, mps or cpu")
    precision: str = option("auto", "bfloat16 where it is fast", choices=("auto", "bf16", "fp32"))
    resume: bool = option(False, "go on with a folder that was interrupted")
    overwrite: bool = option(False, "replace earlier results in the folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume and self.overwrite:
            raise CardiacError("--resume and --overwrite exclude each other: one keeps what is there, one removes it.")

    def run(self, context: Context) -> dict[str, Any]:
        """Label each scan, and write its mask as soon as it is ready."""
        from ..measurements import write_measurements

        scans = self._scans(context)
        segmenter = warm_segmenter(context, self.model, self.device, self.precision)
        folder = self._folder(segmenter)
        results, failed = _Results(), []
        for index, scan in enumerate(scans):
            context.check()
            context.progress(index, len(scans), scan.name)
            try:
                self._one(scan, segmenter, folder, results, context)
            except CardiacError as error:
                # Of many scans a bad one costs itself alone; a full disk would cost all that follow.
                if len(scans) == 1 or error.code != "bad_input":
                    raise
                failed.append(scan.name)
                context.say(str(error))
        context.progress(len(scans), len(scans))
        if len(failed) == len(scans):
            raise CardiacError(
                f"None of the {len(scans)} scans in {self.input} could be used; the lines above say why."
            )
        table = write_measurements(results.frames, self.output)
        done: dict[str, Any] = {
            "output": str(self.output),
            "scans": len(scans) - len(failed),
            "measurements": str(table),
        }
        if failed:
            done["not usable"] = f"{len(failed)}: {', '.join(failed[:5])}"
        return {**done, "preview": str(results.write_preview(self.output))}

    def _scans(self, context: Context) -> list[Scan]:
        from ..datasets import READERS
        from ..datasets.masks import SUFFIXES

        path = self.input
        # Unlike `Path.exists` this takes any text, such as one that is too long for a path.
        if not os.path.exists(path):
            raise CardiacError(f"There is no file or folder {path}; check the path of the scans.")
        # Not `read_cases`, which asks for masks: what is to be labelled may have none.
        reader = next((r for r in READERS if r.recognizes(path)), None) if path.is_dir() else None
        if reader is not None:
            context.say(f"{path} was read as {reader.DESCRIPTION}.")
            chosen = self._chosen(list(reader.cases(path)))
            return _of_different_names([Scan(case.name, case.image_path, case) for case in chosen], path)
        if self.split is not None:
            raise CardiacError(f"{path} is no data set, so --split has no patients to choose from; leave it out.")
        if path.is_file():
            return [Scan(_stem(path, SUFFIXES), path)]
        files = [p for p in sorted(path.iterdir()) if p.name.lower().endswith(SUFFIXES) and not p.name.startswith(".")]
        scans = [Scan(_stem(p, SUFFIXES), p) for p in files]
        scans = [scan for scan in scans if not scan.name.lower().endswith(MASK_MARKS)]
        if not scans:
            raise CardiacError(f"{path} holds no scans ({', '.join(SUFFIXES)}); check the path.")
        return _of_different_names(scans, path)

    def _chosen(self, cases: Sequence[Case]) -> list[Case]:
        from ..datasets.splits import split_patients

        if self.split is None:
            return list(cases)
        kept = set(split_patients([case.patient for case in cases], self.split).validation)
        if not kept:
            raise CardiacError(f"The split {self.split!r} keeps no patient of {self.input}; give another, or none.")
        return [case for case in cases if case.patient in kept]

    def _folder(self, segmenter: Segmenter) -> _Folder:
        """The folder of the results, which may be written to."""
        from ..disk import writing_to
        from ..export import require_permission

        settings = {
            "job": self.NAME,
            "model": segmenter.bundle.name,
            "model_sha256": segmenter.bundle.sha256,
            "insist": self.insist,
        }
        if self.output.exists() and not self.output.is_dir():
            raise CardiacError(f"{self.output} is a file; choose a folder for --output.", "bad_output")
        source = self.input.resolve() if self.input.is_dir() else self.input.resolve().parent
        if self.output.resolve() == source:
            raise CardiacError(f"--output is the folder of the scans, {source}; choose another.", "bad_output")
        with writing_to(self.output):
            if self.output.is_dir() and any(self.output.iterdir()):
                require_permission(self.output, settings, self.resume, self.overwrite)
            self.output.mkdir(parents=True, exist_ok=True)
        return _Folder(self.output, settings, self.overwrite)

    def _one(self, scan: Scan, segmenter: Segmenter, folder: _Folder, results: _Results, context: Context) -> None:
        from ..disk import writing_to
        from ..export import SUFFIX, write_stack
        from ..slices import as_stack, frame_of

        image = scan.load()
        cine = image.GetDimension() == 4 and image.GetSize()[3] > 1
        frames = [frame_of(image, i) for i in range(image.GetSize()[3])] if cine else [as_stack(image, scan.name)]
        path = self.output / f"{scan.name}{SUFFIX}"
        masks, warning = _kept(path, frames) if self.resume else None, ""
        if masks is None:
            found = self._found(scan, frames, segmenter, context)
            masks, warning = [one.mask for one in found], _one_sentence(found)
            if warning:
                context.say(warning)
            with writing_to(self.output):
                folder.claim()
                write_stack(_as_cine(masks, image) if cine else masks[0], path)
        measured = results.add(scan, frames, masks)
        context.result({"name": scan.name, "mask": str(path), "warning": warning, **measured})

    def _found(
        self, scan: Scan, frames: Sequence[sitk.Image], segmenter: Segmenter, context: Context
    ) -> list[Segmentation]:
        from ..segmentation import segment_cine

        if len(frames) == 1:
            return [segmenter.segment(frames[0], scan.name, check=context.check, insist=self.insist)]
        return segment_cine(segmenter, frames, scan.name, context.check, insist=self.insist)


def _stem(path: Path, suffixes: Sequence[str]) -> str:
    ending = next(s for s in (*suffixes, path.suffix.lower()) if path.name.lower().endswith(s))
    return path.name[: len(path.name) - len(ending)].removesuffix(CHANNEL)


def _of_different_names(scans: list[Scan], path: Path) -> list[Scan]:
    names = [scan.name for scan in scans]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CardiacError(f"{path} holds {twice[0]} in two files or formats; keep one of them.")
    return scans


def _kept(path: Path, frames: Sequence[sitk.Image]) -> list[sitk.Image] | None:
    """The masks of an earlier run, or None where they are missing, damaged or not of these frames."""
    from ..slices import frame_of, read_image, same_geometry

    try:
        kept = read_image(path)
    except CardiacError:
        return None
    masks = [frame_of(kept, i) for i in range(kept.GetSize()[3])] if kept.GetDimension() == 4 else [kept]
    same = len(masks) == len(frames) and all(map(same_geometry, masks, frames))
    return masks if same else None


def _one_sentence(found: Sequence[Segmentation]) -> str:
    warnings = [one.warning for one in found if one.warning]
    if not warnings or len(found) == 1:
        return "".join(warnings)
    return f"{len(warnings)} of {len(found)} frames were left unlabelled; the first: {warnings[0]}"


def _as_cine(masks: Sequence[sitk.Image], image: sitk.Image) -> sitk.Image:
    import SimpleITK as sitk

    cine = sitk.JoinSeries(list(masks))
    cine.CopyInformation(image)
    return cine
