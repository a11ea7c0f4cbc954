"""Whatever cannot be used ends in one sentence that names it, exit code 2, and nothing on disk."""

from __future__ import annotations

import gzip
import inspect
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from cardiac_diffusion_aug.attributes import Attributes
from cardiac_diffusion_aug.bundle import BUNDLE_FILE, WEIGHTS_FILE
from cardiac_diffusion_aug.cli import PROGRAM, main
from cardiac_diffusion_aug.diffusion.sampling import case_noise
from cardiac_diffusion_aug.generation import GeneratedCase, Generator
from cardiac_diffusion_aug.networks.image_denoiser import ImageDenoiser
from phantom import phantom_stack
from tiny import SmallDisk

pytest_plugins = ["tiny"]

LONGEST_SENTENCE = 500
NIFTI_SPACING_AT = 80


class Bad:
    """Runs a command that must be refused.

    Attributes:
        model: that is asked for unless said otherwise.
        folder: to put bad things into.
        output: that is asked for, beside it.
    """

    def __init__(self, root: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.folder, self.output, self._capsys = model, root / "in", root / "out", capsys
        self.folder.mkdir()

    def refuse(self, job: str, *options: str | Path, words: tuple[str, ...]) -> None:
        """Run a job with options; the sentence must hold all these words."""
        model = ["--model", self.model, "--device", "cpu"] if job in ("generate", "synthesize") else []
        # What the tiny networks draw is no heart, and would never pass the checks.
        model += ["--no-filter"] if job == "generate" else []
        code = self.run(job, "--output", self.output, *model, *options)
        told = self._capsys.readouterr()
        assert code == 2, told.err
        self.require_one_sentence(told.err, words)
        assert told.out == ""
        assert not self.output.is_dir() or not any(path.is_file() for path in self.output.rglob("*"))

    def run(self, *arguments: object) -> int:
        try:
            return main([str(argument) for argument in arguments])
        except SystemExit as end:
            return int(end.code or 0)

    def require_one_sentence(self, told: str, words: tuple[str, ...]) -> None:
        assert told.endswith("\n")
        assert told.count("\n") == 1
        # A bar of progress may have stood there, and was wiped out.
        line = told.rpartition("\r")[2].strip()
        assert line.startswith(f"{PROGRAM}: ")
        assert line.endswith(".")
        assert "Traceback" not in line
        assert len(line) - len(str(self.folder)) * line.count(str(self.folder)) < LONGEST_SENTENCE
        for word in words:
            assert word in line

    def mask(self, name: str = "mask.nii.gz", change: Callable[[np.ndarray], Any] = lambda a: a) -> Path:
        """A good mask with its array changed."""
        stack = phantom_stack(2)[1]
        changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(stack)))
        changed.SetSpacing(stack.GetSpacing())
        sitk.WriteImage(changed, str(self.folder / name))
        return self.folder / name


@pytest.fixture
def bad(tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> Bad:
    return Bad(tmp_path, tiny_model, capsys)


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--count", "0"], ["--count", "0", "from 1"]),
        (["--count", "-1"], ["--count", "-1", "from 1"]),
        (["--count", "abc"], ["--count", "'abc'", "a whole number"]),
        (["--count", "1e30"], ["--count", "'1e30'", "a whole number"]),
        (["--count", "1" + "0" * 30], ["--count", "from 1"]),
        (["--count", "9" * 5000], ["--count", "a whole number"]),
        (["--count", ""], ["--count", "a whole number"]),
        (["--count", "2.5"], ["--count", "'2.5'"]),
        (["--count"], ["--count"]),
        (["--steps", "nan"], ["--steps", "'nan'", "a whole number"]),
        (["--steps", "0"], ["--steps", "from 1 to 1000"]),
        (["--steps", "1001"], ["--steps", "1001"]),
        (["--seed", "-1"], ["--seed", "-1"]),
        (["--seed", str(2**32)], ["--seed", "from 0"]),
        (["--variations", "0"], ["--variations"]),
        (["--batch-size", "0"], ["--batch-size"]),
        (["--guidance-scale", "nan"], ["--guidance-scale", "'nan'"]),
        (["--guidance-scale", "inf"], ["--guidance-scale", "'inf'"]),
        (["--guidance-scale", "-1"], ["--guidance-scale", "-1.0"]),
        (["--phase", "diastole"], ["--phase", "'diastole'", "ED, ES"]),
        (["--phase", "E\nS"], ["--phase"]),
        (["--group", "ARV"], ["--group", "'ARV'", "NOR, MINF, DCM, HCM, RV"]),
        (["--level", "middle"], ["'middle'", "apical, mid, basal"]),
        (["--level", "1.5"], ["--level", "1.5"]),
        (["--level", "nan"], ["--level", "nan"]),
        (["--precision", "fp16"], ["--precision", "'fp16'", "bf16"]),
        (["--device", "tpu"], ["'tpu'", "cuda"]),
        (["--device", "cuda:x"], ["'cuda:x'"]),
        (["--device", "cuda:²"], ["'cuda:²'"]),
        (["--device", "cuda:99"], ["'cuda:99'", "--device cpu"]),
        (["--device", "cpu:1"], ["'cpu:1'"]),
        (["--device", ""], ["There is no device ''"]),
        (["--model", "heart-9000"], ["'heart-9000'", "neither a known name"]),
        (["--model", "x" * 10000], ["There is no model"]),
        (["--model", ""], ["There is no model ''"]),
        (["--resume", "--overwrite"], ["--resume", "--overwrite"]),
        (["--colour", "red"], ["--colour", "see"]),
        (["surplus\nlines"], ["surplus"]),
        (["--output", ""], ["--output"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_options(bad: Bad, options: list[str], words: list[str]) -> None:
    bad.refuse("generate", *options, words=tuple(words))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_that_is_not_there(bad: Bad) -> None:
    bad.refuse("generate", "--device", "cuda", words=("'cuda'", "--device cpu"))


@pytest.mark.parametrize("arguments", [[], ["make"], ["generate"], ["models"], ["models", "show", "heart-9000"]])
def test_commands(bad: Bad, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert bad.run(*arguments) == 2
    bad.require_one_sentence(capsys.readouterr().err, ())


# Models


def _change(model: Path) -> str:
    with (model / "image_denoiser" / WEIGHTS_FILE).open("ab") as stream:
        stream.write(b"x")
    return WEIGHTS_FILE


def _remove(model: Path) -> str:
    (model / "mask_denoiser" / "config.json").unlink()
    return "mask_denoiser/config.json"


def _add_pickle(model: Path) -> str:
    (model / "weights.pt").write_bytes(b"\x80\x04N.")
    return "weights.pt, a pickle"


def _climb(model: Path) -> str:
    info = json.loads((model / BUNDLE_FILE).read_text())
    info["files"]["../../secret.json"] = "0" * 64
    (model / BUNDLE_FILE).write_text(json.dumps(info))
    return "../../secret.json"


def _empty(model: Path) -> str:
    (model / BUNDLE_FILE).write_text("{}")
    return BUNDLE_FILE


@pytest.mark.parametrize("fault", [_change, _remove, _add_pickle, _climb, _empty])
def test_models(bad: Bad, tiny_model: Path, fault: Callable[[Path], str]) -> None:
    model = Path(shutil.copytree(tiny_model, bad.folder / "model"))
    words = (fault(model), str(model))
    bad.refuse("generate", "--model", model, words=words)
    bad.refuse("synthesize", "--model", model, "--masks", bad.mask(), words=words)


# Output


def test_an_output_that_is_a_file(bad: Bad) -> None:
    bad.output.write_text("mine")
    bad.refuse("generate", words=(str(bad.output), "is a file"))
    bad.refuse("generate", "--output", bad.output / "sub", words=(str(bad.output), "cannot be written"))
    assert bad.output.read_text() == "mine"


@pytest.mark.parametrize("option", ["", "--resume", "--overwrite"])
def test_an_output_with_the_data_of_others(bad: Bad, option: str) -> None:
    (bad.folder / "imagesTr").mkdir()
    (bad.folder / "imagesTr" / "scan_0000.nii.gz").write_text("mine")
    options = [option] if option else []
    bad.refuse("generate", "--output", bad.folder, *options, words=(str(bad.folder), "did not make"))
    assert [path.name for path in bad.folder.rglob("*") if path.is_file()] == ["scan_0000.nii.gz"]


def test_an_output_that_cannot_be_made(bad: Bad) -> None:
    bad.refuse("generate", "--output", bad.output / ("x" * 300), words=("cannot be written", "too long"))


def test_a_full_disk(bad: Bad, small_disk: SmallDisk, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_disk.folder / "set"
    arguments = ("generate", "--no-filter", "--count", "6", "--model", bad.model, "--device", "cpu", "--output", folder)
    assert bad.run(*arguments) == 2
    bad.require_one_sentence(capsys.readouterr().err, (str(folder), "is full", "--resume"))
    rows = (folder / "manifest.csv").read_text().splitlines()[1:]
    assert 0 < len(rows) < 6
    for path in folder.rglob("*.nii.gz"):
        assert sitk.ReadImage(str(path)).GetSize() == (128, 128, 1)
    assert len(list(folder.rglob("*.nii.gz"))) == 2 * len(rows)
    small_disk.change("size=8m")
    assert bad.run(*arguments, "--resume", "--quiet") == 0
    assert len((folder / "manifest.csv").read_text().splitlines()) == 7


def test_a_read_only_disk(bad: Bad, small_disk: SmallDisk) -> None:
    small_disk.change("ro")
    bad.refuse("generate", "--output", small_disk.folder / "set", words=("cannot be written", "Read-only"))


# Masks


def _text(bad: Bad) -> Path:
    (bad.folder / "mask.nii.gz").write_text("this is no image\n" * 50)
    return bad.folder / "mask.nii.gz"


def _nothing(bad: Bad) -> Path:
    (bad.folder / "mask.nii.gz").touch()
    return bad.folder / "mask.nii.gz"


def _truncated(bad: Bad) -> Path:
    path = bad.mask(change=lambda a: np.where(a > 0, a, np.random.default_rng(0).integers(0, 4, a.shape)).astype("u1"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _folder_named_as_image(bad: Bad) -> Path:
    (bad.folder / "mask.nii.gz").mkdir()
    return bad.folder / "mask.nii.gz"


def _cine(bad: Bad) -> Path:
    frames = sitk.JoinSeries([phantom_stack(2, phase=phase)[1] for phase in ("ED", "ES")])
    sitk.WriteImage(frames, str(bad.folder / "cine.nii.gz"))
    return bad.folder / "cine.nii.gz"


def _colours(bad: Bad) -> Path:
    mask = phantom_stack(2)[1]
    sitk.WriteImage(sitk.Compose(mask, mask, mask), str(bad.folder / "mask.nrrd"))
    return bad.folder / "mask.nrrd"


def _spaced(*spacing: float) -> Callable[[Bad], Path]:
    """A mask whose header states these sizes of a pixel, which no writer would put there."""

    def make(bad: Bad) -> Path:
        path = bad.mask("mask.nii")
        header = bytearray(path.read_bytes())
        struct.pack_into(f"<{len(spacing)}f", header, NIFTI_SPACING_AT, *spacing)
        path.with_suffix(".nii.gz").write_bytes(gzip.compress(bytes(header)))
        return path.with_suffix(".nii.gz")

    return make


def _sized(rows: int, columns: int) -> Callable[[Bad], Path]:
    def change(array: np.ndarray) -> np.ndarray:
        result = np.zeros((1, rows, columns), np.uint8)
        result[:, rows // 4 : rows // 2, columns // 4 : columns // 2] = 1
        return result

    return lambda bad: bad.mask(change=change)


def _with(change: Callable[[np.ndarray], Any]) -> Callable[[Bad], Path]:
    return lambda bad: bad.mask(change=change)


def _with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        result = array.astype(np.float32)
        result[0, 0, 0] = value
        return result

    return change


def _in_two_formats(bad: Bad) -> Path:
    bad.mask("heart.nii.gz")
    bad.mask("heart.nrrd")
    return bad.folder


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda bad: bad.folder / "nothing.nii.gz", ["nothing.nii.gz", "There is no file or folder"]),
        (lambda bad: bad.folder / ("x" * 300), ["There is no file or folder"]),
        (lambda bad: bad.folder, ["holds no masks"]),
        (_folder_named_as_image, ["mask.nii.gz", "holds no masks"]),
        (_text, ["mask.nii.gz", "cannot be read as an image"]),
        (_nothing, ["mask.nii.gz", "cannot be read as an image"]),
        (_truncated, ["mask.nii.gz", "breaks off"]),
        (_cine, ["cine.nii.gz", "4 dimensions", "one frame"]),
        (_colours, ["mask.nrrd", "colour"]),
        (_with(lambda a: a * 5), ["mask.nii.gz", "label 5, 10, 15", "--labels"]),
        (_with(lambda a: a.astype(np.int16) - 1), ["mask.nii.gz", "label -1", "--labels"]),
        (_with(lambda a: a.astype(np.float32) / 2), ["mask.nii.gz", "fractions"]),
        (_with(_with_value(np.nan)), ["mask.nii.gz", "NaN"]),
        (_with(lambda a: a * 0), ["mask.nii.gz", "is empty"]),
        (_with(_with_value(-np.inf)), ["mask.nii.gz", "infinite"]),
        (_spaced(0, 1.4, 8), ["mask.nii.gz", "spacing of 0"]),
        (_spaced(1.4, 1.4, 0), ["mask.nii.gz", "spacing of 0"]),
        (_spaced(float("nan"), 1.4, 8), ["mask.nii.gz", "spacing of nan"]),
        (_spaced(100, 100, 8), ["mask.nii.gz", "measures", "pixel spacing"]),
        (_spaced(0.001, 0.001, 8), ["mask.nii.gz", "measures", "pixel spacing"]),
        (_sized(16, 16), ["mask.nii.gz", "16 x 16 pixels", "from 32"]),
        (_sized(4000, 4000), ["mask.nii.gz", "4000 x 4000 pixels", "2048"]),
        (_in_two_formats, ["heart", "two formats"]),
    ],
)
def test_masks(bad: Bad, make: Callable[[Bad], Path], words: list[str]) -> None:
    bad.refuse("synthesize", "--masks", make(bad), words=tuple(words))


def test_one_bad_mask_of_many_is_told_before_any_image_is_made(bad: Bad) -> None:
    bad.mask("a.nii.gz")
    bad.mask("b.nii.gz", lambda a: a * 0)
    bad.refuse("synthesize", "--masks", bad.folder, words=("b.nii.gz", "is empty"))


@pytest.mark.parametrize(
    "order", ["LV", "LV=1", "LV=1,MYO=2,RV=x", "LV=1,MYO=1,RV=2", "LV=1,MYO=2,RV=3,AO=4", ",", "LV=0,MYO=1,RV=2"]
)
def test_label_orders(bad: Bad, order: str) -> None:
    bad.refuse("synthesize", "--masks", bad.mask(), "--labels", order, words=("abel",))


@pytest.mark.parametrize("content", ["", "[]", '{"labels": [1, 2]}', '{"labels": {"LV": 1}}', "{}", "[" * 100_000])
def test_label_names_of_a_data_set(bad: Bad, content: str) -> None:
    (bad.folder / "labelsTr").mkdir()
    bad.mask("labelsTr/heart.nii.gz")
    (bad.folder / "dataset.json").write_text(content)
    bad.refuse("synthesize", "--masks", bad.folder, words=("dataset.json",))


# Data to train on


def _without_images(bad: Bad) -> Path:
    (bad.folder / "notes.txt").write_text("nothing to train on")
    return bad.folder


def _pairs(bad: Bad, image: sitk.Image, mask: sitk.Image, labels: str = '{"LV": 1, "MYO": 2, "RV": 3}') -> Path:
    for kind, stack in (("images", image), ("masks", mask)):
        (bad.folder / kind).mkdir()
        sitk.WriteImage(stack, str(bad.folder / kind / "heart.nii.gz"))
    (bad.folder / "labels.json").write_text(labels)
    return bad.folder


def _other_geometry(bad: Bad) -> Path:
    return _pairs(bad, phantom_stack(2)[0], phantom_stack(2, spacing=(1.3, 1.4, 8.0))[1])


def _unlabelled(bad: Bad) -> Path:
    image, mask = phantom_stack(2)
    return _pairs(bad, image, mask * 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda bad: bad.folder / "nothing", ["nothing"]),
        (_without_images, ["layout"]),
        (_other_geometry, ["heart.nii.gz", "differ in size, spacing, origin or direction"]),
        (_unlabelled, ["label"]),
    ],
)
@pytest.mark.parametrize("job", ["train-masks", "train-images"])
def test_data_to_train_on(bad: Bad, job: str, make: Callable[[Bad], Path], words: list[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("CARDIAC_DIFFUSION_AUG_CACHE", str(bad.folder.parent / "cache"))
    bad.refuse(
        job, "--data", make(bad), "--device", "cpu", "--split", "none", "--steps", "1", "--quiet", words=tuple(words)
    )


def test_snapshots_that_are_not_there(bad: Bad) -> None:
    bad.refuse("build-model", "--masks", bad.folder, "--images", bad.folder, words=(str(bad.folder), "no snapshot"))


# Memory


def _scarce(largest: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let memory run out for batches larger than this; returns the sizes of those that were tried."""
    tried: list[int] = []
    forward = ImageDenoiser.forward

    def limited(self: ImageDenoiser, sample: torch.Tensor, *arguments: Any) -> torch.Tensor:
        tried.append(len(sample))
        if len(sample) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, sample, *arguments)

    monkeypatch.setattr(ImageDenoiser, "forward", limited)
    return tried


def test_memory_that_is_too_small_for_one_image(bad: Bad, monkeypatch: Any, capsys: Any) -> None:
    _scarce(0, monkeypatch)
    assert bad.run("generate", "--no-filter", "--model", bad.model, "--device", "cpu", "--output", bad.output) == 2
    bad.require_one_sentence(capsys.readouterr().err, ("memory of cpu", "Not even one image"))
    assert not list(bad.output.rglob("*.nii.gz"))
    assert json.loads((bad.output / "dataset.json").read_text())["numTraining"] == 0


@pytest.mark.parametrize("largest", [1, 2, 3])
def test_memory_that_is_too_small_for_a_batch(
    bad: Bad, largest: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The batch is halved until it fits, which is said, and the images stay what they were."""
    configure = Generator.configure

    def configure_as_a_gpu(self: Generator, *given: Any, **named: Any) -> None:
        configure(self, *given, **named)
        asked = inspect.signature(configure).bind(self, *given, **named).arguments
        self.batch_size = asked.get("batch_size") or self.batch_size

    common = ("generate", "--no-filter", "--model", bad.model, "--device", "cpu", "--precision", "fp32", "--count", "4")
    assert bad.run(*common, "--output", bad.folder / "plenty", "--quiet") == 0
    capsys.readouterr()
    tried = _scarce(largest, monkeypatch)
    monkeypatch.setattr(Generator, "configure", configure_as_a_gpu)
    assert bad.run(*common, "--output", bad.output, "--batch-size", "4") == 0
    told = capsys.readouterr().err
    assert max(tried) == 4
    assert tried[-1] <= largest
    for size in (2, 1):
        assert (f"going on with {size} images at a time" in told) == (size * 2 > largest)
    for path in bad.output.rglob("*.nii.gz"):
        plenty = bad.folder / "plenty" / path.relative_to(bad.output)
        images = [sitk.GetArrayFromImage(sitk.ReadImage(str(p))).astype(int) for p in (path, plenty)]
        assert np.abs(images[0] - images[1]).max() <= (1 if "imagesTr" in path.parts else 0)
    assert len(list(bad.output.rglob("*.nii.gz"))) == 8


def test_a_smaller_batch_stays_for_later_cases(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    generator = Generator(str(tiny_model), "cpu", notify=told.append)
    tried = _scarce(2, monkeypatch)
    generator.batch_size = generator.largest_batch = 8
    cases: list[GeneratedCase] = list(generator.generate(12))
    assert [case.case for case in cases] == list(range(12))
    assert len(told) == 2
    assert tried.count(8) == 1
    assert tried.count(4) == 1
    assert generator.batch_size == 2


def test_another_error_of_the_network_is_not_taken_for_memory(tiny_model: Path, monkeypatch: Any) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    generator = Generator(str(tiny_model), "cpu")
    monkeypatch.setattr(ImageDenoiser, "forward", fail)
    noise = case_noise(0, 0, 1, (1, 128, 128))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        generator.images([np.zeros((128, 128), np.uint8)], [noise], [Attributes()])
