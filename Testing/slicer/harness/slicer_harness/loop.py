"""Turning the event loop in tests."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6 import QtCore

from . import pythonqt

pythonqt.dress()


def process_events() -> None:
    """Deliver what is due, deletions included."""
    QtCore.QCoreApplication.processEvents()
    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


def wait_until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """Turn the event loop until a condition is true.

    Args:
        condition: asked after every turn.
        seconds: when to give up.
        what: of the error message, where the condition's name does not tell.

    Returns:
        What the condition gave.

    Raises:
        AssertionError: the time is over.
    """
    end = time.monotonic() + seconds
    while True:
        process_events()
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds} s this was not so: {what or condition}")
        time.sleep(0.002)


class LongestPause:
    """Measures how long the event loop stood still: `with LongestPause() as pause: ...; pause.milliseconds`.

    A timer of 5 ms is what it watches, so that a pause is known to a few milliseconds. Time in which the loop could run
    but the system had given the processor to other programs is not counted.

    Attributes:
        milliseconds: the longest pause.
        where: what Python was at in a pause beyond `SUSPICIOUS`, at its last look; `str(pause)` shows both.
    """

    SUSPICIOUS = 0.04
    LOOK = 0.01

    def __init__(self, interval: int = 5) -> None:
        self.milliseconds = 0.0
        self.where = ""
        self._timer = QtCore.QTimer()
        self._timer.setInterval(interval)
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._last = self._waited = 0.0
        self._seen = ""
        self._ended = threading.Event()

    def _tick(self) -> None:
        now, waited = time.monotonic(), _seconds_waited()
        milliseconds = 1000 * (now - self._last - (waited - self._waited))
        if milliseconds > self.milliseconds:
            self.milliseconds, self.where = milliseconds, self._seen
        self._last, self._waited, self._seen = now, waited, ""

    def _watch(self, thread: int | None) -> None:
        """Look at the thread of the event loop from outside while it stands still."""
        while not self._ended.wait(self.LOOK):
            if time.monotonic() - self._last > self.SUSPICIOUS and thread is not None:
                frame = sys._current_frames().get(thread)
                self._seen = "".join(traceback.format_stack(frame)[-8:])

    def __enter__(self) -> LongestPause:
        self._last, self._waited = time.monotonic(), _seconds_waited()
        threading.Thread(target=self._watch, args=(threading.get_ident(),), daemon=True).start()
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        # A pause that has not ended yet counts.
        self._tick()
        self._timer.stop()
        self._ended.set()

    def __str__(self) -> str:
        return f"{self.milliseconds:.0f} ms, in:\n{self.where}"


def _seconds_waited() -> float:
    """How long this thread has been ready to run while others ran; 0 where the system does not tell."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class UnhandledErrors:
    """Collects errors that Qt and VTK meet in Python callbacks, and otherwise only print."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._before: Any = None

    def __enter__(self) -> UnhandledErrors:
        self._before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
            self.errors.append(error)
            self._before(kind, error, trace)

        sys.excepthook = hook
        return self

    def __exit__(self, *error: object) -> None:
        sys.excepthook = self._before
