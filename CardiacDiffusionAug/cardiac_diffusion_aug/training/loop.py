"""The training loop that all networks share: devices and precision by accelerate, EMA, snapshots, exact resume.

Everything random in step k comes from (seed, k), so that a resumed run continues as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from ..devices import choose_device, on_device, use_bfloat16
from ..errors import CardiacError, shown
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
        keep_best: keep the snapshot of the lowest validation loss beside the latest ones.
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
    keep_best: bool = False


class Task(Protocol):
    """A network, its data and its loss."""

    size: int
    """Number of samples in the training set."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    def loss(self, network: nn.Module, rows: Tensor, generator: torch.Generator, half: bool) -> Tensor:
        """Loss of the training samples `rows`."""

    def validation_loss(self, network: nn.Module) -> float:
        """Loss on the validation patients, with the same noise each time."""

    def contact_sheet(self, network: nn.Module, path: Path) -> None:
        """Write a picture of what the network makes now."""


@runtime_checkable
class DetailedTask(Protocol):
    """A task that can tell more of its validation than the loss."""

    def validation_facts(self, network: nn.Module) -> dict[str, Any]:
        """The `validation_loss` and other values for JSON, in place of the method of that name."""


@dataclass
class History:
    """What was measured at each snapshot."""

    rows: list[dict[str, Any]] = field(default_factory=list)


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
    compiles: bool = False,
    resume: bool = False,
    facts: dict[str, Any] | None = None,
    report: Callable[[TrainingProgress], None] = lambda progress: None,
    validated: Callable[[dict[str, Any]], None] = lambda row: None,
    check: Callable[[], None] = lambda: None,
    finishing: Callable[[], bool] = lambda: False,
) -> nn.Module:
    """Train the task's network, and return it with the averaged weights.

    Args:
        task: network, data and loss.
        recipe: how to train.
        output: folder of the snapshots.
        device: `auto`, `cuda`, `mps` or `cpu`; under `accelerate launch` each process gets its own.
        precision: `bf16`, `fp32`, or `auto`: bfloat16 where it is fast.
        compiles: compile the network for its steps. Results differ by no more than rounding.
        resume: go on from the latest whole snapshot in `output`.
        facts: written into each snapshot, such as the split.
        report: called after steps.
        validated: called after each snapshot with its row of the history.
        check: called before each step; may raise to cancel. A snapshot is written then.
        finishing: called after each step; when true, that step is taken for the last.

    Raises:
        CardiacError: the loss is not a number any more, a snapshot does not fit, or the network cannot be compiled.
    """
    chosen = choose_device(device)
    # A worker trains one network after the other, perhaps on another device or in another precision, but accelerate
    # holds a process to what it was asked first.
    AcceleratorState._reset_state(reset_partial_state=True)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    accelerator = Accelerator(
        cpu=chosen.type == "cpu", mixed_precision="bf16" if use_bfloat16(precision, chosen) else "no"
    )
    network = on_device(task.network, accelerator.device)
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
    if compiles:
        # All batches are alike, and shapes left open would make slower code.
        model = torch.compile(model, dynamic=False)

    def snapshot(step: int) -> None:
        # The others need no word of it, and their clocks differ: they wait where gradients are next exchanged.
        if not accelerator.is_main_process:
            return
        with averaged(ema, network):
            row = {"step": step, "loss": running, **_validation_facts(task, network)}
            history.rows.append(row)
            sheet = lambda path: task.contact_sheet(network, path)  # noqa: E731
            save_snapshot(output, step, network, ema, optimizer, history.rows, asdict(recipe), facts or {}, sheet)
        validated(row)

    running = history.rows[-1]["loss"] if history.rows else float("nan")
    step = saved = first
    started = clock = time.monotonic()
    between_steps = True
    try:
        while step < recipe.steps:
            check()
            # One step at least: without any there is nothing to keep.
            if step and finishing():
                break
            loss = _find_gradients(task, model, optimizer, accelerator, recipe, step)
            between_steps = False
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.step(network.parameters())
            step += 1
            between_steps = True
            running = loss if math.isnan(running) else 0.98 * running + 0.02 * loss
            if accelerator.is_main_process:
                report(TrainingProgress(step, recipe.steps, running, _seconds_left(first, step, recipe, started)))
            if step < recipe.steps and time.monotonic() - clock > recipe.snapshot_minutes * 60:
                saved = step  # Already now: a snapshot that fails is not tried again on the way out.
                snapshot(step)
                clock = time.monotonic()
        if step > saved:
            saved = step
            snapshot(step)
    except CardiacError:
        raise
    except TorchDynamoException as error:
        reason = shown(str(error).partition("\n")[0])
        raise CardiacError(
            f"The network cannot be compiled here ({reason}); leave --compile out, or install a C++ compiler, such as "
            "g++.",
            "missing_dependency",
        ) from error
    except BaseException:
        # An interrupt may come at any moment; half a step must not be taken for a whole one.
        if between_steps and step > saved:
            snapshot(step)
        raise
    accelerator.wait_for_everyone()
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


def _validation_facts(task: Task, network: nn.Module) -> dict[str, Any]:
    if isinstance(task, DetailedTask):
        return task.validation_facts(network)
    return {"validation_loss": task.validation_loss(network)}


def _find_gradients(
    task: Task, model: nn.Module, optimizer: Any, accelerator: Accelerator, recipe: Recipe, step: int
) -> float:
    """Leave the clipped gradients of a step in the network, set its learning rate, and return the loss."""
    rank, world = accelerator.process_index, accelerator.num_processes
    rows = rows_of_step(step, task.size, recipe)[rank::world]
    seed = int(np.random.SeedSequence([recipe.seed, step, rank]).generate_state(1, "uint64")[0]) & (2**63 - 1)
    generator = torch.Generator().manual_seed(seed)
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * learning_rate_factor(step, recipe)
    with accelerator.autocast():
        loss = task.loss(model, rows, generator, step < recipe.half_resolution_steps)
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
    # Gradients too: what they spoil would be saved before the next loss tells.
    if not (torch.isfinite(loss) and torch.isfinite(norm)):
        raise CardiacError(
            f"The loss is not a number at step {step}; train again with a smaller --learning-rate.", "training_failed"
        )
    return float(loss.detach())


def _seconds_left(first: int, step: int, recipe: Recipe, started: float) -> float:
    # A step at full resolution costs four of the others.
    def cost(first: int, last: int) -> float:
        half = max(0, min(last, recipe.half_resolution_steps) - first)
        return half * 0.25 + (last - first - half)

    return (time.monotonic() - started) * cost(step, recipe.steps) / cost(first, step)
