"""Lets trainings from nothing make small networks, so that whole studies take seconds.

As a program it is the command with such networks: `python small_networks.py study --data ...`. With `KILLED_AT` set to
`FOLDER:N` it kills itself once the set of that folder holds N cases.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tiny import BLOCKS, CHANNELS, HIDDEN, WIDTH

UNET_CHANNELS = (8, 8, 16)
SHEET_CASES = 2


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Change the sizes that networks have by default, and draw less of what they make."""
    from cardiac_diffusion_aug.networks.image_denoiser import ImageDenoiser
    from cardiac_diffusion_aug.networks.mask_denoiser import MaskDenoiser
    from cardiac_diffusion_aug.networks.segmentation_unet import SegmentationUNet
    from cardiac_diffusion_aug.training import segmentation_task, tasks

    sizes: dict[Any, tuple[Any, ...]] = {
        MaskDenoiser: (CHANNELS, BLOCKS, WIDTH),
        ImageDenoiser: (CHANNELS, BLOCKS, WIDTH, HIDDEN),
        SegmentationUNet: (UNET_CHANNELS, 1),
    }
    for network, defaults in sizes.items():
        # The function that the decorator of diffusers wraps, whose defaults it reads at each call.
        patch.setattr(network.__init__.__wrapped__, "__defaults__", defaults)
    for module in (tasks, segmentation_task):
        patch.setattr(module, "SHEET_CASES", SHEET_CASES)


def kill_at(folder: Path, cases: int) -> None:
    """End the program as SIGKILL does, right after so many cases are in a set."""
    from cardiac_diffusion_aug.export import DatasetWriter

    add = DatasetWriter.add

    def added(self: DatasetWriter, *arguments: Any) -> None:
        add(self, *arguments)
        if self.folder.resolve() == folder.resolve() and self.count >= cases:
            os.kill(os.getpid(), signal.SIGKILL)

    DatasetWriter.add = added  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "CardiacDiffusionAug"))
    from cardiac_diffusion_aug.cli import main

    shrink(pytest.MonkeyPatch())
    if "KILLED_AT" in os.environ:
        place, _, number = os.environ["KILLED_AT"].rpartition(":")
        kill_at(Path(place), int(number))
    sys.exit(main())
