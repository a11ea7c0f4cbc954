"""Snapshots of a training: folders that appear whole or not at all, and hold no pickle."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import CardiacError

N = TypeVar("N", bound=nn.Module)
T = TypeVar("T")
PREFIX = "snapshot-"
KEPT = 2
UNREADABLE = (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError)


def latest_snapshot(folder: Path) -> Path | None:
    """The snapshot with the most steps, or None."""
    found = _snapshots(folder)
    return found[-1] if found else None


def best_snapshot(folder: Path) -> Path | None:
    """The snapshot of the lowest validation loss, or the latest where nothing was validated; None where there is none.

    Raises:
        CardiacError: a snapshot is damaged.
    """
    found = _snapshots(folder)
    losses = [_validation_loss(path) for path in found]
    lowest = min(losses, default=math.inf)
    return next((p for p, loss in zip(reversed(found), reversed(losses), strict=True) if loss == lowest), None)


def _validation_loss(path: Path) -> float:
    loss = _said(path, lambda state: float(state["history"][-1]["validation_loss"]))
    return math.inf if math.isnan(loss) else loss


def _said(path: Path, take: Callable[[dict[str, Any]], T]) -> T:
    """What is taken of the state of a snapshot."""
    try:
        return take(json.loads((path / "state.json").read_text(encoding="utf-8")))
    except UNREADABLE as error:
        raise CardiacError(f"{path} is damaged; remove that folder.", "bad_model") from error


def _snapshots(folder: Path) -> list[Path]:
    """Snapshots by their steps; what else lies beside them, such as an archive of one, is none."""
    found = [p for p in folder.glob(f"{PREFIX}*") if p.name[len(PREFIX) :].isdecimal() and p.is_dir()]
    return sorted(found, key=lambda path: path.name)


def save_snapshot(
    folder: Path,
    step: int,
    network: nn.Module,
    ema: EMAModel,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
    recipe: dict[str, Any],
    facts: dict[str, Any],
    draw: Callable[[Path], None],
) -> None:
    """Write weights, averages, optimizer and a contact sheet; only the newest snapshots stay.

    `network` holds the averaged weights when this is called; the raw ones are in the store of `ema`.
    """
    final = folder / f"{PREFIX}{step:08d}"
    part = folder / f".{final.name}.part"
    # A run that was killed while it wrote leaves such a folder, and it would lie there for good.
    for stale in folder.glob(f".{PREFIX}*.part"):
        shutil.rmtree(stale, ignore_errors=True)
    part.mkdir(parents=True)
    assert ema.temp_stored_params is not None, "the raw weights must be in store"
    names = [name for name, _ in network.named_parameters()]
    _write(dict(zip(names, ema.temp_stored_params, strict=True)), part / "weights.safetensors")
    _write(dict(zip(names, ema.shadow_params, strict=True)), part / "ema.safetensors")
    _write(_optimizer_tensors(optimizer, names), part / "optimizer.safetensors")
    draw(part / "sheet.png")
    state = {"step": step, "ema_step": ema.optimization_step, "recipe": recipe, "facts": facts, "history": history}
    (part / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(part, final)
    best = best_snapshot(folder) if recipe.get("keep_best") else None
    for old in _snapshots(folder)[:-KEPT]:
        if old != best:
            shutil.rmtree(old, ignore_errors=True)


def load_snapshot(
    path: Path,
    network: nn.Module,
    ema: EMAModel,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
) -> int:
    """Put everything back as it was, and return the step.

    Raises:
        CardiacError: the snapshot is of another network, or damaged.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        weights, averages, moments = (
            load_file(path / f"{name}.safetensors") for name in ("weights", "ema", "optimizer")
        )
        step, rows, averaged_steps = int(state["step"]), list(state["history"]), int(state["ema_step"])
        parameters = dict(network.named_parameters())
        if parameters.keys() != weights.keys():
            raise KeyError("other parameters")
        with torch.no_grad():
            for index, (name, parameter) in enumerate(parameters.items()):
                parameter.copy_(weights[name])
                ema.shadow_params[index].copy_(averages[name])
                optimizer.state[parameter] = {
                    key: moments[f"{name}:{key}"].to(parameter.device if key != "step" else "cpu")
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
    except UNREADABLE as error:
        raise CardiacError(
            f"{path} does not fit this network or is damaged; remove that folder to go on from the one before.",
            "bad_model",
        ) from error
    ema.optimization_step = averaged_steps
    history[:] = rows
    return step


def snapshot_facts(path: Path) -> dict[str, Any]:
    """What a snapshot says of the training's data and of the models that it builds on.

    Raises:
        CardiacError: the snapshot is damaged.
    """
    return _said(path, lambda state: dict(state["facts"]))


def averaged_network(path: Path, make: Callable[[], N]) -> tuple[N, dict[str, Any]]:
    """The network of a snapshot with its averaged weights, and the snapshot's recipe, facts and history.

    Args:
        path: the snapshot.
        make: makes a network of the same kind and size.

    Raises:
        CardiacError: the snapshot is of another kind of network, or damaged.
    """
    network = make()
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        network.load_state_dict(load_file(path / "ema.safetensors"))
    except UNREADABLE as error:
        raise CardiacError(f"{path} is not a whole snapshot of a {type(network).__name__}.", "bad_model") from error
    return network, state


def _optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    states = [optimizer.state[p] for group in optimizer.param_groups for p in group["params"]]
    return {f"{name}:{key}": value for name, state in zip(names, states, strict=True) for key, value in state.items()}


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
