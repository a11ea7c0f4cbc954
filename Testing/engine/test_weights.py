"""Weights in a file: how near they come back, how little room they take, and files that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cardiac_diffusion_aug.weights import SCALE, load_weights, save_weights


def drawn(*shape: int, spread: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * spread


def written(path: Path, **state: Tensor) -> dict[str, Tensor]:
    save_weights(state, path)
    return load_weights(path)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_each_channel_comes_back_to_a_127th_of_its_largest_weight(tmp_path: Path, kind: torch.dtype) -> None:
    # Channels of very different size, as after a modulation that undoes it.
    weight = (drawn(48, 24, 3, 3) * torch.logspace(-6, 3, 48).view(-1, 1, 1, 1)).to(kind)
    back = written(tmp_path / "weights", conv=weight)["conv"]
    assert (back.dtype, back.shape) == (torch.float32, weight.shape)
    off = (back - weight.float()).flatten(1).abs().amax(1) / weight.float().flatten(1).abs().amax(1)
    # Half a step of 1 / 127.
    assert off.max() <= 0.5 / 127 * 1.001
    assert off.min() > 0.3 / 127


def test_what_is_small_or_has_one_axis_keeps_half_precision(tmp_path: Path) -> None:
    state = {"bias": drawn(4096), "small": drawn(31, 33)[:, :32].contiguous(), "scalar": torch.tensor(0.1)}
    for name, back in written(tmp_path / "weights", **state).items():
        assert torch.equal(back, state[name].half().float())


def test_zeros_and_the_largest_weights_come_back_exactly(tmp_path: Path) -> None:
    weight = torch.zeros(64, 64)
    weight[3, 5], weight[7, 9] = 0.125, -1e-30
    assert torch.equal(written(tmp_path / "weights", linear=weight)["linear"], weight)


def test_writing_what_was_read_changes_nothing(tmp_path: Path) -> None:
    once = written(tmp_path / "once", linear=drawn(64, 64), bias=drawn(64))
    save_weights(once, tmp_path / "twice")
    assert (tmp_path / "twice").read_bytes() == (tmp_path / "once").read_bytes()


def test_it_takes_half_the_room(tmp_path: Path) -> None:
    weight = drawn(192, 192, 3, 3)
    save_weights({"conv": weight}, tmp_path / "integers")
    save_file({"conv": weight.half()}, tmp_path / "halves")
    assert (tmp_path / "integers").stat().st_size < 0.51 * (tmp_path / "halves").stat().st_size


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_without_scales_are_read(tmp_path: Path, kind: torch.dtype) -> None:
    weight = drawn(64, 64).to(kind)
    # By the name of a scale, but of no weight that is there.
    save_file({"conv": weight, f"norm{SCALE}": weight[0].clone()}, tmp_path / "weights")
    found = load_weights(tmp_path / "weights")
    assert torch.equal(found["conv"], weight.float())
    assert torch.equal(found[f"norm{SCALE}"], weight[0].float())


def without(tensors: dict[str, Tensor]) -> None:
    del tensors[f"conv{SCALE}"]


def too_few(tensors: dict[str, Tensor]) -> None:
    tensors[f"conv{SCALE}"] = tensors[f"conv{SCALE}"][:3].clone()


def not_numbers(tensors: dict[str, Tensor]) -> None:
    tensors[f"conv{SCALE}"][2] = float("nan")


@pytest.mark.parametrize(("spoil", "error"), [(without, KeyError), (too_few, RuntimeError), (not_numbers, ValueError)])
def test_integers_without_their_scale_are_no_weights(
    tmp_path: Path, spoil: Callable[[dict[str, Tensor]], None], error: type[Exception]
) -> None:
    path = tmp_path / "weights"
    save_weights({"conv": drawn(64, 64)}, path)
    tensors = load_file(path)
    spoil(tensors)
    save_file(tensors, path)
    with pytest.raises(error):
        load_weights(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_does_not_become_one(tmp_path: Path, bad: float) -> None:
    weight = drawn(64, 64)
    weight[5, 7] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        written(tmp_path / "weights", conv=weight)
