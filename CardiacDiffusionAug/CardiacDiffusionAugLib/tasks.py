"""What every request of the user has in common: a folder for the worker's files, and an end that always comes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer

from cardiac_diffusion_aug.errors import CardiacError

from .job import Callbacks, Job, State, Steps
from .worker import Worker

PREFIX = "CardiacDiffusionAug-"


class Tasks:
    """Runs requests on the worker, each with a temporary folder that goes when the request ends.

    Args:
        worker: that runs them.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._folders: dict[str, Path] = {}

    def newFolder(self) -> Path:
        """A temporary folder, to be handed to `start`."""
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=slicer.app.temporaryPath))

    def start(
        self,
        name: str,
        parameters: Mapping[str, Any],
        onResult: Callable[[Job, dict[str, Any]], Steps | None],
        callbacks: Callbacks,
        folder: Path,
        prepare: Steps | None = None,
        onSuccess: Callable[[Job], None] = lambda job: None,
    ) -> Job:
        """Hand a job to the worker.

        Args:
            name, parameters: of the job.
            onResult: makes nodes of what the worker has made, in steps if that takes long.
            callbacks: of the user; `onResult` is to call those for results.
            folder: from `newFolder`; removed at the end.
            prepare: steps to take before.
            onSuccess: called before the user's own end.
        """

        def end(job: Job) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            # After a cancellation the worker may still be writing; what that leaves goes with the last job.
            if not folder.exists():
                self._folders.pop(job.identifier, None)
            if job.state is State.SUCCESS:
                onSuccess(job)
            callbacks.end(job)

        told = Callbacks(callbacks.progress, onResult, callbacks.message, end)
        job = self.worker.submit(name, parameters, told, prepare)
        self._folders[job.identifier] = folder
        return job

    def stop(self) -> None:
        """End the worker and remove what is left of its files."""
        self.worker.stop()
        for folder in self._folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        self._folders.clear()


@contextmanager
def removedOnError(folder: Path) -> Iterator[Path]:
    """Remove a temporary folder when what was to go into it cannot be made."""
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def outcome(job: Job) -> Job:
    """Wait for a job, and raise what it failed for.

    Raises:
        CardiacError: the job ended with an error.
    """
    job.wait()
    if job.state is State.ERROR:
        raise CardiacError(job.message, job.code)  # type: ignore[arg-type]
    return job
