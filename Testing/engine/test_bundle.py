"""A model on disk: what was written comes back, and whatever was tampered with is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cardiac_diffusion_aug import bundle as bundles
from cardiac_diffusion_aug.bundle import (
    BUNDLE_FILE,
    CARD_FILE,
    WEIGHTS_FILE,
    available_models,
    find_model,
    load_bundle,
    write_bundle,
)
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.generation import Generator
from cardiac_diffusion_aug.training.objectives import flow_scheduler
from cardiac_diffusion_aug.training.tasks import MASK_STEP_MEAN
from tiny import CARD, SmallDisk, tiny_info, tiny_networks, write_tiny_model

pytest_plugins = ["tiny"]

WEIGHTS = f"image_denoiser/{WEIGHTS_FILE}"
CONFIG = "image_denoiser/config.json"
SCHEDULER = "mask_scheduler/scheduler_config.json"
LONGEST_SENTENCE = 400


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to tamper with."""
    return Path(shutil.copytree(tiny_model, tmp_path / "models" / "copy"))


def edit(path: Path, **changes: Any) -> None:
    """Change values of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def list_again(model: Path) -> None:
    """Put the hashes of all files into `bundle.json`, so that only their contents are at fault."""
    names = [p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file() and p.name != BUNDLE_FILE]
    edit(model / BUNDLE_FILE, files={n: hashlib.sha256((model / n).read_bytes()).hexdigest() for n in names})


def edit_weights(path: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def refused(model: Path, *words: str, load: Callable[[Path], object] = load_bundle) -> None:
    with pytest.raises(CardiacError) as caught:
        load(model)
    message = str(caught.value)
    assert caught.value.code == "bad_model", message
    for word in (str(model), *words):
        assert word in message
    assert len(message.splitlines()) == 1
    assert len(message) - len(str(model)) < LONGEST_SENTENCE


def generator(model: Path) -> Generator:
    return Generator(str(model), device="cpu")


# What was written comes back


def test_what_was_written_comes_back(tiny_model: Path) -> None:
    bundle = load_bundle(tiny_model)
    assert (bundle.name, bundle.version) == ("tiny", "1.0.0")
    assert {name: bundle.info[name] for name in tiny_info()} == tiny_info()
    assert (tiny_model / CARD_FILE).read_text() == CARD
    for part, network in tiny_networks().items():
        loaded = bundle.network(part)
        assert not loaded.training
        for name, tensor in network.state_dict().items():
            assert loaded.state_dict()[name].dtype == torch.float32
            assert (loaded.state_dict()[name] - tensor).abs().max() <= tensor.abs().max() / 200, name
    for part in ("mask_scheduler", "image_scheduler"):
        assert bundle.scheduler(part).config.prediction_type == "flow_prediction"
    expected: Any = flow_scheduler(MASK_STEP_MEAN)
    assert bundle.scheduler("mask_scheduler").config.flow_shift == expected.config.flow_shift


def test_every_file_is_listed_with_its_hash(tiny_model: Path) -> None:
    files = load_bundle(tiny_model).info["files"]
    found = {p.relative_to(tiny_model).as_posix() for p in tiny_model.rglob("*") if p.is_file()}
    assert found == {*files, BUNDLE_FILE}
    for name, expected in files.items():
        assert hashlib.sha256((tiny_model / name).read_bytes()).hexdigest() == expected


def test_the_hash_of_a_model_tells_models_apart(tiny_model: Path, model: Path) -> None:
    assert load_bundle(model).sha256 == load_bundle(tiny_model).sha256
    (model / CARD_FILE).write_text("another")
    list_again(model)
    assert load_bundle(model).sha256 != load_bundle(tiny_model).sha256


def test_models_are_found_by_name(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARDIAC_DIFFUSION_AUG_MODELS", str(model.parent))
    (model.parent / "no model").mkdir()
    shutil.copytree(model, model.parent / ".copy.part")
    assert available_models()["copy"] == model
    assert {"no model", ".copy.part"}.isdisjoint(available_models())
    assert find_model("copy") == model
    assert load_bundle("copy").path == model


@pytest.mark.parametrize("name", ["nothing", "", "../../nothing", "x" * 5000, "a\0b", "/dev/null"])
def test_unknown_models_are_refused(name: str) -> None:
    with pytest.raises(CardiacError, match="There is no model '") as caught:
        load_bundle(name)
    assert caught.value.code == "bad_model"
    assert len(str(caught.value)) < LONGEST_SENTENCE


def test_what_file_managers_leave_does_no_harm(model: Path) -> None:
    (model / ".DS_Store").write_bytes(b"x")
    (model / "image_denoiser" / "Thumbs.db").write_bytes(b"x")
    load_bundle(model)


# Tampering


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, SCHEDULER, CARD_FILE])
def test_a_changed_file_is_refused(model: Path, name: str) -> None:
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (model / name).write_bytes(content)
    refused(model, name, "SHA-256 differs")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, SCHEDULER, CARD_FILE])
def test_a_missing_file_is_refused(model: Path, name: str) -> None:
    (model / name).unlink()
    refused(model, "lacks", name)
    list_again(model)
    refused(model, "does not list", name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("evil.pkl", "pickle"),
        ("image_denoiser/pytorch_model.bin", "pickle"),
        (".hidden.PT", "pickle"),
        ("image_denoiser/extra.safetensors", "does not list"),
        ("notes.txt", "does not list"),
    ],
)
def test_an_unlisted_file_is_refused(model: Path, name: str, words: str) -> None:
    (model / name).write_bytes(b"\x80\x04N.")
    refused(model, name, words)


@pytest.mark.parametrize("name", ["evil.pkl", "image_denoiser/pytorch_model.bin", "code.py", "no_suffix"])
def test_a_listed_file_of_another_kind_is_refused(model: Path, name: str) -> None:
    (model / name).write_bytes(b"\x80\x04N.")
    list_again(model)
    refused(model, name, "never a pickle")


@pytest.mark.parametrize(
    "name",
    [
        "../outside.json",
        "image_denoiser/../../outside.json",
        "/etc/passwd",
        "/etc/passwd.json",
        "a\\..\\b.json",
        "C:x.json",
        "C:/x.json",
        "",
        "x" * 5000 + ".json",
        "a\0b.json",
    ],
)
def test_a_path_out_of_the_folder_is_refused(model: Path, name: str) -> None:
    (model.parent / "outside.json").write_text("{}")
    files = json.loads((model / BUNDLE_FILE).read_text())["files"]
    edit(model / BUNDLE_FILE, files={**files, name: hashlib.sha256(b"{}").hexdigest()})
    refused(model, repr(name)[:60])


def test_a_link_out_of_the_folder_is_refused(model: Path) -> None:
    outside = model.parent / "outside.safetensors"
    shutil.move(model / WEIGHTS, outside)
    (model / WEIGHTS).symlink_to(outside)
    refused(model, f"link {WEIGHTS}")


def test_a_linked_folder_is_refused(model: Path) -> None:
    outside = shutil.move(model / "image_denoiser", model.parent / "outside")
    (model / "image_denoiser").symlink_to(outside)
    refused(model, "link image_denoiser")


def test_a_link_to_itself_is_refused(model: Path) -> None:
    (model / CARD_FILE).unlink()
    (model / CARD_FILE).symlink_to(model / CARD_FILE)
    refused(model, CARD_FILE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"1" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"{}",
    ],
)
def test_another_content_of_bundle_json_is_refused(model: Path, content: bytes) -> None:
    (model / BUNDLE_FILE).write_bytes(content)
    refused(model, BUNDLE_FILE)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 3},
        {"format": "1"},
        *({name: None} for name in tiny_info() if name not in ("license", "training")),
        {"files": None},
        {"files": []},
        {"name": ["tiny"]},
        {"version": 1},
        {"labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3}},
        {"grid": {"size": 256, "spacing_mm": 1.5}},
        {"attributes": {"phase": ["ES", "ED"], "group": ["NOR"], "level": [0, 1]}},
        {"attributes": []},
        {"slice_thickness_mm": 0},
        {"slice_thickness_mm": "thick"},
        {"slice_thickness_mm": float("nan")},
        {"defaults": {}},
        {"defaults": {"mask_steps": 0, "image_steps": 3, "guidance_scale": 1}},
        {"defaults": {"mask_steps": 3, "image_steps": 10**9, "guidance_scale": 1}},
        {"defaults": {"mask_steps": "3x", "image_steps": 3, "guidance_scale": 1}},
        {"defaults": {"mask_steps": float("inf"), "image_steps": 3, "guidance_scale": 1}},
        {"defaults": {"mask_steps": 3, "image_steps": 3, "guidance_scale": float("nan")}},
    ],
    ids=repr,
)
def test_other_facts_in_bundle_json_are_refused(model: Path, changes: dict[str, Any]) -> None:
    edit(model / BUNDLE_FILE, **changes)
    refused(model, BUNDLE_FILE)


def _drop_one(weights: dict[str, Tensor]) -> None:
    del weights["unet.exit.bias"]


def _add_one(weights: dict[str, Tensor]) -> None:
    weights["extra"] = torch.zeros(1)


def _reshape(weights: dict[str, Tensor]) -> None:
    weights["unet.exit.bias"] = torch.zeros(5)


def _spoil(weights: dict[str, Tensor]) -> None:
    weights["unet.exit.bias"][0] = float("nan")


@pytest.mark.parametrize("change", [_drop_one, _add_one, _reshape, _spoil])
def test_weights_that_do_not_fit_are_refused(model: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    edit_weights(model / WEIGHTS, change)
    list_again(model)
    refused(model, WEIGHTS, load=generator)


@pytest.mark.parametrize("kept", [0, 4, 100, 5000])
def test_truncated_weights_are_refused(model: Path, kept: int) -> None:
    (model / WEIGHTS).write_bytes((model / WEIGHTS).read_bytes()[:kept])
    list_again(model)
    refused(model, WEIGHTS, load=generator)


def test_weights_of_the_other_network_are_refused(model: Path) -> None:
    shutil.copyfile(model / "mask_denoiser" / WEIGHTS_FILE, model / WEIGHTS)
    list_again(model)
    refused(model, WEIGHTS, load=generator)


@pytest.mark.parametrize(
    "changes",
    [
        {"_class_name": "UNet2DModel"},
        {"_class_name": "os.system"},
        {"_class_name": ["ImageDenoiser"]},
        {"_class_name": None},
        {"channels": [16, 16, 16]},
        {"channels": [8, 16]},
        {"channels": [10**9, 10**9, 10**9]},
        {"channels": [9, 16, 16]},
        {"channels": [8.0, 16, 16]},
        {"channels": []},
        {"channels": "8"},
        {"channels": [8] * 50},
        {"blocks": [10**9, 1, 1]},
        {"blocks": [1, 1]},
        {"blocks": [-1, 1, 1]},
        {"width": 0},
        {"width": "wide"},
        {"hidden": 10**12},
        {"_use_default_values": 5},
    ],
    ids=repr,
)
def test_configurations_of_another_network_are_refused(model: Path, changes: dict[str, Any]) -> None:
    edit(model / CONFIG, **changes)
    list_again(model)
    refused(model, "image_denoiser", load=generator)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", [CONFIG, SCHEDULER])
def test_other_configuration_files_are_refused(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    list_again(model)
    refused(model, Path(name).parts[0], load=generator)


@pytest.mark.parametrize(
    "changes",
    [
        {"_class_name": "DDPMScheduler"},
        {"_class_name": "StableDiffusionPipeline"},
        {"_class_name": "__getattr__"},
        {"_class_name": None},
        {"_class_name": ["DPMSolverMultistepScheduler"]},
        {"prediction_type": "epsilon"},
        {"num_train_timesteps": 10**12},
        {"num_train_timesteps": "many"},
        {"num_train_timesteps": 0},
        {"beta_schedule": "unheard of"},
        {"solver_type": "unheard of"},
        {"use_karras_sigmas": True},
        {"flow_shift": "x"},
        {"flow_shift": -2.0},
    ],
    ids=repr,
)
def test_other_schedulers_are_refused(model: Path, changes: dict[str, Any]) -> None:
    edit(model / SCHEDULER, **changes)
    list_again(model)
    refused(model, SCHEDULER, load=generator)


# Writing


def test_a_model_is_replaced(model: Path) -> None:
    write_tiny_model(model, image_steps=7)
    assert load_bundle(model).default("image_steps") == 7
    assert [path.name for path in model.parent.iterdir()] == ["copy"]


def test_an_empty_folder_becomes_a_model(tmp_path: Path) -> None:
    write_tiny_model(tmp_path)
    assert load_bundle(tmp_path).name == tmp_path.name


class Interrupted(BaseException):
    """As Ctrl-C."""


@pytest.mark.parametrize("moment", ["weights", "card", "first rename", "second rename"])
def test_an_interrupted_write_leaves_the_old_model(model: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_bundle(model).sha256
    left = {"first rename": 1, "second rename": 2}.get(moment, 0)
    rename = os.replace

    def interrupt(*arguments: Any, **options: Any) -> None:
        raise Interrupted

    def rename_until(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Interrupted
        rename(source, target)

    if moment == "weights":
        monkeypatch.setattr("cardiac_diffusion_aug.weights.save_file", interrupt)
    elif moment == "card":
        monkeypatch.setattr(Path, "write_text", interrupt)
    else:
        monkeypatch.setattr(os, "replace", rename_until)
    with pytest.raises(Interrupted):
        write_tiny_model(model, image_steps=7)
    monkeypatch.undo()
    assert load_bundle(model).sha256 == before
    assert [path.name for path in model.parent.iterdir()] == ["copy"]


def test_a_model_that_a_kill_put_aside_comes_back(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_bundle(model).sha256
    model.rename(model.with_name(".copy.old"))

    def interrupt(*arguments: Any) -> None:
        raise Interrupted

    monkeypatch.setattr(bundles, "_write_parts", interrupt)
    with pytest.raises(Interrupted):
        write_tiny_model(model)
    assert load_bundle(model).sha256 == before


@pytest.mark.parametrize("name", ["notes.txt", "image_denoiser/mine.txt", ".hidden"])
def test_a_folder_with_anything_else_is_not_replaced(model: Path, name: str) -> None:
    (model / name).write_text("mine")
    with pytest.raises(CardiacError, match="choose another folder") as caught:
        write_tiny_model(model)
    assert caught.value.code == "bad_output"
    assert name in str(caught.value)
    assert (model / name).read_text() == "mine"


def test_what_is_no_model_is_not_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "home" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    for path in (mine, mine.parent):
        with pytest.raises(CardiacError, match="something else than a model") as caught:
            write_tiny_model(path)
        assert caught.value.code == "bad_output"
    assert mine.read_text() == "mine"
    assert [path.name for path in tmp_path.rglob("*")] == ["home", "thesis.txt"]


def test_a_full_disk_is_told(small_disk: SmallDisk) -> None:
    with pytest.raises(CardiacError, match="is full") as caught:
        write_tiny_model(small_disk.folder / "model")
    assert caught.value.code == "disk_full"
    assert not list(small_disk.folder.iterdir())


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CardiacError, match="cannot be written") as caught:
        write_bundle(tmp_path / "file" / "model", {}, {}, tiny_info(), CARD)
    assert caught.value.code == "bad_output"
