"""Turning the event loop in tests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
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

    A timer of 5 ms is what it watches, so that a pause is known to a few milliseconds.
    """

    def __init__(self, interval: int = 5) -> None:
        self.milliseconds = 0.0
        self._timer = QtCore.QTimer()
        self._timer.setInterval(interval)
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._last = 0.0

    def _tick(self) -> None:
        now = time.monotonic()
        self.milliseconds = max(self.milliseconds, 1000 * (now - self._last))
        self._last = now

    def __enter__(self) -> LongestPause:
        self._last = time.monotonic()
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        # A pause that has not ended yet counts.
        self._tick()
        self._timer.stop()


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
