"""Tests that Slicer runs itself, with the real worker and the shipped weights; each takes seconds."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import slicer

from cardiac_diffusion_aug.export import DATASET, IMAGES

from .cases import KEPT
from .logic import CardiacDiffusionAugLogic
from .sample import load
from .saving import Which


def generatesAndSaves(test: unittest.TestCase) -> None:
    """Makes two hearts, keeps one, and saves it."""
    logic = CardiacDiffusionAugLogic()
    try:
        cases = logic.generate(count=2, seed=1)
        test.assertEqual(cases.count, 2)
        image, mask = cases.shownNodes()
        test.assertEqual(image.GetImageData().GetDimensions(), (128, 128, 1))
        test.assertEqual(mask.GetSegmentation().GetNumberOfSegments(), 3)
        cases.judge(0, KEPT)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "kept"
            test.assertEqual(logic.save(cases, target, which=Which.KEPT), 1)
            test.assertTrue((target / DATASET).is_file())
            test.assertEqual(len(list((target / IMAGES).iterdir())), 1)
    finally:
        logic.stop()


def makesImagesAndSegmentsThem(test: unittest.TestCase) -> None:
    """Makes an image for the mask of the sample stack, and finds the heart in the stack."""
    logic = CardiacDiffusionAugLogic()
    try:
        volume, segmentation = load()
        cases = logic.synthesize(segmentation, seed=3)
        test.assertEqual(cases.count, 1)
        test.assertEqual(cases.shownNodes()[0].GetImageData().GetDimensions(), volume.GetImageData().GetDimensions())
        found = logic.segment(volume)
        test.assertIsNotNone(found.segmentation)
        test.assertGreater(found.values["LV"], 20)
        test.assertTrue(slicer.mrmlScene.IsNodePresent(found.table))
    finally:
        logic.stop()


TESTS = (generatesAndSaves, makesImagesAndSegmentsThem)
