"""Only sound cases: masks that pass the anatomical criteria, and images in which a segmenter finds their masks again.

What fails is drawn again from noise of its own, so that case k of a seed is still the same whatever else is made. When
none of many draws of a case passes, its attributes are drawn anew, as far as they were not asked for: a model of few
patients may know some of them badly, and one case must not end a run of thousands. It never goes on for ever: in the
end there is a sentence.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from .anatomy import failures
from .attributes import Attributes
from .devices import samples_together, suggested_batch_size
from .errors import CardiacError
from .generation import FIRST_IMAGE_STREAM, GREY_LEVELS, MASK_STREAM, GeneratedCase, Generator, GreyArray, image_noise
from .labels import STRUCTURES, dice_of_structures
from .segmentation import Segmenter
from .slices import GRID_SPACING, FloatArray, LabelArray

MOST_MASKS = 20
"""Masks drawn for a case before other attributes are, or, where all were asked for, before it is given up."""
ATTRIBUTE_TRIES = 5
"""Attributes drawn for a case before it is given up."""
IMAGE_TRIES = 2
"""Images drawn for a mask before another mask is."""
STREAM_STRIDE = 4096
"""Apart from one draw to the next lie more streams of noise than a mask can have images."""
LOWEST_DICE = 0.70
"""Of each structure; the 5th percentile of real validation slices lies near it."""
SMALL_MM2 = 150.0
"""Structures smaller than this are not judged: one pixel more or less decides their Dice."""
MOST_BATCHES = 8
"""Images that may wait for a case before them, in batches, so that memory stays bounded."""


class Judge:
    """Checks masks and pairs.

    Args:
        segmenter: that looks for the mask in the image.
        lowest_dice: that each structure must reach.
    """

    CHECKS = "anatomy adherence"

    def __init__(self, segmenter: Segmenter, lowest_dice: float = LOWEST_DICE) -> None:
        self.segmenter, self.lowest_dice = segmenter, lowest_dice

    def mask_failures(self, mask: LabelArray) -> tuple[str, ...]:
        """Names of the anatomical criteria that a mask (128, 128) fails; an empty one fails too."""
        return failures(mask, GRID_SPACING) if mask.any() else ("empty",)

    def dice(self, images: Sequence[GreyArray], masks: Sequence[LabelArray]) -> list[dict[str, float]]:
        """Agreement by structure of what is found in images with their masks.

        A structure that the mask lacks is told, with 0, where more than a little of it is found.
        """
        greys = np.stack(images).astype(np.float32) * (2 / GREY_LEVELS) - 1
        return [
            {key: dice for key, dice in slice_dice(a, b).items() if area(b, key) or area(a, key) >= SMALL_MM2}
            for a, b in zip(self._found(greys), masks, strict=True)
        ]

    def _found(self, greys: FloatArray) -> LabelArray:
        """What the segmenter finds in images (N, 128, 128), in each the same whatever the others are."""
        # As with the generator: kernels round otherwise for other batches.
        device = self.segmenter.device
        together = size = self.segmenter.batch_size
        if device.type == "cpu":
            together = samples_together(device, self.segmenter.bfloat16)
            size = suggested_batch_size(device, together)
        elif device.type != "cuda":
            return self.segmenter.labels(greys)
        padded = np.concatenate([greys, greys[-1:].repeat(-len(greys) % together, axis=0)])
        parts = [self.segmenter.labels(padded[first : first + size]) for first in range(0, len(padded), size)]
        return np.concatenate(parts)[: len(greys)]

    def pair_failures(self, dice: dict[str, float], mask: LabelArray) -> tuple[str, ...]:
        """The structures of a mask that its image does not show well enough, or shows where there should be none."""
        judged = {key for key in dice if not 0 < area(mask, key) < SMALL_MM2}
        return tuple(f"{key} Dice {v:.2f}" for key, v in dice.items() if key in judged and v < self.lowest_dice)


def area(labels: LabelArray, key: str) -> float:
    """Area of a structure in mm^2."""
    value = next(s.value for s in STRUCTURES if s.key == key)
    return float(np.sum(labels == value)) * GRID_SPACING**2


def slice_dice(found: LabelArray, mask: LabelArray) -> dict[str, float]:
    """Dice by structure, of those that either of two label arrays has."""
    values = zip(STRUCTURES, dice_of_structures(found, mask), strict=True)
    return {structure.key: value for structure, value in values if not math.isnan(value)}


@dataclass
class _Draw:
    """One case on its way."""

    case: int
    variations: list[int]
    may_have: list[Attributes]
    attempt: int = 0
    tries: int = 0
    draws: int = 1
    mask: LabelArray | None = None
    images: dict[int, tuple[GreyArray, dict[str, float]]] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)

    @property
    def attributes(self) -> Attributes:
        return self.may_have[self.attempt // MOST_MASKS]

    @property
    def missing(self) -> list[int]:
        return [v for v in self.variations if v not in self.images]

    def stream(self, place: int) -> int:
        """Number of a stream of noise; the first attempt's are those of a run without checks."""
        return (self.attempt * IMAGE_TRIES + self.tries) * STREAM_STRIDE + place

    def reject(self, reasons: Sequence[str], whole: bool) -> None:
        """Note why, and go on to the next image, or to the next mask."""
        self.rejected += reasons
        self.tries += 1
        if not whole and self.tries < IMAGE_TRIES:
            return
        self.attempt, self.tries, self.mask, self.images = self.attempt + 1, 0, None, {}
        if self.attempt >= MOST_MASKS * len(self.may_have):
            often = ", ".join(f"{reason} {n} times" for reason, n in Counter(self.rejected).most_common(3))
            raise CardiacError(
                f"None of {self.attempt} draws of case {self.case} passed the checks ({often}); ask for other "
                "attributes, use another model, or use --no-filter.",
                "too_few_pass",
            )


def generate_filtered(
    generator: Generator,
    judge: Judge,
    count: int,
    seed: int = 0,
    attributes: Attributes = Attributes(),  # noqa: B008 - immutable
    variations: int = 1,
    skip: Callable[[int, int], bool] = lambda case, variation: False,
    check: Callable[[], None] = lambda: None,
) -> Iterator[GeneratedCase]:
    """As `Generator.generate`, but each case is drawn again until it passes.

    Raises:
        CardiacError: none of many draws of a case passes.
    """
    # All images of a case: whether a mask is kept depends on each of them.
    coming = (
        _Draw(case, list(range(variations)), _may_have(generator, seed, case, attributes))
        for case in range(count)
        if not all(skip(case, variation) for variation in range(variations))
    )
    # From the first that is not told yet, in order; those that passed wait for one before them that is drawn again.
    draws: deque[_Draw] = deque()
    while True:
        # A batch is always full: what is drawn again goes with what is new.
        draws.extend(islice(coming, _room(draws, variations, generator.batch_size)))
        if not draws:
            return
        _draw_masks(generator, judge, [draw for draw in draws if draw.mask is None], seed, attributes, check)
        ready = [draw for draw in draws if draw.mask is not None and draw.missing]
        _draw_images(generator, judge, ready, seed, attributes, check)
        while draws and not draws[0].missing:
            yield from _told(generator, draws.popleft(), seed, skip)


def _may_have(generator: Generator, seed: int, case: int, asked: Attributes) -> list[Attributes]:
    """Attributes of a case, and those it is tried with after these, each once."""
    tries = (generator.attributes_of(seed, case, asked, again) for again in range(ATTRIBUTE_TRIES))
    return list(dict.fromkeys(tries))


def _room(draws: Sequence[_Draw], variations: int, batch_size: int) -> int:
    """How many cases may begin: their images fit into the batch, and not too many wait."""
    missing = sum(len(draw.missing) for draw in draws)
    if not missing:
        return max(1, batch_size // variations)
    return max(0, min((batch_size - missing) // variations, MOST_BATCHES * batch_size // variations - len(draws)))


def _told(generator: Generator, draw: _Draw, seed: int, skip: Callable[[int, int], bool]) -> Iterator[GeneratedCase]:
    """The cases of a draw that passed."""
    assert draw.mask is not None
    for variation, (image, dice) in sorted(draw.images.items()):
        if not skip(draw.case, variation):
            yield GeneratedCase(
                draw.case,
                variation,
                seed,
                draw.attributes,
                image,
                draw.mask,
                generator.spacing,
                draw.draws,
                tuple(draw.rejected),
                dice,
            )


def _draw_masks(
    generator: Generator,
    judge: Judge,
    draws: Sequence[_Draw],
    seed: int,
    attributes: Attributes,
    check: Callable[[], None],
) -> None:
    if not draws:
        return
    streams = [draw.stream(MASK_STREAM) for draw in draws]
    cases, own = [draw.case for draw in draws], [draw.attributes for draw in draws]
    for draw, mask in zip(draws, generator.masks(seed, cases, attributes, check, streams, own), strict=True):
        failed = judge.mask_failures(mask)
        if failed:
            draw.draws += 1
            draw.reject(failed, whole=True)
        else:
            draw.mask = mask


def _draw_images(
    generator: Generator,
    judge: Judge,
    draws: Sequence[_Draw],
    seed: int,
    attributes: Attributes,
    check: Callable[[], None],
) -> None:
    if not draws:
        return
    wanted = [(draw, variation) for draw in draws for variation in draw.missing]
    masks = [draw.mask for draw, _ in wanted if draw.mask is not None]
    noise = [image_noise(seed, draw.case, draw.stream(FIRST_IMAGE_STREAM + v)) for draw, v in wanted]
    own = [draw.attributes for draw, _ in wanted]
    images = generator.images(masks, noise, own, check, attributes)
    reasons: dict[int, list[str]] = {}
    for (draw, variation), mask, image, dice in zip(wanted, masks, images, judge.dice(images, masks), strict=True):
        failed = judge.pair_failures(dice, mask)
        if failed:
            draw.draws += 1
            reasons.setdefault(draw.case, []).extend(failed)
        else:
            draw.images[variation] = (image, dice)
    for draw in draws:
        if draw.case in reasons:
            draw.reject(reasons[draw.case], whole=False)
