"""A segmentation model of a small network that has learned the phantom's hearts in a moment.

A module takes the fixture with `pytest_plugins = ["tiny_unet"]`.
PYTEST_DONT_REWRITE, for modules import names from here before pytest takes it as a plugin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phantom import write_acdc

CHANNELS = (16, 32, 32, 32)
STEPS, BATCH, LEARNING_RATE = 130, 4, 1e-2
PATIENTS, SLICES = 5, 5


@pytest.fixture(scope="session")
def tiny_unet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model; only to be read."""
    folder = tmp_path_factory.mktemp("unets")
    return write_tiny_unet(folder / "tiny-unet", folder / "phantoms")


def write_tiny_unet(folder: Path, phantoms: Path) -> Path:
    """Train on phantoms, which are written beside, and write the model into a folder.

    Returns:
        `folder`.
    """
    import torch

    from cardiac_diffusion_aug.bundle import write_bundle
    from cardiac_diffusion_aug.datasets import read_cases
    from cardiac_diffusion_aug.datasets.pack import WIDE_PACK_SIZE, pack_cases
    from cardiac_diffusion_aug.networks.segmentation_unet import SegmentationUNet
    from cardiac_diffusion_aug.training.augmentation import Appearance, Deformation
    from cardiac_diffusion_aug.training.segmentation_task import SegmentationTask, Traditional

    cases = read_cases(write_acdc(phantoms, PATIENTS, SLICES))[1]
    pack = pack_cases(cases, phantoms / "cache", size=WIDE_PACK_SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SegmentationUNet(CHANNELS)
    # Less than patients need: phantoms are alike, and there is no time to learn more.
    little = Traditional(Deformation(15, 0.15, 10, 0.5), Appearance(0.3, contrast=0.2, noise=0.05), 0.25, astray=0.2)
    task = SegmentationTask(network, pack, pack.of_patients([]), augmentation=little)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / STEPS)
        rows = torch.randint(len(pack), (BATCH,), generator=generator)
        optimizer.zero_grad()
        task.loss(network, rows, generator, False).backward()
        optimizer.step()
    write_bundle(folder, {"unet": network.eval()}, {}, tiny_unet_info(folder.name), "# tiny-unet\n")
    return folder


def tiny_unet_info(name: str = "tiny-unet") -> dict[str, Any]:
    """What its `bundle.json` says."""
    return {
        "kind": "segmenter",
        "name": name,
        "version": "1.0.0",
        "license": "Apache-2.0",
        "labels": {"background": 0, "LV": 1, "MYO": 2, "RV": 3},
        "grid": {"size": 128, "spacing_mm": 1.5},
        # A network this small is never sure.
        "defaults": {"certainty": 0.7},
        "training": {"data": "phantoms"},
    }
