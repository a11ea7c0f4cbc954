"""How `speed.py` sums up and shows what it measured: rates and ratios, tables, chart, and the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

Row = dict[str, Any]
COLORS = {True: "#c23b5a", False: "#8a93a3"}


def interleaved(tasks: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each task returns, round by round.

    Each round runs every task once and begins one task later, so that none always meets what another left behind.
    """
    measured: dict[str, list[float]] = {name: [] for name in tasks}
    names = list(tasks)
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            measured[name].append(tasks[name]())
    return measured


def summary(name: str, seconds: Sequence[float], flops: float, limit: float, **facts: Any) -> Row:
    """What is told of one contender.

    Args:
        name: of it.
        seconds: per image or sample, one a round.
        flops: floating-point operations per image or sample.
        limit: measured rate of matrix products, in FLOP/s.
        facts: further entries.
    """
    median = statistics.median(seconds)
    return {
        "name": name,
        **facts,
        "seconds": median,
        "spread": (max(seconds) - min(seconds)) / median,
        "gflop": flops / 1e9,
        "gflop_per_second": flops / median / 1e9,
        "share": flops / median / limit,
    }


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with how many times faster than the first it is."""
    return [{**row, "ratio": rows[0]["seconds"] / row["seconds"]} for row in rows]


def markdown(columns: Mapping[str, Callable[[Row], str]], rows: Sequence[Row]) -> str:
    """A table of rows: its titles, and how each cell is made of a row."""
    lines = [list(columns), ["---"] * len(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figure(value: float) -> str:
    """Three digits that matter, without an exponent."""
    text = f"{value:#.3g}"
    return f"{value:.0f}" if abs(value) >= 100 else text.rstrip(".")


def tables(result: Mapping[str, Any]) -> str:
    """All that was measured, in Markdown."""
    ending: dict[str, Callable[[Row], str]] = {
        "times as fast": lambda row: figure(row["ratio"]),
        "spread": lambda row: f"{row['spread']:.0%}",
        "GFLOP/s": lambda row: figure(row["gflop_per_second"]),
        "of the product rate": lambda row: f"{row['share']:.0%}",
    }
    sampling = {
        "image for a mask": lambda row: row["name"],
        "network calls": lambda row: row["calls"],
        "layout": lambda row: row["layout"],
        "GFLOP a call": lambda row: "" if row["gflop_per_call"] is None else figure(row["gflop_per_call"]),
        "seconds": lambda row: figure(row["seconds"]),
        **ending,
    }
    training = {
        "training": lambda row: row["name"],
        "GFLOP a sample": lambda row: figure(row["gflop"]),
        "samples/s": lambda row: figure(1 / row["seconds"]),
        **ending,
    }
    machine, limits, options = result["machine"], result["limits"], result["options"]
    products = ", ".join(f"{limits[name] / 1e9:.0f} GFLOP/s in {name}" for name in limits if name != "bandwidth")
    return "\n\n".join(
        (
            f"{machine['device']}, {machine['threads']} threads, {options['precision']}, "
            f"{machine['size']} x {machine['size']} pixels; load before: {machine['load']}. {machine['versions']}. "
            f"Matrix products: {products}; memory: {limits['bandwidth'] / 1e9:.1f} GB/s. "
            f"Medians of {options['repeats']} interleaved rounds.",
            f"Batch {options['batch']}, {how_peers_were_timed(options)}",
            markdown(sampling, result["sampling"]),
            f"Batch {options['training_batch']}, forward, backward and AdamW:",
            markdown(training, result["training"]),
        )
    )


def how_peers_were_timed(options: Mapping[str, Any]) -> str:
    """A clause for the table of sampling."""
    steps, calls = options["peer_steps"], options["calls"]
    return f"peers' {steps} steps " + (
        "run whole:" if options["whole"] or calls >= steps else f"reckoned from {calls} calls, ours run whole:"
    )


def machine(device: torch.device, size: int) -> Row:
    """What the figures depend on beside the code."""
    names = ("torch", "monai", "diffusers")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else "unknown",
        "size": size,
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)]),
    }


def cpu_name() -> str:
    """The processor as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def chart(result: Mapping[str, Any], path: Path) -> None:
    """Bars of seconds an image and of samples a second, on log scales, ours in red."""
    from matplotlib.figure import Figure

    sampling, training = result["sampling"], result["training"]
    drawing = Figure(figsize=(9, 0.34 * (len(sampling) + len(training)) + 2.2), layout="constrained")
    above, below = drawing.subplots(2, 1, height_ratios=[len(sampling) + 1, len(training) + 1])
    labels = [f"{row['name']}: {row['calls']}" for row in sampling]
    bars(
        above,
        "seconds an image (less is better); after each name, the network calls",
        labels,
        [row["seconds"] for row in sampling],
    )
    labels = [row["name"] for row in training]
    bars(below, "training samples a second (more is better)", labels, [1 / row["seconds"] for row in training])
    drawing.suptitle(f"{result['machine']['device']}, {result['options']['precision']}", fontsize=10)
    drawing.savefig(path, dpi=130)


def bars(axes: Any, title: str, labels: Sequence[str], values: Sequence[float]) -> None:
    """Horizontal bars in the order given, from the top, each with its value."""
    places = range(len(labels))
    drawn = axes.barh(places, values, color=[COLORS[label.startswith("ours")] for label in labels])
    axes.bar_label(drawn, [figure(value) for value in values], padding=3, fontsize=8)
    axes.set_yticks(places, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 2, max(values) * 2)
    axes.set_xlabel(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
