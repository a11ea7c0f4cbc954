"""Image variations: images made for masks of real patients, in place of new masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ...attributes import GROUPS, PHASES, Attributes
from ...generation import FIRST_IMAGE_STREAM, GeneratedCase, Generator, image_noise
from ..sets import SliceSet

SEED = 0


def images_of_masks(
    generator: Generator, real: SliceSet, cases: Sequence[int], check: Callable[[], None] = lambda: None
) -> Iterator[GeneratedCase]:
    """Cases whose masks are those of real slices in turn, each with the slice's attributes and noise of its own.

    Args:
        generator: the model.
        real: the slices.
        cases: numbers of the cases; case k has the mask of slice k modulo the number of slices.
        check: called between steps; may raise to cancel.
    """
    size = generator.largest_batch
    for batch in (cases[first : first + size] for first in range(0, len(cases), size)):
        rows = [case % len(real) for case in batch]
        attributes = [attributes_of(real.attributes[row]) for row in rows]
        noise = [image_noise(SEED, case, FIRST_IMAGE_STREAM) for case in batch]
        masks = [real.masks[row] for row in rows]
        # They are the slice's own: nothing was asked for, so that nothing is made stronger.
        images = generator.images(masks, noise, attributes, check, Attributes())
        for case, image, mask, its in zip(batch, images, masks, attributes, strict=True):
            yield GeneratedCase(case, 0, SEED, its, image, mask, generator.spacing)


def attributes_of(row: Sequence[float]) -> Attributes:
    """A row of phase index, group index and level, -1 where unknown, as attributes."""
    phase, group, level = (float(value) for value in row)
    return Attributes(
        PHASES[int(phase)] if phase >= 0 else None,
        GROUPS[int(group)] if group >= 0 else None,
        level if level >= 0 else None,
    )
