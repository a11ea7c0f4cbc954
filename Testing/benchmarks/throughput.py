"""Whether writing and filtering keep up with sampling: cases per second, memory of a long run, a kill in its middle.

.venv/bin/python Testing/benchmarks/throughput.py --output FOLDER [--count 24] [--rounds 3] [--steps 4] [--long 10000]

First the shipped model: sampling alone, written, and written and filtered, one after the other in each round; medians.
What the filter rejects is sampled again, so beside the overhead per case stands the time that a run does not spend on
sampling; what a run does once, at its end, is told apart. Then tiny networks, so that the command `generate` makes
`--long` cases in half an hour, checked by a judge who rejects a tenth of what they draw: its memory after a tenth and
at the end; and the same once more, killed with SIGKILL in the middle, gone on with in two parts at once, and compared
byte for byte. Needs the disk of twice `--long`
cases. Close other programs.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "Testing" / "engine"))

from speed_report import figure, interleaved, machine, markdown  # noqa: E402

from cardiac_diffusion_aug.bundle import DEFAULT_MODEL, DEFAULT_SEGMENTER, GENERATOR, load_bundle  # noqa: E402
from cardiac_diffusion_aug.devices import choose_device  # noqa: E402
from cardiac_diffusion_aug.export import DatasetWriter  # noqa: E402
from cardiac_diffusion_aug.jobs import JOBS, Context  # noqa: E402
from cardiac_diffusion_aug.jobs.base import warm_generator  # noqa: E402
from cardiac_diffusion_aug.slices import GRID_SIZE  # noqa: E402
from tiny import write_tiny_model  # noqa: E402
from tiny_unet import write_tiny_unet  # noqa: E402

COMMAND = [sys.executable, __file__, "generate", "--quiet", "--device", "cpu", "--steps", "1"]
REJECTED_OF = 10
SAMPLED, WRITTEN, FILTERED = "sampling alone", "written", "written and filtered"
POLL_SECONDS = 0.05
MB = 1e6


class Clock:
    """Adds up the time that is spent in some methods of an object or of a class, by whomever they are called."""

    def __init__(self, owner: Any, *names: str) -> None:
        self.seconds = 0.0
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            made = method(*arguments, **options)
            self.seconds += time.perf_counter() - begun
            return made

        return timed


def compare_overhead(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Sampling, writing and filtering, with the model at hand."""
    context = Context()
    generator = warm_generator(context, load_bundle(options.model, GENERATOR), options.device, "auto")
    sampling, ending = Clock(generator, "masks", "images"), Clock(DatasetWriter, "finish")
    besides: dict[str, list[float]] = {}
    ends: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> float:
        shutil.rmtree(folder / "set", ignore_errors=True)
        sampling.seconds = ending.seconds = 0.0
        begun = time.perf_counter()
        work()
        seconds = time.perf_counter() - begun - ending.seconds
        besides.setdefault(name, []).append(seconds / sampling.seconds - 1)
        ends.setdefault(name, []).append(ending.seconds)
        return seconds

    def sample() -> None:
        generator.configure(options.steps, None, options.batch_size)
        list(generator.generate(options.count))

    def write(filters: bool) -> None:
        asked = {"output": folder / "set", "model": options.model, "steps": options.steps, "count": options.count}
        asked |= {"batch_size": options.batch_size, "device": options.device, "filter": filters}
        asked |= {"filter_model": options.filter_model}
        JOBS["generate"].from_request(asked).run(context)

    works = {SAMPLED: sample, WRITTEN: partial(write, False), FILTERED: partial(write, True)}
    timers = {name: partial(timed, name, work) for name, work in works.items()}
    for timer in timers.values():
        # Warm-up.
        timer()
    besides.clear()
    ends.clear()
    measured = interleaved(timers, options.rounds)
    alone = statistics.median(measured[SAMPLED]) / options.count
    rows = []
    for name, seconds in measured.items():
        each = [whole / options.count for whole in seconds]
        median = statistics.median(each)
        told = {"overhead": median / alone - 1, "beside_sampling": statistics.median(besides[name])}
        told["at_the_end"] = statistics.median(ends[name])
        rows.append({"name": name, "seconds": median, "spread": (max(each) - min(each)) / median, **told})
    return rows


def be_the_command(arguments: list[str]) -> int:
    """The command, with a judge who lets what tiny networks draw pass, but for a tenth."""
    from cardiac_diffusion_aug import outlines
    from cardiac_diffusion_aug.cli import main
    from cardiac_diffusion_aug.filtering import Judge

    def mask_failures(self: Judge, mask: Any) -> tuple[str, ...]:
        return ("by chance",) if zlib.crc32(mask.tobytes()) % REJECTED_OF == 0 else ()

    Judge.mask_failures = mask_failures  # type: ignore[method-assign]
    Judge.pair_failures = lambda self, dice, mask: ()  # type: ignore[method-assign]
    # Their masks are all crumbs, of which a heart has few: taking them out would take most of the time.
    outlines.without_crumbs = lambda labels, *_: labels
    return main(arguments)


def start(models: Path, folder: Path, count: int, *more: str) -> psutil.Popen:
    """The command with the tiny networks."""
    arguments = ["--model", models / "tiny", "--filter-model", models / "tiny-unet", "--output", folder]
    return psutil.Popen(
        [*COMMAND, *map(str, arguments), "--count", str(count), *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def made(folder: Path) -> int:
    """Number of cases that are whole, as their lines tell."""
    paths = [folder / "manifest.csv", *folder.glob(".manifest-*.csv")]
    return sum(path.read_bytes().count(b"\n") - 1 for path in paths if path.exists())


def finished(process: psutil.Popen) -> None:
    """Wait for a process.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args)


def long_run(models: Path, folder: Path, count: int) -> dict[str, Any]:
    """One run to its end, and its memory on the way."""
    begun = time.perf_counter()
    process = start(models, folder, count)
    after_a_tenth = largest = 0
    while process.poll() is None:
        try:
            largest = max(largest, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        if not after_a_tenth and made(folder) >= count / 10:
            after_a_tenth = largest
        time.sleep(POLL_SECONDS)
    finished(process)
    seconds = time.perf_counter() - begun
    return {"cases": count, "seconds": seconds, "mb_after_a_tenth": after_a_tenth / MB, "mb": largest / MB}


def killed_run(models: Path, folder: Path, count: int) -> dict[str, Any]:
    """One run killed in its middle, and gone on with in two parts at once."""
    process = start(models, folder, count)
    while process.poll() is None and made(folder) < count / 2:
        time.sleep(POLL_SECONDS)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = made(folder)
    parts = [start(models, folder, count, "--resume", "--part", f"{index}/2") for index in (1, 2)]
    for part in parts:
        finished(part)
    return {"killed_after": kept}


def differing(a: Path, b: Path) -> int:
    """Number of files that are not the same in two folders."""
    files = {path.relative_to(folder) for folder in (a, b) for path in folder.rglob("*") if path.is_file()}
    _, mismatches, errors = filecmp.cmpfiles(a, b, list(map(str, files)), shallow=False)
    return len(mismatches) + len(errors)


def tables(result: dict[str, Any]) -> str:
    """What was measured, in Markdown."""
    facts, options = result["machine"], result["options"]
    head = f"{facts['device']}, {facts['threads']} threads, load {facts['load']}, {facts['versions']}"
    told = f"{options['model']}, {options['count']} cases a round, median of {options['rounds']} rounds"
    columns: dict[str, Callable[[Any], str]] = {
        "": lambda row: row["name"],
        "cases/s": lambda row: figure(1 / row["seconds"]),
        "overhead": lambda row: f"{row['overhead']:+.1%}",
        "beside its own sampling": lambda row: f"{row['beside_sampling']:+.1%}",
        "spread": lambda row: f"{row['spread']:.0%}",
        "seconds once, at the end": lambda row: f"{row['at_the_end']:.2f}",
    }
    text = f"{head}\n\n{told}\n\n{markdown(columns, result['overhead'])}\n"
    if "long" not in result:
        return text
    columns = {
        "tiny networks, cases": lambda row: str(row["cases"]),
        "cases/s": lambda row: figure(row["cases"] / row["seconds"]),
        "peak MB after a tenth": lambda row: figure(row["mb_after_a_tenth"]),
        "peak MB": lambda row: figure(row["mb"]),
        "killed after": lambda row: str(row["killed_after"]),
        "files that differ after the kill": lambda row: str(row["differing"]),
    }
    return f"{text}\n{markdown(columns, [result['long']])}\n"


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="for throughput.json, and cases meanwhile")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--filter-model", default=DEFAULT_SEGMENTER)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=4, help="of an image")
    parser.add_argument("--batch-size", type=int, help="of a GPU")
    parser.add_argument("--count", type=int, default=24, help="cases of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", type=int, default=10000, help="cases of the long run; 0 leaves it out")
    options = parser.parse_args()
    if min(options.steps, options.count, options.rounds) < 1 or options.long < 0:
        parser.error("numbers of steps, cases and rounds are 1 or more")
    return options


def main() -> None:
    """Print tables, and write all as JSON."""
    options = parsed()
    folder = options.output / "cases"
    folder.mkdir(parents=True)
    try:
        result: dict[str, Any] = {
            "machine": machine(choose_device(options.device), GRID_SIZE),
            "options": {k: v for k, v in vars(options).items() if k != "output"},
            "overhead": compare_overhead(options, folder),
        }
        if options.long:
            write_tiny_model(folder / "tiny")
            write_tiny_unet(folder / "tiny-unet", folder / "phantoms")
            result["long"] = long_run(folder, folder / "whole", options.long)
            result["long"] |= killed_run(folder, folder / "killed", options.long)
            result["long"]["differing"] = differing(folder / "whole", folder / "killed")
    finally:
        shutil.rmtree(folder)
    print(tables(result))
    (options.output / "throughput.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["generate"]:
        sys.exit(be_the_command(sys.argv[1:]))
    main()
