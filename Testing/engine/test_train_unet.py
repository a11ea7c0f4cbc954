"""Training of the segmentation network: what it sees, what it learns, and the model that comes of it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cardiac_diffusion_aug.bundle import CARD_FILE, SEGMENTER, load_bundle, write_bundle
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import WIDE_PACK_SIZE, SlicePack, centered, pack_cases
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.export import DatasetWriter
from cardiac_diffusion_aug.jobs import JOBS, Context
from cardiac_diffusion_aug.jobs.train import TOLD_SECONDS, TOLD_STEPS, Figures
from cardiac_diffusion_aug.jobs.train_unet import FINE_TUNING, FROM_NOTHING, TrainUnet
from cardiac_diffusion_aug.labels import LV, MYO, RV
from cardiac_diffusion_aug.networks.segmentation_unet import SegmentationUNet
from cardiac_diffusion_aug.segmentation import Segmenter
from cardiac_diffusion_aug.slices import GRID_SIZE
from cardiac_diffusion_aug.training.augmentation import AS_IT_IS, NONE, Appearance, change_appearance
from cardiac_diffusion_aug.training.loop import TrainingProgress
from cardiac_diffusion_aug.training.segmentation_task import (
    CENTERED,
    PLAIN,
    STRONG,
    SegmentationTask,
    Traditional,
    volume_dice,
    windows,
)
from cardiac_diffusion_aug.training.snapshots import PREFIX, best_snapshot
from phantom import phantom_stack, write_acdc
from tiny_unet import tiny_unet_info

pytest_plugins = ["tiny_unet"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_acdc(tmp_path_factory.mktemp("phantoms") / "data", 5, slices=3)


@pytest.fixture(scope="module")
def pack(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> SlicePack:
    return pack_cases(read_cases(phantoms)[1], tmp_path_factory.mktemp("cache"), size=WIDE_PACK_SIZE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# What the network sees


def test_nothing_changes_without_augmentation(pack: SlicePack) -> None:
    images, classes = windows(pack, torch.arange(4), PLAIN, seeded())
    np.testing.assert_allclose((images[:, 0].numpy() + 1) * 127.5, centered(pack.images[:4]), atol=0.6)
    np.testing.assert_array_equal(classes.argmax(1).numpy(), centered(pack.masks[:4]))


def test_windows_are_strongly_augmented_and_stay_in_step(pack: SlicePack) -> None:
    images, classes = windows(pack, torch.arange(30), STRONG, seeded())
    again, _ = windows(pack, torch.arange(30), STRONG, seeded())
    other, _ = windows(pack, torch.arange(30), STRONG, seeded(1))
    assert torch.equal(images, again)
    assert (images - other).abs().mean() > 0.1
    assert images.shape == (30, 1, GRID_SIZE, GRID_SIZE)
    assert images.abs().max() <= 1
    assert (classes.sum(1) == 1).all()
    # Blood is bright and muscle dark in every window, wherever its heart went.
    seen = [i for i in range(30) if classes[i, LV].sum() > 50 and classes[i, MYO].sum() > 50]
    assert len(seen) > 20
    brighter = [images[i, 0][classes[i, LV] > 0].median() > images[i, 0][classes[i, MYO] > 0].median() for i in seen]
    assert np.mean(brighter) > 0.95


def test_windows_are_made_where_the_network_is(pack: SlicePack) -> None:
    # Tensors of the device `meta` hold nothing, and go together with none of the processor.
    made = windows(pack, torch.arange(30), STRONG, seeded(), torch.device("meta"))
    assert [part.device.type for part in made] == ["meta", "meta"]
    assert [tuple(part.shape[1:]) for part in made] == [(1, GRID_SIZE, GRID_SIZE), (4, GRID_SIZE, GRID_SIZE)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of CUDA")
def test_windows_on_a_gpu_are_those_of_the_processor(pack: SlicePack) -> None:
    # Noise is drawn on the GPU itself.
    quiet = replace(STRONG, appearance=replace(STRONG.appearance, noise=0))
    cpu, gpu = (windows(pack, torch.arange(30), quiet, seeded(), torch.device(name)) for name in ("cpu", "cuda"))
    assert (cpu[0] - gpu[0].cpu()).abs().max() < 1e-3
    assert (cpu[1] != gpu[1].cpu()).float().mean() < 1e-3


def test_wide_windows_show_small_hearts(pack: SlicePack) -> None:
    rows = torch.arange(10)
    near = windows(pack, rows, PLAIN, seeded())[1][:, 1:].sum()
    far = windows(pack, rows, Traditional(NONE, AS_IT_IS, wide=1, astray=0, astray_shift=0, turned=0), seeded())[1][
        :, 1:
    ].sum()
    assert float(near / far) == pytest.approx(4, rel=0.05)


def test_centered_windows_show_the_whole_heart_upright(pack: SlicePack) -> None:
    rows = torch.zeros(60, dtype=torch.long)
    whole = windows(pack, rows[:1], PLAIN, seeded())[1][0, 1:]
    classes = windows(pack, rows, CENTERED, seeded())[1][:, 1:]
    shares = classes.sum((1, 2, 3)) / whole.sum()
    # Zoomed by a quarter at most and bent a little, so never cut off, and never as small as a wide window shows it.
    assert 1 / 1.25**2 * 0.8 < float(shares.min()) < 1 < float(shares.max()) < 1.25**2 * 1.2
    # The RV stays on its side of the LV, as it does not where windows are mirrored and turned.
    columns = torch.arange(GRID_SIZE).float()
    sides = [
        (columns * c[RV - 1].sum(0)).sum() / c[RV - 1].sum() - (columns * c[0].sum(0)).sum() / c[0].sum()
        for c in classes
    ]
    assert len({float(side) > 0 for side in sides}) == 1


def test_some_windows_lie_beside_the_heart(pack: SlicePack) -> None:
    amount = Traditional(NONE, AS_IT_IS, wide=0, astray=1, astray_shift=90, turned=0)
    classes = windows(pack, torch.zeros(40, dtype=torch.long), amount, seeded())[1]
    whole = windows(pack, torch.zeros(1, dtype=torch.long), PLAIN, seeded())[1][0, 1:].sum()
    shares = classes[:, 1:].sum((1, 2, 3)) / whole
    assert shares.min() < 0.3
    assert shares.max() > 0.95


def test_some_windows_are_mirrored_or_turned(pack: SlicePack) -> None:
    amount = Traditional(NONE, AS_IT_IS, wide=0, astray=0, turned=1)
    straight = windows(pack, torch.zeros(1, dtype=torch.long), PLAIN, seeded())[1][0, RV]
    turned = windows(pack, torch.zeros(24, dtype=torch.long), amount, seeded())[1][:, RV]
    expected = [m.rot90(k) for m in (straight, straight.flip(1)) for k in range(4)]
    kinds = {
        min(range(8), key=lambda k: float((one - expected[k]).abs().sum())): float(
            min((one - e).abs().sum() for e in expected)
        )
        for one in turned
    }
    assert len(kinds) > 4
    assert max(kinds.values()) < 0.1 * float(straight.sum())


@pytest.mark.parametrize(
    ("amount", "is_changed"),
    [
        (Appearance(), False),
        (Appearance(0, 1, 1, 1, 1, 1, 1), False),
        (Appearance(1, gamma=0.5), True),
        (Appearance(1, contrast=0.5), True),
        (Appearance(1, brightness=0.2), True),
        (Appearance(1, bias=0.3), True),
        (Appearance(1, noise=0.1), True),
        (Appearance(1, blur=1.5), True),
    ],
)
def test_each_change_of_appearance_does_something(amount: Appearance, is_changed: bool) -> None:
    images = torch.rand(6, 1, 32, 32, generator=seeded()) * 1.6 - 0.8
    changed = change_appearance(images, amount, seeded(3))
    assert changed.abs().max() <= 1
    difference = (changed - images).abs().mean((1, 2, 3))
    # A change may by chance be too small to be seen in one of them.
    assert int((difference > 1e-3).sum()) >= 5 if is_changed else difference.max() < 1e-3


def test_a_blur_keeps_the_mean_and_takes_the_texture() -> None:
    images = torch.rand(4, 1, 64, 64, generator=seeded()) * 1.6 - 0.8
    blurred = change_appearance(images, Appearance(1, blur=1.5), seeded(1))
    assert (blurred.mean((2, 3)) - images.mean((2, 3))).abs().max() < 0.02
    assert (blurred.std((2, 3)) < images.std((2, 3))).all()


# What it learns


def test_a_share_of_the_samples_is_made(pack: SlicePack) -> None:
    black = SlicePack(pack.images * 0, pack.masks * 0, pack.attributes, pack.patients, pack.cases)
    task = SegmentationTask(SegmentationUNet((8, 16, 16)), pack, pack, black, 0.3, PLAIN)
    images, _ = task._samples(torch.arange(30).repeat(20), seeded())
    assert float((images.amax((1, 2, 3)) <= -0.99).float().mean()) == pytest.approx(0.3, abs=0.05)


def test_dice_is_of_volumes_and_leaves_out_what_neither_has() -> None:
    mask = np.zeros((3, 8, 8), np.uint8)
    mask[0, :4], mask[1, :2], mask[2, 0] = LV, LV, MYO
    found = mask.copy()
    found[1] = 0
    rows = volume_dice(found, mask, np.array(["a", "a", "b"]))
    np.testing.assert_allclose(rows, [[2 * 32 / (32 + 48), np.nan, np.nan], [np.nan, 1.0, np.nan]])


def test_validation_tells_each_structure(pack: SlicePack) -> None:
    without_rv = SlicePack(
        pack.images, np.where(pack.masks == RV, 0, pack.masks), pack.attributes, pack.patients, pack.cases
    )

    class Muscle(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.eye(4)[MYO].view(1, 4, 1, 1).expand(len(images), 4, *images.shape[2:])

    task = SegmentationTask(SegmentationUNet((8, 16, 16)), pack, without_rv)
    dice = task.validation_dice(Muscle())
    assert dice is not None
    masks = centered(pack.masks)
    shares = [(masks[pack.cases == case] == MYO).mean() for case in np.unique(pack.cases)]
    expected = np.mean([2 * share / (1 + share) for share in shares])
    assert dice == {"LV": 0, "MYO": pytest.approx(expected), "RV": None, "mean": pytest.approx(expected / 2)}
    facts = task.validation_facts(Muscle())
    assert facts == {"validation_loss": 1 - float(dice["mean"] or 0), "validation_dice": dice}
    assert task.validation_loss(Muscle()) == facts["validation_loss"]
    task.validation = pack.of_patients([])
    assert task.validation_dice(Muscle()) is None
    assert math.isnan(task.validation_facts(Muscle())["validation_loss"])


@pytest.mark.parametrize("patch", [1, 2])
def test_one_slice_is_learned_by_heart(pack: SlicePack, patch: int) -> None:
    torch.manual_seed(0)
    network = SegmentationUNet((16, 32, 32, 32), patch)
    task = SegmentationTask(network, pack, pack.where(np.arange(len(pack)) == 0), augmentation=PLAIN)
    before = task.validation_loss(network.eval())
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    network.train()
    for _ in range(40):
        optimizer.zero_grad()
        task.loss(network, torch.zeros(2, dtype=torch.long), seeded(), False).backward()
        optimizer.step()
    assert task.validation_loss(network.eval()) < min(0.2, before)


# The job


def job(phantoms: Path, output: Path, **settings: Any) -> TrainUnet:
    told = {"steps": 2, "batch_size": 2, "split": "mod 5 == 4", "device": "cpu", "precision": "fp32"}
    return TrainUnet(data=phantoms, output=output, **{**told, **settings})


@pytest.fixture(scope="module")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "my-unet"
    job(phantoms, output, note="A note.").run(Context())
    return output


def test_a_training_becomes_a_model(trained: Path, phantoms: Path) -> None:
    bundle = load_bundle(trained, SEGMENTER)
    assert bundle.name == "my-unet"
    split = bundle.info["training"]["facts"]["split"]
    assert split["validation"] == ["patient004"]
    assert split["train"] == ["patient001", "patient002", "patient003", "patient005"]
    card = (trained / CARD_FILE).read_text(encoding="utf-8")
    for words in ("patient005", "--steps 2", "--split 'mod 5 == 4'", "A note.", "CC BY-NC-SA 4.0"):
        assert words in card
    assert str(phantoms) not in card + (trained / "bundle.json").read_text(encoding="utf-8")
    image, _ = phantom_stack(slices=1)
    assert Segmenter(trained, "cpu").segment(image, "It").mask.GetSize() == image.GetSize()


def config(model: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model / "unet" / "config.json").read_bytes())
    return found


def test_a_light_network_becomes_a_model(trained: Path, phantoms: Path, tmp_path: Path) -> None:
    job(phantoms, tmp_path / "light", network="light").run(Context())
    assert config(tmp_path / "light")["patch"] == 2
    assert config(tmp_path / "light")["channels"] == [32, 64, 128, 192]
    image, mask = phantom_stack(slices=1)
    assert Segmenter(tmp_path / "light", "cpu").segment(image, "It").mask.GetSize() == mask.GetSize()
    job(phantoms, tmp_path / "tuned", start=str(tmp_path / "light"), steps=1).run(Context())
    assert config(tmp_path / "tuned")["patch"] == 2
    with pytest.raises(CardiacError, match="does not fit this network"):
        job(phantoms, tmp_path / "light", steps=3, resume=True).run(Context())


def test_a_model_is_not_taken_for_the_other_kind(trained: Path) -> None:
    with pytest.raises(CardiacError, match=r"is a segmenter, but a generator is needed"):
        load_bundle(trained, "generator")
    with pytest.raises(CardiacError, match=r"is a generator, but a segmenter is needed"):
        Segmenter("acdc-128", "cpu")


def test_an_earlier_training_is_gone_on_with_only_when_asked(trained: Path, phantoms: Path) -> None:
    before = load_bundle(trained).sha256
    with pytest.raises(CardiacError, match="--resume"):
        job(phantoms, trained).run(Context())
    assert load_bundle(trained).sha256 == before
    job(phantoms, trained, steps=3, resume=True).run(Context())
    found = [p.name for p in trained.with_name("my-unet.training").glob(f"{PREFIX}*")]
    assert f"{PREFIX}00000003" in found


def test_some_patients_train(phantoms: Path, tmp_path: Path) -> None:
    job(phantoms, tmp_path / "few", patients="2", steps=1).run(Context())
    assert len(load_bundle(tmp_path / "few").info["training"]["facts"]["split"]["train"]) == 2


def test_fine_tuning_starts_from_a_model(trained: Path, phantoms: Path, tmp_path: Path) -> None:
    job(phantoms, tmp_path / "tuned", start=str(trained), steps=1, learning_rate=1e-7, ema_decay=0).run(Context())
    weights = [load_bundle(path).network("unet").state_dict() for path in (trained, tmp_path / "tuned")]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=2e-3, rtol=0)
    with pytest.raises(CardiacError, match="is a generator"):
        job(phantoms, tmp_path / "other", start="acdc-128").run(Context())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "set"
    writer = DatasetWriter(folder, {"job": "test"})
    for index in range(3):
        image, mask = phantom_stack(slices=1, shape=(128, 128), spacing=(1.5, 1.5, 8.0), seed=60 + index)
        writer.add(f"case{index}", image, mask, {})
    writer.finish()
    return folder


@pytest.mark.parametrize("mixing", ["mixed", "first"])
def test_made_slices_are_learned_from_too(phantoms: Path, made: Path, tmp_path: Path, mixing: str) -> None:
    output = tmp_path / "both"
    job(phantoms, output, synthetic=made, mixing=mixing, steps=4).run(Context())
    info = load_bundle(output).info
    assert info["training"]["synthetic"] == f"3 slices, {mixing}"
    stages = sorted(p.relative_to(tmp_path / "both.training").as_posix() for p in tmp_path.rglob("state.json"))
    steps = 2 if mixing == "first" else 4
    assert f"{PREFIX}{steps:08d}/state.json" in stages
    assert (f"synthetic/{PREFIX}00000002/state.json" in stages) == (mixing == "first")
    assert str(made) not in json.dumps(dict(info))


def test_the_best_snapshot_is_kept_and_taken(tmp_path: Path) -> None:
    for step, loss in ((1, 0.5), (2, 0.2), (3, 0.4), (4, float("nan"))):
        folder = tmp_path / f"{PREFIX}{step:08d}"
        folder.mkdir()
        (folder / "state.json").write_text(json.dumps({"history": [{"validation_loss": loss}]}))
    best = best_snapshot(tmp_path)
    assert best is not None
    assert best.name == f"{PREFIX}00000002"
    assert best_snapshot(tmp_path / "nothing") is None
    (best / "state.json").write_text("{")
    with pytest.raises(CardiacError, match="damaged"):
        best_snapshot(tmp_path)


# What is told of it


class Listener(Context):
    """Hears what a job tells, and asks it to finish when it is told something."""

    def __init__(self, enough: Callable[[dict[str, Any]], bool] = lambda told: False) -> None:
        super().__init__()
        self.results: list[dict[str, Any]] = []
        self.sentences: list[str] = []
        self.lines: list[str] = []
        self.finishing = lambda: any(enough(told) for told in self.results)

    def progress(self, done: int, total: int, message: str = "") -> None:
        self.lines.append(message)

    def result(self, facts: Any) -> None:
        self.results.append(json.loads(json.dumps(facts, allow_nan=False)))

    def say(self, message: str) -> None:
        self.sentences.append(message)

    def having(self, name: str) -> list[dict[str, Any]]:
        return [told for told in self.results if name in told]


@pytest.mark.parametrize(("step_seconds", "expected"), [(0.01, 20), (0.2, 100), (3.0, 100)])
def test_losses_are_told_now_and_then(step_seconds: float, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    context = Listener()
    figures = Figures(context, earlier=50)
    for step in range(1, 1001):
        now[0] += step_seconds
        figures.step(TrainingProgress(step, 1000, 1 / step, 0))
    assert context.results[0] == {"step": 51, "loss": 1}
    assert context.results[-1] == {"step": 1050, "loss": 0.001}
    assert len(context.results) == pytest.approx(expected, abs=2)
    steps = [told["step"] for told in context.results[:-1]]
    assert min(np.diff(steps)) >= max(TOLD_STEPS, TOLD_SECONDS / step_seconds - 1)
    assert len(context.lines) == 1000


def test_what_is_no_number_is_told_as_nothing() -> None:
    context = Listener()
    figures = Figures(context)
    figures.step(TrainingProgress(1, 1, math.nan, 0))
    figures.validation({"step": 1, "validation_loss": math.nan})
    figures.validation({"step": 1, "validation_dice": {"LV": None, "mean": None}})
    assert context.results == [
        {"step": 1, "loss": None},
        {"step": 1, "validation_dice": {"LV": None, "mean": None}, "mean": None},
    ]


def test_the_line_of_progress_has_the_last_figure() -> None:
    context = Listener()
    figures = Figures(context)
    figures.step(TrainingProgress(1, 9, 0.5, 30))
    figures.validation({"step": 1, "validation_dice": {"LV": 0.9, "mean": 0.87654}})
    figures.step(TrainingProgress(2, 9, 0.5, 30))
    assert context.lines == ["loss 0.5000, 30 s left", "loss 0.5000, 30 s left, Dice 0.877"]


def dice_of(model: Path, pack: SlicePack, patients: list[str]) -> dict[str, float | None] | None:
    network: Any = load_bundle(model).network("unet")
    return SegmentationTask(network, pack, pack.of_patients(patients)).validation_dice(network)


def weights_of(model: Path) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_bundle(model).network("unet").state_dict()
    return weights


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights_of(a), weights_of(b)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def spoiled_unet(tiny_unet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that fine-tuning is bound to improve on."""
    network = load_bundle(tiny_unet).network("unet")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.4 * parameter.std() * torch.randn(parameter.shape, generator=seeded()))
    folder = tmp_path_factory.mktemp("spoiled") / "spoiled-unet"
    write_bundle(folder, {"unet": network}, {}, tiny_unet_info(folder.name), "# spoiled-unet\n")
    return folder


GOOD = {"steps": 40, "batch_size": 4, "learning_rate": 5e-3, "warmup_steps": 2, "ema_decay": 0.8}
RUINOUS = {"steps": 3, "learning_rate": 1, "warmup_steps": 0, "ema_decay": 0}


def test_figures_are_told_before_while_and_after(
    phantoms: Path, pack: SlicePack, spoiled_unet: Path, tmp_path: Path
) -> None:
    context = Listener()
    outcome = job(phantoms, tmp_path / "tuned", start=str(spoiled_unet), **GOOD).run(context)
    before = context.results[0]["before"]
    assert before == pytest.approx(dice_of(spoiled_unet, pack, ["patient004"]))
    assert set(before) == {"LV", "MYO", "RV", "mean"}
    assert context.having("loss")[-1]["step"] == GOOD["steps"]
    *_, last = context.having("validation_dice")
    assert last == {"step": GOOD["steps"], "validation_dice": outcome["after"], "mean": outcome["after"]["mean"]}
    assert outcome["before"] == before
    assert outcome["improved"] is True
    assert outcome["after"]["mean"] > before["mean"]
    # The written weights have half the digits.
    assert outcome["after"] == pytest.approx(dice_of(tmp_path / "tuned", pack, ["patient004"]), abs=0.01)
    training = load_bundle(tmp_path / "tuned").info["training"]
    assert training["note"] == "Fine-tuned from spoiled-unet 1.0.0."
    assert training["start"]["sha256"] == load_bundle(spoiled_unet).sha256
    assert not any("did not improve" in sentence for sentence in context.sentences)


def test_a_model_is_never_made_worse(phantoms: Path, tiny_unet: Path, tmp_path: Path) -> None:
    context = Listener()
    outcome = job(phantoms, tmp_path / "tuned", start=str(tiny_unet), note="A note.", **RUINOUS).run(context)
    assert context.having("validation_dice")[-1]["mean"] < outcome["before"]["mean"]
    assert outcome["improved"] is False
    assert outcome["after"] == outcome["before"] == context.results[0]["before"]
    assert outcome["validation Dice"] == f"{outcome['before']['mean']:.4f}"
    assert same_weights(tmp_path / "tuned", tiny_unet)
    sentence = context.sentences[-1]
    assert sentence.startswith("Fine-tuning did not improve on tiny-unet on the 1 validation patient (mean Dice ")
    assert "the model is unchanged" in sentence
    bundle = load_bundle(tmp_path / "tuned", SEGMENTER)
    assert bundle.info["training"]["note"] == f"A note. {sentence}"
    assert bundle.info["defaults"] == tiny_unet_info()["defaults"]
    card = (tmp_path / "tuned" / CARD_FILE).read_text(encoding="utf-8")
    assert sentence in card
    assert f"{outcome['before']['mean']:.3f}" in card


def test_what_is_as_good_is_no_improvement(phantoms: Path, tiny_unet: Path, tmp_path: Path) -> None:
    settings = {"learning_rate": 1e-7, "warmup_steps": 1000, "steps": 1}
    assert job(phantoms, tmp_path / "tuned", start=str(tiny_unet), **settings).run(Context())["improved"] is False


def test_without_validation_there_are_no_figures(phantoms: Path, tiny_unet: Path, tmp_path: Path) -> None:
    context = Listener()
    outcome = job(phantoms, tmp_path / "tuned", start=str(tiny_unet), split="none", **RUINOUS).run(context)
    assert outcome["validation Dice"] == "not measured"
    assert not {"before", "after", "improved"} & set(outcome)
    assert not context.having("before") + context.having("validation_dice")
    assert sum("there are no figures" in sentence for sentence in context.sentences) == 1
    assert not same_weights(tmp_path / "tuned", tiny_unet)


# Finishing early


def test_a_training_finishes_with_the_best_that_it_has(phantoms: Path, spoiled_unet: Path, tmp_path: Path) -> None:
    long = {**GOOD, "steps": 10**6, "snapshot_minutes": 0.02}
    context = Listener(lambda told: told.get("step", 0) >= 40)
    outcome = job(phantoms, tmp_path / "tuned", start=str(spoiled_unet), **long).run(context)
    last = context.results[-1]
    assert 40 <= last["step"] < 1000
    assert outcome["improved"] is True
    assert outcome["after"]["mean"] == max(told["mean"] for told in context.having("mean"))
    assert any("ends early" in sentence for sentence in context.sentences)
    # And is gone on with.
    again = Listener()
    more = {**long, "steps": last["step"] + 1, "resume": True}
    resumed = job(phantoms, tmp_path / "tuned", start=str(spoiled_unet), **more).run(again)
    assert resumed["before"] == outcome["before"]
    assert resumed["after"]["mean"] >= outcome["after"]["mean"]
    assert again.having("loss") == [{"step": last["step"] + 1, "loss": again.results[1]["loss"]}]


def test_a_training_that_is_to_finish_at_once_makes_a_model(phantoms: Path, tiny_unet: Path, tmp_path: Path) -> None:
    context = Listener()
    context.finishing = lambda: True
    settings = {**RUINOUS, "steps": 100}
    assert job(phantoms, tmp_path / "tuned", start=str(tiny_unet), **settings).run(context)["improved"] is False
    assert same_weights(tmp_path / "tuned", tiny_unet)


def test_finishing_among_made_slices_ends_it_all(
    phantoms: Path, made: Path, spoiled_unet: Path, tmp_path: Path
) -> None:
    settings = {**GOOD, "steps": 10**6, "synthetic": made, "mixing": "first", "start": str(spoiled_unet)}
    context = Listener(lambda told: "loss" in told)
    job(phantoms, tmp_path / "tuned", **settings).run(context)
    stages = [p.relative_to(tmp_path / "tuned.training").parts[0] for p in tmp_path.rglob("state.json")]
    assert stages == ["synthetic"]
    assert load_bundle(tmp_path / "tuned", SEGMENTER)
    with pytest.raises(CardiacError, match=r"synthetic holds the snapshots .* --resume"):
        job(phantoms, tmp_path / "tuned", **settings).run(Context())


def test_steps_of_the_second_stage_go_on_from_the_first(
    phantoms: Path, made: Path, tiny_unet: Path, tmp_path: Path
) -> None:
    context = Listener()
    settings = {**GOOD, "steps": 4, "synthetic": made, "mixing": "first", "start": str(tiny_unet)}
    job(phantoms, tmp_path / "tuned", **settings).run(context)
    assert [told["step"] for told in context.having("validation_dice")] == [2, 4]
    assert [told["step"] for told in context.having("loss")][-1] == 4


# Few patients


@pytest.mark.parametrize(("count", "train"), [(2, 1), (3, 2)])
def test_a_few_patients_are_enough(count: int, train: int, tiny_unet: Path, tmp_path: Path) -> None:
    data = write_acdc(tmp_path / "data", count, slices=2)
    asked: dict[str, Any] = {
        "data": data,
        "output": tmp_path / "tuned",
        "start": str(tiny_unet),
        "steps": 2,
        "device": "cpu",
    }
    outcome = TrainUnet(**asked).run(Context())
    split = load_bundle(tmp_path / "tuned").info["training"]["facts"]["split"]
    assert (len(split["train"]), len(split["validation"])) == (train, 1)
    assert set(outcome) >= {"before", "after"}


def test_one_patient_is_too_few_to_judge_by(tiny_unet: Path, tmp_path: Path) -> None:
    data = write_acdc(tmp_path / "data", 1, slices=2)
    with pytest.raises(CardiacError, match=r"has one labelled patient, patient001, who cannot .* --split none"):
        job(data, tmp_path / "tuned", split="fraction 0.2").run(Context())
    assert not (tmp_path / "tuned.training").exists()
    job(data, tmp_path / "tuned", split="none", start=str(tiny_unet)).run(Context())
    assert load_bundle(tmp_path / "tuned", SEGMENTER)


@pytest.mark.parametrize(("start", "expected"), [(None, FROM_NOTHING), ("acdc-unet", FINE_TUNING)])
def test_defaults_suit_what_it_starts_from(
    start: str | None, expected: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainUnet, "packs", lambda self, context: (range(9), range(3), {}))
    monkeypatch.setattr(TrainUnet, "carry_out", lambda self, *given: vars(self.recipe()))
    asked: dict[str, Any] = {"data": tmp_path, "output": tmp_path, "start": start}
    assert expected.items() <= TrainUnet(**asked).run(Context()).items()
    told = TrainUnet(**asked, steps=7, warmup_steps=0).run(Context())
    assert (told["steps"], told["warmup_steps"], told["learning_rate"]) == (7, 0, expected["learning_rate"])


def test_the_job_is_known() -> None:
    assert JOBS["train-unet"] is TrainUnet


def test_whoever_goes_on_keeps_start_and_patients(phantoms: Path, tiny_unet: Path, tmp_path: Path) -> None:
    short = {"steps": 1, "batch_size": 2, "warmup_steps": 0}
    job(phantoms, tmp_path / "tuned", start=str(tiny_unet), **short).run(Context())
    again = {**short, "steps": 2, "resume": True}
    with pytest.raises(CardiacError, match=r"were begun with --start tiny-unet; go on with the same"):
        job(phantoms, tmp_path / "tuned", **again).run(Context())
    with pytest.raises(CardiacError, match=r"were begun with other patients to train or validate; go on with the same"):
        job(phantoms, tmp_path / "tuned", start=str(tiny_unet), **again, split="mod 5 == 3").run(Context())
    job(phantoms, tmp_path / "tuned", start=str(tiny_unet), **again).run(Context())


def test_a_start_that_knows_who_validates_is_told(phantoms: Path, tmp_path: Path) -> None:
    short = {"steps": 1, "batch_size": 2, "warmup_steps": 0}
    job(phantoms, tmp_path / "first", split="mod 5 == 3", **short).run(Context())
    context = Listener()
    job(phantoms, tmp_path / "tuned", start=str(tmp_path / "first"), split="mod 5 == 4", **short).run(context)
    assert any("first learned from 1 of those who validate here (patient004)" in told for told in context.sentences)
    assert "patient004" in (load_bundle(tmp_path / "tuned").training_patients() or ())
