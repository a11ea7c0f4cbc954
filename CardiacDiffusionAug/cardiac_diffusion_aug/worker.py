"""A process that stays alive, keeps the model warm and takes jobs as JSON lines: the door for Slicer.

Requests, one JSON object a line on standard input, UTF-8:

    {"id": "1", "job": "generate", "parameters": {"output": "/tmp/cases", "count": 4}}
    {"id": "2", "job": "info"}
    {"cancel": "1"}
    {"finish": "1"}

Answers, one JSON object a line on standard output; all carry the `id` of their request:

    {"event": "ready", "version": "0.1.0"}                              once, without id
    {"id": "1", "event": "progress", "done": 1, "total": 4, "message": ""}
    {"id": "1", "event": "message", "message": "..."}
    {"id": "1", "event": "result", "result": {...}}
    {"id": "1", "event": "success" | "cancelled" | "error", ...}        exactly one, the last

The `id` is a text or a whole number, of which no two may wait or run at a time. An error has a stable `code` and a
`message`. Jobs run one after the other.

`cancel` ends a job between two steps; its answer is `cancelled`. `finish` asks a training to end as if its last step
were done: it keeps the best that it has, and answers `success`. Other jobs pass over it, and so does a job that has
ended. Neither has an answer of its own, and a job that is asked for both is cancelled.

A training tells its figures as results, besides those of its end:

    {"step": 10, "loss": 0.31}                                          every few steps, at most two a second
    {"step": 500, "validation_dice": {"LV": 0.93, "MYO": 0.85, "RV": null, "mean": 0.89}, "mean": 0.89}
    {"before": {"LV": 0.91, "MYO": 0.84, "RV": null, "mean": 0.88}}     of the network that is fine-tuned, once

What no validation patient has is null. When standard input ends, the running job is cancelled and the process ends: no
worker outlives its parent.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO

from . import __version__
from .errors import Cancelled, CardiacError, shown
from .jobs import JOBS, Context
from .jobs.base import explained

GRACE_SECONDS = 5.0
WORKER_NICENESS = 5
PROGRESS_SECONDS = 0.05
CLOSED = object()
log = logging.getLogger(__name__)


class Channel:
    """Writes answers, one whole line at a time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def send(self, **answer: Any) -> None:
        """Write one answer."""
        line = json.dumps(answer, ensure_ascii=False, allow_nan=False, default=str)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class WorkerContext(Context):
    """Sends what the job reports; models stay from job to job."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._identifier: Any = None
        self._pending: set[Any] = set()
        self._cancelled: set[Any] = set()
        self._finishing: set[Any] = set()
        self._stopping = False
        self._last_progress = 0.0
        self.cancelled = lambda: self._stopping or self._identifier in self._cancelled
        self.finishing = lambda: self._identifier in self._finishing

    def expect(self, identifier: Any) -> None:
        """Remember a request until its end."""
        self._pending.add(identifier)

    def begin(self, identifier: Any) -> None:
        """Reports belong to this request from now on."""
        self._identifier, self._last_progress = identifier, 0.0

    def end(self) -> None:
        """Forget the request."""
        self._pending.discard(self._identifier)
        self._cancelled.discard(self._identifier)
        self._finishing.discard(self._identifier)

    def cancel(self, identifier: Any) -> None:
        """Cancel a request that runs or waits; another that comes later under its name is not meant."""
        if identifier in self._pending:
            self._cancelled.add(identifier)

    def finish(self, identifier: Any) -> None:
        """Ask a request that runs or waits to end early with the best that it has."""
        if identifier in self._pending:
            self._finishing.add(identifier)

    def stop(self) -> None:
        """Cancel everything."""
        self._stopping = True

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Send progress, but not more often than anybody can see."""
        now = time.monotonic()
        if done == total or now - self._last_progress >= PROGRESS_SECONDS:
            self._last_progress = now
            self._channel.send(id=self._identifier, event="progress", done=done, total=total, message=message)

    def result(self, facts: Mapping[str, Any]) -> None:
        """Send a result."""
        self._channel.send(id=self._identifier, event="result", result=facts)

    def say(self, message: str) -> None:
        """Send a sentence."""
        self._channel.send(id=self._identifier, event="message", message=message)


def serve() -> int:
    """Answer requests until standard input ends, and return the exit code."""
    _stand_back()
    channel = Channel(_take_standard_output())
    context = WorkerContext(channel)
    requests: queue.Queue[Any] = queue.Queue()
    lines = _take_standard_input()
    threading.Thread(target=_read, args=(lines, context, channel, requests), daemon=True).start()
    try:
        channel.send(event="ready", version=__version__)
        while (request := requests.get()) is not CLOSED:
            _answer(request, context, channel)
    except BrokenPipeError:
        log.info("nobody reads the answers")
    return 0


def _stand_back() -> None:
    """Let the window go first where both need the processor; alone, the worker is as fast as ever."""
    if hasattr(os, "nice"):
        os.nice(WORKER_NICENESS)


def _take_standard_output() -> TextIO:
    """The real standard output for answers alone; what libraries print goes to standard error."""
    # A path that is not UTF-8 comes out as JSON's own escapes.
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", errors="backslashreplace", newline="\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


def _take_standard_input() -> TextIO:
    """The real standard input for requests alone; libraries and child processes find an empty one."""
    own = os.fdopen(os.dup(sys.stdin.fileno()), "r", encoding="utf-8", errors="replace")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, sys.stdin.fileno())
    os.close(empty)
    return own


def _read(lines: TextIO, context: WorkerContext, channel: Channel, requests: queue.Queue[Any]) -> None:
    try:
        for line in lines:
            if line.strip():
                _take(line, context, channel, requests)
    except OSError:
        log.info("the parent is gone")
    finally:
        context.stop()
        requests.put(CLOSED)
        # A job that does not come to its next step in time must not outlive the parent.
        time.sleep(GRACE_SECONDS)
        os._exit(0)


def _take(line: str, context: WorkerContext, channel: Channel, requests: queue.Queue[Any]) -> None:
    try:
        request = _request(line)
    except CardiacError as error:
        channel.send(id=None, event="error", code=error.code, message=str(error))
        return
    if "cancel" in request:
        context.cancel(request["cancel"])
    elif "finish" in request:
        context.finish(request["finish"])
    else:
        context.expect(request["id"])
        requests.put(request)


def _request(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise CardiacError("A line is not a JSON object.")
    name = next((word for word in ("cancel", "finish") if word in request), "id")
    if type(request.get(name)) not in (str, int):
        raise CardiacError(f"A request needs {name!r}, a text or a whole number.")
    return request


def _answer(request: Mapping[str, Any], context: WorkerContext, channel: Channel) -> None:
    identifier = request["id"]
    context.begin(identifier)
    try:
        answer = _outcome(request, context)
    finally:
        # Before the answer: whoever reads it may send the next request under the same name at once.
        context.end()
    channel.send(id=identifier, **answer)


def _outcome(request: Mapping[str, Any], context: WorkerContext) -> dict[str, Any]:
    """How a request ended, as the last answer says it."""
    try:
        return {"event": "success", "result": _run(request, context)}
    except Cancelled:
        return {"event": "cancelled"}
    except BrokenPipeError:
        raise
    except Exception as error:
        cause = explained(error)
        if cause.code == "internal":
            log.exception("job %s", request["id"])
        return {"event": "error", "code": cause.code, "message": str(cause)}


def _run(request: Mapping[str, Any], context: WorkerContext) -> Mapping[str, Any]:
    name, parameters = request.get("job"), request.get("parameters", {})
    if name == "info":
        from .info import machine_facts

        return machine_facts()
    if not isinstance(name, str) or name not in JOBS:
        raise CardiacError(f"There is no job {shown(name)}; there are {', '.join(JOBS)} and info.")
    if not isinstance(parameters, dict):
        raise CardiacError("The parameters of a job must be a JSON object.")
    context.check()
    return JOBS[name].from_request(parameters).run(context)
