"""What the benchmark of speed reckons from its measurements. The measurements themselves take minutes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])


@pytest.fixture
def report() -> Any:
    return importlib.import_module("speed_report")


@pytest.fixture
def bench() -> Any:
    return importlib.import_module("speed_bench")


def test_rounds_are_interleaved_and_none_always_begins(report: Any) -> None:
    order: list[str] = []

    def task(name: str) -> float:
        order.append(name)
        return float(len(order))

    measured = report.interleaved({name: lambda name=name: task(name) for name in "abc"}, 3)
    assert "".join(order) == "abc" + "bca" + "cab"
    assert measured == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_a_disturbed_round_changes_only_the_spread(report: Any) -> None:
    calm = report.summary("a", [2.0, 2.0, 2.0], 1e12, 1e12, calls="50")
    disturbed = report.summary("a", [2.0, 2.0, 20.0], 1e12, 1e12, calls="50")
    assert calm == {
        "name": "a",
        "calls": "50",
        "seconds": 2,
        "spread": 0,
        "gflop": 1000,
        "gflop_per_second": 500,
        "share": 0.5,
    }
    assert disturbed == {**calm, "spread": 9}


def test_ratios_are_against_the_first(report: Any) -> None:
    rows = report.with_ratios([{"seconds": 40.0}, {"seconds": 80.0}, {"seconds": 0.5}])
    assert [row["ratio"] for row in rows] == [1, 0.5, 80]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0124, "0.0124"), (1, "1.00"), (42.195, "42.2"), (99.96, "100"), (12345.6, "12346")]
)
def test_figures_have_three_digits_that_matter(report: Any, value: float, text: str) -> None:
    assert report.figure(value) == text


def result(report: Any, **options: Any) -> dict[str, Any]:
    sampling = [
        report.summary(name, seconds, 7.7e12, 1e12, calls=calls, layout="channels last", gflop_per_call=each)
        for name, calls, each, seconds in (("peer", "50", 154.0, [40.0, 50.0, 60.0]), ("ours", "12 + 12", None, [0.5]))
    ]
    training = [report.summary("peer", [2.0], 4e11, 1e12), report.summary("ours", [0.125], 3e10, 1e12)]
    return {
        "machine": {"device": "some CPU", "threads": 2, "load": 0.1, "size": 128, "versions": "torch 2"},
        "options": {
            **{"precision": "float32", "batch": 1, "training_batch": 4, "repeats": 3},
            **{"peer_steps": 50, "calls": 5, "whole": False, **options},
        },
        "limits": {"float32": 1.25e11, "bfloat16": 3.2e11, "bandwidth": 2.04e10},
        "sampling": report.with_ratios(sampling),
        "training": report.with_ratios(training),
    }


def test_tables_tell_machine_limits_and_contenders(report: Any) -> None:
    text = report.tables(result(report))
    assert "some CPU, 2 threads, float32, 128 x 128 pixels" in text
    assert "125 GFLOP/s in float32, 320 GFLOP/s in bfloat16; memory: 20.4 GB/s" in text
    assert "| peer | 50 | channels last | 154 | 50.0 | 1.00 | 40% | 154 | 15% |" in text
    assert "| ours | 12 + 12 | channels last |  | 0.500 | 100 |" in text
    assert "| ours | 30.0 | 8.00 | 16.0 |" in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert widths == [10] * 4 + [8] * 4


def test_tables_say_whether_peers_were_run_whole(report: Any) -> None:
    assert "50 steps reckoned from 5 calls, ours run whole" in report.tables(result(report))
    assert "50 steps run whole" in report.tables(result(report, whole=True))
    assert "50 steps run whole" in report.tables(result(report, calls=50))


def test_a_chart_is_drawn(report: Any, tmp_path: Path) -> None:
    report.chart(result(report), tmp_path / "speed.png")
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_operations_are_counted_as_twice_the_multiplications(bench: Any) -> None:
    layer = nn.Conv2d(3, 5, 3, padding=1)
    flops = bench.count_flops(layer, lambda network: network(torch.zeros(1, 3, 8, 8, device="meta")))
    assert flops == 2 * 3 * 5 * 9 * 64
    # Counting leaves the network itself where it was.
    assert layer.weight.device.type == "cpu"


def toy(bench: Any, prepare: Any, predict: Any) -> Any:
    contender = importlib.import_module("peers").Contender
    return contender("toy", nn.Conv2d(1, 1, 3, padding=1), prepare, predict, torch.channels_last)


def test_what_is_done_once_is_not_counted_at_each_call(bench: Any) -> None:
    machine = bench.Bench(torch.device("cpu"), False, 2)
    convolution = 2 * 9 * 128 * 128
    once = toy(bench, lambda network, mask: network(mask[:, :1]), lambda network, x, time, mask: network(x) + mask)
    assert machine.flops(once) == {"once": convolution, "call": convolution, "training": pytest.approx(4 * convolution)}


@pytest.mark.parametrize(("steps", "calls", "really"), [(50, 2, 3), (3, 3, 4), (2, 9, 3)])
def test_a_peer_makes_the_calls_that_are_asked_for_after_one_of_warm_up(
    bench: Any, monkeypatch: pytest.MonkeyPatch, steps: int, calls: int, really: int
) -> None:
    machine = bench.Bench(torch.device("cpu"), False, 2)
    seen: list[int] = []

    def predict(network: Any, x: torch.Tensor, time: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert x.shape == (2, 1, 128, 128)
        assert mask.shape == (2, 4, 128, 128)
        seen.append(int(time[0]))
        return network(x)

    # Each call takes a second.
    monkeypatch.setattr(machine, "now", lambda: float(len(seen)))
    seconds = machine.calls(toy(bench, lambda network, mask: mask, predict), steps, calls)
    assert len(seen) == really
    assert seen[1:] == sorted(seen[1:], reverse=True)
    assert seconds == steps
