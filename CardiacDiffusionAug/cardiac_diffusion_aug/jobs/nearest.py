"""The job that finds the real slices that made cases are most like."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CardiacError, shown
from .base import Context, Job, option

if TYPE_CHECKING:
    from ..datasets import Case
    from ..evaluation.nearest import RealSlices

TABLE = "nearest.csv"


@dataclass(kw_only=True)
class Nearest(Job):
    """The real slice that is most like each made case, in its mask and its image together."""

    NAME: ClassVar[str] = "nearest"
    HELP: ClassVar[str] = "find the real slices that made cases are most like"

    data: Path = option(..., "data set of real patients; its layout is recognized")
    cases: Path = option(..., "data set of made cases")
    output: Path = option(..., "folder for NAME_nearest.nii.gz, NAME_nearest_mask.nii.gz and nearest.csv")
    names: str | None = option(None, "of the cases to search for, separated by commas; all when not given")

    def run(self, context: Context) -> dict[str, Any]:
        """Find, write and tell the real slice of each case; the real data set stays warm."""
        cases = self._chosen()
        real = self._real(context)
        self._claim()
        rows = []
        for done, case in enumerate(cases):
            context.check()
            context.progress(done, len(cases), case.name)
            found = self._found(case, real)
            if found is None:
                context.say(f"{case.name} is passed over: its mask labels no pixel.")
                continue
            rows.append(found)
            context.result(found)
        if not rows:
            raise CardiacError(f"No mask in {self.cases} labels any pixel; check the label files.")
        context.progress(len(cases), len(cases))
        return {"output": str(self.output), "table": str(self._write_table(rows)), "cases": len(rows)}

    def _chosen(self) -> list[Case]:
        from ..datasets import read_cases

        labelled = {case.name: case for case in read_cases(self.cases, rejected=True)[1] if case.labelled}
        if self.names is None:
            return list(labelled.values())
        wanted = list(dict.fromkeys(name.strip() for name in self.names.split(",") if name.strip()))
        missing = [name for name in wanted if name not in labelled]
        if missing or not wanted:
            asked = shown(missing[0] if missing else self.names)
            raise CardiacError(f"{self.cases} has no case {asked}; it has {next(iter(labelled))} and others.")
        return [labelled[name] for name in wanted]

    def _real(self, context: Context) -> RealSlices:
        from ..datasets import read_cases
        from ..datasets.pack import fingerprint
        from ..evaluation.nearest import RealSlices

        cases = read_cases(self.data)[1]

        def load() -> RealSlices:
            return RealSlices(cases, lambda done, total: context.progress(done, total, "reading real patients"))

        real: RealSlices = context.warm("real", (str(self.data.resolve()), fingerprint(cases)), load)
        return real

    def _claim(self) -> None:
        """Make the output this job's own folder.

        Raises:
            CardiacError: it holds something else.
        """
        from ..disk import part_of, write_whole, writing_to
        from ..export import DATASET, MADE_BY, SUFFIX, require_permission
        from ..labels import LABEL_VALUES

        if self.output.exists() and not self.output.is_dir():
            raise CardiacError(f"{self.output} is a file; choose a folder for --output.", "bad_output")
        settings = {"job": self.NAME}
        with writing_to(self.output, "try again"):
            begun = part_of(self.output / DATASET)
            if self.output.is_dir() and any(path != begun for path in self.output.iterdir()):
                require_permission(self.output, settings, resume=False, overwrite=True)
            self.output.mkdir(parents=True, exist_ok=True)
            labels = LABEL_VALUES
            content = {"labels": labels, "file_ending": SUFFIX, MADE_BY: settings}
            write_whole(self.output / DATASET, (json.dumps(content, indent=2) + "\n").encode())

    def _found(self, case: Case, real: RealSlices) -> dict[str, Any] | None:
        from ..disk import writing_to
        from ..evaluation.sets import slices_of
        from ..export import SUFFIX, write_stack

        made = slices_of(case)
        if not len(made):
            return None
        found = real.nearest(made)
        paths = [self.output / f"{case.name}_nearest{part}{SUFFIX}" for part in ("", "_mask")]
        with writing_to(self.output, "try again"):
            for stack, path in zip(real.stacks(found.row), paths, strict=True):
                write_stack(stack, path)
        return {
            "name": case.name,
            **found.facts(),
            "image": str(paths[0]),
            "mask": str(paths[1]),
        }

    def _write_table(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        from ..disk import write_whole, writing_to

        text = io.StringIO()
        table = csv.DictWriter(
            text, [key for key in rows[0] if key not in ("image", "mask")], lineterminator="\n", extrasaction="ignore"
        )
        table.writeheader()
        table.writerows(rows)
        path = self.output / TABLE
        with writing_to(self.output, "try again"):
            write_whole(path, text.getvalue().encode())
        return path
