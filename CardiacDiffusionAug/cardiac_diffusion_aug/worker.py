"""A process that stays alive, keeps the model warm and takes jobs as JSON lines: the door for Slicer.

Requests, one JSON object a line on standard input, UTF-8:

    {"id": "1", "job": "generate", "parameters": {"output": "/tmp/cases", "count": 4}}
    {"id": "2", "job": "info"}
    {"cancel": "1"}

Answers, one JSON object a line on standard output; all carry the `id` of their request:

    {"event": "ready", "version": "0.1.0"}                              once, without id
    {"id": "1", "event": "progress", "done": 1, "total": 4, "message": ""}
    {"id": "1", "event": "message", "message": "..."}
    {"id": "1", "event": "result", "result": {...}}
    {"id": "1", "event": "success" | "cancelled" | "error", ...}        exactly one, the last

An error has a stable `code` and a `message`. Jobs run one after the other. When standard input ends, the running job is
cancelled and the process ends: no worker outlives its parent.
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
from .errors import Cancelled, CardiacError
from .jobs import JOBS, Context

GRACE_SECONDS = 5.0
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
        self._cancelled: set[Any] = set()
        self._stopping = False
        self._last_progress = 0.0
        self.cancelled = lambda: self._stopping or self._identifier in self._cancelled

    def begin(self, identifier: Any) -> None:
        """Reports belong to this request from now on."""
        self._identifier, self._last_progress = identifier, 0.0

    def end(self) -> None:
        """Forget the request."""
        self._cancelled.discard(self._identifier)

    def cancel(self, identifier: Any) -> None:
        """Cancel a request that runs or waits."""
        self._cancelled.add(identifier)

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
    channel = Channel(_take_standard_output())
    context = WorkerContext(channel)
    requests: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_read, args=(context, channel, requests), daemon=True).start()
    channel.send(event="ready", version=__version__)
    while (request := requests.get()) is not CLOSED:
        _answer(request, context, channel)
    return 0


def _take_standard_output() -> TextIO:
    """The real standard output for answers alone; what libraries print goes to standard error."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", newline="\n")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


def _read(context: WorkerContext, channel: Channel, requests: queue.Queue[Any]) -> None:
    with os.fdopen(os.dup(sys.stdin.fileno()), "r", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                request = json.loads(line)
            except (ValueError, RecursionError):
                request = None
            if not isinstance(request, dict):
                channel.send(id=None, event="error", code="bad_input", message="A line is not a JSON object.")
            elif "cancel" in request:
                context.cancel(str(request["cancel"]))
            else:
                requests.put(request)
    context.stop()
    requests.put(CLOSED)
    # A job that does not come to its next step in time must not outlive the parent.
    time.sleep(GRACE_SECONDS)
    os._exit(0)


def _answer(request: Mapping[str, Any], context: WorkerContext, channel: Channel) -> None:
    identifier = str(request.get("id"))
    context.begin(identifier)
    try:
        channel.send(id=identifier, event="success", result=_run(request, context))
    except Cancelled:
        channel.send(id=identifier, event="cancelled")
    except CardiacError as error:
        channel.send(id=identifier, event="error", code=error.code, message=str(error))
    except ImportError as error:
        message = f"The package {error.name} is missing; install the engine's requirements."
        channel.send(id=identifier, event="error", code="missing_dependency", message=message)
    except MemoryError:
        message = "Memory ran out; make fewer images at a time, or close other programs."
        channel.send(id=identifier, event="error", code="out_of_memory", message=message)
    except Exception as error:
        log.exception("job %s", identifier)
        message = f"This is a defect of the program ({type(error).__name__}: {error}); please report it with the log."
        channel.send(id=identifier, event="error", code="internal", message=message)
    finally:
        context.end()


def _run(request: Mapping[str, Any], context: WorkerContext) -> Mapping[str, Any]:
    name, parameters = request.get("job"), request.get("parameters", {})
    if name == "info":
        from .info import machine_facts

        return machine_facts()
    if name not in JOBS:
        raise CardiacError(f"There is no job {name!r}; there are {', '.join(JOBS)} and info.")
    if not isinstance(parameters, dict):
        raise CardiacError("The parameters of a job must be a JSON object.")
    context.check()
    return JOBS[name].from_request(parameters).run(context)
