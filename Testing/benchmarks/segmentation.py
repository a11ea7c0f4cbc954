"""What a clinician waits for: a stack of ten slices and a cine of thirty phases, once the model is loaded.

.venv/bin/python Testing/benchmarks/segmentation.py SCAN.nii.gz [--model NAME] [--device cpu] [--repeats 3]

The scan, a real stack, is brought to ten slices; the cine is the stack thirty times, each with noise of its own.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk

from cardiac_diffusion_aug import Segmenter
from cardiac_diffusion_aug.segmentation import segment_cine
from cardiac_diffusion_aug.slices import as_stack, read_image

SLICES, PHASES = 10, 30


def with_slices(stack: sitk.Image, count: int) -> sitk.Image:
    """The stack with its slices repeated or cut to a number."""
    array = sitk.GetArrayFromImage(stack)
    result = sitk.GetImageFromArray(array[np.linspace(0, len(array) - 1, count).round().astype(int)])
    result.SetSpacing(stack.GetSpacing())
    return result


def noisy(stack: sitk.Image, seed: int) -> sitk.Image:
    """The stack with noise of a hundredth of its range."""
    array = sitk.GetArrayFromImage(stack).astype(np.float32)
    array += np.random.default_rng(seed).normal(0, 0.01 * np.ptp(array), array.shape)
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(stack)
    return result


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median wall time of a few runs, in s."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--model", default="acdc-unet")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    started = time.perf_counter()
    segmenter = Segmenter(options.model, options.device)
    loaded = time.perf_counter() - started
    stack = with_slices(as_stack(read_image(options.scan), str(options.scan)), SLICES)
    cine = [noisy(stack, phase) for phase in range(PHASES)]
    segmenter.segment(stack)
    name = platform.processor() or platform.machine()
    print(f"{name}, {psutil.cpu_count(logical=False)} cores, {segmenter.device}, median of {options.repeats}")
    print(f"load the model         {loaded:6.2f} s")
    for what, run in (
        (f"{SLICES} slices of {stack.GetSize()[0]} x {stack.GetSize()[1]}", lambda: segmenter.segment(stack)),
        (f"cine of {PHASES} phases", lambda: segment_cine(segmenter, cine)),
    ):
        print(f"{what:22} {median_seconds(run, options.repeats):6.2f} s")


if __name__ == "__main__":
    main()
