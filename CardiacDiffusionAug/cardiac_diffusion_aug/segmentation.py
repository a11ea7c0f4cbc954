"""The heart in a scan, wherever it lies in the field of view, labelled on the scan's own grid.

It is found in two passes of one network: first the whole field of view on coarse pixels tells where the heart is, then
the model's grid around that place tells its outlines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch import Tensor

from .anatomy import failures
from .bundle import DEFAULT_SEGMENTER, SEGMENTER, Bundle, load_bundle
from .devices import (
    choose_device,
    is_out_of_memory,
    on_device,
    samples_together,
    suggested_batch_size,
    use_bfloat16,
)
from .errors import CardiacError
from .labels import BACKGROUND, LV, NUM_CLASSES, STRUCTURES
from .networks.image_denoiser import likeliest
from .slices import (
    GRID_SIZE,
    GRID_SPACING,
    FloatArray,
    LabelArray,
    grid_around,
    heart_center,
    intensity_window,
    require_finite,
    resample_image,
    rescale,
)

COARSE_SPACING = 3.0
"""Pixels of the first pass, in mm: the network was trained on windows of this kind too."""
NO_RING = {"lv_parts", "lv_touches_rv", "lv_touches_background", "lv_myo_gap"}
"""Anatomical criteria that a slice must not fail to be taken for one of the short axis."""
CPU_BATCH, GPU_BATCH = 4, 32
SMALLEST, LARGEST = 32, 2048
LARGEST_PIXEL_MM = 4.0
SMALLEST_HEART_MM2 = 300.0
"""Area in the slice where it is largest; a child's left ventricle at end-systole is larger."""
CONFIDENT = 0.9
"""Mean probability of the labels in what is a heart, where a model states no other. In stacks of the validation
patients it is above 0.92."""
RINGED = 0.5
"""Share of labelled slices in which myocardium surrounds the LV cavity, as only the short axis shows it. In stacks of
the validation patients it is 0.7 or more, in long-axis views that are cut from them mostly 0."""


@dataclass(frozen=True)
class Segmentation:
    """What was found in a stack.

    Attributes:
        mask: labels in the values used here, on the stack's own grid; empty where no heart was found.
        confidence: mean probability of the labels, 0 where there are none.
        warning: a sentence for the user, or an empty text.
    """

    mask: sitk.Image
    confidence: float
    warning: str = ""


class Segmenter:
    """The segmentation network of a model on a device.

    Args:
        model: name or folder of a segmenter.
        device: `auto`, `cuda`, `mps`, `cpu`.
        precision: `bf16`, `fp32`, or `auto` for bfloat16 where it is fast.

    Raises:
        CardiacError: the model or the device cannot be used.
    """

    def __init__(
        self, model: str | Path | Bundle = DEFAULT_SEGMENTER, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.bundle = model if isinstance(model, Bundle) else load_bundle(model, SEGMENTER)
        self.device = choose_device(device)
        self.bfloat16 = use_bfloat16(precision, self.device)
        self._network: Any = on_device(self.bundle.network("unet"), self.device, self.bfloat16)
        self.confident = float(self.bundle.info.get("defaults", {}).get("certainty", CONFIDENT))
        self.batch_size = GPU_BATCH
        if self.device.type == "cpu":
            # Never less than what a judge hands over at a time, so that none of it is cut.
            together = samples_together(self.device, self.bfloat16)
            self.batch_size = max(CPU_BATCH, suggested_batch_size(self.device, together))

    def probabilities(self, images: FloatArray, check: Callable[[], None] = lambda: None) -> FloatArray:
        """Probabilities (N, 4, H, W) of each label for slices (N, H, W) in [-1, 1]."""
        parts = self._in_batches(images, lambda x: (self._network(x).float().softmax(1),), check)
        return np.concatenate([part for (part,) in parts])

    def labels(self, images: FloatArray) -> LabelArray:
        """Labels (N, H, W) of slices (N, H, W) in [-1, 1], as the network gives them."""
        parts = self._in_batches(images, lambda x: (likeliest(self._network(x)),))
        return np.concatenate([part for (part,) in parts])

    def look(
        self,
        images: FloatArray,
        check: Callable[[], None] = lambda: None,
        progress: Callable[[int], None] = lambda slices: None,
    ) -> tuple[LabelArray, FloatArray]:
        """Labels (N, H, W) of slices (N, H, W) in [-1, 1], and what the network sees in them as rows (N, D).

        Args:
            images: the slices.
            check: called between batches; may raise to cancel.
            progress: called with the number of slices that were just looked at.
        """

        def run(x: Tensor) -> tuple[Tensor, Tensor]:
            logits, features = self._network.look(x)
            progress(len(x))
            return likeliest(logits), features

        labels, features = zip(*self._in_batches(images, run, check), strict=True)
        return np.concatenate(labels), np.concatenate(features)

    @torch.inference_mode()
    def _in_batches(
        self,
        images: FloatArray,
        run: Callable[[Tensor], tuple[Tensor, ...]],
        check: Callable[[], None] = lambda: None,
    ) -> list[tuple[npt.NDArray[Any], ...]]:
        results = []
        done = 0
        while done < len(images):
            check()
            part = torch.from_numpy(np.ascontiguousarray(images[done : done + self.batch_size]))[:, None]
            try:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                    made = run(part.to(self.device, memory_format=torch.channels_last))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size //= 2
                continue
            results.append(tuple(tensor.cpu().numpy() for tensor in made))
            done += len(part)
        return results

    def find_heart(self, stack: sitk.Image, name: str) -> tuple[float, float] | None:
        """In-plane centre of the heart (row, column) in pixels of a stack, or None where there is none.

        Raises:
            CardiacError: the grey levels are no numbers, or all alike.
        """
        columns, rows, _ = stack.GetSize()
        # A field of view that is larger still is seen on larger pixels, all of it.
        extent = max(size * spacing for size, spacing in zip(stack.GetSize()[:2], stack.GetSpacing()[:2], strict=True))
        spacing = max(COARSE_SPACING, extent / GRID_SIZE)
        grid = grid_around(stack, ((rows - 1) / 2, (columns - 1) / 2), spacing=spacing)
        array = resample_image(stack, grid, outside=np.nan)
        seen = np.isfinite(array)
        window = intensity_window(array[seen], name)
        found = self.labels(rescale(np.where(seen, array, window[0]), window)) != BACKGROUND
        heart = _largest_part(found)
        if heart.sum(axis=(1, 2)).max() * spacing**2 < SMALLEST_HEART_MM2:
            return None
        row, column = heart_center(heart)
        point = grid.TransformContinuousIndexToPhysicalPoint((column, row, 0.0))
        x, y, _ = stack.TransformPhysicalPointToContinuousIndex(point)
        return y, x

    def segment(
        self,
        stack: sitk.Image,
        name: str = "The scan",
        center: tuple[float, float] | None = None,
        check: Callable[[], None] = lambda: None,
        insist: bool = False,
    ) -> Segmentation:
        """Label the heart in a stack.

        Args:
            stack: 3D, grey levels of any type.
            name: of the scan, for messages.
            center: of the heart, (row, column) in pixels of the stack, where it is known; it is looked for otherwise.
            check: called between batches; may raise to cancel.
            insist: whether to label what does not look like a short-axis scan, too.

        Raises:
            CardiacError: the stack cannot be used.
        """
        require_usable(stack, name)
        center = center or self.find_heart(stack, name)
        if center is None:
            return Segmentation(_empty(stack), 0.0, f"No heart was found in {name}; nothing was labelled.")
        grid = grid_around(stack, center)
        array = resample_image(stack, grid)
        probabilities = self.probabilities(rescale(array, intensity_window(array, name)), check)
        mask, confidence = _on_own_grid(probabilities, grid, stack)
        ringed = _ringed_share(sitk.GetArrayViewFromImage(mask), stack.GetSpacing()[1::-1])
        if confidence < self.confident or ringed < RINGED:
            warning = (
                f"{name} does not look like a short-axis scan of the heart (certainty {confidence:.2f}, myocardium "
                f"around the cavity in {ringed:.0%} of the slices); "
            )
            if insist:
                return Segmentation(mask, confidence, f"{warning}look at the labels before you use them.")
            warning += "nothing was labelled. If it is one, use --insist."
            return Segmentation(_empty(stack), confidence, warning)
        return Segmentation(mask, confidence)


def require_usable(stack: sitk.Image, name: str) -> None:
    """Check size, spacing and grey levels of a stack.

    Raises:
        CardiacError: they are not those of a short-axis scan.
    """
    columns, rows, _ = stack.GetSize()
    if min(rows, columns) < SMALLEST or max(rows, columns) > LARGEST:
        raise CardiacError(
            f"{name} has {rows} x {columns} pixels a slice; from {SMALLEST} to {LARGEST} along each side are "
            "supported, so resample it to the pixel size of an MR slice."
        )
    if max(stack.GetSpacing()[:2]) > LARGEST_PIXEL_MM:
        raise CardiacError(
            f"{name} has pixels of {max(stack.GetSpacing()[:2]):.1f} mm; the third axis must run through the slices, "
            "so correct the spacing or the order of the axes."
        )
    require_finite(sitk.GetArrayViewFromImage(stack), name)


def _on_own_grid(probabilities: FloatArray, grid: sitk.Image, stack: sitk.Image) -> tuple[sitk.Image, float]:
    """Labels on the grid of a stack, and the mean probability of those that are not background."""
    columns, rows, _ = stack.GetSize()
    half = [GRID_SIZE * GRID_SPACING / 2 / s + 1 for s in stack.GetSpacing()[:2]]
    middle = stack.TransformPhysicalPointToContinuousIndex(
        grid.TransformContinuousIndexToPhysicalPoint(((GRID_SIZE - 1) / 2, (GRID_SIZE - 1) / 2, 0.0))
    )
    left, top = (max(0, int(c - h)) for c, h in zip(middle[:2], half, strict=True))
    right, bottom = (min(n, int(c + h) + 2) for c, h, n in zip(middle[:2], half, (columns, rows), strict=True))
    mask = _empty(stack)
    if right <= left or bottom <= top:
        return mask, 0.0
    window = stack[left:right, top:bottom, :]
    layers = []
    for label in range(NUM_CLASSES):
        layer = sitk.GetImageFromArray(np.ascontiguousarray(probabilities[:, label]))
        layer.CopyInformation(grid)
        outside = float(label == BACKGROUND)
        layers.append(sitk.GetArrayFromImage(sitk.Resample(layer, window, sitk.Transform(), sitk.sitkLinear, outside)))
    found = without_strays(np.argmax(layers, axis=0).astype(np.uint8))
    labelled = found != BACKGROUND
    confidence = float(np.max(layers, axis=0)[labelled].mean()) if labelled.any() else 0.0
    labels = sitk.GetArrayFromImage(mask)
    labels[:, top:bottom, left:right] = found
    result = sitk.GetImageFromArray(labels)
    result.CopyInformation(stack)
    return result, confidence


def _ringed_share(labels: LabelArray, spacing: tuple[float, float]) -> float:
    """Share of the labelled slices with an LV cavity that myocardium surrounds."""
    labelled = [mask for mask in labels if mask.any()]
    ringed = [(m == LV).any() and not set(failures(m, spacing)) & NO_RING for m in labelled]
    return float(np.mean(ringed)) if ringed else 0.0


def without_strays(labels: LabelArray) -> LabelArray:
    """Labels (slices, rows, columns) of which each structure keeps its largest part alone."""
    result = np.zeros_like(labels)
    for structure in STRUCTURES:
        result[_largest_part(labels == structure.value)] = structure.value
    return result


def _largest_part(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The largest part of a stack's pixels, joined within slices across corners too."""
    around = np.zeros((3, 3, 3), bool)
    around[1] = True
    around[:, 1, 1] = True
    parts, count = ndimage.label(inside, around)
    if count < 2:
        return inside
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.asarray(parts == sizes.argmax())


def _empty(stack: sitk.Image) -> sitk.Image:
    mask = sitk.Image(stack.GetSize(), sitk.sitkUInt8)
    mask.CopyInformation(stack)
    return mask


def segment_cine(
    segmenter: Segmenter,
    frames: Sequence[sitk.Image],
    name: str = "The cine",
    check: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    insist: bool = False,
) -> list[Segmentation]:
    """Label the heart in all frames of a cine; it is looked for once, since it does not move away.

    Args:
        segmenter: to use.
        frames: stacks of one geometry.
        name: of the cine, for messages.
        check: called between batches; may raise to cancel.
        progress: called with the number of frames done and in all.
        insist: whether to label what does not look like a short-axis scan, too.
    """
    require_usable(frames[0], name)
    candidates = (frames[index] for index in sorted({0, len(frames) // 2}))
    center = next((found for frame in candidates if (found := segmenter.find_heart(frame, name)) is not None), None)
    if center is None:
        return [Segmentation(_empty(f), 0.0, f"No heart was found in {name}; nothing was labelled.") for f in frames]
    results = []
    for index, frame in enumerate(frames):
        results.append(segmenter.segment(frame, name, center, check, insist))
        progress(index + 1, len(frames))
    return results
