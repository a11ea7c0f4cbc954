"""What goes wrong while the panel is used: each costs the job at most, and is told in a sentence."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import slicer

from CardiacDiffusionAugLib.cases import KEPT, CaseSet, caseSets
from CardiacDiffusionAugLib.environment import choosePython
from CardiacDiffusionAugLib.job import Callbacks
from CardiacDiffusionAugLib.saving import Format
from CardiacDiffusionAugLib.scene import addImageNode, addSegmentationNode
from driving import Driver, is_running, node_names
from phantom import phantom_stack
from slicer_harness.loop import process_events, wait_until
from slicer_harness.modules import reload_module
from test_cases import filled
from tiny import SmallDisk

pytest_plugins = ["tiny"]

MANY = 500
"""Cases that are not all made before a test is through."""


@pytest.fixture
def driver(panel: Any, tiny_model: Path, tmp_path: Path) -> Driver:
    """A user who has chosen a tiny model, so that cases come quickly."""
    user = Driver(panel)
    model = tmp_path / "tiny"
    shutil.copytree(tiny_model, model)
    user.parameters.model = str(model)
    user.parameters.filter = False
    user.panel.model.bind()
    user.ui.countSpinBox.value = MANY
    return user


def begin(driver: Driver) -> CaseSet:
    """Start a long job, and wait for its first case."""
    driver.click(driver.ui.generateButton)
    wait_until(lambda: caseSets() and caseSets()[-1].count > 0, 90)
    return caseSets()[-1]


def test_a_killed_worker_costs_the_job_and_keeps_its_cases(driver: Driver) -> None:
    cases = begin(driver)
    os.kill(driver.logic.worker.processId, signal.SIGKILL)
    driver.wait_for_job(20)
    assert "ended unexpectedly" in driver.message
    assert cases.alive
    assert cases.count > 0
    assert not driver.ui.cpuButton.isHidden()
    assert not driver.ui.fewerButton.isHidden()
    driver.picture("crashed")
    driver.ui.countSpinBox.value = 1
    driver.run(driver.ui.fewerButton)
    assert "Done" in driver.message
    assert driver.logic.worker.running


def test_a_worker_that_cannot_start_is_named_with_the_remedy(driver: Driver) -> None:
    driver.ui.pythonPathEdit.currentPath = "/no/such/python"
    driver.run(driver.ui.generateButton, 20)
    assert "/no/such/python cannot be started; choose another under Model" in driver.message
    assert caseSets() == [], "no empty set is left"
    driver.picture("no-worker")


def test_a_model_that_is_deleted_while_chosen_is_named(driver: Driver) -> None:
    shutil.rmtree(driver.parameters.model)
    driver.panel.update()
    assert "not there any more" in driver.ui.modelLabel.text
    assert not driver.ui.generateButton.enabled
    assert "Choose a model" in driver.ui.generateButton.toolTip
    driver.picture("model-gone")


def test_a_model_that_is_deleted_before_the_worker_reads_it_is_named(driver: Driver) -> None:
    driver.click(driver.ui.generateButton)
    shutil.rmtree(driver.parameters.model)
    driver.wait_for_job(60)
    assert "There is no model" in driver.message
    assert caseSets() == []


def test_closing_the_scene_ends_the_job_and_leaves_the_new_scene_empty(driver: Driver) -> None:
    begin(driver)
    before = driver.logic.worker.processId
    slicer.mrmlScene.Clear(False)
    driver.wait_for_job(10)
    assert caseSets() == []
    assert driver.ui.thumbnailList.count == 0
    assert driver.logic.worker.processId == before, "the worker stays warm"
    driver.parameters.model = str(Path(driver.parameters.model))
    driver.ui.countSpinBox.value = 1
    driver.parameters.filter = False
    assert "in scene" not in driver.message


def test_reloading_the_module_ends_the_job_and_the_worker(driver: Driver) -> None:
    begin(driver)
    process = driver.logic.worker.processId
    widget = reload_module("CardiacDiffusionAug")
    wait_until(lambda: not is_running(process), 10)
    again = Driver(widget)
    assert again.panel.job is None
    assert caseSets()[0].count > 0, "cases made so far stay"
    assert again.panel.review.cases is not None


def test_quitting_leaves_no_process(driver: Driver) -> None:
    begin(driver)
    process = driver.logic.worker.processId
    slicer.app.aboutToQuit.emit()
    wait_until(lambda: not is_running(process), 10)


def test_removing_the_cases_while_they_are_made_ends_the_job(driver: Driver) -> None:
    cases = begin(driver)
    cases.remove()
    driver.wait_for_job(20)
    assert "removed from the scene" in driver.message
    assert driver.ui.thumbnailList.count == 0


def test_removing_the_mask_while_its_images_are_made_harms_nothing(driver: Driver) -> None:
    image, mask = phantom_stack()
    segmentation = addSegmentationNode(mask, "drawn", addImageNode(image, "scan"))
    driver.ui.maskSelector.setCurrentNode(segmentation)
    driver.ui.maskVariationsSpinBox.value = 3
    driver.click(driver.ui.synthesizeButton)
    slicer.mrmlScene.RemoveNode(segmentation)
    driver.wait_for_job(60)
    assert "Done" in driver.message
    assert caseSets()[0].count == 3
    assert "Choose a segmentation" in driver.ui.synthesizeButton.toolTip


def test_two_jobs_run_one_after_the_other(driver: Driver) -> None:
    driver.ui.countSpinBox.value = 3
    first = begin(driver)
    told: list[str] = []
    settings = {"model": driver.parameters.model, "filter": False, "seed": 9}
    second = CaseSet.create("second")
    job = driver.logic.generate(
        2, into=second, callbacks=Callbacks(onEnd=lambda job: told.append(job.state.name)), **settings
    )
    driver.wait_for_job(60)
    job.wait(60)
    assert (first.count, second.count) == (3, 2)
    assert told == ["SUCCESS"]


def test_while_a_job_runs_its_buttons_say_why_they_are_off(driver: Driver) -> None:
    begin(driver)
    for button in (driver.ui.generateButton, driver.ui.testButton):
        assert not button.enabled
        assert "A job is running" in button.toolTip
    driver.run(driver.ui.cancelButton, 5)
    assert driver.ui.generateButton.enabled
    assert "A job is running" not in driver.ui.generateButton.toolTip


def test_a_folder_that_may_not_be_written_is_named(driver: Driver, small_disk: SmallDisk) -> None:
    cases, _ = filled(2)
    driver.parameters.cases = cases.browser
    process_events()
    cases.judge(0, KEPT)
    small_disk.change("ro")
    driver.choose(driver.ui.saveFormatComboBox, Format.NNUNET.label())
    driver.ui.savePathEdit.currentPath = str(small_disk.folder / "out")
    driver.run(driver.ui.saveButton, 20)
    assert str(small_disk.folder) in driver.message
    assert cases.column("state")[0] == KEPT
    driver.picture("read-only")


@pytest.mark.parametrize("form", [Format.NNUNET, Format.NRRD], ids=["nnU-Net", "NRRD"])
def test_a_full_disk_is_told_and_leaves_no_half_case(
    driver: Driver,
    small_disk: SmallDisk,
    form: Format,
) -> None:
    cases, _ = filled(12)
    driver.parameters.cases = cases.browser
    process_events()
    for number in range(12):
        cases.judge(number, KEPT)
    driver.choose(driver.ui.saveFormatComboBox, form.label())
    driver.ui.savePathEdit.currentPath = str(small_disk.folder / "out")
    driver.run(driver.ui.saveButton, 20)
    assert "full" in driver.message
    assert cases.count == 12
    written = {path.name for path in (small_disk.folder / "out").rglob("*") if path.is_file()}
    assert not [name for name in written if name.endswith(".part")]


def test_missing_packages_show_one_line_and_a_button_that_asks_once(
    driver: Driver, dialogs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_before = len(dialogs.shown)
    choosePython("")
    missing = {"torch", "monai"}
    monkeypatch.setattr("CardiacDiffusionAugLib.dependencies._isInstalled", lambda name: name not in missing)
    installed: list[str] = []

    def installTorch() -> None:
        installed.append("torch")
        missing.discard("torch")

    def installRest() -> None:
        installed.append("rest")
        missing.clear()

    monkeypatch.setattr("CardiacDiffusionAugLib.dependencies._installTorch", installTorch)
    monkeypatch.setattr("CardiacDiffusionAugLib.dependencies._installRest", installRest)
    driver.panel.lookForPackages()
    process_events()
    assert not driver.ui.setupFrame.isHidden()
    assert "torch, monai" in driver.ui.setupLabel.text
    assert "Install what is missing" in driver.ui.generateButton.toolTip
    assert len(dialogs.shown) == asked_before, "nothing is asked before the click"
    driver.picture("not-installed")

    dialogs.confirm = False
    driver.click(driver.ui.setupButton)
    assert installed == []
    dialogs.confirm = True
    driver.click(driver.ui.setupButton)
    questions = dialogs.texts_of("confirmOkCancelDisplay")
    assert len(questions) == 2
    assert "GB" in questions[0]
    assert "minutes" in questions[0]
    assert installed == ["torch", "rest"], "torch comes first, so that the rest does not bring another build of it"
    process_events()
    assert driver.ui.setupFrame.isHidden()
    assert driver.ui.generateButton.enabled


def test_an_installation_that_fails_offline_says_what_to_do(
    driver: Driver, dialogs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    choosePython("")
    monkeypatch.setattr("CardiacDiffusionAugLib.dependencies._isInstalled", lambda name: name == "torch")

    def fail() -> None:
        raise RuntimeError("no route to host")

    monkeypatch.setattr("CardiacDiffusionAugLib.dependencies._installRest", fail)
    driver.panel.lookForPackages()
    process_events()
    driver.click(driver.ui.setupButton)
    (said,) = dialogs.errors
    assert "no route to host" in said
    assert "Without a network" in said
    assert not driver.ui.setupFrame.isHidden()


def is_followed(driver: Driver, node: slicer.vtkMRMLNode) -> bool:
    """Whether the panel still observes a node."""
    process_events()
    node.Modified()
    return bool(driver.panel._update.isActive())


def test_fifty_rounds_of_making_and_removing_leave_nothing_behind(driver: Driver, dialogs: Any) -> None:
    driver.ui.countSpinBox.value = 1
    driver.run(driver.ui.generateButton)
    driver.click(driver.ui.removeCasesButton)
    before, process = node_names(), driver.logic.worker.processId
    for _ in range(50):
        driver.run(driver.ui.generateButton, 30)
        table = caseSets()[0].table
        assert is_followed(driver, table)
        driver.click(driver.ui.removeCasesButton)
        assert not is_followed(driver, table)
    assert len(node_names()) == len(before)
    assert driver.logic.worker.processId == process
    assert driver.logic.worker.jobs == []
    assert not list(Path(slicer.app.temporaryPath).glob("CardiacDiffusionAug-*"))
