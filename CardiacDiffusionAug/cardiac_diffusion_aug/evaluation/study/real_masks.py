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
    for case in cases:
        row = case % len(real)
        attributes = attributes_of(real.attributes[row])
        noise = image_noise(SEED, case, FIRST_IMAGE_STREAM)
        # They are the slice's own: nothing was asked for, so that nothing is made stronger.
        (image,) = generator.images([real.masks[row]], [noise], [attributes], check, Attributes())
        yield GeneratedCase(case, 0, SEED, attributes, image, real.masks[row], generator.spacing)


def attributes_of(row: Sequence[float]) -> Attributes:
    """A row of phase index, group index and level, -1 where unknown, as attributes."""
    phase, group, level = (float(value) for value in row)
    return Attributes(
        PHASES[int(phase)] if phase >= 0 else None,
        GROUPS[int(group)] if group >= 0 else None,
        level if level >= 0 else None,
    )
