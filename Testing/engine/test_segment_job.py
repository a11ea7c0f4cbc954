"""The command `segment`: scans of all kinds to masks and measurements, and refusals in a sentence."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from cardiac_diffusion_aug.bundle import load_bundle, write_bundle
from cardiac_diffusion_aug.cli import PROGRAM, main
from cardiac_diffusion_aug.labels import LV
from cardiac_diffusion_aug.slices import same_geometry
from files import contents
from phantom import phantom_stack, write_acdc
from tiny_unet import tiny_unet_info

pytest_plugins = ["tiny", "tiny_unet"]

SHAPE = (128, 136)
TABLE, PREVIEW, DATASET = "measurements.csv", "preview.png", "dataset.json"
GOOD_DICE = 0.85


class Runner:
    """Runs `segment` with the small network.

    Attributes:
        scans: folder to put scans into.
        output: folder of the results, unless said otherwise.
        said: what the last run said on standard error.
        told: what it told on standard output.
    """

    def __init__(self, root: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.scans, self.output, self.model, self._capsys = root / "in", root / "out", model, capsys
        self.scans.mkdir()
        self.said = self.told = ""

    def __call__(self, source: Path, *options: str | Path, code: int = 0) -> Path:
        """Segment what is there, and return the folder of the results.

        In float32 on every machine: so small a network is not sure enough to bear the rounding of bfloat16.
        """
        defaults = ["--model", self.model, "--device", "cpu", "--precision", "fp32", "--output", self.output]
        assert main([str(a) for a in ("segment", "--input", source, *defaults, *options)]) == code
        self.told, self.said = self._capsys.readouterr()
        return self.output

    def refuse(self, source: Path, *options: str | Path, words: tuple[str, ...]) -> None:
        """Segment what cannot be; the one sentence must hold these words, and no file is made or changed."""
        before = contents(self.output)
        self(source, *options, code=2)
        assert self.told == ""
        assert self.said.count("\n") == 1
        # A bar of progress may have stood there, and was wiped out.
        line = self.said.rpartition("\r")[2].strip()
        assert line.startswith(f"{PROGRAM}: ")
        assert line.endswith(".")
        for word in words:
            assert word in line
        assert contents(self.output) == before

    def scan(self, name: str = "anna.nii.gz", change: Callable[[np.ndarray], Any] = lambda a: a) -> Path:
        """Write a scan of a heart with its array changed."""
        image = heart()[0]
        changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)))
        changed.SetSpacing(image.GetSpacing())
        sitk.WriteImage(changed, str(self.scans / name))
        return self.scans / name


@pytest.fixture
def segment(tmp_path: Path, tiny_unet: Path, capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(tmp_path, tiny_unet, capsys)


def heart(phase: str = "ED", seed: int = 40, slices: int = 3) -> tuple[sitk.Image, sitk.Image]:
    """A scan and its true mask."""
    return phantom_stack(slices, SHAPE, (1.8, 1.8, 8.0), phase, seed)


def masks_in(folder: Path) -> list[str]:
    """Names of the masks, once it is sure that there is nothing but results."""
    names = sorted(path.name for path in folder.iterdir())
    assert {TABLE, PREVIEW, DATASET} <= set(names)
    masks = [name for name in names if name not in (TABLE, PREVIEW, DATASET)]
    assert all(name.endswith(".nii.gz") and not name.startswith(".") for name in masks)
    return [name.removesuffix(".nii.gz") for name in masks]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def dice_of_lv(found: Path, true: sitk.Image) -> float:
    a, b = (sitk.GetArrayFromImage(image) == LV for image in (sitk.ReadImage(str(found)), true))
    return 2 * int((a & b).sum()) / int(a.sum() + b.sum())


def noise(array: np.ndarray) -> Any:
    return np.random.default_rng(0).integers(0, 1000, array.shape).astype(np.int16)


# What is segmented


def test_a_stack(segment: Runner) -> None:
    out = segment(segment.scan())
    assert masks_in(out) == ["anna"]
    image, true = heart()
    mask = sitk.ReadImage(str(out / "anna.nii.gz"))
    assert same_geometry(mask, image)
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert dice_of_lv(out / "anna.nii.gz", true) > GOOD_DICE
    (row,) = rows_of(out)
    assert (row["patient"], row["scan"], row["frame"]) == ("anna", "anna", "")
    lv = int((sitk.GetArrayFromImage(mask) == LV).sum()) * 1.8 * 1.8 * 8 / 1000
    assert float(row["LV_ml"]) == pytest.approx(lv, abs=0.051)
    description = json.loads((out / DATASET).read_text("utf-8"))
    assert description["labels"] == {"background": 0, "LV": 1, "MYO": 2, "RV": 3}
    assert "measurements" in segment.told


def test_a_folder_of_stacks(segment: Runner) -> None:
    for name in ("anna_ED.nii.gz", "anna_ED_gt.nii.gz", "anna_ED_SEG.nii.gz", "._anna_ED.nii.gz", "berta_0000.nii.gz"):
        segment.scan(name)
    sitk.WriteImage(heart("ES")[0], str(segment.scans / "anna_ES.NRRD"))
    (segment.scans / "notes.txt").write_text("no scan")
    out = segment(segment.scans)
    assert masks_in(out) == ["anna_ED", "anna_ES", "berta"]
    rows = {(row["scan"], row["phase"]): row for row in rows_of(out)}
    assert set(rows) == {("anna_ED", "ED"), ("anna_ES", "ES"), ("anna_ED+anna_ES", "ED+ES"), ("berta", "")}
    volumes = [float(rows[scan, phase]["LV_ml"]) for scan, phase in (("anna_ED", "ED"), ("anna_ES", "ES"))]
    function = rows["anna_ED+anna_ES", "ED+ES"]
    # The volumes, of some 20 ml, are told to 0.1 ml.
    assert float(function["LV_EF_percent"]) == pytest.approx(100 * (1 - volumes[1] / volumes[0]), abs=0.5)


def test_the_split_of_a_data_set(segment: Runner, tmp_path: Path) -> None:
    data = write_acdc(tmp_path / "acdc", 5, 3, SHAPE)
    # How sure so small a network is of a heart depends on the processor that it learned on.
    out = segment(data, "--split", "mod 5 == 4", "--insist")
    assert "ACDC" in segment.said
    assert masks_in(out) == ["patient004_ED", "patient004_ES"]
    *frames, function = rows_of(out)
    assert [(row["patient"], row["phase"]) for row in frames] == [("patient004", "ED"), ("patient004", "ES")]
    assert function["phase"] == "ED+ES"


def test_a_data_set_without_masks(segment: Runner, tmp_path: Path) -> None:
    """What has no masks is what one wants to segment."""
    data = write_acdc(tmp_path / "acdc", 1, 3, SHAPE)
    for path in data.rglob("*_gt.nii.gz"):
        path.unlink()
    assert masks_in(segment(data)) == ["patient001_ED", "patient001_ES"]


def test_a_cine(segment: Runner) -> None:
    frames = [heart("ED"), heart("ES"), heart("ED")]
    cine = sitk.JoinSeries([image for image, _ in frames], 0.0, 30.0)
    sitk.WriteImage(cine, str(segment.scans / "anna.nii.gz"))
    out = segment(segment.scans / "anna.nii.gz")
    mask, image = (sitk.ReadImage(str(folder / "anna.nii.gz")) for folder in (out, segment.scans))
    assert mask.GetDimension() == 4
    assert same_geometry(mask, image)
    *rows, function = rows_of(out)
    assert [row["frame"] for row in rows] == ["0", "1", "2"]
    assert function["frame"] in ("0+1", "2+1")
    true = [int((sitk.GetArrayFromImage(m) == LV).sum()) for _, m in frames]
    assert float(function["LV_EF_percent"]) == pytest.approx(100 * (1 - true[1] / true[0]), abs=8)
    assert masks_in(out) == ["anna"]
    # Resumed, it is measured anew from the mask that is there.
    before = contents(out)
    segment(segment.scans / "anna.nii.gz", "--resume")
    assert contents(out) == before


def test_a_cine_of_one_frame_is_a_stack(segment: Runner) -> None:
    sitk.WriteImage(sitk.JoinSeries([heart()[0]]), str(segment.scans / "anna.nii.gz"))
    out = segment(segment.scans / "anna.nii.gz")
    assert dice_of_lv(out / "anna.nii.gz", heart()[1]) > GOOD_DICE


@pytest.mark.parametrize("name", ["anna.nrrd", "anna.mha", "anna.nii", "anna.b.nii.gz", "ANNA.NRRD", "Jürgen ß.nrrd"])
def test_formats_and_names(segment: Runner, name: str) -> None:
    out = segment(segment.scan(name))
    stem = name.removesuffix(".gz").rpartition(".")[0]
    assert masks_in(out) == [stem]
    assert dice_of_lv(out / f"{stem}.nii.gz", heart()[1]) > GOOD_DICE


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_slice_without_a_third_axis(segment: Runner, suffix: str) -> None:
    image, true = heart()
    path = segment.scans / f"anna{suffix}"
    sitk.WriteImage(image[:, :, 1], str(path))
    mask = sitk.ReadImage(str(segment(path) / "anna.nii.gz"))
    assert mask.GetSize() == (*image.GetSize()[:2], 1)
    assert dice_of_lv(segment.output / "anna.nii.gz", true[:, :, 1:2]) > GOOD_DICE


def test_the_results_can_be_scored(segment: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_acdc(tmp_path / "acdc", 2, 3, seed=30)
    # The tiny network is not sure of all of them.
    out, scores = segment(data, "--insist"), tmp_path / "scores"
    assert main(["score", "--predictions", str(out), "--references", str(data), "--output", str(scores)]) == 0
    assert "volumes" in capsys.readouterr().out
    summary = json.loads((scores / "scores.json").read_text("utf-8"))["all"]
    assert summary["LV.dice"]["count"] == 4
    assert summary["LV.dice"]["mean"] > GOOD_DICE


# Going on, and starting anew


@pytest.fixture
def two(segment: Runner) -> Runner:
    """Two scans that were segmented."""
    segment.scan("anna.nii.gz")
    # At end-systole, where walls are thick: in some thin ones so small a network leaves gaps, and they go unlabelled.
    sitk.WriteImage(heart("ES", 41)[0], str(segment.scans / "berta.nii.gz"))
    segment(segment.scans)
    return segment


def test_a_mask_that_is_missing_is_made_again(two: Runner) -> None:
    before = contents(two.output)
    (two.output / "berta.nii.gz").unlink()
    kept = (two.output / "anna.nii.gz").stat()
    two(two.scans, "--resume")
    assert contents(two.output) == before
    now = (two.output / "anna.nii.gz").stat()
    assert (now.st_mtime_ns, now.st_ino) == (kept.st_mtime_ns, kept.st_ino)


@pytest.mark.parametrize("harm", ["cut off", "of another scan", "a cine"])
def test_a_mask_that_cannot_be_kept_is_made_again(two: Runner, harm: str) -> None:
    before = contents(two.output)
    path = two.output / "berta.nii.gz"
    mask = sitk.ReadImage(str(path))
    if harm == "cut off":
        path.write_bytes(path.read_bytes()[:100])
    else:
        sitk.WriteImage(mask[:, :, :2] if harm == "of another scan" else sitk.JoinSeries([mask] * 2), str(path))
    two(two.scans, "--resume")
    assert contents(two.output) == before


def test_a_corrected_mask_is_kept_and_measured(two: Runner) -> None:
    path = two.output / "berta.nii.gz"
    mask = sitk.ReadImage(str(path))
    sitk.WriteImage(mask * (mask == LV), str(path), useCompression=True)
    corrected = path.read_bytes()
    two(two.scans, "--resume")
    assert path.read_bytes() == corrected
    anna, berta = rows_of(two.output)
    assert (berta["RV_ml"], berta["MYO_ml"]) == ("0.0", "0.0")
    assert float(anna["RV_ml"]) > 0


def test_earlier_results_are_replaced(two: Runner) -> None:
    (two.scans / "berta.nii.gz").unlink()
    two(two.scans, "--overwrite")
    assert masks_in(two.output) == ["anna"]
    assert [row["scan"] for row in rows_of(two.output)] == ["anna"]


def test_earlier_results_are_kept_where_there_are_no_others(two: Runner) -> None:
    """Nothing is removed for a scan that turns out to be unusable."""
    bad = two.scan("clara.nii.gz", lambda a: a * 0)
    two.refuse(bad, "--overwrite", words=("clara", "the same grey level"))


def test_an_earlier_run_is_not_touched_unasked(two: Runner) -> None:
    two.refuse(two.scans, words=("holds an earlier run", "--resume", "--overwrite"))
    two.refuse(two.scans, "--resume", "--overwrite", words=("exclude each other",))


def test_the_results_of_another_model_are_not_mixed(two: Runner, tmp_path: Path, tiny_unet: Path) -> None:
    other = tmp_path / "tiny-unet"
    network: Any = load_bundle(tiny_unet).network("unet")
    with torch.no_grad():
        next(network.parameters()).mul_(1.001)
    write_bundle(other, {"unet": network}, {}, tiny_unet_info(), "# other\n")
    two.refuse(two.scans, "--resume", "--model", other, words=("made with another model_sha256",))


@pytest.mark.parametrize("options", [[], ["--resume"], ["--overwrite"]], ids=str)
def test_a_folder_of_other_files_is_refused(segment: Runner, options: list[str]) -> None:
    segment.output.mkdir()
    (segment.output / "thesis.nii.gz").write_text("mine")
    segment.refuse(segment.scan(), *options, words=("holds files that this program did not make",))


@pytest.mark.parametrize("options", [[], ["--resume"], ["--overwrite"]], ids=str)
def test_a_generated_data_set_is_not_overwritten(segment: Runner, options: list[str]) -> None:
    segment.output.mkdir()
    content = {"labels": {"LV": 1}, "cardiac_diffusion_aug": {"job": "generate", "seed": 0}}
    (segment.output / DATASET).write_text(json.dumps(content))
    segment.refuse(segment.scan(), *options, words=(str(segment.output), "choose another folder"))


def test_the_folder_of_the_scans_is_refused(segment: Runner) -> None:
    path = segment.scan()
    before = contents(segment.scans)
    for source in (path, segment.scans):
        segment.refuse(source, "--output", segment.scans, words=("--output is the folder of the scans",))
        segment.refuse(source, "--output", segment.scans / ".." / "in", "--overwrite", words=("choose another",))
    segment.refuse(path, "--output", path, words=("is a file",))
    assert contents(segment.scans) == before


# What cannot be segmented


def broken_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_one_damaged_scan_of_several(segment: Runner) -> None:
    segment.scan("anna.nii.gz")
    broken_off(segment.scan("berta.nii.gz"))
    segment.scan("clara.nrrd", lambda a: a * 0)
    out = segment(segment.scans)
    assert masks_in(out) == ["anna"]
    assert [row["scan"] for row in rows_of(out)] == ["anna"]
    said = [line.strip() for part in segment.said.splitlines() for line in part.split("\r")]
    assert sum("berta.nii.gz cannot be read" in line and line.endswith(".") for line in said) == 1
    assert sum("clara has the same grey level everywhere" in line for line in said) == 1
    assert "2: berta, clara" in segment.told


def test_all_scans_damaged(segment: Runner) -> None:
    for name in ("anna.nii.gz", "berta.nii.gz"):
        broken_off(segment.scan(name))
    segment(segment.scans, code=2)
    assert "None of the 2 scans" in segment.said
    assert "Traceback" not in segment.said
    assert segment.told == ""
    assert contents(segment.output) == {}


def test_a_full_disk_ends_the_run(segment: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    for name in ("anna.nii.gz", "berta.nii.gz"):
        segment.scan(name)
    monkeypatch.setattr("cardiac_diffusion_aug.export.write_stack", fail)
    segment(segment.scans, code=2)
    assert segment.said.count("is full") == 1
    assert "None of the" not in segment.said


@pytest.mark.parametrize("kind", ["noise", "a dark middle"])
def test_a_scan_without_a_heart(segment: Runner, kind: str) -> None:
    def rim(array: np.ndarray) -> Any:
        result = np.zeros((3, 400, 400), np.int16)
        result[:, :40] = result[:, -40:] = 500
        return result

    path = segment.scan(change=noise if kind == "noise" else rim)
    out = segment(path)
    assert "anna" in segment.said
    assert "nothing was labelled" in segment.said
    mask, image = (sitk.ReadImage(str(p)) for p in (out / "anna.nii.gz", path))
    assert same_geometry(mask, image)
    assert not sitk.GetArrayFromImage(mask).any()
    (row,) = rows_of(out)
    assert (row["scan"], row["LV_ml"]) == ("anna", "")
    assert masks_in(out) == ["anna"]


def with_nan(array: np.ndarray) -> Any:
    result = array.astype(np.float32)
    result[1, 60, 60] = np.nan
    return result


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_nan, "NaN"),
        (lambda a: a[:, :16, :16], "16 x 16 pixels"),
        (lambda a: a * 0 + 7, "the same grey level everywhere"),
        (lambda a: np.stack([a, a, a], -1), "anna"),
    ],
    ids=["NaN", "16 x 16", "constant", "turned axes"],
)
def test_unusable_grey_levels(segment: Runner, suffix: str, change: Callable[[np.ndarray], Any], words: str) -> None:
    segment.refuse(segment.scan(f"anna{suffix}", change), words=("anna", words))


def test_a_frame_of_a_cine_that_cannot_be_used(segment: Runner) -> None:
    image = sitk.Cast(heart()[0], sitk.sitkFloat32)
    broken = sitk.Cast(sitk.Image(image), sitk.sitkFloat32)
    broken[60, 60, 1] = float("inf")
    sitk.WriteImage(sitk.JoinSeries([image, broken]), str(segment.scans / "anna.nrrd"))
    segment.refuse(segment.scans / "anna.nrrd", words=("anna", "NaN or infinite"))


def test_files_that_are_no_image(segment: Runner) -> None:
    truncated = segment.scan()
    broken_off(truncated)
    text, empty, zipped = (segment.scans / name for name in ("text.nrrd", "empty.nii", "zipped.nii.gz"))
    text.write_text("no scan")
    empty.write_bytes(b"")
    zipped.write_bytes(gzip.compress(b"no scan"))
    colour = segment.scans / "colour.mha"
    sitk.WriteImage(sitk.Compose([heart()[0]] * 3), str(colour))
    for path in (truncated, text, empty, zipped):
        segment.refuse(path, words=(path.name, "cannot be read"))
    segment.refuse(colour, words=(colour.name, "colour"))


def test_paths_without_scans(segment: Runner, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    segment.refuse(tmp_path / "nowhere", words=("There is no file or folder", "nowhere"))
    segment.refuse(tmp_path / ("x" * 5000), words=("There is no file or folder",))
    segment.refuse(tmp_path / "empty", words=("empty holds no scans",))
    segment.scan("anna_gt.nii.gz")
    segment.refuse(segment.scans, words=("holds no scans",))


def test_two_scans_of_one_name(segment: Runner) -> None:
    for name in ("anna.nrrd", "anna_0000.nii.gz"):
        segment.scan(name)
    segment.refuse(segment.scans, words=("anna", "keep one"))


def test_a_split_needs_patients(segment: Runner, tmp_path: Path) -> None:
    path = segment.scan()
    for source in (path, segment.scans):
        segment.refuse(source, "--split", "mod 5 == 4", words=("is no data set", "--split"))
    data = write_acdc(tmp_path / "acdc", 2, 3, SHAPE)
    shutil.rmtree(segment.output, ignore_errors=True)
    for rule in ("none", "mod 5 == 4"):
        segment(data, "--split", rule, code=2)
        assert segment.said.endswith(".\n")
        assert rule in segment.said.splitlines()[-1]
        assert contents(segment.output) == {}


def test_models_that_cannot_segment(segment: Runner, tmp_path: Path, tiny_model: Path) -> None:
    path = segment.scan()
    segment.refuse(path, "--model", tmp_path / "nowhere", words=("nowhere",))
    words = ("is a generator, but a segmenter is needed",)
    segment.refuse(path, "--model", tiny_model, words=words)
    segment.refuse(path, "--device", "tpu", words=("'tpu'",))
    assert not segment.output.exists()
