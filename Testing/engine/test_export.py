"""Data sets on disk: each file whole at any moment, and nothing touched that is not ours."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.export import DatasetWriter
from cardiac_diffusion_aug.manifest import COLUMNS, MANIFEST
from files import contents
from tiny import Killed, SmallDisk

pytest_plugins = ["tiny"]

SETTINGS = {"job": "generate", "seed": 0, "level": 1 / 6, "phase": None}
SPACING = (1.5, 1.5, 8.0)
FACTS = {"seed": 0, "case": 3, "phase": "ED", "level": None, "model": "tiny, the one"}


def stacks(seed: int = 0, shape: tuple[int, int, int] = (1, 128, 128)) -> tuple[sitk.Image, sitk.Image]:
    """An image that does not compress, and a mask with a heart."""
    made = []
    labels = np.zeros(shape, np.uint8)
    rows, columns = shape[1:]
    labels[:, rows // 3 : rows // 2, columns // 3 : columns // 2] = 1 + seed % 3
    for array in (np.random.default_rng(seed).integers(0, 256, shape, np.uint8), labels):
        stack = sitk.GetImageFromArray(array)
        stack.SetSpacing(SPACING)
        made.append(stack)
    return made[0], made[1]


def fill(writer: DatasetWriter, *cases: int) -> None:
    for case in cases:
        writer.add(f"case{case}", *stacks(case), {**FACTS, "case": case})


def made(folder: Path, *cases: int) -> DatasetWriter:
    """A finished data set."""
    writer = DatasetWriter(folder, SETTINGS)
    fill(writer, *cases)
    writer.finish()
    return writer


def manifest(folder: Path) -> list[dict[str, str]]:
    text = (folder / "manifest.csv").read_text(encoding="utf-8")
    assert text.endswith("\n")
    rows = list(csv.DictReader(text.splitlines()))
    assert all(None not in row and None not in row.values() for row in rows)
    return rows


def names(folder: Path) -> list[str]:
    return [row["name"] for row in manifest(folder)]


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


def require_whole(folder: Path, *cases: int) -> None:
    """These cases are there as they were made, and nothing else is."""
    assert names(folder) == [f"case{case}" for case in cases]
    found = {path.name for kind in ("imagesTr", "labelsTr") for path in (folder / kind).iterdir()}
    assert found == {name for case in cases for name in (f"case{case}_0000.nii.gz", f"case{case}.nii.gz")}
    for case in cases:
        paths = (folder / "imagesTr" / f"case{case}_0000.nii.gz", folder / "labelsTr" / f"case{case}.nii.gz")
        for path, expected in zip(paths, stacks(case), strict=True):
            stack = sitk.ReadImage(str(path))
            np.testing.assert_array_equal(sitk.GetArrayFromImage(stack), sitk.GetArrayFromImage(expected))
            assert stack.GetSpacing() == pytest.approx(SPACING)


def refused(folder: Path, words: str, **options: Any) -> None:
    code, settings = options.pop("code", "bad_output"), options.pop("settings", SETTINGS)
    with pytest.raises(CardiacError, match=words) as caught:
        DatasetWriter(folder, settings, **options)
    assert caught.value.code == code
    assert str(folder) in str(caught.value)


# What is written


def test_a_data_set_is_what_nnunet_takes(tmp_path: Path) -> None:
    made(tmp_path / "new" / "set", 0, 1, 2)
    folder = tmp_path / "new" / "set"
    require_whole(folder, 0, 1, 2)
    description = json.loads((folder / "dataset.json").read_text())
    assert description["numTraining"] == 3
    assert description["labels"] == {"background": 0, "LV": 1, "MYO": 2, "RV": 3}
    assert description["file_ending"] == ".nii.gz"
    assert list(description["channel_names"]) == ["0"]
    assert not hidden(folder)


def test_a_manifest_says_how_each_case_was_made(tmp_path: Path) -> None:
    made(tmp_path, 3)
    row = manifest(tmp_path)[0]
    assert tuple(row) == COLUMNS
    assert row["name"] == "case3"
    assert {name: row[name] for name in FACTS} == {name: "" if v is None else str(v) for name, v in FACTS.items()}
    assert row["kept"] == "yes"
    assert row["source"] == ""


def test_odd_texts_keep_the_manifest_whole(tmp_path: Path) -> None:
    source = 'Prüfung ♥, "quoted"\nand broken'
    writer = DatasetWriter(tmp_path, SETTINGS)
    writer.add("a b ♥", *stacks(), {"source": source})
    writer = DatasetWriter(tmp_path, SETTINGS, resume=True)
    assert writer.done == {"a b ♥"}
    with (tmp_path / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        assert next(csv.DictReader(stream))["source"] == source


def test_a_preview_shows_the_first_cases(tmp_path: Path) -> None:
    made(tmp_path, *range(2))
    small = Image.open(tmp_path / "preview.png").size
    made(tmp_path / "more", *range(20))
    large = Image.open(tmp_path / "more" / "preview.png").size
    assert large[1] > small[1]
    # Sixteen are enough for the eye.
    made(tmp_path / "sixteen", *range(16))
    assert (tmp_path / "sixteen" / "preview.png").read_bytes() == (tmp_path / "more" / "preview.png").read_bytes()


def test_a_preview_takes_stacks_of_any_size(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, SETTINGS)
    for index, shape in enumerate([(1, 128, 128), (9, 300, 40), (2, 700, 700)]):
        writer.add(f"case{index}", *stacks(0, shape), {})
    image, mask = stacks()
    writer.add("empty", image, mask * 0, {})
    writer.add("large and empty", sitk.Expand(image, [2, 2, 1]), sitk.Expand(mask * 0, [2, 2, 1]), {})
    preview = Image.open(writer.finish())
    assert max(preview.size) < 2000


def test_a_data_set_without_cases_has_no_preview(tmp_path: Path) -> None:
    made(tmp_path)
    assert not (tmp_path / "preview.png").exists()
    assert names(tmp_path) == []


# Going on, and beginning again


def test_a_data_set_goes_on(tmp_path: Path) -> None:
    made(tmp_path, 0, 1)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nii.gz")}
    writer = DatasetWriter(tmp_path, SETTINGS, resume=True)
    assert writer.done == {"case0", "case1"}
    assert writer.count == 2
    fill(writer, 2)
    writer.finish()
    require_whole(tmp_path, 0, 1, 2)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert json.loads((tmp_path / "dataset.json").read_text())["numTraining"] == 3


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_nothing_to_go_on_with_is_a_beginning(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    for option in ("resume", "overwrite"):
        options: dict[str, Any] = {option: True}
        assert DatasetWriter(tmp_path / folder / option, SETTINGS, **options).done == frozenset()


def test_a_data_set_is_kept_unless_told(tmp_path: Path) -> None:
    made(tmp_path, 0)
    before = contents(tmp_path)
    refused(tmp_path, "--resume to go on with it or --overwrite")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("changes", [{"seed": 1}, {"level": 0.5}, {"phase": "ED"}, {"more": 1}])
def test_other_settings_do_not_go_on(tmp_path: Path, changes: dict[str, Any]) -> None:
    made(tmp_path, 0)
    before = contents(tmp_path)
    refused(tmp_path, f"another {next(iter(changes))}", settings={**SETTINGS, **changes}, resume=True)
    assert contents(tmp_path) == before


def test_overwriting_removes_our_cases_only(tmp_path: Path) -> None:
    made(tmp_path, 0, 1, 2)
    mine = [tmp_path / "imagesTr" / "mine_0000.nii.gz", tmp_path / "labelsTr" / "mine.nii.gz", tmp_path / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    writer = DatasetWriter(tmp_path, {**SETTINGS, "seed": 9}, overwrite=True)
    assert not list(tmp_path.rglob("case*"))
    assert not (tmp_path / "preview.png").exists()
    assert writer.done == frozenset()
    fill(writer, 1)
    writer.finish()
    assert names(tmp_path) == ["case1"]
    assert json.loads((tmp_path / "dataset.json").read_text())["cardiac_diffusion_aug"]["seed"] == 9
    assert [path.read_text() for path in mine] == ["mine"] * 3


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}], ids=str)
@pytest.mark.parametrize(
    "files",
    [
        {"thesis.txt": "mine"},
        {".hidden": "mine"},
        {"folder/scan.nii.gz": "mine"},
        {"dataset.json": '{"labels": {}, "numTraining": 3}', "imagesTr/a_0000.nii.gz": "mine"},
        {"dataset.json": "torn"},
        {"dataset.json": '{"cardiac_diffusion_aug": 1}'},
        {"dataset.json": "[" * 100_000},
        {"manifest.csv": "name\ncase0\n", "imagesTr/case0_0000.nii.gz": "mine"},
    ],
    ids=lambda files: "+".join(files),
)
def test_a_foreign_folder_is_not_touched(tmp_path: Path, files: dict[str, str], options: dict[str, bool]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    refused(tmp_path, "did not make; choose an empty folder", **options)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "line",
    [
        "../../outside,",
        "/tmp/outside,",
        ",",
        "short",
        "case9" + "," * (len(COLUMNS) + 3),
        '"unfinished',
        "a\0b,",
    ],
)
def test_a_manifest_that_is_not_ours_removes_nothing(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "a" / "set"
    made(folder, 0)
    (tmp_path / "outside_0000.nii.gz").write_text("mine")
    if line.endswith(","):
        line += "," * (len(COLUMNS) - 2)
    with (folder / "manifest.csv").open("a") as stream:
        stream.write(line + "\n")
    before = contents(tmp_path)
    for options in ({"resume": True}, {"overwrite": True}):
        refused(folder, "manifest.csv is not as this program wrote it", **options)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("head", [b"", b"name;patient\n", b"\xff\xfe\n", b"patient,name\n"])
def test_another_head_of_the_manifest_is_refused(tmp_path: Path, head: bytes) -> None:
    made(tmp_path, 0)
    path = tmp_path / "manifest.csv"
    path.write_bytes(head + path.read_bytes().partition(b"\n")[2])
    refused(tmp_path, "manifest.csv is not as this program wrote it", resume=True)


def test_a_manifest_that_a_spreadsheet_wrote_is_read(tmp_path: Path) -> None:
    made(tmp_path, 0, 1)
    path = tmp_path / "manifest.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"yes", b"no").replace(b"\n", b"\r\n"))
    assert DatasetWriter(tmp_path, SETTINGS, resume=True).done == {"case0", "case1"}
    assert [row["kept"] for row in manifest(tmp_path)] == ["no", "no"]


# After a crash


@pytest.mark.parametrize("kept", [1, 5, 6, 30, -1])
def test_a_torn_line_is_made_again(tmp_path: Path, kept: int) -> None:
    made(tmp_path, 0, 1)
    path = tmp_path / "manifest.csv"
    head, first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([head, first, second[:kept]]))
    writer = DatasetWriter(tmp_path, SETTINGS, resume=True)
    assert writer.done == {"case0"}
    fill(writer, 1)
    writer.finish()
    require_whole(tmp_path, 0, 1)


@pytest.mark.parametrize("name", ["imagesTr/case0_0000.nii.gz", "labelsTr/case0.nii.gz"])
def test_a_case_without_its_files_is_made_again(tmp_path: Path, name: str) -> None:
    made(tmp_path, 0, 1)
    (tmp_path / name).unlink()
    writer = DatasetWriter(tmp_path, SETTINGS, resume=True)
    assert writer.done == {"case1"}
    assert writer.count == 1
    fill(writer, 0)
    writer.finish()
    require_whole(tmp_path, 1, 0)


def test_a_line_that_stands_twice_counts_once(tmp_path: Path) -> None:
    made(tmp_path, 0, 1)
    path = tmp_path / "manifest.csv"
    path.write_bytes(path.read_bytes() + path.read_bytes().partition(b"\n")[2])
    assert DatasetWriter(tmp_path, SETTINGS, resume=True).count == 2
    require_whole(tmp_path, 0, 1)


@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}], ids=str)
@pytest.mark.parametrize("moment", range(40))
def test_a_kill_at_any_moment_leaves_whole_files(
    tmp_path: Path, moment: int, options: dict[str, Any], kill_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    kill_at(moment)
    try:
        made(folder, 0, 1)
    except Killed:
        monkeypatch.undo()
    else:
        assert moment > 20
        return
    for path in folder.rglob("*.nii.gz"):
        assert path.name.startswith(".part-") or sitk.ReadImage(str(path)).GetSize() == (128, 128, 1)
    finished = names(folder) if (folder / "manifest.csv").exists() else []
    assert finished == ["case0", "case1"][: len(finished)]
    writer = DatasetWriter(folder, SETTINGS, **options)
    assert writer.done == (frozenset(finished) if "resume" in options else frozenset())
    # Fewer than before, so that nothing paints over what was left.
    if "overwrite" in options:
        fill(writer, 5)
        writer.finish()
        require_whole(folder, 5)
    else:
        fill(writer, *(case for case in (0, 1) if f"case{case}" not in writer.done))
        writer.finish()
        require_whole(folder, 0, 1)
    assert not hidden(folder)


# What the file system refuses


def test_a_full_disk_keeps_what_was_made(small_disk: SmallDisk) -> None:
    folder = small_disk.folder / "set"
    writer = DatasetWriter(folder, SETTINGS)
    with pytest.raises(CardiacError, match="is full; free some space and go on with --resume") as caught:
        fill(writer, *range(10))
    assert caught.value.code == "disk_full"
    assert 0 < writer.count < 10
    done = range(writer.count)
    require_whole(folder, *done)
    small_disk.change("size=8m")
    writer = DatasetWriter(folder, SETTINGS, resume=True)
    assert len(writer.done) == len(done)
    fill(writer, *range(len(done), 10))
    writer.finish()
    require_whole(folder, *range(10))
    assert not hidden(folder)


def test_a_disk_that_is_full_from_the_start_is_told(small_disk: SmallDisk) -> None:
    with (small_disk.folder / "filler").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        # Until not one page is left.
        while stream.write(bytes(4096)):
            pass
    refused(small_disk.folder / "set", "is full", code="disk_full")


def test_a_read_only_disk_is_told(small_disk: SmallDisk) -> None:
    small_disk.change("size=8m")
    made(small_disk.folder / "set", 0)
    small_disk.change("ro")
    before = contents(small_disk.folder)
    refused(small_disk.folder / "new", "cannot be written .Read-only file system")
    refused(small_disk.folder / "set", "cannot be written .Read-only file system", resume=True)
    refused(small_disk.folder / "set", "cannot be written .Read-only file system", overwrite=True)
    assert contents(small_disk.folder) == before


def test_a_file_that_breaks_off_never_appears(tmp_path: Path) -> None:
    """ITK says nothing when it could write a part only; here since files are limited in size."""
    resource = pytest.importorskip("resource")
    writer = DatasetWriter(tmp_path, SETTINGS)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CardiacError, match="cannot be written") as caught:
            fill(writer, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.code == "bad_output"
    require_whole(tmp_path)
    fill(writer, 0)
    writer.finish()
    require_whole(tmp_path, 0)
    assert not hidden(tmp_path)


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "disk_full"), (errno.EROFS, "bad_output")])
@pytest.mark.parametrize("call", ["replace", "write", "open"])
def test_what_the_system_refuses_leaves_no_half_case(
    tmp_path: Path, call: str, number: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = DatasetWriter(tmp_path, SETTINGS)
    fill(writer, 0)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(CardiacError) as caught:
        fill(writer, 1)
    monkeypatch.undo()
    assert caught.value.code == code
    require_whole(tmp_path, 0)
    fill(writer, 1)
    writer.finish()
    require_whole(tmp_path, 0, 1)


def test_a_line_that_fits_in_part_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = DatasetWriter(tmp_path, SETTINGS)
    fill(writer, 0)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:7]))
    with pytest.raises(CardiacError, match="is full"):
        fill(writer, 1)
    monkeypatch.undo()
    require_whole(tmp_path, 0)


@pytest.mark.parametrize("name", ["file", "file/sub/set", "x" * 300, "a\0b"])
def test_a_folder_that_cannot_be_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises((CardiacError, ValueError)) as caught:
        DatasetWriter(tmp_path / name, SETTINGS)
    # A path with a zero byte never comes here: parameters are checked before.
    assert isinstance(caught.value, CardiacError) == ("\0" not in name)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_smallest_stack_is_written(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, SETTINGS)
    writer.add("dot", sitk.Image([1, 1, 1], sitk.sitkUInt8), sitk.Image([1, 1, 1], sitk.sitkInt16), {})
    assert MANIFEST in {path.name for path in tmp_path.iterdir()}
    assert names(tmp_path) == ["dot"]


def test_what_another_job_made_is_not_touched(tmp_path: Path) -> None:
    DatasetWriter(tmp_path / "set", SETTINGS).finish()
    with pytest.raises(CardiacError, match=r"'generate' made; choose another folder for 'synthesize'"):
        DatasetWriter(tmp_path / "set", {**SETTINGS, "job": "synthesize"}, overwrite=True)
