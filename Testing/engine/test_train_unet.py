"""Training of the segmentation network: what it sees, what it learns, and the model that comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cardiac_diffusion_aug.bundle import CARD_FILE, SEGMENTER, load_bundle
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import WIDE_PACK_SIZE, SlicePack, pack_cases
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.export import DatasetWriter
from cardiac_diffusion_aug.jobs import JOBS, Context
from cardiac_diffusion_aug.jobs.train_unet import TrainUnet
from cardiac_diffusion_aug.labels import LV, MYO, RV
from cardiac_diffusion_aug.networks.segmentation_unet import SegmentationUNet
from cardiac_diffusion_aug.segmentation import Segmenter
from cardiac_diffusion_aug.slices import GRID_SIZE
from cardiac_diffusion_aug.training.augmentation import AS_IT_IS, NONE, Appearance, change_appearance
from cardiac_diffusion_aug.training.segmentation_task import (
    PLAIN,
    STRONG,
    SegmentationTask,
    Traditional,
    centered,
    volume_dice,
    windows,
)
from cardiac_diffusion_aug.training.snapshots import PREFIX, best_snapshot
from phantom import phantom_stack, write_acdc


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


def test_wide_windows_show_small_hearts(pack: SlicePack) -> None:
    rows = torch.arange(10)
    near = windows(pack, rows, PLAIN, seeded())[1][:, 1:].sum()
    far = windows(pack, rows, Traditional(NONE, AS_IT_IS, wide=1, astray=0, astray_shift=0, turned=0), seeded())[1][
        :, 1:
    ].sum()
    assert float(near / far) == pytest.approx(4, rel=0.05)


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


def test_one_slice_is_learned_by_heart(pack: SlicePack) -> None:
    torch.manual_seed(0)
    network = SegmentationUNet((16, 32, 32, 32))
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


def test_the_job_is_known() -> None:
    assert JOBS["train-unet"] is TrainUnet
