"""A job as the panel and the console see it: where it stands, and what it calls back."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import slicer

Steps = Iterator[object]
"""Work in pieces of some milliseconds."""


class State(enum.Enum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCESS = "success"
    CANCELLED = "cancelled"
    ERROR = "error"


class Job:
    """A job that was handed to the worker.

    Attributes:
        name: of the job, such as `generate`.
        parameters: that it was asked with.
        state: where it stands.
        result: what a successful job told at its end.
        code, message: of an error: a stable name of its kind, and a sentence that says what to do.
        done, total: how far it is.
        started: time in seconds, as `time.monotonic` counts.
        here: whether Slicer itself runs it, a step at a time.
    """

    def __init__(self, identifier: str, name: str, parameters: Mapping[str, Any], callbacks: Callbacks) -> None:
        self.identifier, self.name, self.parameters = identifier, name, dict(parameters)
        self.state = State.WAITING
        self.result: dict[str, Any] = {}
        self.code, self.message = "", ""
        self.done, self.total = 0, 0
        self.started = time.monotonic()
        self.here = False
        self._callbacks = callbacks

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.state not in (State.WAITING, State.RUNNING)

    def wait(self, timeout: float | None = None) -> Job:
        """Turn the event loop until the job has ended.

        Args:
            timeout: in seconds; None for ever.

        Raises:
            TimeoutError: it has not.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while not self.ended:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"The job {self.name} has not ended within {timeout:g} seconds.")
            slicer.app.processEvents()
            time.sleep(0.002)
        return self

    def take(self, event: Mapping[str, Any]) -> Steps | None:
        """Take one answer of the worker, and return what is left to do about it."""
        if self.ended:
            return None
        self.state = State.RUNNING
        kind = event.get("event")
        if kind == "progress":
            self.done, self.total = event["done"], event["total"]
            self._callbacks.progress(self, event.get("message", ""))
        elif kind == "result":
            return self._callbacks.result(self, event["result"])
        elif kind == "message":
            self._callbacks.message(self, event["message"])
        elif kind == "steps":
            return event["steps"]
        else:
            self._end(State(kind), event)
        return None

    def fail(self, code: str, message: str) -> None:
        """End the job with an error."""
        if not self.ended:
            self._end(State.ERROR, {"code": code, "message": message})

    def giveUp(self) -> None:
        """End the job as cancelled, whatever the worker still does."""
        if not self.ended:
            self._end(State.CANCELLED, {})

    def _end(self, state: State, event: Mapping[str, Any]) -> None:
        self.state = state
        self.result = dict(event.get("result") or {})
        self.code, self.message = event.get("code", ""), event.get("message", "")
        self._callbacks.end(self)


class Callbacks:
    """What a job calls; each may be left out.

    Args:
        onProgress: with the job and a message, often empty.
        onResult: with the job and one result; may return steps to take before the next answer.
        onMessage: with the job and a sentence for the user.
        onEnd: with the job, once.
    """

    def __init__(
        self,
        onProgress: Callable[[Job, str], None] | None = None,
        onResult: Callable[[Job, dict[str, Any]], Steps | None] | None = None,
        onMessage: Callable[[Job, str], None] | None = None,
        onEnd: Callable[[Job], None] | None = None,
    ) -> None:
        def nothing(*arguments: Any) -> None:
            return None

        self.progress, self.result = onProgress or nothing, onResult or nothing
        self.message, self.end = onMessage or nothing, onEnd or nothing
