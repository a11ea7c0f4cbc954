"""Whether a generator repeats its training slices instead of making new ones.

Real patients whom the generator never saw have a nearest training slice too. Synthetic slices should lie no nearer to
the training slices than theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CardiacError
from ..labels import BACKGROUND, STRUCTURES
from ..slices import LabelArray
from .statistics import FloatArray, IndexArray

Kind = Literal["mask", "image"]
Pixels = npt.NDArray[Any]
"""Labels, or grey levels of any type and range."""

NEAR_PERCENTILE = 1.0
"""Of the distances of real unseen slices; nearer ones count as suspicious."""
NEAREST_PAIRS = 10
SAME_RECORDING = 0.01
"""Real images nearer than this, by `image_distance`, show one recording. In ACDC, where patient 74 is patient 76 once
more, theirs are at most 0.0015 apart, and those of two persons at least 0.12."""
MASK_BLOCK, IMAGE_BLOCK = 512, 64
"""Slices at a time, which bounds the memory for their pixels as float32."""
REGION = 96
"""Side, in pixels, of the centre in which images are compared: the heart and what borders on it."""
COMPARED_SIZE = 64
BLUR_SIGMA, BLUR_RADIUS = 1.0, 3


@dataclass(frozen=True)
class Slices:
    """Images (N, H, W) of any range, and their masks (N, H, W).

    Raises:
        CardiacError: the two differ in shape.
    """

    images: Pixels
    masks: LabelArray

    def __post_init__(self) -> None:
        if self.images.shape != self.masks.shape:
            raise CardiacError(
                f"Images {self.images.shape} and masks {self.masks.shape} differ in shape; give each image its mask."
            )

    def __len__(self) -> int:
        return len(self.masks)

    def with_heart(self) -> IndexArray:
        """Indices of the slices that label anything."""
        return np.flatnonzero((self.masks != BACKGROUND).any((1, 2)))


@dataclass(frozen=True)
class Nearness:
    """How near synthetic and real unseen slices lie to the training slices.

    Attributes:
        synthetic: (M,) distance of each synthetic slice to its nearest training slice, in the order given.
        validation: the same of the validation slices with a heart, but for those that the training set holds too.
        threshold: 1st percentile of `validation`.
        share: of `synthetic` below `threshold`; about 0.01 where synthetic slices are as new as real ones.
        nearest: (10, 2) indices of a synthetic and a training slice, the nearest pairs first; fewer rows if M < 10.
    """

    synthetic: FloatArray
    validation: FloatArray
    threshold: float
    share: float
    nearest: IndexArray


@dataclass(frozen=True)
class Copying:
    """The copying test.

    Attributes:
        masks: by `mask_distance`.
        images: by `image_distance`.
        equal_masks: (K, 2) indices of a synthetic mask and the first training mask that it equals, shifted or not.
        repeated: (L,) indices of validation slices whose image the training set holds too. They are left out, as they
            would make the threshold 0, under which no copy is found; the split of the patients deserves a look.
    """

    masks: Nearness
    images: Nearness
    equal_masks: IndexArray
    repeated: IndexArray


def mask_distance(queries: LabelArray, references: LabelArray) -> FloatArray:
    """1 - mean Dice of masks over the structures that either has, their hearts' centroids put together.

    The centroids are put together by a shift of whole pixels. Two masks without a heart are at distance 0.

    Args:
        queries: (N, H, W) labels.
        references: (R, H, W) labels.

    Returns:
        (N, R) distances in 0..1.

    Raises:
        CardiacError: the shapes do not fit each other.
    """
    _check_shapes(queries, references)
    return _distances_of_aligned(aligned(queries), aligned(references))


def _distances_of_aligned(queries: LabelArray, references: LabelArray) -> FloatArray:
    a, b = (masks.reshape(len(masks), -1) for masks in (queries, references))
    # Most pixels are background in all masks, and add nothing.
    used = (a != BACKGROUND).any(0) | (b != BACKGROUND).any(0)
    a, b = a[:, used], b[:, used]
    result = np.empty((len(a), len(b)))
    for rows in _blocks(len(a), MASK_BLOCK):
        for columns in _blocks(len(b), MASK_BLOCK):
            result[rows, columns] = 1 - _mean_dice(torch.from_numpy(a[rows]), torch.from_numpy(b[columns])).numpy()
    return result


def image_distance(queries: Pixels, references: Pixels) -> FloatArray:
    """1 - normalized cross-correlation of the centres of images, blurred a little and on 64 x 64 pixels.

    Blur and fewer pixels make it blind to noise, and the correlation to brightness and contrast. It is not blind to
    shifts and turns. A constant image correlates with none.

    Args:
        queries: (N, H, W) grey levels of any range, H and W at least 96.
        references: (R, H, W) grey levels.

    Returns:
        (N, R) distances in 0..2.

    Raises:
        CardiacError: the shapes do not fit each other, images are too small, or a grey level is NaN or infinite.
    """
    _check_shapes(queries, references)
    if min(queries.shape[1:]) < REGION:
        raise CardiacError(f"Images of {queries.shape[1:]} pixels are too small to compare; {REGION} a side is needed.")
    return _distances_of_patterns(_patterns(queries), _patterns(references))


def _distances_of_patterns(queries: Tensor, references: Tensor) -> FloatArray:
    return np.asarray(1 - (queries @ references.T).clamp(-1, 1).numpy().astype(np.float64))


class Lookalikes:
    """Searches among references, again and again, for the slice that is most like another in mask and image.

    Args:
        references: (R, H, W) slices with a heart.

    Raises:
        CardiacError: there is none, or as the distances raise it.
    """

    def __init__(self, references: Slices) -> None:
        if len(references) == 0:
            raise CardiacError("There is no slice to search in; give training slices with a labelled heart.")
        self._masks, self._patterns = aligned(references.masks), _patterns(references.images)

    def nearest(self, queries: Slices) -> tuple[IndexArray, FloatArray, FloatArray]:
        """Of each query, the reference with the smallest sum of `mask_distance` and `image_distance`.

        Args:
            queries: (N, H, W) slices.

        Returns:
            (N,) indices into the references, and (N,) distances of masks and of images to these.
        """
        _check_shapes(queries.masks, self._masks)
        masks = _distances_of_aligned(aligned(queries.masks), self._masks)
        images = _distances_of_patterns(_patterns(queries.images), self._patterns)
        index = (masks + images).argmin(1)
        rows = np.arange(len(index))
        return index, masks[rows, index], images[rows, index]


def nearest(queries: Pixels, references: Pixels, kind: Kind) -> tuple[FloatArray, IndexArray]:
    """The nearest reference of each query.

    Args:
        queries: (N, H, W) masks or images.
        references: (R, H, W) of the same kind.
        kind: `mask` for `mask_distance`, `image` for `image_distance`.

    Returns:
        (N,) distances, and (N,) indices into `references`.

    Raises:
        CardiacError: there is no reference, or as the distances raise it.
    """
    if len(references) == 0:
        raise CardiacError("There is no slice to search in; give training slices with a labelled heart.")
    if kind == "mask":
        distances = mask_distance(np.asarray(queries, np.uint8), np.asarray(references, np.uint8))
    else:
        distances = image_distance(queries, references)
    index = distances.argmin(1)
    return distances[np.arange(len(index)), index], index


def copying(train: Slices, validation: Slices, synthetic: Slices) -> Copying:
    """Compare the distances of synthetic slices to training slices with those of real slices that nobody trained on.

    Training and validation slices without a heart are left out: all empty masks are alike.

    Args:
        train: what the generator learned from.
        validation: slices of other real patients.
        synthetic: what the generator made.

    Returns:
        Distances, shares and pairs; all indices count the slices as they were given.

    Raises:
        CardiacError: a set has no slice with a heart, the training set holds all validation slices, or as
            `mask_distance` and `image_distance` raise it.
    """
    for name, slices in (("training", train), ("validation", validation), ("synthetic", synthetic)):
        if slices.with_heart().size == 0:
            raise CardiacError(f"The {name} set has no slice with a heart; give it slices with labelled masks.")
    kept, real = train.with_heart(), validation.with_heart()
    images = _nearest_of_both(validation.images[real], synthetic.images, train.images[kept], "image")
    masks = _nearest_of_both(validation.masks[real], synthetic.masks, train.masks[kept], "mask")
    repeated = images[0][: len(real)] < SAME_RECORDING
    if repeated.all():
        raise CardiacError("The training set holds all validation slices too; validate with patients of its own.")
    return Copying(
        masks=_nearness(*masks, kept, repeated),
        images=_nearness(*images, kept, repeated),
        equal_masks=equal_masks(synthetic.masks, train.masks),
        repeated=real[repeated],
    )


def equal_masks(queries: LabelArray, references: LabelArray) -> IndexArray:
    """Masks with a heart that equal a reference pixel by pixel, after a shift of whole pixels or without one.

    Args:
        queries: (N, H, W) labels.
        references: (R, H, W) labels.

    Returns:
        (K, 2) indices of a query and of the first reference that it equals.
    """
    _check_shapes(queries, references)
    known: dict[bytes, int] = {}
    for index, mask in enumerate(aligned(references)):
        if mask.any():
            known.setdefault(mask.tobytes(), index)
    found = [(index, known.get(mask.tobytes(), -1)) for index, mask in enumerate(aligned(queries))]
    return np.array([pair for pair in found if pair[1] >= 0], np.intp).reshape(-1, 2)


def aligned(masks: LabelArray) -> LabelArray:
    """Masks (N, H, W) shifted by whole pixels, so that the centroid of each heart lies at the centre.

    What leaves at one side comes in at the other, so that no pixel is lost. A mask without a heart stays as it is.
    """
    result = np.array(masks, np.uint8)
    for index, mask in enumerate(result):
        positions = np.nonzero(mask)
        count = positions[0].size
        if count:
            # In whole numbers, since a rounded mean could differ between a mask and its shifted copy.
            centroid = [(2 * int(axis.sum()) + count) // (2 * count) for axis in positions]
            shift = [size // 2 - position for size, position in zip(mask.shape, centroid, strict=True)]
            result[index] = np.roll(mask, shift, (0, 1))
    return result


def _nearest_of_both(
    validation: Pixels, synthetic: Pixels, references: Pixels, kind: Kind
) -> tuple[FloatArray, IndexArray]:
    """The nearest reference of validation slices, then of synthetic ones; each search prepares all references anew."""
    _check_shapes(validation, synthetic)
    return nearest(np.concatenate([validation, synthetic]), references, kind)


def _nearness(distances: FloatArray, index: IndexArray, kept: IndexArray, repeated: npt.NDArray[np.bool_]) -> Nearness:
    """What distances and indices of validation slices, which those `repeated` leave, and then synthetic ones say."""
    expected, made = distances[: len(repeated)][~repeated], distances[len(repeated) :]
    threshold = float(np.percentile(expected, NEAR_PERCENTILE))
    first = np.argsort(made, kind="stable")[:NEAREST_PAIRS]
    return Nearness(
        synthetic=made,
        validation=expected,
        threshold=threshold,
        share=float((made < threshold).mean()),
        nearest=np.stack([first, kept[index[len(repeated) :][first]]], 1),
    )


def _mean_dice(a: Tensor, b: Tensor) -> Tensor:
    """Mean Dice (N, R) of labels (N, P) and (R, P) over the structures that either has; 1 where neither has any."""
    total, structures = torch.zeros(len(a), len(b)), torch.zeros(len(a), len(b))
    for structure in STRUCTURES:
        # Counts of pixels are exact in float32, and their products are matrix products.
        x, y = (labels == structure.value for labels in (a, b))
        size = x.sum(1)[:, None] + y.sum(1)
        total += 2 * (x.float() @ y.float().T) / size.clamp(min=1)
        structures += size > 0
    return torch.where(structures > 0, total / structures.clamp(min=1), 1.0)


def _patterns(images: Pixels) -> Tensor:
    """Images (N, H, W) as vectors (N, 4096) of mean 0 and length 1, or of length 0 where constant."""
    result = torch.empty(len(images), COMPARED_SIZE**2)
    for rows in _blocks(len(images), IMAGE_BLOCK):
        result[rows] = _pattern(torch.from_numpy(np.asarray(images[rows], np.float32)))
    return result


def _pattern(images: Tensor) -> Tensor:
    if not images.isfinite().all():
        raise CardiacError("Images hold NaN or infinite grey levels; leave those slices out.")
    top, left = ((side - REGION) // 2 for side in images.shape[1:])
    region = images[:, None, top : top + REGION, left : left + REGION]
    small = F.interpolate(
        _blurred(region), size=(COMPARED_SIZE, COMPARED_SIZE), mode="bilinear", align_corners=False
    ).flatten(1)
    centred = small - small.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    # What rounding leaves of a constant image is no pattern.
    constant = length <= 1e-5 * small.norm(dim=1, keepdim=True)
    return torch.where(constant, 0.0, centred / length.clamp(min=torch.finfo(length.dtype).tiny))


def _blurred(images: Tensor) -> Tensor:
    """Images (N, 1, H, W) after a Gaussian blur."""
    steps = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, dtype=images.dtype)
    weights = torch.softmax(-(steps**2) / (2 * BLUR_SIGMA**2), 0)
    padded = F.pad(images, (BLUR_RADIUS,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _check_shapes(a: Pixels, b: Pixels) -> None:
    if a.ndim != 3 or b.ndim != 3 or a.shape[1:] != b.shape[1:]:
        raise CardiacError(
            f"Slices of the shapes {a.shape} and {b.shape} cannot be compared; give two stacks (N, rows, columns) "
            "of one size."
        )
