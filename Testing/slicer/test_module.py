"""The module as Slicer sees it: what it says of itself, its sample data, its self tests, its opening and reopening."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from CardiacDiffusionAugLib import sample
from CardiacDiffusionAugLib.cases import KEPT, caseSets
from CardiacDiffusionAugLib.dependencies import REQUIREMENTS, requirementNames
from driving import Driver
from slicer_harness.loop import process_events
from slicer_harness.modules import complete_startup
from test_cases import filled

MODULE = Path(__file__).resolve().parents[2] / "CardiacDiffusionAug"
HEAVY = ("torch", "diffusers", "monai", "accelerate", "matplotlib", "PIL", "scipy.ndimage")


def test_opening_the_module_imports_nothing_heavy_and_asks_nothing() -> None:
    script = f"""
import sys
sys.path[:0] = {[str(MODULE), str(MODULE.parent / "Testing" / "slicer" / "harness")]!r}
import slicer_harness
slicer_harness.start_application()
before = set(sys.modules)
from slicer_harness.modules import load_module
from slicer_harness.dialogs import dialogs
load_module({str(MODULE / "CardiacDiffusionAug.py")!r})
print([name for name in {HEAVY!r} if name in sys.modules and name not in before], dialogs.shown)
sys.stdout.flush()
import os; os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip().endswith("[] []"), done.stdout + done.stderr


def test_opening_and_leaving_the_module_starts_no_process(panel: Any) -> None:
    assert not Driver(panel).logic.worker.running
    panel.enter()
    assert not panel.logic.worker.running


def test_it_says_what_it_is(panel: Any) -> None:
    module = slicer.modules.cardiacdiffusionaug
    assert module.categories == ["Image Synthesis"]
    assert "not for diagnosis" in module.helpText
    assert "CC BY-NC-SA" in module.acknowledgementText
    assert (MODULE / "Resources" / "Icons" / "CardiacDiffusionAug.png").is_file()


def test_the_sample_stack_is_offered_and_loads_without_a_network(panel: Any) -> None:
    complete_startup()
    (source,) = [s for s in slicer.modules.sampleDataSources[sample.CATEGORY] if s.sampleName == sample.NAME]
    assert Path(source.thumbnailFileName).is_file()
    volume, segmentation = source.customDownloader(source)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(sample.MASK)))
    assert slicer.util.arrayFromVolume(volume).shape == labels.shape
    assert [np.count_nonzero(labels == value) > 500 for value in (1, 2, 3)] == [True] * 3
    assert segmentation.GetNodeReference("referenceImageGeometryRef") is volume


def test_settings_are_saved_with_the_scene_and_come_back(panel: Any, tmp_path: Path) -> None:
    driver = Driver(panel)
    driver.ui.countSpinBox.value = 17
    driver.choose(driver.ui.groupComboBox, "Dilated")
    cases, _ = filled(3)
    driver.parameters.cases = cases.browser
    cases.judge(1, KEPT)
    assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "work.mrb"))
    slicer.mrmlScene.Clear(False)
    driver.panel.update()
    assert driver.ui.countSpinBox.value == 8
    assert driver.ui.thumbnailList.count == 0
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "work.mrb"))
    panel.enter()
    driver.panel.update()
    assert driver.ui.countSpinBox.value == 17
    assert driver.ui.groupComboBox.currentText == "Dilated"
    (back,) = caseSets()
    assert back.column("state") == ["", KEPT, ""]
    assert driver.ui.thumbnailList.count == 3
    assert "1 kept" in driver.ui.reviewLabel.text


def test_a_model_card_of_each_kind_has_a_glance(panel: Any) -> None:
    from CardiacDiffusionAugLib.models import models

    for kind in ("generator", "segmenter"):
        (shipped, *_) = models(kind)
        assert "trained on 60 patients" in shipped.glance
        assert "CC BY-NC-SA" in shipped.glance
        assert shipped.card


def test_a_model_that_was_taught_few_calls_decides_on_the_steps(panel: Any, tmp_path: Path) -> None:
    driver = Driver(panel)
    generate = panel.panel.generate
    driver.parameters.steps = 12
    shipped = json.loads((MODULE / "Resources" / "Models" / "acdc-128" / "bundle.json").read_bytes())
    for name, fixed in (("free", []), ("few", ["image_steps"])):
        info = {**shipped, "name": name, "fixed_calls": fixed, "defaults": {**shipped["defaults"], "image_steps": 4}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").write_text(json.dumps(info))
        driver.parameters.model = str(tmp_path / name)
        panel.panel.model.bind()
        process_events()
        assert generate.wanted()["steps"] == (None if fixed else 12)
        assert driver.ui.stepsSpinBox.enabled == (not fixed)
        assert ("an image in 4 steps" in driver.ui.stepsSpinBox.toolTip) == bool(fixed)


def test_requirements_leave_slicers_own_packages_alone() -> None:
    names = requirementNames()
    assert "monai" in names
    assert not {"torch", "numpy", "SimpleITK", "scipy"} & set(names)
    unbounded = [line for line in REQUIREMENTS.read_text().splitlines() if line and line[0] != "#" and "<" not in line]
    assert unbounded == []


@pytest.mark.slow
def test_the_self_tests_pass(panel: Any) -> None:
    Driver(panel)
    # What they find wrong they raise.
    slicer.selfTests["CardiacDiffusionAug"]()
    assert not panel.logic.worker.running, "they end the workers that they start"
