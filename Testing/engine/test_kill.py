"""`generate` killed at any moment: every file there is whole, and `--resume` neither repeats nor skips a case."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import SimpleITK as sitk
from PIL import Image

from cardiac_diffusion_aug.manifest import COLUMNS
from files import contents
from tiny import Forge

pytest_plugins = ["tiny"]

COUNT = 12
NAMES = [f"synthetic0_{case:06d}" for case in range(COUNT)]
KILLS = 6
LONGEST_DELAY = 1.0
WAIT_SECONDS = 120.0


@pytest.fixture(scope="module")
def uninterrupted(forge: Forge, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set as it is when nothing happens."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    assert forge.run(arguments(tiny_model, folder), folder.with_name("log")) == 0
    return folder


def arguments(model: Path, folder: Path, *more: str) -> list[str | Path]:
    common: list[str | Path] = ["generate", "--no-filter", "--model", model, "--device", "cpu", "--output", folder]
    return [*common, "--count", str(COUNT), "--quiet", *more]


def lines(folder: Path) -> list[list[str]]:
    """Lines of the manifest, each of them whole."""
    path = folder / "manifest.csv"
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    head, *rows = csv.reader(text.splitlines())
    assert head == list(COLUMNS)
    assert all(len(row) == len(COLUMNS) for row in rows)
    return rows


def require_whole_files(folder: Path) -> None:
    """Whatever has its final name is whole, and a case with a line has its files."""
    for path in folder.rglob("*"):
        if path.is_dir() or path.name.startswith("."):
            continue
        if path.name.endswith(".nii.gz"):
            stack = sitk.ReadImage(str(path))
            assert stack.GetSize() == (128, 128, 1)
        elif path.name == "dataset.json":
            json.loads(path.read_text())
        elif path.name == "preview.png":
            Image.open(path).load()
        else:
            assert path.name == "manifest.csv"
    names = [row[0] for row in lines(folder)]
    assert names == NAMES[: len(names)]
    for name in names:
        assert (folder / "imagesTr" / f"{name}_0000.nii.gz").is_file()
        assert (folder / "labelsTr" / f"{name}.nii.gz").is_file()


def require_same_data_set(folder: Path, expected: Path) -> None:
    assert contents(folder) == contents(expected)
    assert not list(folder.rglob(".*"))


def kill_after_first_file(forge: Forge, call: list[str | Path], folder: Path, delay: float) -> bool:
    """Start the command, kill it some time after it began to write, and tell whether it was still at work."""
    pid = forge.start(call, folder.with_name("log"))
    limit = time.monotonic() + WAIT_SECONDS
    before = len(list(folder.rglob("*.nii.gz")))
    while len(list(folder.rglob("*.nii.gz"))) == before and time.monotonic() < limit:
        time.sleep(0.001)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    code = forge.wait(pid)
    assert code in (-signal.SIGKILL, 0), folder.with_name("log").read_text()
    return code != 0


def test_a_killed_run_goes_on(forge: Forge, tiny_model: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """Killed again and again, each time after it went on."""
    assert [row[0] for row in lines(uninterrupted)] == NAMES
    folder = tmp_path / "set"
    moments = random.Random(0)
    killed = 0
    for _ in range(KILLS):
        delay = moments.uniform(0, LONGEST_DELAY) * moments.random()
        killed += kill_after_first_file(forge, arguments(tiny_model, folder, "--resume"), folder, delay)
        require_whole_files(folder)
        if len(lines(folder)) == COUNT:
            break
    assert killed > 0
    made = {path: path.stat().st_mtime_ns for path in finished_files(folder)}
    assert forge.run(arguments(tiny_model, folder, "--resume"), tmp_path / "log") == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    require_same_data_set(folder, uninterrupted)


def finished_files(folder: Path) -> list[Path]:
    return [path for row in lines(folder) for path in folder.rglob(f"{row[0]}*.nii.gz")]


def test_a_run_killed_before_its_first_case_begins_again(
    forge: Forge,
    tiny_model: Path,
    uninterrupted: Path,
    tmp_path: Path,
) -> None:
    """As soon as its folder is there; what it holds then need not be more than a beginning."""
    folder = tmp_path / "set"
    pid = forge.start(arguments(tiny_model, folder), tmp_path / "log")
    limit = time.monotonic() + WAIT_SECONDS
    while not folder.exists() and time.monotonic() < limit:
        pass
    os.kill(pid, signal.SIGKILL)
    assert forge.wait(pid) == -signal.SIGKILL
    require_whole_files(folder)
    assert forge.run(arguments(tiny_model, folder, "--resume"), tmp_path / "log") == 0
    require_same_data_set(folder, uninterrupted)


def test_what_was_left_unfinished_is_removed(
    forge: Forge,
    tiny_model: Path,
    uninterrupted: Path,
    tmp_path: Path,
) -> None:
    """A kill between any two of a case's files, as it looks on disk."""
    folder = tmp_path / "set"
    assert forge.run(arguments(tiny_model, folder), tmp_path / "log") == 0
    manifest = folder / "manifest.csv"
    rows = manifest.read_text().splitlines(keepends=True)
    torn = NAMES[-1]
    manifest.write_text("".join(rows[:-1]) + rows[-1][:20])
    (folder / ".unfinished").write_text(torn)
    (folder / "labelsTr" / f"{torn}.nii.gz").rename(folder / "labelsTr" / f".part-{torn}.nii.gz")
    (folder / ".part-preview.png").write_bytes(b"torn")
    (folder / ".part-manifest.csv").write_bytes(b"torn")
    assert forge.run(arguments(tiny_model, folder, "--resume"), tmp_path / "log") == 0
    require_same_data_set(folder, uninterrupted)
