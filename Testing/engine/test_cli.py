"""The command, from its help to data sets on disk."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from cardiac_diffusion_aug import __version__
from cardiac_diffusion_aug.attributes import LEVELS
from cardiac_diffusion_aug.bundle import load_bundle
from cardiac_diffusion_aug.cli import BROKEN_PIPE, PROGRAM, main
from cardiac_diffusion_aug.jobs import JOBS, Context
from cardiac_diffusion_aug.jobs.base import flag, options
from cardiac_diffusion_aug.labels import ACDC_ORDER, LV, MYO, RV
from cardiac_diffusion_aug.slices import same_geometry
from phantom import phantom_stack, write_acdc
from tiny import CARD, SLICE_THICKNESS, Forge, write_tiny_model

pytest_plugins = ["tiny", "tiny_unet"]

ENGINE = Path(__file__).resolve().parents[2] / "CardiacDiffusionAug"
HELP_SECONDS = 0.5
HEAVY = {"SimpleITK", "accelerate", "diffusers", "numpy", "scipy", "torch", "PIL", "tqdm"}

Maker = Callable[..., Path]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that finds the engine."""
    environment = {**os.environ, "PYTHONPATH": str(ENGINE), **environment}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def make(tiny_model: Path, tmp_path: Path) -> Maker:
    """Runs `generate` with the tiny model and returns the data set's folder."""

    def run(name: str, *options: str, job: str = "generate", code: int = 0) -> Path:
        folder = tmp_path / name
        # What the tiny networks draw is no heart, and would never pass the checks.
        unchecked = ["--no-filter"] if job == "generate" and "--filter" not in options else []
        common = ["--model", str(tiny_model), "--device", "cpu", "--quiet", "--output", str(folder), *unchecked]
        arguments = [job, *common, *options]
        assert main(arguments) == code
        return folder

    return run


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def stack(path: Path) -> sitk.Image:
    return sitk.ReadImage(str(path))


def pixels(path: Path) -> Any:
    return sitk.GetArrayFromImage(stack(path))


def image_path(folder: Path, name: str) -> Path:
    return folder / "imagesTr" / f"{name}_0000.nii.gz"


def mask_path(folder: Path, name: str) -> Path:
    return folder / "labelsTr" / f"{name}.nii.gz"


def require_same_cases(a: Path, b: Path, names: list[str]) -> None:
    """Masks bit by bit, and images within a grey level."""
    for name in names:
        np.testing.assert_array_equal(pixels(mask_path(a, name)), pixels(mask_path(b, name)))
        difference = pixels(image_path(a, name)).astype(int) - pixels(image_path(b, name))
        assert np.abs(difference).max() <= 1


def names_of(count: int) -> list[str]:
    return [f"synthetic0_{case:06d}" for case in range(count)]


# What is told without a model


def test_the_first_case_does_not_wait_for_a_compiler(tiny_model: Path) -> None:
    """Of all that is imported for a case, torch's compiler would take the longest, and nothing uses it."""
    script = (
        "import sys\n"
        "from cardiac_diffusion_aug.generation import Generator\n"
        "from cardiac_diffusion_aug.segmentation import Segmenter\n"
        f"next(iter(Generator({str(tiny_model)!r}, 'cpu', 'fp32').generate(1)))\n"
        "Segmenter(device='cpu')\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "import torch\n"
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)) == 2\n"
    )
    done = python("-c", script)
    assert done.returncode == 0, done.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from cardiac_diffusion_aug.cli import main\n"
        "for arguments in (['--help'], ['generate', '--help'], ['--version'], ['generate', '--count', 'x']):\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = set(python("-c", code).stdout.splitlines()[-1].split())
    assert "argparse" in loaded
    assert not loaded & HEAVY


def test_help_is_quick_and_names_every_job() -> None:
    # Time of the processor, which other programs do not lengthen.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python("-m", "cardiac_diffusion_aug", "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < HELP_SECONDS
    assert done.returncode == 0
    for name in (*JOBS, "models", "info", "worker"):
        assert name in done.stdout


@pytest.mark.parametrize("job", JOBS)
def test_each_job_has_help(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([job, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for field in options(JOBS[job]):
        assert flag(field.name) in shown


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


def test_info_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts[PROGRAM] == __version__
    assert facts["device"].partition(":")[0] in ("cpu", "cuda", "mps")
    assert {"memory", "python", "torch", "diffusers", "models", "cores"} <= set(facts)
    assert "None" not in facts["cores"]


# Models


def test_models_are_listed(tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("CARDIAC_DIFFUSION_AUG_MODELS", str(tiny_model.parent))
    assert main(["models", "list"]) == 0
    assert ["tiny", str(tiny_model)] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_model_is_shown(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", str(tiny_model)]) == 0
    assert capsys.readouterr().out.strip() == CARD.strip()


def test_models_are_verified(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "verify", str(tiny_model)]) == 0
    line = capsys.readouterr().out
    assert line.startswith("tiny 1.0.0")
    assert load_bundle(tiny_model).sha256[:16] in line
    copy = Path(shutil.copytree(tiny_model, tmp_path / "copy"))
    (copy / "MODEL_CARD.md").write_text("another")
    assert main(["models", "verify", str(tiny_model), str(copy)]) == 2
    told = capsys.readouterr()
    assert told.out.startswith("tiny 1.0.0")
    assert str(copy / "MODEL_CARD.md") in told.err


# Cases from noise


def test_cases_are_written_whole(make: Maker, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make("set", "--count", "3", "--seed", "5", "--steps", "2", "--phase", "ES")
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told == {"output": str(folder), "preview": str(folder / "preview.png"), "cases": "3"}
    rows = manifest(folder)
    assert [row["name"] for row in rows] == [f"synthetic5_{case:06d}" for case in range(3)]
    for case, row in enumerate(rows):
        image, mask = stack(image_path(folder, row["name"])), stack(mask_path(folder, row["name"]))
        assert image.GetSize() == (128, 128, 1)
        assert image.GetSpacing() == pytest.approx((1.5, 1.5, SLICE_THICKNESS))
        assert same_geometry(image, mask)
        assert set(np.unique(sitk.GetArrayFromImage(mask))) <= {0, LV, MYO, RV}
        assert np.ptp(sitk.GetArrayFromImage(image)) > 50
        assert (row["seed"], row["case"], row["variation"], row["phase"]) == ("5", str(case), "0", "ES")
        assert (row["level"], row["group"], row["steps"], row["guidance_scale"]) == ("", "", "2", "1.5")
        assert (row["model"], row["model_sha256"]) == ("tiny", load_bundle(tiny_model).sha256)
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 3
    assert Image.open(folder / "preview.png").size[0] > 3 * 128
    assert not list(folder.rglob(".*"))


def test_progress_is_shown_and_ends_in_a_line(tiny_model: Path, tmp_path: Path, capfd: Any) -> None:
    arguments = [
        "generate",
        "--no-filter",
        "--model",
        str(tiny_model),
        "--output",
        str(tmp_path / "set"),
        "--count",
        "1",
    ]
    assert main(arguments) == 0
    assert "1/1" in capfd.readouterr().err


def test_figures_of_a_training_are_in_the_progress_and_at_its_end(tiny_unet: Path, tmp_path: Path, capfd: Any) -> None:
    data = write_acdc(tmp_path / "data", 2, slices=2)
    arguments = ["--data", str(data), "--output", str(tmp_path / "tuned"), "--start", str(tiny_unet), "--device", "cpu"]
    assert main(["train-unet", *arguments, "--steps", "12", "--batch-size", "2", "--snapshot-minutes", "0.01"]) == 0
    told = capfd.readouterr()
    lines = dict(line.split(maxsplit=1) for line in told.out.splitlines() if not line.startswith("validation Dice"))
    assert set(lines) == {"model", "sha256", "before", "after", "improved"}
    for name in ("before", "after"):
        assert [part.split()[0] for part in lines[name].split(", ")] == ["LV", "MYO", "RV", "mean"]
        assert all(0 <= float(part.split()[1]) <= 1 for part in lines[name].split(", "))
    assert "loss 0." in told.err
    assert "{" not in told.err + told.out


@pytest.fixture(scope="module")
def eight(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight cases, made one at a time."""
    folder = tmp_path_factory.mktemp("cases") / "eight"
    arguments = ["--count", "8", "--batch-size", "1", "--output", str(folder), "--model", str(tiny_model)]
    assert main(["generate", "--no-filter", "--device", "cpu", "--quiet", *arguments]) == 0
    return folder


@pytest.mark.parametrize(("count", "batch_size"), [(3, 1), (3, 4), (8, 4), (8, 8)])
def test_a_case_depends_on_seed_and_number_alone(make: Maker, eight: Path, count: int, batch_size: int) -> None:
    folder = make("set", "--count", str(count), "--batch-size", str(batch_size))
    assert [row["name"] for row in manifest(folder)] == names_of(count)
    require_same_cases(folder, eight, names_of(count))


def test_cases_differ_from_each_other_and_between_seeds(make: Maker, eight: Path) -> None:
    other = make("other", "--count", "1", "--seed", "1")
    masks = [pixels(mask_path(eight, name)) for name in names_of(2)]
    masks += [pixels(mask_path(other, "synthetic1_000000"))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (masks[a] != masks[b]).mean() > 0.05


def test_variations_share_their_mask(make: Maker, eight: Path) -> None:
    folder = make("set", "--count", "2", "--variations", "3")
    rows = manifest(folder)
    assert [(row["case"], row["variation"]) for row in rows] == [(c, v) for c in "01" for v in "012"]
    assert len({row["patient"] for row in rows}) == 2
    for case in range(2):
        names = [f"synthetic0_{case:06d}_v{variation:03d}" for variation in range(3)]
        images = [pixels(image_path(folder, name)).astype(int) for name in names]
        for name in names:
            np.testing.assert_array_equal(
                pixels(mask_path(folder, name)), pixels(mask_path(eight, f"synthetic0_{case:06d}"))
            )
        assert np.abs(images[0] - pixels(image_path(eight, f"synthetic0_{case:06d}"))).max() <= 1
        assert min(np.abs(images[0] - images[1]).mean(), np.abs(images[1] - images[2]).mean()) > 5


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("phase", "ED", "ED"),
        ("group", "DCM", "DCM"),
        ("level", "basal", str(LEVELS["basal"])),
        ("level", "0.25", "0.25"),
    ],
)
def test_attributes_reach_the_model(make: Maker, eight: Path, option: str, value: str, told: str) -> None:
    folder = make("set", "--count", "1", f"--{option}", value)
    assert manifest(folder)[0][option] == told
    name = names_of(1)[0]
    assert (pixels(mask_path(folder, name)) != pixels(mask_path(eight, name))).mean() > 0.01
    assert np.abs(pixels(image_path(folder, name)).astype(int) - pixels(image_path(eight, name))).mean() > 1


@pytest.mark.parametrize("option", [("--steps", "6"), ("--guidance-scale", "4", "--phase", "ED")])
def test_sampling_options_reach_the_model(make: Maker, option: tuple[str, ...]) -> None:
    plain = make("plain", "--count", "1", "--precision", "fp32", *option[2:])
    changed = make("changed", "--count", "1", "--precision", "fp32", *option)
    name = names_of(1)[0]
    assert np.abs(pixels(image_path(plain, name)).astype(int) - pixels(image_path(changed, name))).mean() > 1


def test_resume_goes_on_without_repeating(make: Maker, eight: Path) -> None:
    folder = make("set", "--count", "3")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}
    make("set", "--count", "8", "--resume", "--batch-size", "4")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [row["name"] for row in manifest(folder)] == names_of(8)
    require_same_cases(folder, eight, names_of(8))
    make("set", "--count", "2", "--resume")
    assert len(manifest(folder)) == 8
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 8


def test_overwrite_begins_again(make: Maker) -> None:
    folder = make("set", "--count", "3")
    make("set", "--count", "2", "--seed", "1", code=2)
    make("set", "--count", "2", "--seed", "1", "--resume", code=2)
    make("set", "--count", "2", "--seed", "1", "--overwrite")
    assert [row["name"] for row in manifest(folder)] == ["synthetic1_000000", "synthetic1_000001"]
    assert len(list(folder.rglob("*.nii.gz"))) == 4


def test_paths_may_hold_any_letters(make: Maker) -> None:
    folder = make("Prüfung ♥ (1)", "--count", "1")
    assert len(manifest(folder)) == 1


def test_an_interrupt_ends_between_two_steps(forge: Forge, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "models" / "slow", image_steps=30)
    folder = tmp_path / "set"
    arguments = [
        "generate",
        "--no-filter",
        "--model",
        str(model),
        "--device",
        "cpu",
        "--output",
        str(folder),
        "--count",
        "1000",
    ]
    arguments += ["--quiet"]
    pid = forge.start(arguments, tmp_path / "log")
    try:
        while not list(folder.glob("labelsTr/synthetic*")):
            time.sleep(0.01)
    finally:
        os.kill(pid, signal.SIGINT)
        code = forge.wait(pid)
    assert code == 130
    assert (tmp_path / "log").read_text() == f"{PROGRAM}: Stopped; what was finished is kept.\n"
    rows = manifest(folder)
    assert 0 < len(rows) < 1000
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == len(rows)
    assert (folder / "preview.png").is_file()
    assert not list(folder.rglob(".*"))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A folder with something that is listed as a model."""
    (tmp_path / "♥").mkdir()
    (tmp_path / "♥" / "bundle.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_without_the_letters_gets_escapes(encoding: str, model_folder: Path) -> None:
    listed = ["-m", "cardiac_diffusion_aug", "models", "list"]
    done = python(*listed, CARDIAC_DIFFUSION_AUG_MODELS=str(model_folder), PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert ("♥" if encoding == "utf-8" else "\\u2665") in done.stdout


def test_a_reader_that_went_away_is_no_defect(model_folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "cardiac_diffusion_aug", "models", "list"],
        env={**os.environ, "PYTHONPATH": str(ENGINE), "CARDIAC_DIFFUSION_AUG_MODELS": str(model_folder)},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, "")


# Images for masks


def oblique(mask: sitk.Image) -> sitk.Image:
    turned = sitk.Image(mask)
    rotation = sitk.Euler3DTransform()
    rotation.SetRotation(0.4, -0.7, 1.1)
    turned.SetDirection(rotation.GetMatrix())
    turned.SetOrigin((-37.5, 81.25, 1012.0))
    return turned


MASKS: dict[str, Callable[[], sitk.Image]] = {
    "stack": lambda: phantom_stack(3)[1],
    "fine": lambda: phantom_stack(2, (240, 256), (1.0, 1.0, 6.0))[1],
    "coarse": lambda: phantom_stack(2, (96, 110), (2.2, 2.2, 10.0))[1],
    "unequal": lambda: phantom_stack(2, (140, 200), (1.2, 1.8, 8.0))[1],
    "oblique": lambda: oblique(phantom_stack(2)[1]),
    "sixteen bits": lambda: sitk.Cast(phantom_stack(2)[1], sitk.sitkInt16),
    "whole floats": lambda: sitk.Cast(phantom_stack(2)[1], sitk.sitkFloat32),
}


@pytest.mark.parametrize(
    ("kind", "suffix"), [*((k, ".nii.gz") for k in MASKS), ("oblique", ".nrrd"), ("oblique", ".mha")]
)
def test_an_image_lies_on_the_grid_of_its_mask(make: Maker, tmp_path: Path, kind: str, suffix: str) -> None:
    mask = MASKS[kind]()
    path = tmp_path / f"heart{suffix}"
    sitk.WriteImage(mask, str(path))
    folder = make("set", "--masks", str(path), job="synthesize")
    image, written = stack(image_path(folder, "heart")), stack(mask_path(folder, "heart"))
    assert same_geometry(image, mask)
    assert same_geometry(written, mask)
    labels = sitk.GetArrayFromImage(mask)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), labels)
    assert sitk.GetArrayFromImage(image)[labels > 0].std() > 10
    row = manifest(folder)[0]
    assert (row["name"], row["source"], row["case"]) == ("heart", str(path), "0")


def test_a_single_slice_becomes_a_stack_of_one(make: Maker, tmp_path: Path) -> None:
    mask = phantom_stack(3, spacing=(1.4, 1.6, 8.0))[1][:, :, 0]
    assert mask.GetDimension() == 2
    sitk.WriteImage(mask, str(tmp_path / "slice.mha"))
    folder = make("set", "--masks", str(tmp_path / "slice.mha"), job="synthesize")
    image = stack(image_path(folder, "slice"))
    assert image.GetSize() == (*mask.GetSize(), 1)
    assert image.GetSpacing()[:2] == pytest.approx(mask.GetSpacing())
    np.testing.assert_array_equal(pixels(mask_path(folder, "slice"))[0], sitk.GetArrayFromImage(mask))


def test_images_follow_their_masks(make: Maker, tmp_path: Path) -> None:
    """The same noise with another mask gives another image, in the heart above all."""
    hearts = {"ED": phantom_stack(1)[1], "ES": phantom_stack(1, phase="ES")[1]}
    for name, mask in hearts.items():
        (tmp_path / name).mkdir()
        sitk.WriteImage(mask, str(tmp_path / name / "heart.nii.gz"))
    images = [
        pixels(image_path(make(f"of {name}", "--masks", str(tmp_path / name), job="synthesize"), "heart")).astype(int)
        for name in hearts
    ]
    assert np.abs(images[0] - images[1]).mean() > 0.5


def test_labels_are_read_in_the_stated_order(make: Maker, tmp_path: Path) -> None:
    mask = phantom_stack(1)[1]
    values = sitk.GetArrayFromImage(mask)
    turned = np.select([values == own for own in ACDC_ORDER.values()], list(ACDC_ORDER)).astype(np.uint8)
    stated = sitk.GetImageFromArray(turned)
    stated.CopyInformation(mask)
    (tmp_path / "nnunet" / "labelsTr").mkdir(parents=True)
    path = tmp_path / "nnunet" / "labelsTr" / "heart.nii.gz"
    sitk.WriteImage(stated, str(path))
    order = ("--labels", "RV=1,MYO=2,LV=3")
    results = [make("stated", "--masks", str(path), *order, job="synthesize")]
    (tmp_path / "nnunet" / "dataset.json").write_text('{"labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3}}')
    for name, masks in (("set", path.parents[1]), ("folder", path.parent), ("file", path)):
        results.append(make(name, "--masks", str(masks), job="synthesize"))
    for folder in results:
        np.testing.assert_array_equal(pixels(mask_path(folder, "heart")), values)


def test_what_is_there_already_counts_as_done(tiny_model: Path, tmp_path: Path) -> None:
    class Places(Context):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[tuple[int, int]] = []

        def progress(self, done: int, total: int, message: str = "") -> None:
            self.told.append((done, total))

    sitk.WriteImage(phantom_stack(2)[1], str(tmp_path / "heart.nrrd"))
    asked: dict[str, Any] = {"masks": tmp_path / "heart.nrrd", "output": tmp_path / "set", "model": str(tiny_model)}
    for resume in (False, True):
        context = Places()
        JOBS["synthesize"](**asked, **{"device": "cpu", "variations": 2, "resume": resume}).run(context)
        assert context.told[-1] == (4, 4)
        assert [done for done, _ in context.told] == sorted(done for done, _ in context.told)


def test_a_folder_of_masks_goes_on(make: Maker, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for index, shape in enumerate([(150, 160), (220, 180)]):
        mask = phantom_stack(2, shape, seed=index)[1]
        sitk.WriteImage(mask, str(tmp_path / "masks" / f"heart{index}.nrrd"))
    (tmp_path / "masks" / "._heart0.nrrd").write_bytes(b"left by a file manager")
    options = ("--masks", str(tmp_path / "masks"), "--variations", "2")
    folder = make("set", *options, job="synthesize")
    names = [f"heart{index}_v{variation:03d}" for index in range(2) for variation in range(2)]
    assert [row["name"] for row in manifest(folder)] == names
    reference = {name: pixels(image_path(folder, name)) for name in names}
    image_path(folder, names[1]).unlink()
    kept = image_path(folder, names[2]).stat().st_mtime_ns
    make("set", *options, "--resume", job="synthesize")
    assert sorted(row["name"] for row in manifest(folder)) == names
    np.testing.assert_array_equal(pixels(image_path(folder, names[1])), reference[names[1]])
    assert image_path(folder, names[2]).stat().st_mtime_ns == kept
    assert (reference[names[0]] != reference[names[1]]).mean() > 0.1


def test_a_mask_in_the_output_folder_is_kept(make: Maker) -> None:
    folder = make("set", "--count", "1")
    before = mask_path(folder, names_of(1)[0]).read_bytes()
    make("set", "--masks", str(folder), "--overwrite", job="synthesize", code=2)
    assert mask_path(folder, names_of(1)[0]).read_bytes() == before


def test_a_defect_is_told_as_one(make: Maker, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("cardiac_diffusion_aug.generation.Generator.generate", lambda *a, **k: 1 / 0)
    make("set", code=1)
    told = capsys.readouterr().err
    assert "defect of the program (ZeroDivisionError: division by zero)" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("no", name="diffusers"), "package diffusers is missing"),
        (ImportError("cannot import name x"), "cannot import name x"),
        (MemoryError(), "Memory ran out"),
        (PermissionError(13, "Permission denied", "/scan"), "/scan cannot be used (Permission denied)"),
    ],
)
def test_what_the_user_can_mend_is_no_defect(
    make: Maker, capsys: pytest.CaptureFixture[str], monkeypatch: Any, error: Exception, words: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr("cardiac_diffusion_aug.bundle.load_bundle", fail)
    make("set", code=2)
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert words in told
