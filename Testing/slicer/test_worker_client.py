"""The client of the worker: what it does when all goes well, and when the process, its Python or its answers do not."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from CardiacDiffusionAugLib.environment import START, WorkerCommand, choosePython, workerCommand
from CardiacDiffusionAugLib.job import Callbacks, Job, State
from CardiacDiffusionAugLib.worker import Worker

ECHO = """
import json, sys, time
print(json.dumps({"event": "ready"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "cancel" in request:
        continue
    told = dict(id=request["id"])
    say = lambda **event: print(json.dumps({**told, **event}), flush=True)
    name = request["job"]
    if name == "die":
        print("the end is near", file=sys.stderr, flush=True)
        import os; os._exit(7)
    if name == "missing":
        import a_package_that_is_not_there
    if name == "deaf":
        time.sleep(30)
    if name == "noise":
        print("this is not JSON", flush=True)
    for i in range(request["parameters"].get("count", 1)):
        say(event="progress", done=i, total=9, message="heart")
        say(event="result", result={"number": i, "text": request["parameters"].get("text")})
    say(event="message", message="almost there")
    say(event="success", result={"name": name})
"""

Start = Callable[..., Worker]


@pytest.fixture
def start(slicer_app: object) -> Iterator[Start]:
    """Makes workers that run a script in place of the engine, and ends them."""
    made: list[Worker] = []

    def make(script: str = ECHO, program: str = sys.executable) -> Worker:
        command = WorkerCommand(program, ("-X", "utf8", "-c", script), dict(os.environ))
        made.append(Worker(lambda: command))
        return made[-1]

    yield make
    for worker in made:
        worker.stop()


class Told:
    """Collects what a job calls back."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.messages: list[str] = []
        self.ends: list[State] = []
        self.progress: list[tuple[int, int, str]] = []
        self.callbacks = Callbacks(
            lambda job, text: self.progress.append((job.done, job.total, text)),
            lambda job, result: self.results.append(result),
            lambda job, text: self.messages.append(text),
            lambda job: self.ends.append(job.state),
        )


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"


def test_a_job_tells_progress_results_and_its_end_once(start: Start) -> None:
    told = Told()
    job = start().submit("echo", {"count": 3, "text": "Zürich 心"}, told.callbacks).wait(20)
    assert job.state is State.SUCCESS
    assert job.result == {"name": "echo"}
    assert [result["number"] for result in told.results] == [0, 1, 2]
    assert told.results[0]["text"] == "Zürich 心"
    assert told.messages == ["almost there"]
    assert told.ends == [State.SUCCESS]
    assert told.progress[-1] == (2, 9, "heart")


def test_the_process_stays_for_the_next_job(start: Start) -> None:
    worker = start()
    worker.submit("echo", {}).wait(20)
    first = worker.processId
    worker.submit("echo", {}).wait(20)
    assert worker.processId == first


def test_two_jobs_run_one_after_the_other(start: Start) -> None:
    worker, order = start(), []
    jobs = [worker.submit("echo", {}, Callbacks(onEnd=lambda job: order.append(job.identifier))) for _ in range(2)]
    jobs[1].wait(20)
    assert order == [job.identifier for job in jobs]


def test_what_is_left_out_is_not_sent(start: Start) -> None:
    job = start().submit("echo", {"count": 1, "group": None, "output": Path("/tmp/x")}).wait(20)
    assert job.parameters == {"count": 1, "output": "/tmp/x"}


def test_steps_of_a_result_are_taken_before_the_next_answer(start: Start) -> None:
    order: list[str] = []

    def slowly(job: Job, result: dict[str, Any]) -> Iterator[None]:
        for part in "abc":
            order.append(f"{result['number']}{part}")
            yield None

    callbacks = Callbacks(onResult=slowly, onEnd=lambda job: order.append("end"))
    start().submit("echo", {"count": 2}, callbacks).wait(20)
    assert order == ["0a", "0b", "0c", "1a", "1b", "1c", "end"]


def test_preparation_comes_before_the_job(start: Start, tmp_path: Path) -> None:
    def prepare() -> Iterator[None]:
        for i in range(3):
            (tmp_path / f"{i}").touch()
            yield None

    seen: list[int] = []
    callbacks = Callbacks(onResult=lambda job, result: seen.append(len(list(tmp_path.iterdir()))))
    assert start().submit("echo", {}, callbacks, prepare()).wait(20).state is State.SUCCESS
    assert seen == [3]


def test_a_preparation_that_fails_ends_the_job_alone(start: Start) -> None:
    def prepare() -> Iterator[None]:
        yield None
        raise ValueError("the volume is gone")

    worker = start()
    job = worker.submit("echo", {}, prepare=prepare()).wait(20)
    assert (job.state, job.message) == (State.ERROR, "the volume is gone")
    assert worker.submit("echo", {}).wait(20).state is State.SUCCESS


def test_a_result_that_cannot_be_used_ends_the_job(start: Start) -> None:
    def refuse(job: Job, result: dict[str, Any]) -> None:
        raise ValueError("no such node")

    told = Told()
    worker = start()
    job = worker.submit("echo", {"count": 3}, Callbacks(onResult=refuse, onEnd=told.callbacks.end)).wait(20)
    assert job.state is State.ERROR
    assert job.message == "no such node"
    assert told.ends == [State.ERROR]


def test_a_worker_that_dies_costs_its_job_and_the_next_starts_anew(start: Start) -> None:
    worker = start()
    job = worker.submit("die", {}).wait(20)
    assert job.state is State.ERROR
    assert job.code == "crashed"
    assert "code 7" in job.message
    assert "memory" in job.message
    assert "the end is near" in worker.log
    assert worker.submit("echo", {}).wait(20).state is State.SUCCESS


def test_a_worker_that_is_killed_says_so(start: Start) -> None:
    worker = start()
    job = worker.submit("deaf", {})
    end = time.monotonic() + 10
    while worker.processId in (None, 0) and time.monotonic() < end:
        job_state = job.state
        assert job_state is State.WAITING
    process = worker.processId
    assert process
    os.kill(process, signal.SIGKILL)
    assert job.wait(20).code == "crashed"


def test_a_missing_package_is_named(start: Start) -> None:
    job = start().submit("missing", {}).wait(20)
    assert job.code == "missing_dependency"
    assert "a_package_that_is_not_there" in job.message


def test_a_python_that_is_not_there_is_named(start: Start) -> None:
    worker = start(program="/no/such/python")
    job = worker.submit("echo", {}).wait(20)
    assert job.code == "missing_dependency"
    assert "/no/such/python" in job.message
    assert not worker.running


def test_a_job_that_does_not_end_by_itself_is_given_up(start: Start) -> None:
    worker = start()
    worker.submit("echo", {}).wait(20)
    job = worker.submit("deaf", {})
    begun = time.monotonic()
    worker.cancel(job)
    assert job.wait(10).state is State.CANCELLED
    assert time.monotonic() - begun < 2


def test_what_is_no_answer_goes_to_the_log(start: Start) -> None:
    worker = start()
    assert worker.submit("noise", {}).wait(20).state is State.SUCCESS
    assert "this is not JSON" in worker.log


def test_stopping_leaves_no_process_and_gives_up_the_jobs(start: Start) -> None:
    worker = start()
    worker.submit("echo", {}).wait(20)
    process = worker.processId
    assert process is not None
    told = Told()
    job = worker.submit("deaf", {}, told.callbacks)
    worker.stop()
    assert job.state is State.CANCELLED
    assert told.ends == [State.CANCELLED]
    assert not is_running(process)
    assert not worker.running


def test_a_job_in_slicer_itself_goes_step_by_step_and_can_be_cancelled(start: Start) -> None:
    worker, told = start(), Told()
    done: list[int] = []

    def steps() -> Iterator[tuple[int, int]]:
        for i in range(1, 1000):
            done.append(i)
            yield i, 1000
            if i == 5:
                worker.cancel(job)

    job = worker.runHere("save", steps(), told.callbacks)
    assert job.wait(20).state is State.CANCELLED
    assert len(done) < 10
    assert not worker.running, "no process is needed for it"


def test_the_engine_itself_answers(slicer_app: object) -> None:
    choosePython(sys.executable)
    try:
        worker = Worker(workerCommand)
        assert workerCommand().arguments[-2] == START
        job = worker.submit("no such job", {}).wait(60)
        assert job.state is State.ERROR
        assert job.code == "bad_input"
        assert "no such job" in job.message
        worker.stop()
    finally:
        choosePython("")
