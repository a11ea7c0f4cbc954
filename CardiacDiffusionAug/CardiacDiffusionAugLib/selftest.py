"""Tests that Slicer runs itself, with the real worker and the shipped weights; each takes seconds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import slicer

from cardiac_diffusion_aug.export import DATASET, IMAGES

from .cases import KEPT
from .logic import CardiacDiffusionAugLogic
from .sample import load
from .saving import Which


def generatesAndSaves() -> None:
    """Makes two hearts, keeps one, and saves it."""
    logic = CardiacDiffusionAugLogic()
    try:
        cases = logic.generate(count=2, seed=1)
        assert cases.count == 2
        image, mask = cases.shownNodes()
        assert image.GetImageData().GetDimensions() == (128, 128, 1)
        assert mask.GetSegmentation().GetNumberOfSegments() == 3
        cases.judge(0, KEPT)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "kept"
            assert logic.save(cases, target, which=Which.KEPT) == 1
            assert (target / DATASET).is_file()
            assert len(list((target / IMAGES).iterdir())) == 1
    finally:
        logic.stop()


def makesImagesAndSegmentsThem() -> None:
    """Makes an image for the mask of the sample stack, and finds the heart in the stack."""
    logic = CardiacDiffusionAugLogic()
    try:
        volume, segmentation = load()
        cases = logic.synthesize(segmentation, seed=3)
        assert cases.count == 1
        assert cases.shownNodes()[0].GetImageData().GetDimensions() == volume.GetImageData().GetDimensions()
        found = logic.segment(volume)
        assert found.segmentation is not None
        assert found.values["LV"] > 20
        assert slicer.mrmlScene.IsNodePresent(found.table)
    finally:
        logic.stop()


TESTS = (generatesAndSaves, makesImagesAndSegmentsThem)
