"""The client of the worker: a child process that keeps the models warm and takes jobs as JSON lines.

`Worker.submit` returns at once; what the job reports arrives by callbacks, in Slicer's main thread, a little at each
turn of the event loop, so that the window never stands still. What a callback cannot do in a moment it returns as an
iterator, of which the worker takes a step at a time before it looks at the next answer.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import qt

from .environment import WorkerCommand, workerCommand
from .job import Callbacks, Job, Steps

CANCEL_SECONDS = 1.5
"""A job that has not confirmed its end by then is given up: it ends for the user, and later for the worker."""
QUIT_MILLISECONDS = 1500
TURN_SECONDS = 0.02
"""Time for callbacks in one turn of the event loop."""
LOG_LINES = 2000
FAILED_TO_START = 0

log = logging.getLogger(__name__)


class Worker:
    """Starts the process when it is first needed, and keeps it for the next job.

    Args:
        command: tells how to start it.
        onLog: called with each line for the log.
    """

    def __init__(
        self, command: Callable[[], WorkerCommand] = workerCommand, onLog: Callable[[str], None] = lambda line: None
    ) -> None:
        self.onLog = onLog
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self._command = command
        self._process: qt.QProcess | None = None
        self._program = ""
        self._jobs: dict[str, Job] = {}
        self._count = 0
        self._rest = b""
        self._events: deque[tuple[Job, dict[str, Any]]] = deque()
        self._steps: tuple[Job, Steps] | None = None
        self._stderr: deque[str] = deque(maxlen=20)
        self._turn = qt.QTimer()
        self._turn.setSingleShot(True)
        self._turn.timeout.connect(self._handleEvents)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None

    @property
    def processId(self) -> int | None:
        """Of the process, if it is there."""
        return int(self._process.processId()) if self._process is not None else None

    @property
    def jobs(self) -> list[Job]:
        """Those that have not ended, in order."""
        return [job for job in self._jobs.values() if not job.ended]

    def submit(
        self,
        name: str,
        parameters: Mapping[str, Any],
        callbacks: Callbacks | None = None,
        prepare: Steps | None = None,
    ) -> Job:
        """Hand a job to the worker; it runs when those before it have ended.

        Args:
            name: of the job.
            parameters: as the command line has them, with underscores; paths become text, and what is None is left out.
            callbacks: what to call.
            prepare: steps to take before, such as writing the files that the job reads.
        """
        told = {
            key: value if isinstance(value, (int, float, bool)) else str(value)
            for key, value in parameters.items()
            if value is not None
        }
        job = self._newJob(name, told, callbacks)
        if self._process is None:
            self._start()
        self._queueSteps(job, _chain(prepare, lambda: self._request(job)))
        return job

    def runHere(self, name: str, steps: Iterator[tuple[int, int]], callbacks: Callbacks | None = None) -> Job:
        """Run a job in Slicer itself, a step at a time; each step yields how many are done, and of how many."""
        job = self._newJob(name, {}, callbacks)
        job.here = True

        def run() -> Steps:
            for done, total in steps:
                yield job.take({"event": "progress", "done": done, "total": total})
            yield job.take({"event": "success", "result": {}})

        self._queueSteps(job, run())
        return job

    def _newJob(self, name: str, parameters: dict[str, Any], callbacks: Callbacks | None) -> Job:
        self._count += 1
        job = Job(str(self._count), name, parameters, callbacks or Callbacks())
        self._jobs[job.identifier] = job
        self._say(f"job {job.identifier}: {name} {json.dumps(parameters, ensure_ascii=False)}")
        return job

    def _queueSteps(self, job: Job, steps: Steps) -> None:
        self._events.append((job, {"event": "steps", "steps": steps}))
        self._wake()

    def _request(self, job: Job) -> None:
        if not job.ended:
            self._send({"id": job.identifier, "job": job.name, "parameters": job.parameters})

    def cancel(self, job: Job) -> None:
        """Ask a job to end; it has ended for the user within `CANCEL_SECONDS`."""
        if job.ended:
            return
        if job.here:
            job.giveUp()
            return
        self._send({"cancel": job.identifier})
        qt.QTimer.singleShot(int(1000 * CANCEL_SECONDS), job.giveUp)

    def finish(self, job: Job) -> None:
        """Ask a training to end now with the best that it has."""
        if not job.ended:
            self._send({"finish": job.identifier})

    def stop(self) -> None:
        """End the process and give up its jobs."""
        process, self._process = self._process, None
        for job in self.jobs:
            job.giveUp()
        self._forget()
        if process is None:
            return
        # At the end of its input the worker cancels its job and ends, also behind Slicer's launcher, where `kill` would
        # end the launcher alone.
        process.closeWriteChannel()
        if not process.waitForFinished(QUIT_MILLISECONDS):
            process.kill()
            process.waitForFinished(QUIT_MILLISECONDS)
        process.deleteLater()

    def _start(self) -> None:
        command = self._command()
        process = qt.QProcess()
        environment = qt.QProcessEnvironment()
        for name, value in command.environment.items():
            environment.insert(name, value)
        process.setProcessEnvironment(environment)
        process.readyReadStandardOutput.connect(lambda: self._readAnswers(process))
        process.readyReadStandardError.connect(lambda: self._readErrors(process))
        process.finished.connect(lambda code, *status: self._onFinished(process, int(code)))
        process.errorOccurred.connect(lambda error: self._onError(process, int(error)))
        self._process, self._program, self._rest = process, command.program, b""
        self._say(f"starting {command.program}")
        process.start(command.program, list(command.arguments))

    def _send(self, request: Mapping[str, Any]) -> None:
        if self._process is not None:
            self._process.write((json.dumps(request, ensure_ascii=False) + "\n").encode())

    def _readAnswers(self, process: Any) -> None:
        *lines, self._rest = (self._rest + bytes(process.readAllStandardOutput().data())).split(b"\n")
        for line in lines:
            self._takeLine(line.decode("utf-8", errors="replace"))

    def _takeLine(self, line: str) -> None:
        try:
            event = json.loads(line)
            job = self._jobs.get(str(event.get("id")))
        except (ValueError, AttributeError):
            self._say(line)
            return
        if event.get("event") not in ("progress", "result"):
            self._say(line)
        if job is not None:
            self._events.append((job, event))
            self._wake()

    def _wake(self) -> None:
        if not self._turn.isActive():
            self._turn.start(0)

    def _handleEvents(self) -> None:
        """Take answers and steps until this turn of the event loop is used up."""
        end = time.monotonic() + TURN_SECONDS
        while (self._steps or self._events) and time.monotonic() < end:
            self._handleOne()
        self._jobs = {key: job for key, job in self._jobs.items() if not job.ended}
        if self._steps or self._events:
            self._wake()

    def _handleOne(self) -> None:
        job = self._steps[0] if self._steps else self._events[0][0]
        try:
            if self._steps is None:
                steps = job.take(self._events.popleft()[1])
                self._steps = (job, steps) if steps is not None else None
            elif job.ended or next(self._steps[1], self) is self:
                self._steps = None
        except Exception as error:
            self._steps = None
            log.exception("answer to the job %s", job.name)
            self._failedHere(job, error)

    def _failedHere(self, job: Job, error: Exception) -> None:
        """What the worker sent could not be used: its work would be for nothing."""
        self._say(f"job {job.identifier}: {type(error).__name__}: {error}")
        self._send({"cancel": job.identifier})
        job.fail(getattr(error, "code", "internal"), str(error))

    def _readErrors(self, process: Any) -> None:
        text = bytes(process.readAllStandardError().data()).decode("utf-8", errors="replace")
        for line in filter(str.strip, text.splitlines()):
            self._stderr.append(line)
            self._say(line)

    def _onError(self, process: Any, error: int) -> None:
        if process is self._process and error == FAILED_TO_START:
            self._lose(
                "missing_dependency",
                f"The Python program {self._program} cannot be started; choose another under Model, or leave it empty "
                "for Slicer's own.",
            )

    def _onFinished(self, process: Any, code: int) -> None:
        if process is not self._process:
            return
        self._readAnswers(process)
        self._readErrors(process)
        # What it answered before its end counts.
        while self._steps or self._events:
            self._handleOne()
        self._lose(*self._reasonOfEnd(code))

    def _reasonOfEnd(self, code: int) -> tuple[str, str]:
        missing = next((line for line in self._stderr if "ModuleNotFoundError" in line or "ImportError" in line), None)
        if missing:
            return (
                "missing_dependency",
                f"The worker's Python lacks a package ({missing.split(':', 1)[-1].strip()}); install what is missing.",
            )
        return (
            "crashed",
            f"The worker process ended unexpectedly (code {code}), most often because memory ran out; what was made so "
            "far is kept. Try fewer at once, or the CPU.",
        )

    def _lose(self, code: str, message: str) -> None:
        process, self._process = self._process, None
        self._say(message)
        for job in self.jobs:
            job.fail(code, message)
        self._forget()
        if process is not None:
            process.deleteLater()

    def _forget(self) -> None:
        self._jobs.clear()
        self._events.clear()
        self._steps = None
        self._stderr.clear()
        self._rest = b""

    def _say(self, line: str) -> None:
        self.log.append(line)
        self.onLog(line)


def _chain(steps: Steps | None, last: Callable[[], None]) -> Steps:
    yield from steps or ()
    yield last()
