"""How long a user of the Slicer panel waits, with the shipped weights and the real worker, on this machine.

.venv/bin/python Testing/benchmarks/panel.py [--rounds 3]

The panel runs in the tests' stand-in for Slicer: MRML and the worker are real, the window is drawn off screen.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "CardiacDiffusionAug" / "CardiacDiffusionAug.py"
sys.path[:0] = [str(ROOT / part) for part in ("CardiacDiffusionAug", "Testing/slicer/harness", "Testing/slicer")]
sys.path.append(str(ROOT / "Testing" / "engine"))

import slicer_harness  # noqa: E402

CASES = 100


def seconds(work: Callable[[], Any]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure() -> dict[str, float]:
    """One round, from the closed module on."""
    import slicer

    from slicer_harness.loop import LongestPause, process_events, wait_until
    from slicer_harness.modules import load_module, unload_module

    opened: list[Any] = []
    figures = {"open the module": seconds(lambda: opened.append(load_module(MODULE)))}
    if "torch" in sys.modules:
        raise SystemExit("torch was imported by opening the module")
    from CardiacDiffusionAugLib.cases import caseSets
    from driving import Driver
    from test_cases import filled

    user = Driver(opened[0])

    def make(count: int) -> float:
        sets = len(caseSets())
        user.ui.countSpinBox.value = count
        first = seconds(
            lambda: (
                user.click(user.ui.generateButton),
                wait_until(lambda: len(caseSets()) > sets and caseSets()[-1].count > 0, 120),
            )
        )
        return first

    with LongestPause() as pause:
        figures["click to the first case, cold worker"] = make(1)
        user.wait_for_job()
        figures["click to the first case, warm worker"] = make(2)
        user.wait_for_job()
    figures["longest pause while cases are made"] = pause.milliseconds / 1000
    make(50)
    user.click(user.ui.cancelButton)
    figures["cancel"] = seconds(user.wait_for_job)
    slicer.mrmlScene.Clear(False)
    process_events()
    sets: list[Any] = []
    figures[f"{CASES} cases into the scene"] = seconds(lambda: sets.append(filled(CASES)[0]))
    figures["flip to another case"] = seconds(lambda: [sets[0].show(i) for i in range(CASES)]) / CASES
    unload_module(MODULE.stem)
    slicer.mrmlScene.Clear(False)
    return figures


def main() -> None:
    """Print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    missing = slicer_harness.missing_requirement()
    if missing:
        raise SystemExit(missing)
    slicer_harness.start_application()
    measured = [measure() for _ in range(rounds)]
    print("| what a user waits for | seconds |\n| --- | --- |")
    for name in measured[0]:
        print(f"| {name} | {statistics.median(figures[name] for figures in measured):.3f} |")


if __name__ == "__main__":
    main()
