"""Trainings that build on a model: students that make its samples in few calls, and networks that start from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import small_networks
from cardiac_diffusion_aug.bundle import CARD_FILE, GENERATOR, load_bundle, write_bundle
from cardiac_diffusion_aug.diffusion.objective import Denoiser
from cardiac_diffusion_aug.diffusion.sampling import case_noise, follow, sample
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.generation import Generator
from cardiac_diffusion_aug.jobs import Context
from cardiac_diffusion_aug.jobs.bundle import BuildBundle
from cardiac_diffusion_aug.jobs.evaluate import Evaluate
from cardiac_diffusion_aug.jobs.train import GeneratorTraining, TrainImages, TrainMasks
from cardiac_diffusion_aug.training.objectives import FewCalls, flow_scheduler
from cardiac_diffusion_aug.training.tasks import IMAGE_STEP_MEAN, MASK_STEP_MEAN
from phantom import write_acdc
from tiny import CARD, tiny_info, tiny_networks

MEAN, STD = 0.4, 0.6
NOISE = case_noise(0, 0, 0, (64, 1, 16, 16))
TRAINED = ["patient001", "patient002", "patient003"]
SPLIT = "mod 5 == 4"
TRAININGS: dict[str, type[GeneratorTraining]] = {"masks": TrainMasks, "images": TrainImages}
STEP_MEANS = (MASK_STEP_MEAN, IMAGE_STEP_MEAN)


def spread(sigma: Tensor) -> Tensor:
    return torch.sqrt(((1 - sigma) * STD) ** 2 + sigma**2)


def led(x: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Where the flow of data that are N(MEAN, STD^2) in each pixel leads: the rank among them stays."""
    start, end = (level.view(-1, 1, 1, 1) for level in (start, end))
    return (1 - end) * MEAN + spread(end) / spread(start) * (x - (1 - start) * MEAN)


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """The velocity of that flow."""
    s = sigma.view(-1, 1, 1, 1)
    surprise = (x - (1 - s) * MEAN) / spread(s) ** 2
    return s * surprise - (MEAN + (1 - s) * STD**2 * surprise)


def test_the_flow_is_followed() -> None:
    start, end = torch.linspace(0.3, 1, 64), torch.linspace(0, 0.25, 64)
    errors = [(follow(gaussian, NOISE, start, end, n) - led(NOISE, start, end)).abs().max() for n in (2, 4, 8)]
    assert errors[2] < 0.01
    # Second order: half the step, a quarter of the error.
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 3


class Known:
    """A student that knows where the flow leads from the start of each window."""

    def __init__(self, objective: FewCalls) -> None:
        scheduler = objective.scheduler
        scheduler.set_timesteps(objective.calls)
        self.levels = scheduler.sigmas.float()

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        window = [int((self.levels - level).abs().argmin()) for level in sigma]
        end = self.levels[[index + 1 for index in window]]
        return (x - led(x, sigma, end)) / (sigma - end).view(-1, 1, 1, 1)


@pytest.mark.parametrize("step_mean", STEP_MEANS)
@pytest.mark.parametrize("calls", [1, 2, 4])
def test_a_student_that_knows_the_windows_makes_the_teachers_samples(calls: int, step_mean: float) -> None:
    teacher, student = nn.Linear(1, 1), nn.Linear(1, 1)
    objective = FewCalls(teacher, calls, step_mean)
    known = Known(objective)
    denoisers: dict[nn.Module, Denoiser] = {teacher: gaussian, student: known}
    clean = torch.randn(NOISE.shape, generator=torch.Generator().manual_seed(1)) * STD + MEAN

    def loss(network: nn.Module) -> float:
        return float(objective.loss(denoisers.__getitem__, network, (clean, ()), torch.Generator().manual_seed(0)))

    assert loss(student) < 1e-3
    assert loss(student) < loss(teacher) / 10
    made = sample(known, NOISE, objective.scheduler, calls)
    exact = sample(gaussian, NOISE, flow_scheduler(step_mean), 200)
    straight = sample(gaussian, NOISE, objective.scheduler, calls)
    assert (made - exact).abs().max() < 0.01
    assert (straight - exact).abs().max() > 0.05


def test_a_teacher_is_not_taught() -> None:
    teacher, student = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
    objective = FewCalls(teacher, 2, 0.0)
    loss = objective.loss(lambda network: lambda x, sigma: network(x), student, (NOISE, ()), torch.Generator())
    loss.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not teacher.training


# The jobs


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_networks.shrink(patch)
        patch.setenv("CARDIAC_DIFFUSION_AUG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_acdc(tmp_path_factory.mktemp("phantoms") / "data", 4, slices=2)


def teacher_of(folder: Path, patients: list[str] | None, **more: Any) -> Path:
    info = {**tiny_info(folder.name), **more}
    if patients is not None:
        part = {"facts": {"split": {"train": patients, "validation": [], "rule": "none"}}}
        info["training"] = {"mask_denoiser": part, "image_denoiser": part}
    schedulers = {"mask_scheduler": flow_scheduler(MASK_STEP_MEAN), "image_scheduler": flow_scheduler(IMAGE_STEP_MEAN)}
    write_bundle(folder, tiny_networks(), schedulers, info, CARD)
    return folder


def train(job: type[GeneratorTraining], phantoms: Path, output: Path, **settings: Any) -> None:
    told = {"split": SPLIT, "batch_size": 2, "steps": 1, "device": "cpu", "precision": "fp32", **settings}
    job(data=phantoms, output=output, **told).run(Context())


def build(folder: Path, name: str, **settings: Any) -> None:
    made = BuildBundle(masks=folder / "masks", images=folder / "images", output=folder / name, **settings)
    made.run(Context())


@pytest.fixture(scope="module")
def student(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    teacher = teacher_of(folder / "teacher", TRAINED)
    for name, job in TRAININGS.items():
        train(job, phantoms, folder / name, teacher=str(teacher), calls=2)
    build(folder, "student")
    return folder


def test_a_student_becomes_a_model_with_its_number_of_calls(student: Path) -> None:
    bundle, teacher = (load_bundle(student / name, GENERATOR) for name in ("student", "teacher"))
    assert bundle.info["defaults"]["mask_steps"] == bundle.info["defaults"]["image_steps"] == 2
    assert bundle.fixed_calls == ("mask_steps", "image_steps")
    assert bundle.scheduler("image_scheduler").config.solver_order == 1
    assert bundle.info["training"]["image_denoiser"]["facts"]["teacher"] == {
        "name": "teacher",
        "version": "1.0.0",
        "sha256": teacher.sha256,
        "patients": TRAINED,
        "calls": 2,
    }
    card = (student / "student" / CARD_FILE).read_text(encoding="utf-8")
    for words in ("follows teacher 1.0.0 in 2 calls", "--teacher teacher --calls 2", teacher.sha256):
        assert words in card
    recipe = json.loads(next((student / "images").glob("snapshot-*/state.json")).read_bytes())["recipe"]
    assert recipe["half_resolution_steps"] == 0
    assert recipe["learning_rate"] == 2e-4


def test_a_student_starts_as_its_teacher(student: Path, phantoms: Path, tmp_path: Path) -> None:
    settings = {"teacher": str(student / "teacher"), "learning_rate": 1e-7, "ema_decay": 0}
    for name, job in TRAININGS.items():
        train(job, phantoms, tmp_path / name, **settings)
    build(tmp_path, "same")
    for part in ("mask_denoiser", "image_denoiser"):
        own, its = (load_bundle(path).network(part).state_dict() for path in (tmp_path / "same", student / "teacher"))
        for name, weights in its.items():
            # Half precision in the file.
            torch.testing.assert_close(own[name], weights, atol=1e-3, rtol=1e-3)


def test_a_student_makes_cases_in_its_own_number_of_calls_only(student: Path) -> None:
    generator = Generator(student / "student", "cpu")
    assert (generator.mask_steps, generator.steps) == (2, 2)
    (case,) = generator.generate(1)
    assert case.image.shape == (128, 128)
    generator.configure(steps=2)
    with pytest.raises(CardiacError, match=r"taught to make an image in 2 network calls, and 5 would spoil it"):
        generator.configure(steps=5)
    assert generator.steps == 2


def test_other_numbers_of_calls_are_refused_when_the_model_is_made(student: Path) -> None:
    with pytest.raises(CardiacError, match=r"--image-steps is 20, but this image_denoiser was trained for 2 calls"):
        build(student, "other", image_steps=20)
    assert not (student / "other").exists()


def test_teachers_that_do_not_fit_are_refused(student: Path, phantoms: Path, tmp_path: Path) -> None:
    def refused(teacher: Path, words: str) -> None:
        with pytest.raises(CardiacError, match=words):
            train(TrainMasks, phantoms, tmp_path / "snapshots", teacher=str(teacher))
        assert not (tmp_path / "snapshots").exists()

    refused(teacher_of(tmp_path / "wide", [*TRAINED, "patient004"]), "as --teacher, learned from patient004, who valid")
    refused(teacher_of(tmp_path / "mute", None), "does not say whom it learned from")
    refused(student / "student", "was itself taught by another")
    refused(tmp_path / "nothing", "nothing")


def test_a_bundle_that_fixes_what_it_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardiacError):
        load_bundle(teacher_of(tmp_path / "odd", TRAINED, fixed_calls=["guidance_scale"]))


def test_the_validation_loss_of_a_student_is_a_number(student: Path) -> None:
    for name in TRAININGS:
        state = json.loads(next((student / name).glob("snapshot-*/state.json")).read_bytes())
        assert math.isfinite(state["history"][-1]["validation_loss"])


# Starting from weights


def test_a_training_starts_from_weights_and_says_so(phantoms: Path, tmp_path: Path) -> None:
    # A model that was taught to make its samples in few calls is as good a start, and what starts from it is not.
    start = teacher_of(tmp_path / "other", ["anna", "berta"], fixed_calls=["image_steps"])
    for name, job in TRAININGS.items():
        train(job, phantoms, tmp_path / name, start=str(start), learning_rate=1e-7, ema_decay=0)
    build(tmp_path, "tuned")
    bundle, other = (load_bundle(tmp_path / name, GENERATOR) for name in ("tuned", "other"))
    for part in ("mask_denoiser", "image_denoiser"):
        own, its = (model.network(part).state_dict() for model in (bundle, other))
        for name, weights in its.items():
            # Half precision in the file.
            torch.testing.assert_close(own[name], weights, atol=1e-3, rtol=1e-3)
        # So that no study takes it for a model of its own patients alone.
        assert bundle.training_patients(part) == sorted(["anna", "berta", *TRAINED])
    assert not bundle.fixed_calls
    card = (tmp_path / "tuned" / CARD_FILE).read_text(encoding="utf-8")
    for words in ("--start other", "started from the weights of other 1.0.0", other.sha256, "too: anna, berta"):
        assert words in card
    recipe = json.loads(next((tmp_path / "images").glob("snapshot-*/state.json")).read_bytes())["recipe"]
    assert recipe["half_resolution_steps"] == 0


def test_steps_from_weights_are_a_quarter(tmp_path: Path) -> None:
    new, tuned = (TrainMasks(data=tmp_path, output=tmp_path, start=start).suited(800) for start in (None, "acdc-128"))
    assert tuned["steps"] == pytest.approx(new["steps"] / 4, abs=1)
    assert tuned["learning_rate"] < new["learning_rate"]
    assert tuned["warmup_steps"] == tuned["steps"] // 10


def test_starts_that_do_not_fit_are_refused(phantoms: Path, tmp_path: Path) -> None:
    def refused(words: str, start: Path, **settings: Any) -> None:
        with pytest.raises(CardiacError, match=words):
            train(TrainMasks, phantoms, tmp_path / "snapshots", start=str(start), **settings)
        assert not (tmp_path / "snapshots").exists()

    refused("learned from patient004, who validates here", teacher_of(tmp_path / "wide", ["patient004"]))
    mute = teacher_of(tmp_path / "mute", None)
    refused("does not say whom it learned from; choose another --split, such as 'none'", mute)
    refused("--start and --teacher are both given", mute, teacher=str(mute))
    # With nobody to validate there is nothing to spoil; but what comes of it does not say whom it knows either.
    train(TrainMasks, phantoms, tmp_path / "masks", start=str(mute), split="none")
    train(TRAININGS["images"], phantoms, tmp_path / "images", start=str(mute), split="none")
    build(tmp_path, "tuned")
    assert load_bundle(tmp_path / "tuned", GENERATOR).training_patients("mask_denoiser") is None


def test_whoever_goes_on_keeps_the_start(phantoms: Path, tmp_path: Path) -> None:
    """Else its patients would be forgotten, and a study would take the model for one of its own patients alone."""
    start = teacher_of(tmp_path / "other", ["anna"])
    train(TrainMasks, phantoms, tmp_path / "tuned", start=str(start))
    with pytest.raises(CardiacError, match=r"were begun with --start other; go on with the same"):
        train(TrainMasks, phantoms, tmp_path / "tuned", resume=True, steps=2)
    train(TrainMasks, phantoms, tmp_path / "tuned", start=str(start), resume=True, steps=2)
    train(TrainMasks, phantoms, tmp_path / "new")
    with pytest.raises(CardiacError, match=r"were begun with no --teacher; go on with the same"):
        train(TrainMasks, phantoms, tmp_path / "new", teacher=str(start), resume=True, steps=2)


def test_a_model_that_started_from_another_may_teach(phantoms: Path, tmp_path: Path) -> None:
    start = teacher_of(tmp_path / "other", ["anna"])
    for name, job in TRAININGS.items():
        train(job, phantoms, tmp_path / name, start=str(start))
    build(tmp_path, "tuned")
    for name, job in TRAININGS.items():
        train(job, phantoms, tmp_path / "few" / name, teacher=str(tmp_path / "tuned"), calls=2)
    build(tmp_path / "few", "student")
    assert load_bundle(tmp_path / "few" / "student", GENERATOR).training_patients("image_denoiser") == [
        "anna",
        *TRAINED,
    ]
    card = (tmp_path / "few" / "student" / CARD_FILE).read_text(encoding="utf-8")
    assert "which learned from these patients too: anna" in card


def test_whom_a_start_knows_does_not_stand_for_the_unseen(tmp_path: Path) -> None:
    facts = {"split": {"train": ["a"], "validation": ["b", "c", "d"], "rule": "none"}, "start": {"patients": ["d"]}}
    training = {part: {"facts": facts} for part in ("mask_denoiser", "image_denoiser")}
    bundle = load_bundle(teacher_of(tmp_path / "tuned", None, training=training), GENERATOR)
    job = Evaluate(data=tmp_path, synthetic=tmp_path, output=tmp_path / "report")
    split = job._split(["a", "b", "c", "d"], bundle)
    assert (split.train, split.validation) == (("a", "d"), ("b", "c"))
