"""What was measured on a synthetic set, as sections of its report: each figure beside the real one, with its bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..anatomy import CRITERIA, failures
from ..labels import STRUCTURES
from ..shapes import QUANTITIES, measure, presence, wasserstein_ratio
from ..slices import GRID_SPACING, FloatArray, LabelArray
from .copying import Copying, Nearness
from .fidelity import Comparison
from .obedience import Question
from .report import Bar, Figure, Histogram, Pairs, Section, Sheet
from .sets import SliceSet
from .statistics import bootstrap_interval, patient_halves

Rows = npt.NDArray[np.float64]

ADHERENCE_MARGIN = 0.03
SHAPE_BAR, FRECHET_BAR, KERNEL_BAR, COVERAGE_BAR, COPY_BAR, ORDER_BAR = 1.5, 1.5, 3.0, 0.8, 0.02, 0.9
SHEET_CASES = 8
HALVINGS = 20


def failed_criteria(masks: LabelArray) -> list[tuple[str, ...]]:
    """Criteria that each mask fails, concavity left aside."""
    return [failures(mask, GRID_SPACING) for mask in masks]


def anatomy_section(synthetic: SliceSet, training: SliceSet) -> Section:
    """Pass rates of the anatomical criteria, beside those of the training masks."""
    ours, real = (failed_criteria(one.masks) for one in (synthetic, training))
    rate, real_rate = (float(np.mean([not failed for failed in one])) for one in (ours, real))
    figures = [
        Figure(
            "pass_rate",
            "Masks that pass all criteria",
            rate,
            _interval([not failed for failed in ours]),
            real_rate,
            Bar(real_rate, at_least=True),
            words="Real masks fail some too, near the base. Made ones should not fail more often.",
        )
    ]
    for criterion in CRITERIA:
        if not criterion.concavity:
            shares = [float(np.mean([criterion.name in failed for failed in one])) for one in (ours, real)]
            figures.append(Figure(f"fails_{criterion.name}", f"Share: {criterion.text}", shares[0], None, shares[1]))
    bad = [index for index, failed in enumerate(ours) if failed][:SHEET_CASES]
    sheets = [_sheet("Masks that fail", synthetic, bad, [", ".join(ours[index]) for index in bad])] if bad else []
    return Section(
        "anatomy",
        "Anatomy",
        "Criteria of Painchaud et al. (IEEE TMI 2020), slice by slice, without those on concavity: no holes, each "
        "structure in one part, no gaps, the right neighbours, round enough. Real: the training masks.",
        figures,
        sheets=sheets,
    )


def adherence_section(synthetic: SliceSet, dice: Rows, validation_dice: Rows) -> Section:
    """Dice (N, 3) of what the segmenter finds, in synthetic and in real validation slices."""
    figures = []
    for index, structure in enumerate(STRUCTURES):
        ours, real = (one[:, index][np.isfinite(one[:, index])] for one in (dice, validation_dice))
        beside = float(real.mean()) if len(real) else None
        figures.append(
            Figure(
                f"dice_{structure.key}",
                f"{structure.name}, Dice",
                float(ours.mean()) if len(ours) else None,
                _interval(ours),
                beside,
                None if beside is None else Bar(beside - ADHERENCE_MARGIN, at_least=True),
                words="A segmenter that learned real patients only finds the mask again in its image.",
            )
        )
    mean = np.array([np.nanmean(row) if np.isfinite(row).any() else -1.0 for row in dice])
    order = np.argsort(mean)
    middle = len(order) // 2
    chosen = {
        "Worst adherence": order[:SHEET_CASES],
        "Median adherence": order[max(0, middle - SHEET_CASES // 2) :][:SHEET_CASES],
        "Best adherence": order[::-1][:SHEET_CASES],
    }
    sheets = [
        _sheet(title, synthetic, rows, [f"Dice {mean[row]:.2f}" for row in rows]) for title, rows in chosen.items()
    ]
    return Section(
        "adherence",
        "Adherence",
        "Does the image show what its mask says? Mean Dice over the slices that have the structure, in the mask or in "
        f"what was found. Real: slices of validation patients. The bar is the real figure less {ADHERENCE_MARGIN}.",
        figures,
        sheets=sheets,
    )


def fidelity_section(found: Mapping[str, Comparison]) -> Section:
    """Distances and shares in the segmenter's features, as ratios to two halves of the validation patients."""
    bars = {"frechet": Bar(FRECHET_BAR, False), "kernel": Bar(KERNEL_BAR, False), "coverage": Bar(COVERAGE_BAR, True)}
    words = {
        "frechet": "How far the two clouds of features lie apart (Heusel et al. 2017). 1 is as near as other patients.",
        "kernel": "The same by a kernel that assumes no shape of the clouds (Binkowski et al. 2018).",
        "precision": "Share of made slices that look like a real one.",
        "recall": "Share of real slices that the made ones could be taken for.",
        "density": "How deep made slices lie among real ones.",
        "coverage": "Share of real slices with a made one nearby: low when kinds of hearts are missing.",
    }
    figures = [
        Figure(
            f"{name}_ratio",
            f"{name.capitalize()}, ratio to real halves",
            c.ratio,
            c.ratio_interval,
            1.0,
            bars.get(name),
            words=words[name],
        )
        for name, c in found.items()
    ]
    return Section(
        "fidelity",
        "Fidelity",
        "Do the images look real to a network that learned real slices? Each figure compares the made set with one "
        "half of the validation patients, and is divided by the same figure of two halves, at one number of slices.",
        figures,
    )


def copying_section(found: Copying, synthetic: SliceSet, training: SliceSet, validation: SliceSet) -> Section:
    """Nearest training slices of synthetic slices, beside those of validation slices."""
    figures = [
        Figure(
            "equal_masks",
            "Masks equal to a training mask",
            float(len(found.equal_masks)),
            None,
            0.0,
            Bar(0.0, False),
            words="To the pixel, wherever it lies on the grid.",
        )
    ]
    if len(found.repeated):
        twice = ", ".join(dict.fromkeys(str(p) for p in validation.patients[found.repeated]))
        words = f"Left out: {twice}, whose images the training set holds under another name."
        figures.append(Figure("repeated", "Validation slices that also train", float(len(found.repeated)), words=words))
    plots: list[Histogram] = []
    pairs: list[Pairs] = []
    for key, name, near in (("masks", "mask", found.masks), ("images", "image", found.images)):
        figures.append(
            Figure(
                f"near_{key}",
                f"Share of {key} nearer to training than real ones",
                near.share,
                _interval(near.synthetic < near.threshold),
                0.01,
                Bar(COPY_BAR, False),
                words=f"Nearer than the nearest hundredth of validation {key} ({near.threshold:.3f}).",
            )
        )
        plots.append(Histogram(f"Distance to the nearest training {name}", "", near.validation, near.synthetic))
        pairs.append(_nearest_pairs(f"Nearest {name}s", near, synthetic, training))
    return Section(
        "copying",
        "Copying",
        "Does the generator repeat its training patients? Distances of made slices to their nearest training slice, "
        "beside those of validation patients, whom it never saw. Pictures: made on the left, training on the right.",
        figures,
        plots=plots,
        sheets=pairs,
    )


def shape_section(synthetic: SliceSet, training: SliceSet, validation: SliceSet, seed: int = 0) -> Section:
    """Quantities of masks: Wasserstein-1 distances as ratios to those of real halves."""
    ours, learned, real = (_measured(one.masks) for one in (synthetic, training, validation))
    halves = patient_halves(validation.patients, HALVINGS, seed)
    figures, plots = [], []
    for name, unit in QUANTITIES.items():
        split = [(real[name][a], real[name][b]) for a, b in halves]
        ratio = wasserstein_ratio(ours[name], split, real[name])
        title = name.replace("_", " ")
        best = wasserstein_ratio(learned[name], split, real[name])
        figures.append(
            Figure(
                f"w1_{name}",
                title,
                ratio,
                None,
                best,
                Bar(SHAPE_BAR, False),
                words=f"The training masks themselves reach {best:.2f}; no generator that learned them does better."
                if np.isfinite(best) and np.isfinite(ratio)
                else "Too few slices show it, or all alike.",
            )
        )
        plots.append(Histogram(title, unit, real[name], ours[name]))
    present, real_present = (presence(one.masks) for one in (synthetic, validation))
    for key, share in present.items():
        figures.append(Figure(f"presence_{key}", f"Slices with {key}", share, None, real_present[key]))
    return Section(
        "shape",
        "Shape and diversity",
        "Are the hearts as large, as thick and as varied as real ones? Each ratio is the Wasserstein-1 distance of "
        "made to validation masks, divided by that between two halves of validation patients. Real: training masks.",
        figures,
        plots=plots,
    )


def attribute_section(questions: Sequence[Question], measured: Mapping[str, Rows], why_not: str = "") -> Section:
    """Shares of pairs of draws in the right order."""
    figures = []
    for question in questions:
        rows = measured.get(question.key)
        right = None if rows is None else rows[:, 0] > rows[:, 1]
        figures.append(
            Figure(
                f"order_{question.key}",
                question.name,
                None if right is None else float(right.mean()),
                None if right is None else _interval(right),
                None,
                Bar(ORDER_BAR, True),
                words=why_not if rows is None else f"{len(rows)} pairs, both masks of a pair from the same noise.",
            )
        )
    return Section(
        "attributes",
        "Attributes",
        "Does the generator give what it is asked for? Share of pairs of masks in the right order.",
        figures,
    )


def _measured(masks: LabelArray) -> dict[str, Rows]:
    rows = [measure(mask, GRID_SPACING) for mask in masks]
    return {name: np.array([row[name] for row in rows]) for name in QUANTITIES}


def _interval(values: Sequence[bool] | npt.NDArray[np.generic]) -> tuple[float, float] | None:
    """By bootstrap over slices, which are independent in a made set; None where there are too few."""
    return bootstrap_interval(np.asarray(values, float)) if len(values) > 1 else None


def _sheet(title: str, one: SliceSet, rows: Sequence[int] | npt.NDArray[np.intp], captions: Sequence[str]) -> Sheet:
    return Sheet(title, [_case(one, int(row)) for row in rows], list(captions))


def _nearest_pairs(title: str, near: Nearness, synthetic: SliceSet, training: SliceSet) -> Pairs:
    rows = [
        (
            _case(synthetic, int(made)),
            _case(training, int(real)),
            f"{near.synthetic[int(made)]:.3f}: {training.names[int(real)]}",
        )
        for made, real in near.nearest
    ]
    return Pairs(title, rows)


def _case(one: SliceSet, row: int) -> tuple[FloatArray, LabelArray]:
    return one.images[row], one.masks[row]
