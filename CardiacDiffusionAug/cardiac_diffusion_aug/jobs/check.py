"""The job that checks masks for anatomical plausibility."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CardiacError
from .base import Context, Job, option

if TYPE_CHECKING:
    from ..datasets import Case
    from ..slices import LabelArray

TABLE_COLUMNS = ("name", "slice", "failed")


@dataclass(frozen=True)
class CheckedSlice:
    """What was found in one slice that is not empty.

    Attributes:
        name: of the case.
        index: of the slice in its stack, from 0.
        failed: names of the criteria that it fails.
    """

    name: str
    index: int
    failed: tuple[str, ...]


@dataclass(kw_only=True)
class Check(Job):
    """Which slices break which criteria of anatomical plausibility, beside real ones."""

    NAME: ClassVar[str] = "check"
    HELP: ClassVar[str] = "check masks for anatomical plausibility"

    masks: Path = option(..., "mask (NIfTI, NRRD or MHA; a slice or a stack), folder of masks, or data set")
    labels: str | None = option(None, "order of the labels in the masks; by default the data set's, or LV=1,MYO=2,RV=3")
    data: Path | None = option(None, "real data set whose rates stand beside")
    output: Path | None = option(None, "CSV file of the slices, counted from 0, and the criteria that each fails")
    concavity: bool = option(False, "test how deep concavities are, too")

    def __post_init__(self) -> None:
        super().__post_init__()
        # A slip must not overwrite a mask.
        if self.output is not None and self.output.suffix.lower() != ".csv":
            raise CardiacError(f"--output is {self.output}, but must be a file that ends in .csv.")

    def run(self, context: Context) -> dict[str, Any]:
        """Check each slice of the masks, then of the real data set.

        Returns:
            the number of slices that are not empty, and the share of them that passes, as text by criterion.
        """
        from ..datasets.masks import labelled_cases
        from ..labels import parse_order

        cases = labelled_cases(self.masks, parse_order(self.labels) if self.labels else None)
        real_cases = labelled_cases(self.data) if self.data is not None else []
        total = len(cases) + len(real_cases)
        checked: list[CheckedSlice] = []
        for done, case in enumerate(cases):
            found = self._check(case, context, done, total)
            failed = sorted({name for s in found for name in s.failed})
            context.result({"name": case.name, "slices": len(found), "failed": failed})
            checked += found
        self._require_labels(checked, self.masks)
        real: list[CheckedSlice] = []
        for done, case in enumerate(real_cases, len(cases)):
            real += self._check(case, context, done, total)
        if self.data is not None:
            self._require_labels(real, self.data)
        context.progress(total, total)
        return {"slices": len(checked), **self._rates(checked, real), **self._written(checked)}

    def _check(self, case: Case, context: Context, done: int, total: int) -> list[CheckedSlice]:
        from ..anatomy import failures

        context.check()
        context.progress(done, total, case.name)
        return [CheckedSlice(case.name, i, failures(mask, s, self.concavity)) for i, mask, s in labelled_slices(case)]

    def _rates(self, checked: Sequence[CheckedSlice], real: Sequence[CheckedSlice]) -> dict[str, str]:
        from ..anatomy import rates_of

        own, beside = (rates_of((s.failed for s in slices), self.concavity) for slices in (checked, real))
        return {n: f"{rate:.3f}" + (f" (real {beside[n]:.3f})" if real else "") for n, rate in own.items()}

    def _written(self, checked: Sequence[CheckedSlice]) -> dict[str, str]:
        if self.output is None:
            return {}
        write_slices(self.output, checked)
        return {"output": str(self.output)}

    def _require_labels(self, checked: Sequence[CheckedSlice], path: Path) -> None:
        if not checked:
            raise CardiacError(f"{path} is empty: no pixel is labelled LV, MYO or RV; check the path and the labels.")


def labelled_slices(case: Case) -> Iterator[tuple[int, LabelArray, tuple[float, float]]]:
    """Index, labels (H, W) and spacing (between rows, between columns) in mm of the slices that are not empty.

    Raises:
        CardiacError: the mask cannot be read or holds a label that its order does not name.
    """
    import SimpleITK as sitk

    stack = case.load().mask
    assert stack is not None
    width, height, _ = stack.GetSpacing()
    for index, mask in enumerate(sitk.GetArrayFromImage(stack)):
        if mask.any():
            yield index, mask, (height, width)


def write_slices(path: Path, checked: Sequence[CheckedSlice]) -> None:
    """Write a CSV file with a line for each slice; criteria are separated by spaces.

    Raises:
        CardiacError: the file cannot be written.
    """
    from ..disk import write_whole, writing_to

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(TABLE_COLUMNS)
    table.writerows((s.name, s.index, " ".join(s.failed)) for s in checked)
    with writing_to(path.parent, "check again"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.getvalue().encode())
