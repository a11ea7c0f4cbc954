"""Work that is done beside the caller's own, one thing after another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

Thing = TypeVar("Thing")
Told = TypeVar("Told")
CLOSED: Any = object()


class Beside(Generic[Thing, Told]):
    """A thread that works on things in the order in which they come, such as files to be written.

    What is put is worked on to the end, also when the `with` block ends by an error or a cancellation; after an error
    of the work itself nothing more is done.

    Args:
        work: on one thing, in the thread; returns what is told of it.
        tell: takes that, always in the caller's thread: while it puts, looks and leaves.
        most: things that may wait; then whoever puts waits too, and memory stays bounded.
    """

    def __init__(self, work: Callable[[Thing], Told], tell: Callable[[Told], None], most: int) -> None:
        self._work, self._tell = work, tell
        self._things: queue.Queue[Thing] = queue.Queue(most)
        self._told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Beside[Thing, Told]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._things.put(CLOSED)
        self._thread.join()
        self._tell_all()
        # Whoever left by an error of its own tells that one.
        if self._error is not None and error is None:
            raise self._error

    def put(self, thing: Thing) -> None:
        """Add a thing.

        Raises:
            BaseException: what the work on an earlier one raised.
        """
        self.look()
        self._things.put(thing)

    def look(self) -> None:
        """Tell what is done.

        Raises:
            BaseException: what the work raised.
        """
        self._tell_all()
        if self._error is not None:
            raise self._error

    def _tell_all(self) -> None:
        while not self._told.empty():
            self._tell(self._told.get())

    def _run(self) -> None:
        while (thing := self._things.get()) is not CLOSED:
            # It goes on taking things, so that nobody waits for ever for a place.
            if self._error is None:
                try:
                    self._told.put(self._work(thing))
                except BaseException as error:
                    self._error = error
