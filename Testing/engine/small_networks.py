"""Lets trainings from nothing make small networks, so that whole studies take seconds.

As a program it is the command with such networks: `python small_networks.py study --data ...`.
"""

from __future__ import annotations

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


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "CardiacDiffusionAug"))
    from cardiac_diffusion_aug.cli import main

    shrink(pytest.MonkeyPatch())
    sys.exit(main())
