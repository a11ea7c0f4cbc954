"""The honest evaluation of a generator: what it made, beside real patients whom it never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..labels import dice_of_structures
from ..segmentation import Segmenter
from ..slices import LabelArray
from .copying import Copying, Nearness, Slices, copying
from .fidelity import compare
from .obedience import PAIRS, QUESTIONS, answers
from .parts import Arrays, Parts
from .report import Section
from .sections import (
    Rows,
    adherence_section,
    anatomy_section,
    attribute_section,
    copying_section,
    fidelity_section,
    shape_section,
)
from .sets import SliceSet

if TYPE_CHECKING:
    from ..generation import Generator

FEATURES = 64
LOOK_COST, COPY_COST, MASK_COST = 3, 1000, 30
"""Time of looking at a slice, of the copying test and of a mask, relative to each other, for the time left."""


@dataclass
class Progress:
    """Counts work done and passes it on."""

    report: Callable[[int, int, str], None]
    total: int
    done: int = 0

    def add(self, amount: int, message: str) -> None:
        """Some more is done."""
        self.done += amount
        self.report(min(self.done, self.total), self.total, message)


def evaluate(
    synthetic: SliceSet,
    training: SliceSet,
    validation: SliceSet,
    segmenter: Segmenter,
    generator: Generator | None,
    why_no_generator: str,
    parts: Parts,
    seed: int = 0,
    report: Callable[[int, int, str], None] = lambda done, total, message: None,
    check: Callable[[], None] = lambda: None,
) -> list[Section]:
    """All measures of a synthetic set.

    Args:
        synthetic: what was made.
        training, validation: real slices that the generator learned from, and that it never saw.
        segmenter: trained on the training patients.
        generator: that made the set, for the test of attributes; None leaves it out, and `why_no_generator` says why.
        parts: where finished parts are kept.
        seed: of splits, draws and noise.
        report: told how much is done, and what.
        check: called between steps; may raise to cancel.
    """
    looks = len(synthetic) + len(validation)
    masks = 0 if generator is None else 2 * PAIRS * len(QUESTIONS)
    progress = Progress(report, looks * LOOK_COST + COPY_COST + masks * MASK_COST)
    ours = parts.get("synthetic", lambda: _look(synthetic, segmenter, progress, check))
    real = parts.get("validation", lambda: _look(validation, segmenter, progress, check))
    progress.done = looks * LOOK_COST
    progress.add(0, "copying")
    copied = _copying_of(parts.get("copying", lambda: _copying(synthetic, training, validation)))
    progress.add(COPY_COST, "attributes")
    measured = {}
    if generator is not None:
        for question in QUESTIONS:
            told = lambda masks, key=question.key: progress.add(masks * MASK_COST, f"asking for {key}")  # noqa: E731
            made = lambda question=question, told=told: {  # noqa: E731
                "rows": answers(generator, question, PAIRS, seed, check, told)
            }
            measured[question.key] = np.asarray(parts.get(f"asked_{question.key}", made)["rows"], float)
    check()
    a, b = projected(np.asarray(real["features"], float), np.asarray(ours["features"], float))
    return [
        anatomy_section(synthetic, training),
        adherence_section(synthetic, slice_dices(ours, synthetic.masks), slice_dices(real, validation.masks)),
        fidelity_section(compare(a, validation.patients, b, seed)),
        copying_section(copied, synthetic, training, validation),
        shape_section(synthetic, training, validation, seed),
        attribute_section(QUESTIONS, measured, why_no_generator),
    ]


def slice_dices(seen: Arrays, masks: LabelArray) -> Rows:
    """Dice (N, 3) of found labels with masks, slice by slice; NaN where neither has the structure."""
    return np.array([dice_of_structures(found, mask) for found, mask in zip(seen["labels"], masks, strict=True)])


def projected(real: Rows, synthetic: Rows, size: int = FEATURES) -> tuple[Rows, Rows]:
    """Features (N, D) and (M, D) on the directions in which the real ones differ most, (N, size) and (M, size).

    A Frechet distance needs many more rows than features, or it is blind to what should tell two sets apart.
    """
    center, spread = real.mean(0), real.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    a, b = ((np.asarray(rows, float) - center) / spread for rows in (real, synthetic))
    directions = np.linalg.svd(a, full_matrices=False)[2][:size].T
    return a @ directions, b @ directions


def _look(one: SliceSet, segmenter: Segmenter, progress: Progress, check: Callable[[], None]) -> Arrays:
    labels, features = segmenter.look(
        one.images, check, lambda slices: progress.add(slices * LOOK_COST, "looking at slices")
    )
    return {"labels": labels, "features": features}


def _copying(synthetic: SliceSet, training: SliceSet, validation: SliceSet) -> Arrays:
    found = copying(*(Slices(one.images, one.masks) for one in (training, validation, synthetic)))
    arrays: dict[str, np.ndarray] = {"equal_masks": found.equal_masks, "repeated": found.repeated}
    for name, near in (("masks", found.masks), ("images", found.images)):
        arrays.update({f"{name}_{key}": np.asarray(value) for key, value in vars(near).items()})
    return arrays


def _copying_of(arrays: Arrays) -> Copying:
    def near(name: str) -> Nearness:
        return Nearness(
            synthetic=np.asarray(arrays[f"{name}_synthetic"]),
            validation=np.asarray(arrays[f"{name}_validation"]),
            threshold=float(arrays[f"{name}_threshold"]),
            share=float(arrays[f"{name}_share"]),
            nearest=np.asarray(arrays[f"{name}_nearest"]),
        )

    return Copying(near("masks"), near("images"), np.asarray(arrays["equal_masks"]), np.asarray(arrays["repeated"]))
