"""The training loop: exact resume, snapshots that are whole or absent, and ends that are told."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import SlicePack, pack_cases
from cardiac_diffusion_aug.errors import Cancelled, CardiacError
from cardiac_diffusion_aug.networks.image_denoiser import ImageDenoiser
from cardiac_diffusion_aug.networks.mask_denoiser import MaskDenoiser
from cardiac_diffusion_aug.preview import GAP, SHEET_WIDTH, TILE_SCALE
from cardiac_diffusion_aug.training import loop, tasks
from cardiac_diffusion_aug.training.augmentation import NONE
from cardiac_diffusion_aug.training.loop import (
    Recipe,
    TrainingProgress,
    format_time,
    learning_rate_factor,
    rows_of_step,
    train,
)
from cardiac_diffusion_aug.training.snapshots import KEPT, averaged_network, latest_snapshot
from cardiac_diffusion_aug.training.tasks import ImageTask, MaskTask
from phantom import write_acdc

STEPS, STOP = 8, 4
RECIPE = Recipe(
    steps=STEPS,
    batch_size=4,
    half_resolution_steps=6,
    learning_rate=3e-3,
    warmup_steps=3,
    ema_decay=0.9,
    snapshot_minutes=1e9,
)
Check = Callable[[], None]
AnyTask = Any
"""A task whose parts the tests replace."""


class Line(nn.Module):
    """The smallest network."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class LineTask:
    """The smallest task: numbers to be learned, with noise from the step's generator."""

    size = 10

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = Line()
        self.seen: list[tuple[list[int], bool]] = []

    def loss(self, network: nn.Module, rows: Tensor, generator: torch.Generator, half: bool) -> Tensor:
        self.seen.append((rows.tolist(), half))
        x = torch.stack([rows.float(), rows.float().cos(), torch.randn(len(rows), generator=generator)], 1) / 10
        return (network(x) - rows[:, None]).square().mean()

    def validation_loss(self, network: nn.Module) -> float:
        return float(network(torch.ones(1, 3)).detach().square().mean())

    def contact_sheet(self, network: nn.Module, path: Path) -> None:
        Image.new("RGB", (4, 4)).save(path, format="PNG")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> SlicePack:
    folder = tmp_path_factory.mktemp("phantoms")
    return pack_cases(read_cases(write_acdc(folder / "data", 2, slices=3))[1], folder / "cache")


@pytest.fixture
def mask_task(pack: SlicePack) -> MaskTask:
    torch.manual_seed(0)
    network = MaskDenoiser(channels=(8, 16), blocks=(1, 1), width=8)
    return MaskTask(network, pack.of_patients(["patient001"]), pack.of_patients(["patient002"]), 0.3)


@pytest.fixture
def image_task(pack: SlicePack) -> ImageTask:
    torch.manual_seed(0)
    network = ImageDenoiser(channels=(8, 16), blocks=(1, 1), width=8, hidden=8)
    return ImageTask(network, pack.of_patients(["patient001"]), pack.of_patients(["patient002"]), 0.3)


@pytest.fixture(params=["line", "masks", "images"])
def new_task(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AnyTask]:
    """A maker of tasks that begin alike."""
    # Without sheets, which are looked at below.
    for kind in (MaskTask, ImageTask):
        monkeypatch.setattr(kind, "contact_sheet", LineTask.contact_sheet)
    if request.param == "line":
        return LineTask
    packed = request.getfixturevalue("pack")
    parts = packed.of_patients(["patient001"]), packed.of_patients(["patient002"])

    def make() -> AnyTask:
        torch.manual_seed(0)
        if request.param == "masks":
            return MaskTask(MaskDenoiser(channels=(8, 16), blocks=(1, 1), width=8), *parts, 0.3)
        return ImageTask(ImageDenoiser(channels=(8, 16), blocks=(1, 1), width=8, hidden=8), *parts, 0.3)

    return make


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "run"


def run(task: AnyTask, output: Path, recipe: Recipe = RECIPE, **arguments: Any) -> nn.Module:
    return train(task, recipe, output, device="cpu", precision="fp32", **arguments)


def after(steps: int, error: BaseException) -> Check:
    """A check that raises before step `steps`."""
    calls = iter(range(10**6))

    def check() -> None:
        if next(calls) == steps:
            raise error

    return check


def stop(task: AnyTask, output: Path, steps: int = STOP, recipe: Recipe = RECIPE, **arguments: Any) -> None:
    """Train and cancel after some steps."""
    with pytest.raises(Cancelled):
        run(task, output, recipe, check=after(steps, Cancelled()), **arguments)


def tensors(output: Path) -> dict[str, Tensor]:
    """All numbers of the latest snapshot."""
    snapshot = latest_snapshot(output)
    assert snapshot is not None
    return {f"{p.stem}:{name}": t for p in snapshot.glob("*.safetensors") for name, t in load_file(p).items()}


def history(output: Path) -> list[dict[str, float]]:
    snapshot = latest_snapshot(output)
    assert snapshot is not None
    rows: list[dict[str, float]] = json.loads((snapshot / "state.json").read_text(encoding="utf-8"))["history"]
    return rows


# Resume


def test_a_stopped_training_ends_as_one_that_was_not(new_task: Callable[[], AnyTask], output: Path) -> None:
    told: dict[str, list[TrainingProgress]] = {"whole": [], "parts": []}
    whole = run(new_task(), output / "whole", report=told["whole"].append)
    stop(new_task(), output / "parts", report=told["parts"].append)
    parts = run(new_task(), output / "parts", resume=True, report=told["parts"].append)
    assert STOP < RECIPE.half_resolution_steps < STEPS
    assert [p.step for p in told["parts"]] == [p.step for p in told["whole"]] == list(range(1, STEPS + 1))
    assert [p.loss for p in told["parts"]] == pytest.approx([p.loss for p in told["whole"]], rel=1e-6)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    expected, got = tensors(output / "whole"), tensors(output / "parts")
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-6, atol=1e-9, msg=name)
    assert history(output / "parts")[-1] == pytest.approx(history(output / "whole")[-1], rel=1e-6)


def test_a_training_may_be_stopped_at_every_step(output: Path) -> None:
    whole = run(LineTask(), output / "whole")
    for _ in range(STEPS - 1):
        stop(LineTask(), output / "parts", steps=1, resume=True)
    parts = run(LineTask(), output / "parts", resume=True)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    assert [row["step"] for row in history(output / "parts")] == list(range(1, STEPS + 1))


def test_other_random_numbers_in_between_change_nothing(output: Path) -> None:
    whole = run(LineTask(), output / "whole")
    stop(LineTask(), output / "parts")
    task = LineTask()
    torch.manual_seed(99)
    np.random.seed(99)
    parts = run(task, output / "parts", resume=True)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_a_finished_training_is_not_gone_on_with(output: Path) -> None:
    first = run(LineTask(), output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    task = LineTask()
    again = run(task, output, resume=True)
    assert not task.seen
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_resume_without_a_snapshot_begins_anew(output: Path) -> None:
    run(LineTask(), output, resume=True)
    assert history(output)[-1]["step"] == STEPS


# Stopping


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt(), RuntimeError("something broke")])
def test_what_was_learned_is_kept_when_a_training_ends(error: BaseException, output: Path) -> None:
    with pytest.raises(type(error)) as caught:
        run(LineTask(), output, check=after(3, error))
    assert caught.value is error
    assert latest_snapshot(output) == output / "snapshot-00000003"


def test_nothing_learned_leaves_nothing(output: Path) -> None:
    stop(LineTask(), output, 0)
    assert not output.exists()
    stop(LineTask(), output, 2)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    stop(LineTask(), output, 0, resume=True)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def finish_after(steps: int) -> Callable[[], bool]:
    """Asked after each step, whether to finish; true from step `steps` on."""
    calls = iter(range(1, 10**6))
    return lambda: next(calls) >= steps


def test_a_training_finishes_early_as_at_its_last_step(output: Path) -> None:
    rows: list[dict[str, Any]] = []
    finished = run(LineTask(), output / "parts", finishing=finish_after(3), validated=rows.append)
    assert [path.name for path in (output / "parts").iterdir()] == ["snapshot-00000003"]
    assert rows == history(output / "parts")
    assert [row["step"] for row in rows] == [3]
    averages = [tensor for name, tensor in tensors(output / "parts").items() if name.startswith("ema:")]
    assert all(any(torch.equal(parameter, tensor) for tensor in averages) for parameter in finished.parameters())
    # It may be gone on with.
    parts, whole = run(LineTask(), output / "parts", resume=True), run(LineTask(), output / "whole")
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_one_step_is_done_before_a_training_finishes(output: Path) -> None:
    task = LineTask()
    run(task, output, finishing=lambda: True)
    assert latest_snapshot(output) == output / "snapshot-00000001"
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    run(task, output, finishing=lambda: True, resume=True)
    assert len(task.seen) == 1
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_a_cancel_counts_more_than_a_finish(output: Path) -> None:
    stop(LineTask(), output, 2, finishing=finish_after(2))


@pytest.mark.parametrize("place", [(torch.optim.AdamW, "step"), (EMAModel, "step")])
def test_half_a_step_is_never_kept(place: tuple[Any, str], output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(LineTask(), output, 2)
    owner, name = place
    original, calls = getattr(owner, name), iter(range(100))

    def interrupted(self: Any, *arguments: Any, **more: Any) -> Any:
        result = original(self, *arguments, **more)
        if next(calls) == 2:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(LineTask(), output, resume=True)
    monkeypatch.undo()
    assert latest_snapshot(output) == output / "snapshot-00000002"
    parts, whole = run(LineTask(), output, resume=True), run(LineTask(), output / "whole")
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def nan_loss(loss: Tensor) -> Tensor:
    return loss * math.nan


class InfiniteGradient(torch.autograd.Function):
    """One, with an infinite slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.inf


@pytest.mark.parametrize("spoil", [nan_loss, InfiniteGradient.apply])
def test_numbers_that_are_none_end_the_training(
    spoil: Callable[[Tensor], Tensor], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = LineTask.loss

    def loss(self: LineTask, *arguments: Any) -> Tensor:
        found = original(self, *arguments)
        return spoil(found) if len(self.seen) == 4 else found

    monkeypatch.setattr(LineTask, "loss", loss)
    with pytest.raises(CardiacError, match=r"The loss is not a number at step 3; .* smaller --learning-rate") as caught:
        run(LineTask(), output, replace(RECIPE, snapshot_minutes=0))
    assert caught.value.code == "training_failed"
    assert latest_snapshot(output) == output / "snapshot-00000003"
    assert all(tensor.isfinite().all() for tensor in tensors(output).values())


# Snapshots


def test_a_kill_while_a_snapshot_is_written_leaves_the_one_before(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop(LineTask(), output)
    before = tensors(output)

    def killed(*_: object) -> None:
        raise OSError("the process is gone")

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(OSError, match="the process is gone"):
        run(LineTask(), output, resume=True)
    monkeypatch.undo()
    assert [path.name for path in sorted(output.iterdir())] == [
        f".snapshot-{STEPS:08d}.part",
        f"snapshot-{STOP:08d}",
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(output).items())
    parts, whole = run(LineTask(), output, resume=True), run(LineTask(), output / "whole")
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    assert not list(output.glob(".*"))


def test_what_a_kill_left_is_cleared_away(output: Path) -> None:
    for name in (".snapshot-00000001.part", f".snapshot-{STEPS:08d}.part"):
        (output / name).mkdir(parents=True)
        (output / name / "weights.safetensors").write_bytes(b"half")
    assert latest_snapshot(output) is None
    run(LineTask(), output, resume=True)
    assert [path.name for path in output.iterdir()] == [f"snapshot-{STEPS:08d}"]


def test_a_full_disk_is_told_once(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Path] = []

    def full(self: LineTask, network: nn.Module, path: Path) -> None:
        tries.append(path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LineTask, "contact_sheet", full)
    with pytest.raises(OSError, match="No space left"):
        run(LineTask(), output, replace(RECIPE, snapshot_minutes=0))
    assert len(tries) == 1
    assert latest_snapshot(output) is None


def test_only_the_newest_snapshots_stay(output: Path) -> None:
    run(LineTask(), output, replace(RECIPE, snapshot_minutes=0))
    kept = [f"snapshot-{step:08d}" for step in range(STEPS - KEPT + 1, STEPS + 1)]
    assert sorted(path.name for path in output.iterdir()) == kept
    assert [row["step"] for row in history(output)] == list(range(1, STEPS + 1))


def test_what_is_named_alike_is_no_snapshot(output: Path) -> None:
    run(LineTask(), output)
    others = [output / f"snapshot-{STEPS:08d}.tar.gz", output / "snapshot-99999999.txt", output / "snapshot-of-mine"]
    for other in others[:2]:
        other.write_bytes(b"")
    others[2].mkdir()
    (output / "snapshot-99999998").write_bytes(b"")
    assert latest_snapshot(output) == output / f"snapshot-{STEPS:08d}"
    run(LineTask(), output, replace(RECIPE, steps=STEPS + 3, snapshot_minutes=0), resume=True)
    assert all(other.exists() for other in others)


def test_there_is_no_snapshot_where_there_is_no_folder(output: Path) -> None:
    assert latest_snapshot(output) is None


def test_a_snapshot_tells_all_about_itself(output: Path) -> None:
    facts = {"reader": "acdc", "split": {"train": ["patient001"], "validation": []}}
    run(LineTask(), output, facts=facts)
    snapshot = latest_snapshot(output)
    assert snapshot is not None
    state = json.loads((snapshot / "state.json").read_text(encoding="utf-8"))
    assert state["step"] == STEPS
    assert state["facts"] == facts
    assert Recipe(**state["recipe"]) == RECIPE
    assert [row["step"] for row in state["history"]] == [STEPS]
    assert state["history"][0]["loss"] > 0
    assert state["history"][0]["validation_loss"] > 0


def test_a_snapshot_holds_no_pickle(output: Path) -> None:
    run(LineTask(), output)
    snapshot = latest_snapshot(output)
    assert snapshot is not None
    names = {"weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "sheet.png"}
    assert {path.name for path in snapshot.iterdir()} == names
    for path in snapshot.glob("*.safetensors"):
        length = int.from_bytes(path.read_bytes()[:8], "little")
        json.loads(path.read_bytes()[8 : 8 + length])


def test_what_a_task_tells_of_its_validation_is_kept(output: Path) -> None:
    class Detailed(LineTask):
        def validation_facts(self, network: nn.Module) -> dict[str, Any]:
            return {"validation_loss": 0.25, "validation_dice": {"LV": 0.75, "RV": None}}

    told: list[dict[str, Any]] = []
    run(Detailed(), output, replace(RECIPE, snapshot_minutes=0), validated=told.append)
    assert [row["step"] for row in told] == list(range(1, STEPS + 1))
    assert told == history(output)
    assert told[0]["validation_dice"] == {"LV": 0.75, "RV": None}
    assert told[0]["validation_loss"] == 0.25


def truncate(name: str) -> Callable[[Path], None]:
    def damage(snapshot: Path) -> None:
        content = (snapshot / name).read_bytes()
        (snapshot / name).write_bytes(content[: len(content) // 2])

    return damage


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(snapshot: Path) -> None:
        (snapshot / name).write_bytes(content)

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda snapshot: (snapshot / name).unlink()


def put(name: str, shapes: dict[str, tuple[int, ...]]) -> Callable[[Path], None]:
    return lambda snapshot: save_file({n: torch.zeros(s) for n, s in shapes.items()}, snapshot / name)


LINE_SHAPES = {"layer.weight": (2, 3), "layer.bias": (2,)}
DAMAGES = {
    "truncated weights": truncate("weights.safetensors"),
    "truncated averages": truncate("ema.safetensors"),
    "truncated moments": truncate("optimizer.safetensors"),
    "empty weights": write("weights.safetensors", b""),
    "a huge header": write("ema.safetensors", b"\xff" * 64),
    "no weights": remove("weights.safetensors"),
    "no averages": remove("ema.safetensors"),
    "no moments": remove("optimizer.safetensors"),
    "no state": remove("state.json"),
    "truncated state": truncate("state.json"),
    "a list for a state": write("state.json", b"[]"),
    "an empty state": write("state.json", b"{}"),
    "a state that is no text": write("state.json", b"\xff\xfe\x00"),
    "another shape": put("weights.safetensors", {**LINE_SHAPES, "layer.weight": (5, 3)}),
    "a parameter too few": put("weights.safetensors", {"layer.bias": (2,)}),
    "a parameter too many": put("weights.safetensors", {**LINE_SHAPES, "more": (1,)}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_refused(damage: str, output: Path) -> None:
    run(LineTask(), output, replace(RECIPE, snapshot_minutes=0))
    snapshot = latest_snapshot(output)
    assert snapshot is not None
    DAMAGES[damage](snapshot)
    longer = replace(RECIPE, steps=STEPS + 1)
    with pytest.raises(
        CardiacError, match=f"{snapshot} does not fit this network or is damaged; remove that"
    ) as caught:
        run(LineTask(), output, longer, resume=True)
    assert caught.value.code == "bad_model"
    shutil.rmtree(snapshot)
    run(LineTask(), output, longer, resume=True)
    assert history(output)[-1]["step"] == STEPS + 1


@pytest.mark.parametrize(
    "damage", ["truncated averages", "a huge header", "no averages", "no state", "truncated state"]
)
def test_a_damaged_snapshot_makes_no_network(damage: str, output: Path) -> None:
    run(LineTask(), output)
    snapshot = latest_snapshot(output)
    assert snapshot is not None
    DAMAGES[damage](snapshot)
    with pytest.raises(CardiacError, match="is not a whole snapshot of a Line") as caught:
        averaged_network(snapshot, Line)
    assert caught.value.code == "bad_model"


# The average


def test_the_average_is_what_is_kept(output: Path) -> None:
    task = LineTask()
    trained = run(task, output)
    assert trained is task.network
    snapshot = latest_snapshot(output)
    assert snapshot is not None
    averages, raw = load_file(snapshot / "ema.safetensors"), load_file(snapshot / "weights.safetensors")
    for name, parameter in trained.named_parameters():
        assert torch.equal(parameter, averages[name])
        assert not torch.equal(parameter, raw[name])
    network, state = averaged_network(snapshot, Line)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), trained.parameters(), strict=True))
    assert state["step"] == STEPS


def test_without_decay_the_average_is_the_last(output: Path) -> None:
    trained = run(LineTask(), output, replace(RECIPE, ema_decay=0.0))
    raw = {name[8:]: tensor for name, tensor in tensors(output).items() if name.startswith("weights:")}
    for name, parameter in trained.named_parameters():
        torch.testing.assert_close(parameter.detach(), raw[name])


def test_the_average_is_what_is_validated_and_the_raw_goes_on(output: Path) -> None:
    seen: list[Tensor] = []

    class Watched(LineTask):
        def validation_loss(self, network: nn.Module) -> float:
            assert not network.training
            seen.append(next(network.parameters()).detach().clone())
            return super().validation_loss(network)

    whole = run(LineTask(), output / "whole")
    watched = run(Watched(), output / "watched", replace(RECIPE, snapshot_minutes=0))
    assert len(seen) == STEPS
    assert torch.equal(seen[-1], next(whole.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), watched.parameters(), strict=True))


# Learning


def overfit(task: AnyTask, output: Path, steps: int) -> list[float]:
    losses: list[float] = []
    original = task.loss

    def loss(*arguments: Any) -> Tensor:
        found: Tensor = original(*arguments)
        losses.append(float(found.detach()))
        return found

    task.loss = loss
    recipe = Recipe(
        steps, batch_size=4, half_resolution_steps=steps, learning_rate=1e-2, warmup_steps=5, snapshot_minutes=1e9
    )
    run(task, output, recipe)
    return losses


@pytest.mark.parametrize("new_task", ["masks", "images"], indirect=True)
def test_the_loss_falls(new_task: Callable[[], AnyTask], output: Path) -> None:
    losses = overfit(new_task(), output, 30)
    assert np.mean(losses[-5:]) < 0.65 * np.mean(losses[:5])


def test_both_precisions_train_one_after_the_other(output: Path) -> None:
    made = {}
    for index, precision in enumerate(("fp32", "bf16", "fp32")):
        made[index] = train(LineTask(), RECIPE, output / str(index), device="cpu", precision=precision)
    first, half, last = (next(network.parameters()) for network in made.values())
    assert torch.equal(first, last)
    assert half.dtype == torch.float32
    assert not torch.equal(first, half)
    torch.testing.assert_close(first, half, rtol=0.05, atol=0.01)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling for a processor needs g++")
def test_a_compiled_network_learns_the_same(tmp_path: Path) -> None:
    compiled, plain = (run(LineTask(), tmp_path / str(c), compiles=c).state_dict() for c in (True, False))
    torch.testing.assert_close(compiled, plain)
    assert tensors(tmp_path / "True").keys() == tensors(tmp_path / "False").keys()


def test_what_cannot_be_compiled_is_told(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: nn.Module, **options: Any) -> Callable[..., Tensor]:
        def call(*arguments: Any) -> Tensor:
            raise TorchDynamoException("No working C++ compiler found\nand much more")

        network = nn.Module()
        network.forward = call
        return network

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(
        CardiacError, match=r"cannot be compiled here \('No working C\+\+ compiler found'\); leave"
    ) as told:
        run(LineTask(), output, compiles=True)
    assert told.value.code == "missing_dependency"
    assert latest_snapshot(output) is None


# Samples, learning rate, time


@pytest.mark.parametrize(("size", "batch"), [(10, 4), (10, 10), (3, 8), (7, 1)])
def test_an_epoch_shows_every_sample_once(size: int, batch: int) -> None:
    recipe = Recipe(1, batch_size=batch)
    steps = 4 * size
    rows = torch.cat([rows_of_step(step, size, recipe) for step in range(steps)])
    epochs = rows[: len(rows) // size * size].view(-1, size)
    assert (epochs.sort(1).values == torch.arange(size)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1


def test_the_order_depends_on_the_seed() -> None:
    first, again, other = (rows_of_step(3, 50, Recipe(1, seed=seed)).tolist() for seed in (1, 1, 2))
    assert first == again != other


def step_of(task: LineTask, step: int, rank: int, world: int, recipe: Recipe = RECIPE) -> None:
    """One step of one process among several, without the others."""
    accelerator: Any = SimpleNamespace(
        process_index=rank,
        num_processes=world,
        autocast=torch.no_grad,
        backward=lambda loss: None,
        clip_grad_norm_=lambda *_: torch.ones(()),
    )
    loop._find_gradients(task, task.network, torch.optim.AdamW(task.network.parameters()), accelerator, recipe, step)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_several_processes_share_a_batch(world: int) -> None:
    task = LineTask()
    for rank in range(world):
        step_of(task, 5, rank, world)
    seen = [row for rows, _ in task.seen for row in rows]
    assert sorted(seen) == sorted(rows_of_step(5, LineTask.size, RECIPE).tolist())


def test_every_step_and_process_has_random_numbers_of_its_own() -> None:
    seeds: list[int] = []

    class Watched(LineTask):
        def loss(self, network: nn.Module, rows: Tensor, generator: torch.Generator, half: bool) -> Tensor:
            seeds.append(generator.initial_seed())
            return super().loss(network, rows, generator, half)

    for seed in range(2):
        for step in range(4):
            for rank in range(2):
                step_of(Watched(), step, rank, 2, replace(RECIPE, seed=seed))
    assert len(set(seeds)) == len(seeds) == 16
    step_of(Watched(), 0, 0, 2, replace(RECIPE, seed=0))
    assert seeds[-1] == seeds[0]


def test_the_first_steps_are_at_half_resolution(output: Path) -> None:
    task = LineTask()
    run(task, output)
    assert [half for _, half in task.seen] == [True] * 6 + [False] * 2


def test_the_learning_rate_rises_stays_and_falls() -> None:
    recipe = Recipe(1000, warmup_steps=100, cooldown=0.25)
    factors = [learning_rate_factor(step, recipe) for step in range(1000)]
    assert factors[0] == pytest.approx(0.01)
    assert np.allclose(np.diff(factors[:100]), 0.01)
    assert factors[99:751] == [1.0] * 652
    assert np.allclose(np.diff(factors[750:]), -1 / 250)
    assert factors[-1] == pytest.approx(1 / 250)


@pytest.mark.parametrize(
    ("warmup", "cooldown", "steps"), [(0, 0, 5), (1, 1, 5), (100, 1, 3), (0, 0.25, 1), (0, 0.25, 2)]
)
def test_the_learning_rate_is_positive_in_odd_recipes(warmup: int, cooldown: float, steps: int) -> None:
    recipe = Recipe(steps, warmup_steps=warmup, cooldown=cooldown)
    assert all(0 < learning_rate_factor(step, recipe) <= 1 for step in range(steps))


def test_the_learning_rate_is_used(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    original = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    run(LineTask(), output)
    assert rates == [RECIPE.learning_rate * learning_rate_factor(step, RECIPE) for step in range(STEPS)]


@pytest.mark.parametrize(
    ("first", "step", "elapsed", "left"),
    [(0, 2, 2, 18), (0, 4, 4, 16), (0, 6, 12, 8), (2, 4, 2, 16), (3, 5, 5, 12), (4, 5, 4, 12), (5, 8, 12, 0)],
)
def test_the_time_left_counts_half_resolution_as_a_quarter(
    first: int, step: int, elapsed: float, left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of eight steps four take a second each, and four take four; `first` is where a resumed run began.
    monkeypatch.setattr(time, "monotonic", lambda: 100.0 + elapsed)
    recipe = Recipe(8, half_resolution_steps=4)
    assert loop._seconds_left(first, step, recipe, started=100.0) == pytest.approx(left)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_times_are_told_in_words(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_progress_is_told_in_a_line() -> None:
    assert TrainingProgress(3, 10, 0.12345, 61).message == "loss 0.1235, 1 min left"


# The two tasks


def test_slices_without_a_heart_are_left_out_of_the_masks(pack: SlicePack) -> None:
    emptied = replace(pack, masks=pack.masks.copy())
    emptied.masks[:2] = 0
    network = MaskDenoiser(channels=(8, 8), blocks=(1, 1), width=8)
    task = MaskTask(network, emptied, emptied.of_patients([]), 0.3)
    assert task.size == len(pack) - 2
    assert math.isnan(task.validation_loss(network))


@pytest.mark.parametrize("name", ["mask_task", "image_task"])
def test_the_validation_loss_is_the_same_each_time(name: str, request: pytest.FixtureRequest) -> None:
    task = request.getfixturevalue(name)
    torch.manual_seed(1)
    first = task.validation_loss(task.network)
    torch.manual_seed(2)
    assert task.validation_loss(task.network) == first
    # A new network says nothing, so that its loss is the mean square of noise minus data.
    assert 1 < first < 3


@pytest.mark.parametrize("drop", [0.0, 0.3, 1.0])
def test_attributes_are_hidden_as_often_as_told(drop: float, image_task: ImageTask) -> None:
    rows = torch.zeros(20000, dtype=torch.long)
    hidden = image_task._attributes(image_task.training, rows, drop, torch.Generator().manual_seed(0)) == -1
    each = 1 - (1 - drop / 2) ** 2
    assert hidden.float().mean(0).tolist() == pytest.approx([each] * 3, abs=0.015)
    together = drop / 2 + (1 - drop / 2) * (drop / 2) ** 3
    assert hidden.all(1).float().mean() == pytest.approx(together, abs=0.015)


@pytest.mark.parametrize("half", [False, True])
def test_images_are_halved_with_their_masks(half: bool, image_task: ImageTask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, sigma: Tensor, attributes: Tensor, mask: Tensor) -> Tensor:
        seen.append((x, mask))
        return x

    image_task.deform = NONE
    image_task.loss(network, torch.arange(4), torch.Generator().manual_seed(0), half)  # type: ignore[arg-type]
    ((x, mask),) = seen
    size = 64 if half else 128
    assert x.shape == (4, 1, size, size)
    assert mask.shape == (4, 4, size, size)
    torch.testing.assert_close(mask.sum(1), torch.ones(4, size, size))
    inner = torch.from_numpy(image_task.training.masks[:4, 24:-24, 24:-24])
    whole = nn.functional.one_hot(inner.long(), 4).movedim(-1, 1).float()
    torch.testing.assert_close(mask.contiguous(), nn.functional.avg_pool2d(whole, 2) if half else whole)


@pytest.fixture
def quick_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SHEET_STEPS", 2)


SIDE = 128 * TILE_SCALE


def sheet_size(count: int, width: int) -> tuple[int, int]:
    """Columns and rows of a sheet of tiles with gaps around them."""
    columns = SHEET_WIDTH // (width + GAP)
    return columns * (width + GAP) + GAP, math.ceil(count / columns) * (SIDE + GAP) + GAP


@pytest.mark.usefixtures("quick_sheets")
def test_a_contact_sheet_of_masks_is_a_picture(mask_task: MaskTask, tmp_path: Path) -> None:
    # Of a network that learned nothing; its noise is smoothed, since speckles take long to clear away.
    kernel = torch.ones(1, 1, 9, 9) / 81

    def smooth(x: Tensor, sigma: Tensor, attributes: Tensor) -> Tensor:
        return x - 5 * nn.functional.conv2d(x.reshape(-1, 1, 64, 64), kernel, padding=4).view_as(x)

    mask_task.contact_sheet(smooth, tmp_path / "sheet.png")  # type: ignore[arg-type]
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
        assert sheet.size == sheet_size(16, SIDE)
        assert len(sheet.getcolors(1000) or []) == 5


@pytest.mark.usefixtures("quick_sheets")
@pytest.mark.parametrize("validated", [True, False])
def test_a_contact_sheet_of_images_is_a_picture(validated: bool, image_task: ImageTask, tmp_path: Path) -> None:
    if not validated:
        image_task.validation = image_task.validation.of_patients([])
    image_task.contact_sheet(image_task.network, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
        assert sheet.size == sheet_size(16, 3 * SIDE)
        assert len(sheet.getcolors(10**6) or []) > 100


def test_a_task_trains_and_draws_by_itself(
    mask_task: MaskTask, image_task: ImageTask, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[tuple[Any, Any]]] = []

    def draw(cases: list[tuple[Any, Any]], path: Path) -> None:
        drawn.append(cases)
        path.write_bytes(b"sheet")

    monkeypatch.setattr(tasks, "SHEET_STEPS", 1)
    monkeypatch.setattr(tasks, "masks_of", lambda distances: np.zeros((len(distances), 128, 128), np.uint8))
    monkeypatch.setattr(tasks, "contact_sheet", draw)
    for task in (mask_task, image_task):
        run(task, output / type(task).__name__, replace(RECIPE, steps=1))
    assert [len(cases) for cases in drawn] == [16, 16]
    assert [cases[0][0] is None for cases in drawn] == [True, False]
