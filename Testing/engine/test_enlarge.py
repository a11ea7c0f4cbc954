"""Data sets of others are added to in their own way, never damaged, and whole after a kill."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from cardiac_diffusion_aug.cli import main
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.enlarge import Enlarger
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.export import DatasetWriter
from cardiac_diffusion_aug.labels import LV, MYO, RV
from files import contents
from phantom import phantom_stack
from tiny import SmallDisk

pytest_plugins = ["tiny"]

LABELS = {"background": 0, "RV cavity": 1, "Myocardium": 2, "LV cavity": 3}
THEIRS = {0: 0, LV: 3, MYO: 2, RV: 1}
ENGINE = Path(__file__).resolve().parents[2] / "CardiacDiffusionAug"


def heart(seed: int = 0) -> tuple[sitk.Image, sitk.Image]:
    return phantom_stack(2, (96, 96), (2.0, 2.0, 8.0), seed=seed)


def theirs(mask: sitk.Image) -> np.ndarray:
    """Its labels in the order of the data set."""
    return np.vectorize(THEIRS.get)(sitk.GetArrayFromImage(mask))


def made(root: Path, ending: str = ".nii.gz", cases: int = 2, **more: Any) -> Path:
    """A data set of somebody else's."""
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir(parents=True)
    for index in range(cases):
        image, mask = heart(index)
        own = sitk.GetImageFromArray(theirs(mask).astype(np.uint8))
        own.CopyInformation(image)
        sitk.WriteImage(image, str(root / "imagesTr" / f"heart_{index}_0000{ending}"))
        sitk.WriteImage(own, str(root / "labelsTr" / f"heart_{index}{ending}"))
    content = {
        "channel_names": {"0": "MR"},
        "labels": LABELS,
        "numTraining": cases,
        "file_ending": ending,
        "name": "Herzen ♥",
        **more,
    }
    (root / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def described(root: Path) -> dict[str, Any]:
    return json.loads((root / "dataset.json").read_text(encoding="utf-8"))


def require_valid(root: Path, *names: str) -> None:
    """Image, mask and count agree, and nothing else is there."""
    ending = described(root)["file_ending"]
    assert {p.name for p in (root / "imagesTr").iterdir()} == {f"{name}_0000{ending}" for name in names}
    assert {p.name for p in (root / "labelsTr").iterdir()} == {f"{name}{ending}" for name in names}
    assert described(root)["numTraining"] == len(names)
    assert not list(root.rglob(".*"))
    for case in read_cases(root)[1]:
        loaded = case.load()
        assert loaded.mask is not None
        assert set(np.unique(sitk.GetArrayFromImage(loaded.mask))) == {0, LV, MYO, RV}


# What is added


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_case_is_added_in_the_set_s_order_and_format(tmp_path: Path, ending: str) -> None:
    root = made(tmp_path / "set", ending)
    before = contents(root)
    description = described(root)
    image, mask = heart(7)
    enlarger = Enlarger(root)
    assert (enlarger.count, enlarger.ending) == (2, ending)
    told = enlarger.add("new", image, mask)
    assert enlarger.finish() == 3
    assert told == {
        "name": "new",
        "image": str(root / "imagesTr" / f"new_0000{ending}"),
        "mask": str(root / "labelsTr" / f"new{ending}"),
    }
    stored = sitk.ReadImage(told["mask"])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(stored), theirs(mask))
    assert stored.GetSpacing() == pytest.approx(image.GetSpacing())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(told["image"])), sitk.GetArrayFromImage(image))
    require_valid(root, "heart_0", "heart_1", "new")
    assert described(root) == {**description, "numTraining": 3}
    del before["dataset.json"]
    assert {name: content for name, content in contents(root).items() if name in before} == before


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    root = made(tmp_path / "set")
    enlarger = Enlarger(root)
    names = [enlarger.add(name, *heart(seed))["name"] for seed, name in enumerate(["Heart_0", "heart_0", "x", "x"], 3)]
    assert names == ["Heart_0_2", "heart_0_3", "x", "x_2"]
    enlarger.finish()
    require_valid(root, "heart_0", "heart_1", *names)


def test_a_case_that_was_added_is_found_again(tmp_path: Path) -> None:
    root = made(tmp_path / "set")
    enlarger = Enlarger(root)
    enlarger.add("heart_0", *heart(5))
    assert enlarger.find("heart_0", *heart(5)) == "heart_0_2"
    assert enlarger.find("heart_0", *heart(0)) == "heart_0"
    assert enlarger.find("heart_0", *heart(6)) is None
    assert enlarger.find("heart_0", heart(5)[0], heart(0)[1]) is None


def test_a_slice_of_two_dimensions_is_added_as_a_stack(tmp_path: Path) -> None:
    root = made(tmp_path / "set")
    image, mask = (stack[:, :, 0] for stack in heart(4))
    told = Enlarger(root).add("flat", image, mask)
    assert sitk.ReadImage(told["image"]).GetSize() == (96, 96, 1)


def test_lists_of_cases_are_continued_in_their_manner(tmp_path: Path) -> None:
    listed = {
        f"heart_{i}": {"images": [f"imagesTr/heart_{i}_0000.nii.gz"], "label": f"labelsTr/heart_{i}.nii.gz"}
        for i in range(2)
    }
    training = [{"image": f"./imagesTr/heart_{i}.nii.gz", "label": f"./labelsTr/heart_{i}.nii.gz"} for i in range(2)]
    root = made(tmp_path / "set", dataset=listed, training=training)
    enlarger = Enlarger(root)
    enlarger.add("new", *heart(7))
    enlarger.finish()
    entry = {"images": ["imagesTr/new_0000.nii.gz"], "label": "labelsTr/new.nii.gz"}
    assert described(root)["dataset"] == {**listed, "new": entry}
    new = {"image": "./imagesTr/new.nii.gz", "label": "./labelsTr/new.nii.gz"}
    assert described(root)["training"] == [*training, new]
    require_valid(root, "heart_0", "heart_1", "new")


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("heart_0", "new"),
        ("heart_0_0000.nii.gz", "new_0000.nii.gz"),
        ("imagesTr/heart_0.nii.gz", "imagesTr/new.nii.gz"),
    ],
)
def test_lists_of_names_are_continued_too(tmp_path: Path, example: str, expected: str) -> None:
    root = made(tmp_path / "set", training=[example])
    Enlarger(root).add("new", *heart(7))
    assert described(root)["training"] == [example, expected]


def test_a_set_of_this_program_keeps_its_manifest(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "set", {"job": "generate"})
    image, mask = heart(1)
    grey = sitk.Cast(sitk.RescaleIntensity(image, 0, 255), sitk.sitkUInt8)
    writer.add("one", grey, mask, {"patient": "one"})
    writer.finish()
    enlarger = Enlarger(tmp_path / "set")
    with pytest.raises(CardiacError, match="grey levels outside 0 to 255"):
        enlarger.add("bright", image, mask)
    enlarger.add("two", grey, mask, {"phase": "ES"})
    enlarger.finish()
    again = DatasetWriter(tmp_path / "set", {"job": "generate"}, resume=True)
    assert again.done == {"one", "two"}
    assert [case.phase for case in read_cases(tmp_path / "set")[1]] == [None, "ES"]


# What is refused


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"channel_names": {"0": "MR", "1": "CT"}}, "names 2 channels"),
        ({"channel_names": {}}, "does not name its one channel"),
        ({"channel_names": None}, "does not name its one channel"),
        ({"labels": {"background": 0, "LV": 1, "MYO": 2}}, "no label for RV"),
        ({"labels": {"background": 0, "LV": [1, 2], "MYO": 2, "RV": 3}}, "region of several values"),
        ({"labels": {"background": 0, "LV": 1, "LVC": 4, "MYO": 2, "RV": 3}}, "several labels to one structure"),
        ({"labels": {"0": "background", "1": "LV"}}, "version 1"),
        ({"file_ending": ".png"}, "end in '.png'"),
        ({"file_ending": None}, "does not tell the file ending"),
    ],
)
def test_a_set_that_cannot_be_added_to_is_refused(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    root = made(tmp_path / "set", **more)
    before = contents(root)
    with pytest.raises(CardiacError, match=words):
        Enlarger(root)
    assert contents(root) == before


@pytest.mark.parametrize("missing", ["imagesTr", "labelsTr", "dataset.json", ""])
def test_a_folder_that_is_no_set_is_refused(tmp_path: Path, missing: str) -> None:
    root = made(tmp_path / "set")
    path = root / missing
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(CardiacError, match=r"dataset\.json"):
        Enlarger(root)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a\0b", "x" * 300])
def test_names_that_are_no_files_are_refused(tmp_path: Path, name: str) -> None:
    root = made(tmp_path / "set")
    enlarger = Enlarger(root)
    with pytest.raises(CardiacError):
        enlarger.add(name, *heart(3))
    enlarger.finish()
    require_valid(root, "heart_0", "heart_1")


def test_cases_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    root = made(tmp_path / "set")
    enlarger = Enlarger(root)
    image, mask = heart(3)
    with pytest.raises(CardiacError, match="differ in size"):
        enlarger.add("small", image, mask[:50])
    with pytest.raises(CardiacError, match="labels besides"):
        enlarger.add("odd", image, mask * 2)
    with pytest.raises(CardiacError, match="NaN"):
        enlarger.add("nan", sitk.Cast(image, sitk.sitkFloat32) * float("nan"), mask)
    enlarger.finish()
    require_valid(root, "heart_0", "heart_1")


# Faults and kills


def test_a_full_disk_leaves_no_half_case(small_disk: SmallDisk) -> None:
    root = made(small_disk.folder / "set", cases=1)
    enlarger = Enlarger(root)
    added: list[str] = []

    def fill() -> None:
        for number in range(1, 20):
            added.append(enlarger.add(f"new{number}", *heart(number))["name"])

    with pytest.raises(CardiacError, match="is full; free some space and add the case again") as caught:
        fill()
    assert caught.value.code == "disk_full"
    enlarger.finish()
    require_valid(root, "heart_0", *added)
    small_disk.change("size=8m")
    added.append(enlarger.add(f"new{len(added) + 1}", *heart(30))["name"])
    enlarger.finish()
    require_valid(root, "heart_0", *added)


def test_a_read_only_folder_is_told(small_disk: SmallDisk) -> None:
    small_disk.change("size=8m")
    root = made(small_disk.folder / "set")
    small_disk.change("ro")
    before = contents(root)
    with pytest.raises(CardiacError, match=r"cannot be written .Read-only file system") as caught:
        Enlarger(root).add("new", *heart(7))
    assert caught.value.code == "bad_output"
    assert contents(root) == before


def test_a_file_that_breaks_off_never_appears(tmp_path: Path) -> None:
    """Here since files are limited in size."""
    resource = pytest.importorskip("resource")
    root = made(tmp_path / "set")
    enlarger = Enlarger(root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CardiacError, match="cannot be written"):
            enlarger.add("new", *heart(7))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    enlarger.finish()
    require_valid(root, "heart_0", "heart_1")


@pytest.mark.parametrize("failing", range(1, 5))
def test_what_the_system_refuses_leaves_no_half_case(
    tmp_path: Path, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renames: of the note, the image, the mask and `dataset.json`."""
    root = made(tmp_path / "set")
    enlarger = Enlarger(root)
    replace, calls = os.replace, []

    def refuse(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CardiacError) as caught:
        enlarger.add("new", *heart(7))
    monkeypatch.undo()
    assert caught.value.code == "disk_full"
    assert described(root)["numTraining"] == enlarger.finish() == 2
    require_valid(root, "heart_0", "heart_1")
    assert enlarger.add("new", *heart(7))["name"] == "new"
    enlarger.finish()
    require_valid(root, "heart_0", "heart_1", "new")


class Killed(BaseException):
    """As SIGKILL: what follows in the program does not happen."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes the program stop before its n-th change of a path, leaving all as it is."""
    real = {name: getattr(os, name) for name in ("replace", "unlink", "mkdir", "rmdir")}
    left = [-1]

    def stops(name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real[name](*arguments, **options)

        return call

    def arm(count: int) -> None:
        left[0] = count
        for name in real:
            monkeypatch.setattr(os, name, stops(name))

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("moment", range(20))
def test_a_kill_at_any_moment_is_mended(
    tmp_path: Path, moment: int, listed: bool, kill_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    more: dict[str, Any] = {"training": ["heart_0", "heart_1"]} if listed else {}
    root = made(tmp_path / "set", **more)
    enlarger = Enlarger(root)
    kill_at(moment)
    try:
        for seed in (8, 9):
            enlarger.add(f"new{seed}", *heart(seed))
        enlarger.finish()
    except Killed:
        monkeypatch.undo()
    else:
        assert moment > 8
        return
    # At every moment it can be read, whatever is whole in it is whole, and the old cases are in it.
    there = [case.load() for case in read_cases(root)[1] if case.labelled]
    assert {"heart_0", "heart_1"} <= {loaded.case.name for loaded in there}
    again = Enlarger(root)
    for seed in (8, 9):
        if again.find(f"new{seed}", *heart(seed)) is None:
            assert again.add(f"new{seed}", *heart(seed))["name"] == f"new{seed}"
    assert again.finish() == 4
    require_valid(root, "heart_0", "heart_1", "new8", "new9")
    if listed:
        assert described(root)["training"] == ["heart_0", "heart_1", "new8", "new9"]


# Inside Slicer


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "PIL", "diffusers", "monai", "matplotlib", "accelerate", "scipy", "psutil"}:
            raise ImportError(name, name=name)
sys.meta_path.insert(0, Absent())
import numpy as np, SimpleITK as sitk
from pathlib import Path
from cardiac_diffusion_aug.enlarge import Enlarger
from cardiac_diffusion_aug.export import DatasetWriter
enlarger = Enlarger(Path(sys.argv[1]))
image, mask = (sitk.GetImageFromArray(np.full((1, 128, 128), value, np.uint8)) for value in (9, 1))
for stack in (image, mask):
    stack.SetSpacing((1.5, 1.5, 8.0))
enlarger.add("new", image, mask)
enlarger.finish()
writer = DatasetWriter(Path(sys.argv[2]), {"job": "slicer-save"})
writer.add("new", image, mask, {})
print(writer.finish())
"""


def test_data_sets_are_written_where_only_numpy_and_simpleitk_are(tmp_path: Path) -> None:
    root = made(tmp_path / "set")
    command: list[str | Path] = [sys.executable, "-c", WITHOUT, root, tmp_path / "new"]
    environment = {**os.environ, "PYTHONPATH": str(ENGINE)}
    subprocess.run(command, check=True, env=environment)
    assert described(root)["numTraining"] == 3
    preview = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "new" / "preview.png")))
    assert preview.shape[2] == 3
    assert preview.shape[1] > 3 * 128


# The command


def run(*arguments: object, code: int = 0) -> None:
    assert main(["enlarge", *map(str, arguments)]) == code


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Three made cases: kept, rejected, undecided."""
    writer = DatasetWriter(tmp_path / "made", {"job": "generate"})
    for seed, kept in enumerate(["yes", "no", ""]):
        image, mask = heart(seed + 20)
        grey = sitk.Cast(sitk.RescaleIntensity(image, 0, 255), sitk.sitkUInt8)
        writer.add(f"made{seed}", grey, mask, {"kept": kept})
    writer.finish()
    return tmp_path / "made"


def test_the_command_adds_kept_cases_once(tmp_path: Path, cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made(tmp_path / "set", ".nrrd")
    run("--cases", cases, "--into", root)
    require_valid(root, "heart_0", "heart_1", "made0")
    run("--cases", cases, "--into", root, "--all")
    require_valid(root, "heart_0", "heart_1", "made0", "made1", "made2")
    told, said = capsys.readouterr()
    assert "made0 is in" in said
    assert [line.split() for line in told.splitlines()[-2:]] == [["added", "2"], ["cases", "5"]]
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(root / "labelsTr" / "made1.nrrd")))
    np.testing.assert_array_equal(mask, theirs(heart(21)[1]))


def test_the_command_takes_all_of_a_set_without_manifest(tmp_path: Path, cases: Path) -> None:
    (cases / "manifest.csv").unlink()
    root = made(tmp_path / "set")
    run("--cases", cases, "--into", root)
    require_valid(root, "heart_0", "heart_1", "made0", "made1", "made2")


def test_the_command_says_what_is_wrong(tmp_path: Path, cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made(tmp_path / "set")
    run("--cases", root, "--into", root, code=2)
    assert "are both" in capsys.readouterr().err
    manifest = cases / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",yes", ","))
    run("--cases", cases, "--into", root, code=2)
    assert "calls no case kept" in capsys.readouterr().err
    require_valid(root, "heart_0", "heart_1")
