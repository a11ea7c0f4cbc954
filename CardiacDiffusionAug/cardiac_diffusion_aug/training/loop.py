"""The training loop that all networks share: devices and precision by accelerate, EMA, snapshots, exact resume.

Everything random in step k comes from (seed, k), so that a resumed run continues as if it had never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ..devices import choose_device, use_bfloat16
from ..errors import CardiacError
from .snapshots import latest_snapshot, load_snapshot, save_snapshot


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        steps: optimizer steps in all.
        batch_size: samples a step over all devices.
        half_resolution_steps: the first steps, spent at half the resolution for a quarter of the cost.
        learning_rate: of AdamW, after warm-up.
        warmup_steps: over which the learning rate rises from 0.
        cooldown: the last share of the steps, over which the learning rate falls to 0.
        weight_decay: of AdamW.
        gradient_clip: largest norm of the gradient.
        ema_decay: of the moving average of the weights, which is what is kept.
        drop_attributes: chance that a sample's attributes are hidden from the network.
        seed: of everything random.
        snapshot_minutes: time between snapshots.
    """

    steps: int
    batch_size: int = 16
    half_resolution_steps: int = 0
    learning_rate: float = 5e-4
    warmup_steps: int = 200
    cooldown: float = 0.25
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    drop_attributes: float = 0.3
    seed: int = 0
    snapshot_minutes: float = 5.0


class Task(Protocol):
    """What is trained: a network, its data and its loss."""

    network: nn.Module
    size: int
    """Number of samples in the training set."""

    def loss(self, network: nn.Module, rows: Tensor, generator: torch.Generator, half: bool) -> Tensor:
        """Loss of the training samples `rows`."""

    def validation_loss(self, network: nn.Module) -> float:
        """Loss on the validation patients, with the same noise each time."""

    def contact_sheet(self, network: nn.Module, path: Path) -> None:
        """Write a picture of what the network makes now."""


@dataclass
class History:
    """What was measured at each snapshot."""

    rows: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingProgress:
    """State of a running training, as reported every few steps."""

    step: int
    steps: int
    loss: float
    seconds_left: float

    @property
    def message(self) -> str:
        """One line for people."""
        return f"loss {self.loss:.4f}, {format_time(self.seconds_left)} left"


def format_time(seconds: float) -> str:
    """Seconds as `1 h 05 min`, `12 min` or `30 s`."""
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """Share of the full learning rate at a step: warm-up, constant, then a linear fall."""
    warm = min(1.0, (step + 1) / max(recipe.warmup_steps, 1))
    start = recipe.steps * (1 - recipe.cooldown)
    if step < start:
        return warm
    return warm * max(0.0, (recipe.steps - step) / max(recipe.steps - start, 1))


def rows_of_step(step: int, size: int, recipe: Recipe) -> Tensor:
    """Samples of a step: each epoch is a new order of all, made from the seed."""
    positions = np.arange(step * recipe.batch_size, (step + 1) * recipe.batch_size)
    epochs, places = positions // size, positions % size
    orders = {int(e): np.random.default_rng([recipe.seed, int(e)]).permutation(size) for e in np.unique(epochs)}
    return torch.tensor([int(orders[int(e)][p]) for e, p in zip(epochs, places, strict=True)])


def train(
    task: Task,
    recipe: Recipe,
    output: Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    resume: bool = False,
    facts: dict[str, Any] | None = None,
    report: Callable[[TrainingProgress], None] = lambda progress: None,
    check: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Train the task's network, and return it with the averaged weights.

    Args:
        task: network, data and loss.
        recipe: how to train.
        output: folder of the snapshots.
        device: `auto`, `cuda`, `mps` or `cpu`; under `accelerate launch` each process gets its own.
        precision: `bf16`, `fp32`, or `auto`: bfloat16 where it is fast.
        resume: go on from the latest whole snapshot in `output`.
        facts: written into each snapshot, such as the split.
        report: called after steps.
        check: called before each step; may raise to cancel. A snapshot is written then.

    Raises:
        CardiacError: the loss is not a number any more, or a snapshot does not fit.
    """
    chosen = choose_device(device)
    accelerator = Accelerator(
        cpu=chosen.type == "cpu", mixed_precision="bf16" if use_bfloat16(precision, chosen) else "no"
    )
    network = task.network.to(accelerator.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
    )
    ema = EMAModel(
        network.parameters(), decay=recipe.ema_decay, use_ema_warmup=True, inv_gamma=1.0, power=0.75, foreach=True
    )
    history = History()
    first = 0
    found = latest_snapshot(output) if resume else None
    if found is not None:
        first = load_snapshot(found, network, ema, optimizer, history.rows)
    model, optimizer = accelerator.prepare(network, optimizer)

    def snapshot(step: int) -> None:
        if accelerator.is_main_process:
            with averaged(ema, network):
                history.rows.append({"step": step, "loss": running, "validation_loss": task.validation_loss(network)})
                sheet = lambda path: task.contact_sheet(network, path)  # noqa: E731
                save_snapshot(output, step, network, ema, optimizer, history.rows, asdict(recipe), facts or {}, sheet)
        accelerator.wait_for_everyone()

    running, saved, started, clock = float("nan"), first, time.monotonic(), time.monotonic()
    step = first
    try:
        while step < recipe.steps:
            check()
            loss = _step(task, model, optimizer, accelerator, recipe, step)
            ema.step(network.parameters())
            if not np.isfinite(loss):
                raise CardiacError(
                    f"The loss is not a number at step {step}; train again with a smaller --learning-rate.",
                    "training_failed",
                )
            step += 1
            running = loss if np.isnan(running) else 0.98 * running + 0.02 * loss
            pace = (time.monotonic() - started) / (step - first)
            report(TrainingProgress(step, recipe.steps, running, _seconds_left(step, recipe, pace)))
            if step == recipe.steps or time.monotonic() - clock > recipe.snapshot_minutes * 60:
                snapshot(step)
                saved, clock = step, time.monotonic()
    except CardiacError:
        raise
    except BaseException:
        if step > saved:
            snapshot(step)
        raise
    ema.copy_to(network.parameters())
    return network


class averaged:
    """Context in which the network holds the averaged weights."""

    def __init__(self, ema: EMAModel, network: nn.Module) -> None:
        self.ema, self.network = ema, network

    def __enter__(self) -> None:
        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        self.network.eval()

    def __exit__(self, *_: object) -> None:
        self.ema.restore(self.network.parameters())
        self.network.train()


def _step(
    task: Task, model: nn.Module, optimizer: Any, accelerator: Accelerator, recipe: Recipe, step: int
) -> float:
    rank, world = accelerator.process_index, accelerator.num_processes
    rows = rows_of_step(step, task.size, recipe)[rank::world]
    seed = int(np.random.SeedSequence([recipe.seed, step, rank]).generate_state(1, "uint64")[0]) & (2**63 - 1)
    generator = torch.Generator().manual_seed(seed)
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * learning_rate_factor(step, recipe)
    with accelerator.autocast():
        loss = task.loss(model, rows, generator, step < recipe.half_resolution_steps)
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _seconds_left(step: int, recipe: Recipe, pace: float) -> float:
    # A step at full resolution costs four of the others.
    def cost(first: int, last: int) -> float:
        half = max(0, min(last, recipe.half_resolution_steps) - first)
        return half * 0.25 + (last - first - half)

    done, left = cost(0, step), cost(step, recipe.steps)
    return pace * step * left / done if done else 0.0
