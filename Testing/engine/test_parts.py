"""Parts of one data set: each case in one of them, in one folder at the same time, and in the end as made in one."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk

from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.errors import Cancelled, CardiacError
from cardiac_diffusion_aug.export import DATASET, MADE_BY, PREVIEW, DatasetWriter
from cardiac_diffusion_aug.jobs import JOBS, Context
from cardiac_diffusion_aug.manifest import MANIFEST, part_manifests
from cardiac_diffusion_aug.parts import Part, parse_part
from files import contents
from test_export import FACTS, SETTINGS, fill, hidden, made, names, stacks
from tiny import Forge, Killed

pytest_plugins = ["tiny"]

COUNT = 7
CASES = [f"case{case}" for case in range(COUNT)]
WAIT_SECONDS = 120.0


class Recorder(Context):
    """Notes what is told, and that it is told where the job runs, of whole cases alone."""

    def __init__(self, cancel_after: int | None = None) -> None:
        super().__init__()
        self.results: list[Mapping[str, Any]] = []
        self.places: list[tuple[int, int]] = []
        self.said: list[str] = []
        self.cancelled = lambda: cancel_after is not None and len(self.results) >= cancel_after

    def progress(self, done: int, total: int, message: str = "") -> None:
        assert threading.current_thread() is threading.main_thread()
        self.places.append((done, total))

    def result(self, facts: Mapping[str, Any]) -> None:
        assert threading.current_thread() is threading.main_thread()
        for kind in ("image", "mask"):
            assert sitk.ReadImage(facts[kind]).GetSize() == (128, 128, 1)
        folder = Path(facts["image"]).parents[1]
        lines = b"".join(path.read_bytes() for path in (*part_manifests(folder), folder / MANIFEST) if path.exists())
        assert f"\n{facts['name']},".encode() in lines
        self.results.append(facts)

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def generate(tiny_model: Path) -> Callable[..., Recorder]:
    """Runs the job with a warm model."""
    shared = Context()

    def run(folder: Path, told: Recorder | None = None, **parameters: Any) -> Recorder:
        told = told or Recorder()
        told.models = shared.models
        common = {"model": str(tiny_model), "device": "cpu", "filter": False, "count": COUNT, "output": folder}
        JOBS["generate"].from_request({**common, **parameters}).run(told)
        return told

    return run


@pytest.fixture(scope="module")
def whole_set(generate: Callable[..., Recorder], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """The data set made in one go."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    generate(folder)
    return contents(folder)


def settings_of(folder: Path) -> Any:
    return json.loads((folder / DATASET).read_text())[MADE_BY]


# What a part is


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("total", [0, 1, 10, 21])
def test_each_case_belongs_to_one_part_of_like_size(parts: int, total: int) -> None:
    shares = [list(parse_part(f"{index}/{parts}").of(total)) for index in range(1, parts + 1)]
    assert sorted(case for share in shares for case in share) == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    # A larger count moves no case to another part.
    assert all(share == list(Part(i, parts).of(total + 5))[: len(share)] for i, share in enumerate(shares, 1))


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "x", "", "1", "/", "1/0", "-1/2", "1/2/3", "1.5/2", "²/4", "1/" + "9" * 5000]
)
def test_what_is_no_part_is_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(CardiacError, match=r"--part is .* but must be a part of the whole, such as 1/4") as caught:
        JOBS["generate"].from_request({"output": tmp_path / "set", "part": text})
    assert len(str(caught.value)) < 200
    assert not (tmp_path / "set").exists()


def test_a_part_does_not_overwrite(tmp_path: Path) -> None:
    with pytest.raises(CardiacError, match="--part and --overwrite exclude each other"):
        JOBS["generate"].from_request({"output": tmp_path / "set", "part": "1/2", "overwrite": True})


# The writer


def parts_of(folder: Path, count: int, **options: Any) -> list[DatasetWriter]:
    return [DatasetWriter(folder, SETTINGS, part=Part(index, count), **options) for index in range(1, count + 1)]


def fill_parts(writers: Sequence[DatasetWriter]) -> None:
    """Each adds its own cases that are not there yet, by turns."""
    for case in range(COUNT):
        if f"case{case}" not in writers[case % len(writers)].done:
            fill(writers[case % len(writers)], case)


def end(writers: Iterable[DatasetWriter], draw: bool = True) -> None:
    for writer in writers:
        writer.finish(draw, CASES)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_parts_become_what_is_written_in_one(tmp_path: Path, count: int) -> None:
    made(tmp_path / "whole", *range(COUNT))
    writers = parts_of(tmp_path / "set", count)
    fill_parts(writers)
    for writer in writers[:-1]:
        # All is there already.
        writer.finish(wanted=[*CASES, "one more"])
        assert not writer.finished
        assert not (tmp_path / "set" / MANIFEST).exists()
    end(reversed(writers))
    assert writers[-1].finished
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_parts_that_are_not_gathered_are_read(tmp_path: Path) -> None:
    writers = parts_of(tmp_path, 2)
    for case in (0, 1, 2):
        writers[case % 2].add(f"case{case}", *stacks(case), {**FACTS, "patient": "anna", "kept": "no" if case else ""})
    assert [case.patient for case in read_cases(tmp_path, rejected=True)[1]] == ["anna"] * 3
    assert [case.name for case in read_cases(tmp_path)[1]] == ["case0"]


def test_a_part_goes_on_with_the_work_of_all(tmp_path: Path) -> None:
    made(tmp_path / "set", 0, 1)
    first, second = parts_of(tmp_path / "set", 2, resume=True)
    assert first.done == second.done == {"case0", "case1"}
    fill(second, 3)
    first = DatasetWriter(tmp_path / "set", SETTINGS, resume=True, part=Part(1, 3))
    assert first.done == {"case0", "case1", "case3"}
    # Without a part, all are gathered whatever is missing.
    writer = DatasetWriter(tmp_path / "set", SETTINGS, resume=True)
    assert writer.count == 3
    fill(writer, 2)
    writer.finish()
    assert names(tmp_path / "set") == CASES[:4]
    assert not hidden(tmp_path / "set")


def test_a_run_without_parts_goes_on_in_parts(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, SETTINGS)
    fill(writer, 0, 1)
    # As a kill leaves it, in the middle of a case.
    (tmp_path / ".unfinished").write_text("case2")
    (tmp_path / "imagesTr" / "case2_0000.nii.gz").write_bytes(b"whole")
    writers = parts_of(tmp_path, 2, resume=True)
    fill_parts(writers)
    end(writers, draw=False)
    assert names(tmp_path) == CASES
    assert not hidden(tmp_path)


def test_a_part_killed_at_its_first_byte_leaves_nothing(tmp_path: Path) -> None:
    fill_parts(parts_of(tmp_path, 4))
    # Created, but not written to: the next run has other parts, and none of them takes this one for its own.
    (tmp_path / ".unfinished-2of4").write_bytes(b"")
    end(parts_of(tmp_path, 3, resume=True), draw=False)
    assert names(tmp_path) == CASES
    assert not hidden(tmp_path)


def test_what_was_changed_in_the_manifest_stays(tmp_path: Path) -> None:
    made(tmp_path, 0, 1)
    (tmp_path / MANIFEST).write_text((tmp_path / MANIFEST).read_text().replace("yes", "no"))
    writers = parts_of(tmp_path, 2, resume=True)
    # Made twice, as after a mistake.
    fill(writers[0], 0, 2)
    for writer in writers:
        writer.finish(wanted=CASES[:3])
    assert [line.rpartition(",")[2] for line in (tmp_path / MANIFEST).read_text().splitlines()[1:]] == [
        "no",
        "no",
        "yes",
    ]


def test_a_part_joins_others_but_repeats_itself_only_when_told(tmp_path: Path) -> None:
    parts_of(tmp_path, 2)
    with pytest.raises(CardiacError, match="add --resume"):
        DatasetWriter(tmp_path, SETTINGS, part=Part(2, 2))
    with pytest.raises(CardiacError, match="add --resume"):
        DatasetWriter(tmp_path, SETTINGS)
    with pytest.raises(CardiacError, match="another seed"):
        DatasetWriter(tmp_path, {**SETTINGS, "seed": 1}, part=Part(1, 3))
    DatasetWriter(tmp_path, SETTINGS, part=Part(2, 2), resume=True)
    DatasetWriter(tmp_path, SETTINGS, part=Part(3, 3))


def test_overwriting_removes_parts_too(tmp_path: Path) -> None:
    writers = parts_of(tmp_path, 2)
    fill(writers[0], 0)
    fill(writers[1], 1)
    writer = DatasetWriter(tmp_path, SETTINGS, overwrite=True)
    assert writer.done == frozenset()
    assert not list(tmp_path.rglob("case*"))
    assert not hidden(tmp_path)


@pytest.mark.parametrize("seed", [0, 1])
def test_two_parts_begin_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """The other one is there first, just before the link is made."""

    def link(source: Path, target: Path) -> None:
        monkeypatch.undo()
        DatasetWriter(tmp_path, {**SETTINGS, "seed": seed}, part=Part(1, 2))
        os.link(source, target)

    monkeypatch.setattr(os, "link", link)
    if seed == SETTINGS["seed"]:
        DatasetWriter(tmp_path, SETTINGS, part=Part(2, 2))
    else:
        with pytest.raises(CardiacError, match="another seed"):
            DatasetWriter(tmp_path, SETTINGS, part=Part(2, 2))
    assert settings_of(tmp_path)["seed"] == seed
    assert not list(tmp_path.glob(".part-*"))


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    writers = parts_of(tmp_path, 2)
    fill_parts(writers)
    end(writers)
    assert names(tmp_path) == CASES


@pytest.mark.parametrize("moment", range(5))
def test_two_parts_end_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Before a change of a path by one of them, the other one ends as a whole."""
    made(tmp_path / "whole", *range(COUNT))
    (tmp_path / "whole" / PREVIEW).unlink()
    folder = tmp_path / "set"
    first, second = parts_of(folder, 2)
    fill_parts([first, second])
    changes: list[str] = []

    def met(name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> None:
            changes.append(name)
            if len(changes) == moment + 1:
                second.finish(False, CASES)
            real(*arguments, **options)

        return call

    for name in ("replace", "unlink"):
        monkeypatch.setattr(os, name, met(name))
    first.finish(False, CASES)
    assert len(changes) > moment + 1
    assert contents(folder) == contents(tmp_path / "whole")


@pytest.mark.parametrize("count", [2, 3, None], ids=str)
@pytest.mark.parametrize("moment", [*range(12), *range(12, 48, 6), *range(48, 61)])
def test_a_kill_at_any_moment_loses_nothing(
    tmp_path: Path, moment: int, count: int | None, kill_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    kill_at(moment)
    try:
        writers = parts_of(folder, 2)
        fill_parts(writers)
        end(writers, draw=False)
    except Killed:
        pass
    else:
        assert moment == 60
    monkeypatch.undo()
    before = {path.name: path.stat().st_mtime_ns for path in folder.rglob("case*")} if folder.exists() else {}
    if count is None:
        alone = DatasetWriter(folder, SETTINGS, resume=True)
        assert 2 * len(alone.done) <= len(before) <= 2 * len(alone.done) + 4
        fill(alone, *(case for case in range(COUNT) if f"case{case}" not in alone.done))
        alone.finish(draw=False)
    else:
        writers = parts_of(folder, count, resume=True)
        assert len(before) <= 2 * len(writers[0].done) + 4
        fill_parts(writers)
        end(writers, draw=False)
    assert names(folder) == CASES
    assert len(list(folder.rglob("*.nii.gz"))) == 2 * COUNT
    assert json.loads((folder / DATASET).read_text())["numTraining"] == COUNT
    # A part leaves alone what another number of parts left of its own files; a process without a part does not.
    left = [name for name in hidden(folder) if not (count == 3 and name.startswith(".part-") and "of2" in name)]
    assert not left


# The job


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_parts_make_the_same_cases(
    generate: Callable[..., Recorder], whole_set: dict[str, str | None], tmp_path: Path, count: int
) -> None:
    folder = tmp_path / "set"
    for index in range(count, 0, -1):
        told = generate(folder, part=f"{index}/{count}")
        own = len(range(index - 1, COUNT, count))
        assert len(told.results) == own
        assert told.places[-1] == (own, own)
        assert bool(told.said) == (index > 1)
    assert contents(folder) == whole_set
    # Once more, with nothing left to do.
    assert not generate(folder, part=f"{count}/{count}", resume=True).results
    assert contents(folder) == whole_set


def test_another_number_of_parts_and_a_larger_count_go_on(
    generate: Callable[..., Recorder], whole_set: dict[str, str | None], tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    with pytest.raises(Cancelled):
        generate(folder, Recorder(cancel_after=1), part="1/2", count=5)
    assert 1 <= len(list(folder.rglob("*_0000.nii.gz"))) <= 2
    told = [generate(folder, part=f"{index}/3", resume=True) for index in (2, 3, 1)]
    assert COUNT - 2 <= sum(len(each.results) for each in told) <= COUNT - 1
    assert contents(folder) == whole_set


def test_variations_of_a_case_stay_in_one_part(generate: Callable[..., Recorder], tmp_path: Path) -> None:
    generate(tmp_path / "whole", count=3, variations=2)
    for index in (1, 2):
        told = generate(tmp_path / "set", count=3, variations=2, part=f"{index}/2")
        assert {(r["case"], r["variation"]) for r in told.results} == {
            (case, variation) for case in range(index - 1, 3, 2) for variation in range(2)
        }
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


def test_a_cancelled_run_keeps_and_tells_all_that_it_wrote(generate: Callable[..., Recorder], tmp_path: Path) -> None:
    told = Recorder(cancel_after=2)
    with pytest.raises(Cancelled):
        generate(tmp_path, told)
    assert 2 <= len(told.results) < COUNT
    assert [result["name"] for result in told.results] == names(tmp_path)
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 2 * len(told.results)
    assert not hidden(tmp_path)


def test_a_disk_that_fills_up_ends_the_job(
    generate: Callable[..., Recorder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = DatasetWriter.add

    def adds(self: DatasetWriter, name: str, *arguments: Any) -> None:
        if name.endswith("2"):
            monkeypatch.setattr(os, "replace", refuse)
        add(self, name, *arguments)

    def refuse(*arguments: Any) -> None:
        monkeypatch.undo()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(DatasetWriter, "add", adds)
    told = Recorder()
    with pytest.raises(CardiacError, match="is full; free some space and go on with --resume") as caught:
        generate(tmp_path, told)
    assert caught.value.code == "disk_full"
    assert [result["case"] for result in told.results] == [0, 1]
    assert len(names(tmp_path)) == 2
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 4


# Processes


def start(forge: Forge, model: Path, folder: Path, parts: int) -> list[int]:
    common: list[str | Path] = ["generate", "--no-filter", "--model", model, "--device", "cpu", "--output", folder]
    common += ["--count", str(COUNT), "--quiet", "--resume"]
    return [
        forge.start([*common, "--part", f"{index}/{parts}"], folder.with_name(f"log{index}"))
        for index in range(1, parts + 1)
    ]


@pytest.fixture(scope="module")
def set_of_one_process(
    forge: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str | None]:
    """The data set made by one such process: another number of threads than theirs adds in another order."""
    folder = tmp_path_factory.mktemp("alone") / "set"
    (pid,) = start(forge, tiny_model, folder, 1)
    assert forge.wait(pid) == 0
    return contents(folder)


def test_processes_share_a_folder(
    forge: Forge, tiny_model: Path, set_of_one_process: dict[str, str | None], tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    pids = start(forge, tiny_model, folder, 3)
    assert [forge.wait(pid) for pid in pids] == [0, 0, 0], [p.read_text() for p in tmp_path.glob("log*")]
    assert contents(folder) == set_of_one_process


@pytest.mark.parametrize("parts", [3])
def test_killed_processes_go_on_in_another_number(
    forge: Forge, tiny_model: Path, set_of_one_process: dict[str, str | None], tmp_path: Path, parts: int
) -> None:
    folder = tmp_path / "set"
    pids = start(forge, tiny_model, folder, 4)
    limit = time.monotonic() + WAIT_SECONDS
    while len(list(folder.rglob("*.nii.gz"))) < 3 and time.monotonic() < limit:
        time.sleep(0.001)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert set(map(forge.wait, pids)) <= {-signal.SIGKILL, 0}
    assert [forge.wait(pid) for pid in start(forge, tiny_model, folder, parts)] == [0] * parts
    assert contents(folder) == set_of_one_process
