"""The worker: jobs as JSON lines, a warm model, cancellation between steps, and an end with its parent."""

from __future__ import annotations

import csv
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import SimpleITK as sitk

from cardiac_diffusion_aug import __version__, bundle, worker
from cardiac_diffusion_aug.errors import CardiacError
from phantom import phantom_stack, write_acdc
from tiny import write_tiny_model

pytest_plugins = ["tiny", "tiny_unet"]

ENGINE = Path(__file__).resolve().parents[2] / "CardiacDiffusionAug"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ENGINE), "OMP_NUM_THREADS": "1"}
WAIT_SECONDS = 240.0
END_SECONDS = worker.GRACE_SECONDS + 20
ENDS = ("success", "cancelled", "error")
COMMAND = [sys.executable, "-m", "cardiac_diffusion_aug", "worker"]

Answer = dict[str, Any]


class Worker:
    """A worker process, and what it answers."""

    def __init__(self, command: list[str] = COMMAND) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
        )
        self._answers: queue.Queue[Answer] = queue.Queue()
        self.errors: list[bytes] = []
        for read in (self._read_answers, self._read_errors):
            threading.Thread(target=read, daemon=True).start()
        assert self.answer() == {"event": "ready", "version": __version__}

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def send(self, **request: Any) -> None:
        self.write(json.dumps(request).encode())

    def answer(self) -> Answer:
        return self._answers.get(timeout=WAIT_SECONDS)

    def until(self, *events: str) -> list[Answer]:
        """Answers up to the first of these events."""
        answers = [self.answer()]
        while answers[-1]["event"] not in events:
            answers.append(self.answer())
        return answers

    def run(self, **request: Any) -> list[Answer]:
        """All answers to a request."""
        self.send(**request)
        answers = self.until(*ENDS)
        assert {answer["id"] for answer in answers} == {request["id"]}
        return answers

    def close(self) -> int:
        """Close its standard input, and wait for its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(END_SECONDS)

    def _read_answers(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(json.loads(line.decode("utf-8")))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors.extend(self.process.stderr)


@pytest.fixture(scope="module")
def shared() -> Iterator[Worker]:
    """One for all tests that leave it as it was."""
    made = Worker()
    yield made
    assert made.close() == 0
    assert not any(b"Traceback" in line for line in made.errors)


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which each image takes some seconds."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "slow", image_steps=1000)


def parameters(model: Path, folder: Path, **more: Any) -> dict[str, Any]:
    return {"model": str(model), "output": str(folder), "device": "cpu", "count": 2, "filter": False, **more}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# Jobs


def test_results_arrive_one_by_one(shared: Worker, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Prüfung ♥"
    answers = shared.run(id="Ä 1", job="generate", parameters=parameters(tiny_model, folder, count=3, phase="ED"))
    events = [answer["event"] for answer in answers if answer["event"] != "message"]
    results = [answer["result"] for answer in answers if answer["event"] == "result"]
    assert events[-1] == "success"
    assert events.count("success") == 1
    assert [result["name"] for result in results] == [f"synthetic0_{case:06d}" for case in range(3)]
    for case, result in enumerate(results):
        for path in (result["image"], result["mask"]):
            assert sitk.ReadImage(path).GetSize() == (128, 128, 1)
        assert (result["case"], result["phase"], result["level"]) == (case, "ED", None)
    # Between two results there is progress, so they did not come all at the end.
    first, second = (events.index("result"), len(events) - 1 - events[::-1].index("result"))
    assert "progress" in events[first:second]
    done = [(answer["done"], answer["total"]) for answer in answers if answer["event"] == "progress"]
    assert done == sorted(done)
    assert done[-1] == (3, 3)
    assert answers[-1]["result"] == {"output": str(folder), "preview": str(folder / "preview.png"), "cases": 3}
    assert Path(answers[-1]["result"]["preview"]).is_file()


def test_masks_get_images(shared: Worker, tiny_model: Path, tmp_path: Path) -> None:
    mask = tmp_path / "Herz ♥.nrrd"
    sitk.WriteImage(phantom_stack(2)[1], str(mask))
    asked = {**parameters(tiny_model, tmp_path / "set"), "masks": str(mask), "variations": 2}
    del asked["filter"]
    del asked["count"]
    answers = shared.run(id=2, job="synthesize", parameters=asked)
    assert answers[-1]["event"] == "success"
    assert [a["result"]["name"] for a in answers if a["event"] == "result"] == ["Herz ♥_v000", "Herz ♥_v001"]


def test_info_is_told(shared: Worker) -> None:
    answer = shared.run(id="info", job="info")[-1]
    assert answer["event"] == "success"
    assert answer["result"]["cardiac-diffusion-aug"] == __version__


def test_jobs_wait_for_each_other(shared: Worker, tiny_model: Path, tmp_path: Path) -> None:
    for name in "abc":
        shared.send(id=name, job="generate", parameters=parameters(tiny_model, tmp_path / name, count=1))
    order = [answer["id"] for _ in "abc" for answer in shared.until(*ENDS)]
    assert order == sorted(order)
    assert [len(rows(tmp_path / name)) for name in "abc"] == [1, 1, 1]


def test_a_second_job_finds_the_model_warm(tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """In this process, to count how often networks are read."""
    loaded: list[str] = []
    network = bundle.Bundle.network

    def counted(self: bundle.Bundle, part: str) -> Any:
        loaded.append(part)
        return network(self, part)

    monkeypatch.setattr(bundle.Bundle, "network", counted)
    answers = io.StringIO()
    channel = worker.Channel(answers)
    context = worker.WorkerContext(channel)

    def run(name: str, **more: Any) -> None:
        asked = parameters(tiny_model, tmp_path / name, count=1, **more)
        worker._answer({"id": name, "job": "generate", "parameters": asked}, context, channel)
        assert json.loads(answers.getvalue().splitlines()[-1])["event"] == "success"

    run("first")
    assert sorted(loaded) == ["image_denoiser", "mask_denoiser"]
    run("second", steps=5, phase="ES", seed=3)
    assert len(loaded) == 2
    # What was set for one job is not left for the next.
    run("third")
    for kind in ("imagesTr", "labelsTr"):
        assert [p.read_bytes() for p in (tmp_path / "first" / kind).iterdir()] == [
            p.read_bytes() for p in (tmp_path / "third" / kind).iterdir()
        ]
    run("other precision", precision="fp32" if worker_uses_bfloat16(context) else "bf16")
    assert len(loaded) == 4
    assert len(context.models) == 1


def worker_uses_bfloat16(context: worker.WorkerContext) -> bool:
    return bool(next(iter(context.models.values()))[1].bfloat16)


# Cancelling


def test_a_running_job_is_cancelled(shared: Worker, slow_model: Path, tmp_path: Path) -> None:
    asked = parameters(slow_model, tmp_path / "set", count=50, steps=40)
    shared.send(id="long", job="generate", parameters=asked)
    shared.until("result")
    shared.send(cancel="long")
    answers = shared.until(*ENDS)
    assert answers[-1] == {"id": "long", "event": "cancelled"}
    made = rows(tmp_path / "set")
    assert 0 < len(made) < 50
    for path in (tmp_path / "set").rglob("*.nii.gz"):
        assert sitk.ReadImage(str(path)).GetSize() == (128, 128, 1)
    assert len(list((tmp_path / "set").rglob("*.nii.gz"))) == 2 * len(made)
    assert not list((tmp_path / "set").rglob(".*"))
    assert shared.run(id="next", job="info")[-1]["event"] == "success"
    # What was cancelled goes on.
    answers = shared.run(id="long", job="generate", parameters={**asked, "count": len(made) + 1, "resume": True})
    assert [a["result"]["case"] for a in answers if a["event"] == "result"] == [len(made)]


def test_a_cancel_is_heard_between_two_steps(shared: Worker, slow_model: Path, tmp_path: Path) -> None:
    """A thousand steps of one image are under way."""
    shared.send(id="long", job="generate", parameters=parameters(slow_model, tmp_path / "set", count=1))
    while not (tmp_path / "set" / "manifest.csv").exists():
        time.sleep(0.01)
    shared.send(cancel="long")
    answers = shared.until(*ENDS)
    assert answers[-1]["event"] == "cancelled"
    assert not [answer for answer in answers if answer["event"] == "result"]
    assert rows(tmp_path / "set") == []


def test_a_waiting_job_is_cancelled(shared: Worker, slow_model: Path, tmp_path: Path) -> None:
    shared.send(id=1, job="generate", parameters=parameters(slow_model, tmp_path / "first"))
    shared.send(id=2, job="generate", parameters=parameters(slow_model, tmp_path / "second"))
    shared.send(cancel=2)
    shared.send(cancel=1)
    ends = [shared.until(*ENDS)[-1] for _ in range(2)]
    assert ends == [{"id": 1, "event": "cancelled"}, {"id": 2, "event": "cancelled"}]
    assert not (tmp_path / "second").exists()


def test_an_identifier_is_free_before_its_last_answer_is_sent() -> None:
    """Else a cancel of the next request of that name would be lost."""
    context = worker.WorkerContext(worker.Channel(io.StringIO()))

    class Reader(worker.Channel):
        def send(self, **answer: Any) -> None:
            context.expect(answer["id"])

    context.expect("again")
    worker._answer({"id": "again", "job": "info"}, context, Reader(io.StringIO()))
    context.begin("again")
    context.cancel("again")
    assert context.cancelled()


def test_a_cancel_of_nothing_cancels_nothing(shared: Worker) -> None:
    shared.send(cancel="later")
    shared.send(cancel=None)
    assert shared.answer()["event"] == "error"
    assert shared.run(id="later", job="generate", parameters={})[-1]["code"] == "bad_input"


# Finishing


def test_a_running_training_is_finished(shared: Worker, tiny_unet: Path, tmp_path: Path) -> None:
    asked = {
        "data": str(write_acdc(tmp_path / "data", 2, slices=2)),
        "output": str(tmp_path / "tuned"),
        "start": str(tiny_unet),
        "steps": 10**6,
        "batch_size": 2,
        "device": "cpu",
    }
    shared.send(id="long", job="train-unet", parameters=asked)
    while "loss" not in shared.until("result")[-1]["result"]:
        pass
    shared.send(finish="long")
    answers = shared.until(*ENDS)
    assert answers[-1]["event"] == "success"
    told = answers[-1]["result"]
    assert set(told) >= {"model", "sha256", "before", "after", "improved"}
    assert bundle.load_bundle(tmp_path / "tuned", "segmenter").sha256 == told["sha256"]
    assert [set(a["result"]) for a in answers if a["event"] == "result"][-1] == {"step", "validation_dice", "mean"}


def test_a_job_that_knows_no_finish_goes_on(shared: Worker, tiny_model: Path, tmp_path: Path) -> None:
    shared.send(id="all", job="generate", parameters=parameters(tiny_model, tmp_path / "set", count=3))
    shared.send(finish="all")
    shared.send(finish="another")
    assert shared.until(*ENDS)[-1]["event"] == "success"
    assert len(rows(tmp_path / "set")) == 3


def test_a_finish_is_of_one_request_alone() -> None:
    context = worker.WorkerContext(worker.Channel(io.StringIO()))
    context.finish("early")
    for name in ("early", "waiting"):
        context.expect(name)
    context.begin("early")
    assert not context.finishing()
    context.finish("waiting")
    assert not context.finishing()
    context.end()
    context.begin("waiting")
    assert context.finishing()
    assert not context.cancelled()
    context.end()
    context.expect("waiting")
    context.begin("waiting")
    assert not context.finishing()


# What cannot be understood


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"job": "info"}',
        b'{"id": null, "job": "info"}',
        b'{"id": [1], "job": "info"}',
        b'{"id": true, "job": "info"}',
        b'{"cancel": {}}',
        b'{"finish": null}',
    ],
    ids=lambda line: repr(line[:20]),
)
def test_lines_that_are_no_request(shared: Worker, line: bytes) -> None:
    shared.write(line)
    answer = shared.answer()
    assert (answer["id"], answer["event"], answer["code"]) == (None, "error", "bad_input")
    assert answer["message"]


def test_empty_lines_are_passed_over(shared: Worker) -> None:
    shared.write(b"\n  \n")
    assert shared.run(id="1", job="info")[-1]["event"] == "success"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"job": "dance"}, ["'dance'", "generate"]),
        ({"job": ["generate"]}, ["There is no job"]),
        ({"job": None}, ["There is no job"]),
        ({}, ["There is no job"]),
        ({"job": "generate"}, ["needs output"]),
        ({"job": "generate", "parameters": []}, ["JSON object"]),
        ({"job": "generate", "parameters": None}, ["JSON object"]),
        ({"job": "generate", "parameters": {"output": "x", "conut": 3}}, ["'conut'", "count"]),
        ({"job": "generate", "parameters": {"output": "x", "count": "many"}}, ["--count", "'many'"]),
        ({"job": "generate", "parameters": {"output": "x", "count": 2.5}}, ["--count", "2.5"]),
        ({"job": "generate", "parameters": {"output": "x", "count": True}}, ["--count", "True"]),
        ({"job": "generate", "parameters": {"output": "x", "count": [1]}}, ["--count"]),
        ({"job": "generate", "parameters": {"output": "x", "count": None}}, ["--count"]),
        ({"job": "generate", "parameters": {"output": 5}}, ["--output"]),
        ({"job": "generate", "parameters": {"output": {}}}, ["--output"]),
        ({"job": "generate", "parameters": {"output": "a\0b"}}, ["--output"]),
        ({"job": "generate", "parameters": {"output": "x", "resume": "yes"}}, ["--resume"]),
        ({"job": "generate", "parameters": {"output": "x", "phase": 3}}, ["--phase"]),
        ({"job": "generate", "parameters": {"output": "x", "guidance_scale": float("nan")}}, ["--guidance-scale"]),
        ({"job": "synthesize", "parameters": {"output": "x", "masks": "nowhere.nii.gz"}}, ["nowhere.nii.gz"]),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_requests_that_cannot_be_met(shared: Worker, request_: dict[str, Any], words: list[str]) -> None:
    answers = shared.run(id="bad", **request_)
    assert [answer["event"] for answer in answers] == ["error"]
    assert answers[0]["code"] == "bad_input"
    for word in words:
        assert word in answers[0]["message"]


def test_a_missing_model_has_a_code_of_its_own(shared: Worker, tmp_path: Path) -> None:
    answer = shared.run(id="1", job="generate", parameters=parameters(Path("heart-9000"), tmp_path / "set"))[-1]
    assert (answer["event"], answer["code"]) == ("error", "bad_model")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA out of memory"), "out_of_memory"),
        (ImportError("no", name="diffusers"), "missing_dependency"),
        (CardiacError("full", "disk_full"), "disk_full"),
        (PermissionError(13, "Permission denied", "/scan"), "bad_input"),
        (ZeroDivisionError("division by zero"), "internal"),
        (OSError("odd"), "internal"),
    ],
    ids=repr,
)
def test_each_failure_has_its_code(tmp_path: Path, error: Exception, code: str, monkeypatch: Any) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    import torch  # noqa: F401

    monkeypatch.setattr("cardiac_diffusion_aug.bundle.load_bundle", fail)
    answers = io.StringIO()
    channel = worker.Channel(answers)
    request = {"id": 7, "job": "generate", "parameters": {"output": str(tmp_path / "set")}}
    worker._answer(request, worker.WorkerContext(channel), channel)
    last = json.loads(answers.getvalue().splitlines()[-1])
    assert (last["id"], last["event"], last["code"]) == (7, "error", code)
    assert last["message"]


NOISY = """
import os, subprocess, sys
from cardiac_diffusion_aug import info
from cardiac_diffusion_aug.cli import main
facts = info.machine_facts
def noisy():
    print("a library prints", flush=True)
    os.write(1, b"{torn")
    subprocess.run(["echo", "a child prints"])
    print(repr(sys.stdin.read()), file=sys.stderr)
    return {**facts(), "path": "not UTF-8: \\udcff"}
info.machine_facts = noisy
sys.exit(main(["worker"]))
"""


def test_what_libraries_print_does_not_tear_the_protocol() -> None:
    noisy = Worker([sys.executable, "-c", NOISY])
    for number in range(2):
        answers = noisy.run(id=number, job="info")
        assert [answer["event"] for answer in answers] == ["success"]
        assert answers[0]["result"]["path"] == "not UTF-8: \udcff"
    assert noisy.close() == 0
    told = b"".join(noisy.errors)
    for text in (b"a library prints", b"{torn", b"a child prints", b"''"):
        assert told.count(text) == 2


# Its end


def test_it_ends_with_its_input() -> None:
    assert Worker().close() == 0


def test_it_ends_amid_a_job(slow_model: Path, tmp_path: Path) -> None:
    busy = Worker()
    folder = tmp_path / "set"
    busy.send(id="1", job="generate", parameters=parameters(slow_model, folder, count=50, steps=40))
    busy.until("result")
    assert busy.close() == 0
    for path in folder.rglob("*.nii.gz"):
        assert sitk.ReadImage(str(path)).GetSize() == (128, 128, 1)
    assert not list(folder.rglob(".*"))


def test_it_ends_when_a_job_does_not_listen() -> None:
    code = (
        "import sys, time\n"
        "from cardiac_diffusion_aug import info, worker\n"
        "from cardiac_diffusion_aug.cli import main\n"
        "worker.GRACE_SECONDS = 0.5\n"
        "info.machine_facts = lambda: time.sleep(600)\n"
        "sys.exit(main(['worker']))\n"
    )
    deaf = Worker([sys.executable, "-c", code])
    deaf.send(id="1", job="info")
    time.sleep(1)
    assert deaf.process.poll() is None
    assert deaf.close() == 0


def test_it_ends_when_nobody_reads_its_answers() -> None:
    read, write = os.pipe()
    unheard = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=write, stderr=subprocess.PIPE, env=ENVIRONMENT)
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        assert b"ready" in answers.readline()
    assert unheard.stdin is not None
    unheard.stdin.write(b'{"id": "1", "job": "dance"}\n')
    unheard.stdin.flush()
    assert unheard.wait(END_SECONDS) == 0
    assert unheard.stderr is not None
    assert unheard.stderr.read() == b""
    unheard.stdin.close()
    unheard.stderr.close()


PARENT = """
import json, subprocess, sys, time
command, request, answers = json.loads(sys.argv[1])
child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=open(answers, "w"), stderr=subprocess.DEVNULL)
child.stdin.write((json.dumps(request) + "\\n").encode())
child.stdin.flush()
print(child.pid, flush=True)
time.sleep(600)
"""


def test_it_ends_with_a_parent_that_is_killed(slow_model: Path, tmp_path: Path) -> None:
    request = {"id": "1", "job": "generate", "parameters": parameters(slow_model, tmp_path / "set", count=50)}
    arguments = json.dumps([COMMAND, request, str(tmp_path / "answers")])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, arguments], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    try:
        limit = time.monotonic() + WAIT_SECONDS
        while not (tmp_path / "set" / "manifest.csv").exists() and time.monotonic() < limit:
            time.sleep(0.05)
        assert child.is_running()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        limit = time.monotonic() + END_SECONDS
        while runs(child) and time.monotonic() < limit:
            time.sleep(0.05)
        assert not runs(child)
    finally:
        parent.kill()
        if runs(child):
            child.kill()


def runs(process: psutil.Process) -> bool:
    # Where nobody collects orphans, one that ended stays as a zombie.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
