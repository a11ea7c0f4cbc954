"""What a newcomer waits for: time and memory of the first commands, each in a process of its own.

.venv/bin/python Testing/benchmarks/first_minute.py [--model NAME] [--repeats 3]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

COMMAND = [sys.executable, "-m", "cardiac_diffusion_aug"]
POLL_SECONDS = 0.02


def measure(arguments: list[str]) -> tuple[float, float]:
    """Wall time in s and largest resident memory in GB of one run.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    started = time.perf_counter()
    process = psutil.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    largest = 0
    while process.poll() is None:
        try:
            largest = max(largest, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(POLL_SECONDS)
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, arguments, stderr=process.stderr.read())
    return time.perf_counter() - started, largest / 1e9


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="acdc-128")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    counts = (1, 8, 24)
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            times.setdefault("--help", []).append(measure(["--help"]))
            for count in counts:
                output = Path(folder) / f"{count}-{repeat}"
                arguments = ["generate", "--count", str(count), "--output", str(output), "--model", options.model]
                times.setdefault(f"generate --count {count}", []).append(measure([*arguments, "--quiet"]))
    print(
        f"{platform.processor() or platform.machine()}, {psutil.cpu_count(logical=False)} cores, "
        f"median of {options.repeats}"
    )
    for name, rows in times.items():
        seconds, gigabytes = (statistics.median(values) for values in zip(*rows, strict=True))
        print(f"{name:22} {seconds:6.2f} s  {gigabytes:5.2f} GB")
    first, last = (statistics.median(s for s, _ in times[f"generate --count {n}"]) for n in (8, 24))
    print(f"each further pair      {(last - first) / 16:6.2f} s")


if __name__ == "__main__":
    main()
