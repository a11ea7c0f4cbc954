"""The job that adds cases to an nnU-Net data set that is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import CardiacError
from .base import Context, Job, option

if TYPE_CHECKING:
    from ..datasets import Case


@dataclass(kw_only=True)
class Enlarge(Job):
    """Cases into a labelled set of one's own, in its label order and file format."""

    NAME: ClassVar[str] = "enlarge"
    HELP: ClassVar[str] = "add cases to an nnU-Net data set of your own"

    cases: Path = option(..., "data set of cases, such as generate writes it")
    into: Path = option(..., "nnU-Net v2 raw data set that is added to; nothing in it is overwritten")
    all: bool = option(False, "add also cases that the manifest does not call kept")

    def run(self, context: Context) -> dict[str, Any]:
        """Add each case; those that were added before, such as by a run that was interrupted, are passed over."""
        from ..enlarge import Enlarger

        if self.cases.resolve() == self.into.resolve():
            raise CardiacError(f"--cases and --into are both {self.into}; choose another data set.")
        enlarger = Enlarger(self.into)
        chosen = self._chosen()
        added = 0
        try:
            for done, case in enumerate(chosen):
                context.check()
                context.progress(done, len(chosen), case.name)
                loaded = case.load()
                assert loaded.mask is not None
                if enlarger.find(case.name, loaded.image, loaded.mask) is not None:
                    context.say(f"{case.name} is in {self.into} already.")
                    continue
                facts = {"patient": case.patient, "phase": case.phase, "group": case.group}
                made = enlarger.add(case.name, loaded.image, loaded.mask, facts)
                added += 1
                context.result({"source": case.name, **made})
        finally:
            total = enlarger.finish()
        context.progress(len(chosen), len(chosen))
        return {"into": str(self.into), "added": added, "cases": total}

    def _chosen(self) -> list[Case]:
        from ..datasets import read_cases

        labelled = [case for case in read_cases(self.cases, rejected=True)[1] if case.labelled]
        chosen = [case for case in labelled if self.all or case.facts.get("kept", "yes") == "yes"]
        if not chosen:
            raise CardiacError(f"The manifest in {self.cases} calls no case kept; keep some, or add --all.")
        return chosen
