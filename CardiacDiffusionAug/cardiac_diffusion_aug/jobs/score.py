"""The job that compares segmentations with references."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CardiacError
from .base import Context, Job, option

if TYPE_CHECKING:
    from ..datasets import Case
    from ..evaluation.scores import Score, Summary

TABLE, SUMMARY = "scores.csv", "scores.json"
ALL = "all"


@dataclass(kw_only=True)
class ScoreJob(Job):
    """Dice, 95 % Hausdorff distance and volume error by patient, phase and structure."""

    NAME: ClassVar[str] = "score"
    HELP: ClassVar[str] = "compare segmentations with references"

    predictions: Path = option(..., "folder of masks, as segment writes it, or one mask")
    references: Path = option(..., "data set with masks, folder of masks, or one mask; matched by name")
    output: Path | None = option(None, "folder for scores.csv and scores.json")
    labels: str | None = option(None, "order of the labels in the references; what they state, or LV=1,MYO=2,RV=3")
    prediction_labels: str | None = option(None, "order of the labels in the predictions, likewise")

    def run(self, context: Context) -> dict[str, Any]:
        """Score each prediction that has a reference.

        Returns:
            mean, spread and interval of each measure by structure, as text.
        """

        pairs = self._pairs(context)
        scores: list[Score] = []
        for index, (prediction, reference) in enumerate(pairs):
            context.check()
            context.progress(index, len(pairs), reference.name)
            scores += _scored(prediction, reference)
        context.progress(len(pairs), len(pairs))
        summaries = _summaries(scores)
        written = self._write(scores, summaries) if self.output is not None else {}
        return {"volumes": len(pairs), **_told(summaries), **written}

    def _pairs(self, context: Context) -> list[tuple[Case, Case]]:
        from ..datasets.masks import labelled_cases
        from ..labels import parse_order

        orders = [parse_order(text) if text else None for text in (self.prediction_labels, self.labels)]
        predictions = labelled_cases(self.predictions, orders[0])
        references = labelled_cases(self.references, orders[1])
        if len(predictions) == len(references) == 1 and self.predictions.is_file() and self.references.is_file():
            return [(predictions[0], references[0])]
        by_name = {case.name: case for case in references}
        stray = [case.name for case in predictions if case.name not in by_name]
        if stray:
            raise CardiacError(
                f"{self.references} has no reference for {stray[0]} of {self.predictions} ({len(stray)} of "
                f"{len(predictions)} lack one); give masks of the same names, such as {references[0].name}."
            )
        left = sorted(set(by_name) - {case.name for case in predictions})
        if left:
            context.say(f"{len(left)} references have no prediction and are left out, such as {left[0]}.")
        return [(case, by_name[case.name]) for case in predictions]

    def _write(self, scores: Sequence[Score], summaries: dict[str, dict[str, Summary]]) -> dict[str, str]:
        from ..disk import write_whole, writing_to
        from ..evaluation.scores import scores_table

        assert self.output is not None
        content = {group: {name: asdict(s) for name, s in found.items()} for group, found in summaries.items()}
        with writing_to(self.output, "score again"):
            self.output.mkdir(parents=True, exist_ok=True)
            write_whole(self.output / TABLE, scores_table(scores))
            write_whole(self.output / SUMMARY, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
        return {"output": str(self.output)}


def _scored(prediction: Case, reference: Case) -> list[Score]:
    import SimpleITK as sitk

    from ..datasets.pairing import patient_and_phase
    from ..evaluation.scores import score_volume

    found, true = (case.load().mask for case in (prediction, reference))
    assert found is not None
    assert true is not None
    if found.GetSize() != true.GetSize():
        raise CardiacError(
            f"{prediction.mask_path} has {_size(found)} pixels, its reference {reference.mask_path} {_size(true)}; "
            "resample one onto the other."
        )
    if not _near(found.GetSpacing(), true.GetSpacing()):
        raise CardiacError(
            f"{prediction.mask_path} and its reference {reference.mask_path} differ in pixel size; correct the header "
            "of the one that is wrong."
        )
    patient, phase = patient_and_phase(reference.name)
    known = reference.patient != reference.name
    return score_volume(
        sitk.GetArrayFromImage(found),
        sitk.GetArrayFromImage(true),
        (true.GetSpacing()[2], true.GetSpacing()[1], true.GetSpacing()[0]),
        reference.name,
        reference.patient if known else patient,
        reference.phase or phase,
    )


def _summaries(scores: Sequence[Score]) -> dict[str, dict[str, Summary]]:
    """By group (`all`, `ED`, `ES`), then by structure and measure such as `LV.dice`; `mean.dice` is of all three."""
    from ..evaluation.scores import MEASURES, summarize
    from ..labels import STRUCTURES

    groups = {ALL: list(scores), **{p: [s for s in scores if s.phase == p] for p in ("ED", "ES")}}
    result: dict[str, dict[str, Summary]] = {}
    for group, chosen in groups.items():
        for key in (*(s.key for s in STRUCTURES), "mean"):
            own = [s for s in chosen if key in (s.structure, "mean")]
            for measure in MEASURES:
                found = summarize(own, measure)
                if found is not None:
                    result.setdefault(group, {})[f"{key}.{measure}"] = found
    return result


def _told(summaries: dict[str, dict[str, Summary]]) -> dict[str, str]:
    lines = {}
    for name, found in summaries.get(ALL, {}).items():
        text = f"{found.mean:.3f} +- {found.spread:.3f}"
        if found.interval is not None:
            text += f" (95 % interval {found.interval[0]:.3f} to {found.interval[1]:.3f})"
        phases = [f"{p} {summaries[p][name].mean:.3f}" for p in ("ED", "ES") if name in summaries.get(p, {})]
        lines[name] = ", ".join([text, *phases, f"worst tenth {found.worst:.3f}"])
    return lines


def _size(stack: Any) -> str:
    return " x ".join(str(n) for n in stack.GetSize())


def _near(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(abs(x - y) < 1e-3 for x, y in zip(a, b, strict=True))
