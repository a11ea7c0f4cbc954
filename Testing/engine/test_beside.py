"""Work in a thread: in order, bounded, told in the caller's thread, and its errors raised there."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from cardiac_diffusion_aug.beside import Beside
from cardiac_diffusion_aug.errors import Cancelled, CardiacError

WAIT_SECONDS = 60.0


def doubled(number: int) -> int:
    return 2 * number


def failing_at(place: int) -> Callable[[int], int]:
    def work(number: int) -> int:
        if number == place:
            raise CardiacError("The disk is full.", "disk_full")
        return number

    return work


def fill(work: Callable[[int], int], told: list[int], count: int, put: list[int]) -> None:
    with Beside(work, told.append, 3) as beside:
        for number in range(count):
            beside.put(number)
            put.append(number)


def test_all_is_done_in_order_and_told_in_the_callers_thread() -> None:
    told: list[int] = []
    threads: set[threading.Thread] = set()

    def tell(number: int) -> None:
        told.append(number)
        threads.add(threading.current_thread())

    with Beside(doubled, tell, 3) as beside:
        for number in range(100):
            beside.put(number)
    assert told == [2 * number for number in range(100)]
    assert threads == {threading.current_thread()}


def test_whoever_is_far_ahead_waits() -> None:
    go_on, put = threading.Event(), list[int]()

    def work(number: int) -> int:
        assert go_on.wait(WAIT_SECONDS)
        return number

    filling = threading.Thread(target=fill, args=(work, [], 20, put))
    filling.start()
    filling.join(0.3)
    # One is worked on.
    assert filling.is_alive()
    assert len(put) <= 4
    go_on.set()
    filling.join(WAIT_SECONDS)
    assert put == list(range(20))


def test_an_error_is_raised_where_the_next_thing_is_put() -> None:
    told: list[int] = []
    put: list[int] = []
    with pytest.raises(CardiacError, match="is full"):
        fill(failing_at(2), told, 1000, put)
    assert told == [0, 1]
    assert len(put) < 20


def test_an_error_on_the_last_thing_is_raised_at_the_end() -> None:
    told: list[int] = []
    with pytest.raises(CardiacError, match="is full"):
        fill(failing_at(2), told, 3, [])
    assert told == [0, 1]


def test_what_was_put_is_done_also_after_a_cancellation() -> None:
    told: list[int] = []

    def cancelled() -> None:
        with Beside(doubled, told.append, 8) as beside:
            for number in range(8):
                beside.put(number)
            raise Cancelled

    with pytest.raises(Cancelled):
        cancelled()
    assert told == [2 * number for number in range(8)]


def test_a_cancellation_is_told_rather_than_an_error_of_the_work() -> None:
    def cancelled() -> None:
        with Beside(failing_at(0), lambda number: None, 8) as beside:
            beside.put(0)
            raise Cancelled

    with pytest.raises(Cancelled):
        cancelled()
