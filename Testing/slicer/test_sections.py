"""Each section from click to nodes, with the real worker and the shipped weights."""

from __future__ import annotations

import csv
import json
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

import qt
from cardiac_diffusion_aug.labels import STRUCTURES
from CardiacDiffusionAugLib.cases import KEPT, REJECTED, caseSets
from CardiacDiffusionAugLib.masks import drawnMask
from CardiacDiffusionAugLib.panels.review import SHOWN_COLUMNS
from CardiacDiffusionAugLib.parameters import Group, Level, Phase, TuneSource
from CardiacDiffusionAugLib.saving import Format, Which
from CardiacDiffusionAugLib.scene import addImageNode, addSegmentationNode, imageNode, stackOf
from CardiacDiffusionAugLib.segmenting import SEQUENCE_CLASS
from CardiacDiffusionAugLib.tuning import _writePairs, scenePairs
from driving import LONGEST_PAUSE_MS, Driver
from patients import patient_data
from phantom import phantom_stack, write_acdc
from slicer_harness.loop import LongestPause, process_events, wait_until
from test_cases import filled

CANCEL_SECONDS = 2.0

pytestmark = pytest.mark.slow


@pytest.fixture
def driver(panel: Any) -> Driver:
    """A user in front of the panel."""
    return Driver(panel)


def test_generate_shows_each_heart_as_soon_as_it_is_ready(driver: Driver) -> None:
    ui = driver.ui
    driver.open("generate", "review")
    ui.countSpinBox.value = 5
    driver.choose(ui.phaseComboBox, "End-systole")
    driver.choose(ui.levelComboBox, "Mid-ventricular")
    driver.choose(ui.groupComboBox, "Hypertrophic")
    assert "for 5 cases" in ui.estimateLabel.text
    with LongestPause() as pause:
        driver.click(ui.generateButton)
        assert "job is running" in ui.generateButton.toolTip
        # A processor may make two at a time, or four, which come together.
        wait_until(lambda: caseSets() and 0 < caseSets()[0].count < 5, 120)
        assert driver.panel.job is not None, "the first is shown before the last is made"
        driver.wait_for_job()
    assert pause.milliseconds <= LONGEST_PAUSE_MS, str(pause)
    (cases,) = caseSets()
    assert cases.count == 5
    assert cases.name == "Hearts HCM ES mid"
    for number in range(5):
        row = cases.row(number)
        assert (row["phase"], row["group"], row["level"], row["checks"]) == ("ES", "HCM", "0.50", "passed")
        assert float(row["adherence"]) > 0.6
        image, mask = cases.stacks(number)
        assert image.GetSize() == mask.GetSize() == (128, 128, 1)
        assert {0, 1, 2} <= set(np.unique(sitk.GetArrayFromImage(mask)))
    layer = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
    assert layer.GetBackgroundVolumeID() == cases.shownNodes()[0].GetID()
    assert ui.thumbnailList.count == ui.caseTable.rowCount == 5
    wait_until(lambda: not ui.thumbnailList.item(4).icon().isNull())
    assert driver.parameters.seed == 1, "a second click makes other hearts"
    assert "Done" in driver.message
    driver.picture("generate-done")

    # The worker is warm now; what is cancelled leaves what it made.
    process = driver.logic.worker.processId
    ui.countSpinBox.value = 50
    driver.click(ui.generateButton)
    wait_until(lambda: len(caseSets()) == 2 and 0 < caseSets()[1].count < 50, 60)
    driver.picture("generate-running")
    driver.click(ui.cancelButton)
    wait_until(lambda: driver.panel.job is None, CANCEL_SECONDS)
    assert "kept" in driver.message
    assert 1 <= caseSets()[1].count < 50
    assert driver.logic.worker.processId == process


def test_test_tells_devices_and_time(driver: Driver) -> None:
    driver.open("model")
    driver.click(driver.ui.testButton)
    wait_until(lambda: driver.ui.testLabel.text, 120)
    assert "It works: Done in" in driver.ui.testLabel.text
    assert any("GB free" in driver.ui.deviceComboBox.itemText(i) for i in range(driver.ui.deviceComboBox.count))
    assert caseSets() == [], "the test leaves nothing in the scene"
    driver.picture("model-tested")
    driver.click(driver.ui.cardButton)
    assert "acdc-128" in driver.panel.model.card.toPlainText()


def one_slice() -> tuple[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLSegmentationNode]:
    """A tilted scan of one slice, and the heart drawn on it."""
    image, mask = (stack[:, :, 4:5] for stack in phantom_stack())
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.3, 0.2, -0.5)
    for stack in (image, mask):
        stack.SetDirection(turn.GetMatrix())
        stack.SetOrigin((20.0, -30.0, 40.0))
    volume = addImageNode(image, "slice")
    return volume, addSegmentationNode(mask, "drawn", volume)


def test_images_of_a_drawn_mask_lie_where_it_lies_and_follow_its_edits(driver: Driver) -> None:
    ui = driver.ui
    driver.open("mask", "review")
    volume, segmentation = one_slice()
    ui.maskSelector.setCurrentNode(segmentation)
    process_events()
    assert ui.maskTable.rowCount == 3
    ui.maskVariationsSpinBox.value = 2
    driver.run(ui.synthesizeButton)
    (cases,) = caseSets()
    assert cases.count == 2
    first, second = (cases.stacks(number)[0] for number in range(2))
    for made in (first, second):
        assert made.GetSize() == stackOf(volume).GetSize()
        np.testing.assert_allclose(made.GetOrigin(), stackOf(volume).GetOrigin(), atol=1e-5)
        np.testing.assert_allclose(made.GetDirection(), stackOf(volume).GetDirection(), atol=1e-5)
    difference = sitk.GetArrayFromImage(first).astype(int) - sitk.GetArrayFromImage(second)
    assert np.abs(difference).mean() > 3, "the two images differ"
    driver.picture("mask")

    before = sitk.GetArrayFromImage(cases.stacks(0)[1]).copy()
    layer = segmentation.GetSegmentation().GetSegment("RV").GetRepresentation("Binary labelmap")
    scalars = layer.GetPointData().GetScalars()
    for i in range(scalars.GetNumberOfValues()):
        if scalars.GetValue(i) == 3:
            scalars.SetValue(i, 0)
    layer.Modified()
    segmentation.GetSegmentation().GetSegment("RV").Modified()
    ui.maskVariationsSpinBox.value = 1
    driver.run(ui.synthesizeButton)
    assert [c.name for c in caseSets()] == [cases.name], "images of one mask stay together"
    assert cases.count == 3
    assert not (sitk.GetArrayFromImage(cases.stacks(2)[1]) == 3).any()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(cases.stacks(0)[1]), before)


def test_a_hundred_cases_are_reviewed_with_keys(driver: Driver) -> None:
    ui, panel = driver.ui, driver.panel
    driver.open("review")
    cases, _ = filled(100)
    with LongestPause() as pause:
        panel.parameters.cases = cases.browser
        wait_until(lambda: ui.thumbnailList.count == 100 and not panel.review._queue, 30)
    assert pause.milliseconds <= LONGEST_PAUSE_MS, str(pause)
    press = panel.review.shortcuts
    press["K"].activated.emit()
    press["R"].activated.emit()
    press["Right"].activated.emit()
    press["Left"].activated.emit()
    process_events()
    assert cases.column("state")[:3] == [KEPT, REJECTED, ""]
    assert cases.row(1)["why"] == ui.whyComboBox.currentText
    assert cases.current == 2
    assert "1 kept, 1 rejected, 98 to look at" in ui.reviewLabel.text

    driver.choose(ui.stateFilterComboBox, "Rejected")
    shown = [i for i in range(100) if not ui.thumbnailList.item(i).isHidden()]
    assert shown == [1]
    driver.choose(ui.stateFilterComboBox, "All cases")
    ui.searchEdit.text = "case07"
    shown = [i for i in range(100) if not ui.thumbnailList.item(i).isHidden()]
    assert shown == list(range(70, 80))
    panel.review.goTo(70)
    press["K"].activated.emit()
    process_events()
    assert cases.current == 71
    ui.searchEdit.text = ""

    ui.viewTabs.setCurrentIndex(1)
    ui.caseTable.sortItems(0, qt.Qt.DescendingOrder)
    ui.caseTable.selectRow(ui.caseTable.rowCount - 1)
    process_events()
    number = ui.caseTable.item(ui.caseTable.rowCount - 1, 0).data(qt.Qt.UserRole)
    assert cases.current == number, "a row of the table is the case it shows, however it is sorted"
    driver.picture("review-table")
    ui.viewTabs.setCurrentIndex(0)
    display = cases.shownNodes()[1].GetDisplayNode()
    ui.fillCheckBox.checked = True
    ui.outlineCheckBox.checked = False
    ui.opacitySlider.value = 0.4
    process_events()
    assert (display.GetVisibility2DFill(), display.GetVisibility2DOutline()) == (1, 0)
    assert display.GetOpacity() == pytest.approx(0.4)
    driver.picture("review")


def test_keys_judge_the_case_in_the_slice_view_whoever_went_there(driver: Driver) -> None:
    cases, _ = filled(5)
    driver.parameters.cases = cases.browser
    process_events()
    # As Slicer's own toolbar does, and at once, before the panel has heard of it.
    cases.browser.SetSelectedItemNumber(3)
    driver.panel.review.shortcuts["K"].activated.emit()
    assert cases.column("state") == ["", "", "", KEPT, ""]


def test_another_set_can_be_reviewed_while_cases_are_made(driver: Driver) -> None:
    earlier, _ = filled(3, "Earlier")
    growing, _ = filled(2, "Growing")
    driver.parameters.cases = earlier.browser
    process_events()
    driver.panel.review.caseAdded(growing, 1)
    assert driver.panel.review.cases.name == "Earlier"
    driver.panel.review.caseAdded(growing, 0)
    assert driver.panel.review.cases.name == "Growing"


def test_a_table_sorted_by_state_keeps_each_case_in_its_own_row(driver: Driver) -> None:
    ui = driver.ui
    cases, _ = filled(6)
    driver.parameters.cases = cases.browser
    process_events()
    ui.viewTabs.setCurrentIndex(1)
    ui.caseTable.sortItems(SHOWN_COLUMNS.index("state"), qt.Qt.AscendingOrder)
    for _case in range(3):
        driver.panel.review.shortcuts["R"].activated.emit()
        process_events()
    for line in range(6):
        row = cases.row(ui.caseTable.item(line, 0).data(qt.Qt.UserRole))
        shown = [ui.caseTable.item(line, column).text() for column in range(len(SHOWN_COLUMNS))]
        assert shown == [row[name] for name in SHOWN_COLUMNS]


def test_the_table_of_a_mask_says_what_holds_for_that_mask(driver: Driver) -> None:
    ui = driver.ui
    volume, first = one_slice()
    second = addSegmentationNode(phantom_stack()[1][:, :, 4:5], "second", volume)
    ui.maskSelector.setCurrentNode(first)
    process_events()
    driver.choose(ui.maskTable.cellWidget(0, 1), "nothing")
    ui.maskSelector.setCurrentNode(second)
    process_events()
    assert ui.maskTable.cellWidget(0, 1).currentText != "nothing"


def test_scans_that_were_left_out_of_the_fine_tuning_stay_out(driver: Driver, tmp_path: Path) -> None:
    ui = driver.ui
    for phase in ("ED", "ES"):
        image, mask = phantom_stack()
        addSegmentationNode(mask, f"heart {phase}", addImageNode(image, f"anna_{phase}"))
    driver.choose(ui.tuneSourceComboBox, TuneSource.SCENE.label())
    process_events()
    ui.tunePairsList.item(0).setCheckState(qt.Qt.Unchecked)
    addSegmentationNode(mask, "drawn later", addImageNode(image, "anna_ES"))
    process_events()
    ticks = [ui.tunePairsList.item(i).checkState() == qt.Qt.Checked for i in range(3)]
    assert ticks == [False, True, True]
    # ED and ES of a patient go by one name, and two volumes of one name both stay.
    deque(_writePairs(scenePairs(), tmp_path), maxlen=0)
    written = sorted(path.name for path in (tmp_path / "images").glob("*.mha"))
    assert written == ["002-anna_ES.mha", "anna_ED.mha", "anna_ES.mha"]


@pytest.mark.parametrize("form", [Format.NNUNET, Format.NRRD, Format.SHEET], ids=["nnU-Net", "NRRD", "sheet"])
def test_saving_a_hundred_cases_does_not_stop_the_window(driver: Driver, tmp_path: Path, form: Format) -> None:
    cases, _ = filled(100)
    driver.parameters.cases = cases.browser
    wait_until(lambda: not driver.panel.review._queue, 30)
    driver.choose(driver.ui.saveFormatComboBox, form.label())
    driver.choose(driver.ui.saveWhichComboBox, Which.ALL.label())
    driver.ui.savePathEdit.currentPath = str(tmp_path / "out")
    assert "Done" in driver.run(driver.ui.saveButton)


def existing_set(folder: Path) -> None:
    """An nnU-Net data set of somebody else, with labels in another order."""
    image, mask = (stack[:, :, 3:4] for stack in phantom_stack())
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    sitk.WriteImage(image, str(folder / "imagesTr" / "anna_0000.nrrd"))
    other = sitk.GetImageFromArray(np.array([0, 3, 2, 1], np.uint8)[sitk.GetArrayFromImage(mask)])
    other.CopyInformation(mask)
    sitk.WriteImage(other, str(folder / "labelsTr" / "anna.nrrd"))
    facts = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3},
        "numTraining": 1,
        "file_ending": ".nrrd",
    }
    (folder / "dataset.json").write_text(json.dumps(facts))


def test_save_writes_every_form_and_overwrites_nothing_unasked(driver: Driver, dialogs: Any, tmp_path: Path) -> None:
    ui = driver.ui
    driver.open("review", "save")
    cases, pairs = filled(4)
    driver.parameters.cases = cases.browser
    process_events()
    cases.judge(0, KEPT)
    cases.judge(2, KEPT)
    cases.judge(3, REJECTED, "image is poor")

    def save(form: Format, which: Which, target: Path) -> str:
        driver.choose(ui.saveFormatComboBox, form.label())
        driver.choose(ui.saveWhichComboBox, which.label())
        ui.savePathEdit.currentPath = str(target)
        return driver.run(ui.saveButton)

    assert "Done" in save(Format.NNUNET, Which.KEPT, tmp_path / "raw")
    assert json.loads((tmp_path / "raw" / "dataset.json").read_text())["numTraining"] == 2
    rows = list(csv.DictReader((tmp_path / "raw" / "manifest.csv").open()))
    assert [(row["name"], row["kept"], row["group"]) for row in rows] == [
        ("case000", "yes", "HCM"),
        ("case002", "yes", "HCM"),
    ]
    written = sitk.ReadImage(str(tmp_path / "raw" / "labelsTr" / "case002.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(pairs[2][1]))

    existing_set(tmp_path / "theirs")
    assert "Done" in save(Format.INTO, Which.NOT_REJECTED, tmp_path / "theirs")
    assert json.loads((tmp_path / "theirs" / "dataset.json").read_text())["numTraining"] == 4
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "theirs" / "labelsTr" / "case000.nrrd")))
    ours = sitk.GetArrayFromImage(pairs[0][1])
    np.testing.assert_array_equal(theirs, np.array([0, 3, 2, 1], np.uint8)[ours])

    assert "Done" in save(Format.NRRD, Which.ALL, tmp_path / "pairs")
    assert len(list((tmp_path / "pairs" / "masks").glob("*.nrrd"))) == 4
    assert "Done" in save(Format.SHEET, Which.ALL, tmp_path / "sheet.png")
    sheet = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "sheet.png")))
    assert sheet.shape == (332, 332, 3), "four tiles of 160 pixels with margins of 4"
    tile = sheet[4:104, 4:112]
    assert np.ptp(tile) > 100
    # The outlines are in the structures' colours.
    assert (tile == STRUCTURES[0].color).all(axis=-1).any()
    assert sitk.ReadImage(str(tmp_path / "raw" / "preview.png")).GetSize() == (332, 168)

    # Replacing needs a yes.
    content = (tmp_path / "raw" / "labelsTr" / "case000.nii.gz").read_bytes()
    dialogs.confirm = False
    cases.judge(0, REJECTED)
    asked = len(dialogs.texts_of("confirmOkCancelDisplay"))
    driver.choose(ui.saveFormatComboBox, Format.NNUNET.label())
    ui.savePathEdit.currentPath = str(tmp_path / "raw")
    driver.click(ui.saveButton)
    assert len(dialogs.texts_of("confirmOkCancelDisplay")) == asked + 1
    assert driver.panel.job is None
    assert (tmp_path / "raw" / "labelsTr" / "case000.nii.gz").read_bytes() == content
    dialogs.confirm = True
    driver.run(ui.saveButton)
    names = {row["name"] for row in csv.DictReader((tmp_path / "raw" / "manifest.csv").open())}
    assert "case002" in names
    driver.picture("save")


@pytest.fixture
def frames(tmp_path: Path) -> list[sitk.Image]:
    """End-diastole and end-systole of a patient, or of a phantom where there is none."""
    root = patient_data() or write_acdc(tmp_path, 1)
    folder = sorted(root.glob("patient*"))[0]
    paths = sorted(path for path in folder.glob("*_frame*.nii.gz") if not path.name.endswith("_gt.nii.gz"))
    return [sitk.ReadImage(str(path)) for path in paths]


def test_segment_measures_a_stack(driver: Driver, frames: list[sitk.Image]) -> None:
    ui = driver.ui
    driver.open("segment")
    volume = addImageNode(frames[0], "scan")
    ui.scanSelector.setCurrentNode(volume)
    assert "Done" in driver.run(ui.segmentButton)
    found = slicer.mrmlScene.GetFirstNodeByName("scan heart")
    labels = sitk.GetArrayFromImage(drawnMask(found).stack)
    assert labels.shape == sitk.GetArrayFromImage(frames[0]).shape
    assert {1, 2, 3} <= set(np.unique(labels))
    assert found.GetNodeReference("referenceImageGeometryRef") is volume
    quantities = [ui.segmentTable.item(i, 0).text() for i in range(ui.segmentTable.rowCount)]
    assert quantities[-1] == "Myocardial mass"
    assert float(ui.segmentTable.item(0, 1).text()) > 20
    driver.picture("segment")


def test_figures_go_with_their_scan(driver: Driver, frames: list[sitk.Image]) -> None:
    ui = driver.ui
    first, second = (addImageNode(frames[0], name) for name in ("first", "second"))
    ui.scanSelector.setCurrentNode(first)
    driver.run(ui.segmentButton)
    assert ui.segmentTable.rowCount > 0
    ui.scanSelector.setCurrentNode(second)
    process_events()
    assert ui.segmentTable.rowCount == 0


def test_segment_follows_a_cine_over_the_cycle(driver: Driver, frames: list[sitk.Image]) -> None:
    ui = driver.ui
    driver.open("segment")
    sequence = slicer.mrmlScene.AddNewNodeByClass(SEQUENCE_CLASS, "cine")
    for i, frame in enumerate(frames):
        sequence.SetDataNodeAtValue(imageNode(frame), str(i))
    ui.scanSelector.setCurrentNode(sequence)
    assert "Done" in driver.run(ui.segmentButton)
    masks = slicer.mrmlScene.GetFirstNodeByName("cine heart")
    assert masks.GetNumberOfDataNodes() == len(frames)
    table = slicer.mrmlScene.GetFirstNodeByName("cine measurements")
    told = {table.GetCellText(i, 0): float(table.GetCellText(i, 1)) for i in range(table.GetNumberOfRows())}
    assert told["LV EDV"] > told["LV ESV"] > 0
    assert told["LV EF"] == pytest.approx(100 * (told["LV EDV"] - told["LV ESV"]) / told["LV EDV"], abs=0.2)
    assert told["Myocardial mass"] > 20
    chart = slicer.mrmlScene.GetFirstNodeByName("cine volumes")
    assert chart.GetNumberOfPlotSeriesNodes() == 3
    browser = slicer.mrmlScene.GetFirstNodeByName("cine browser")
    browser.SetSelectedItemNumber(1)
    assert browser.GetProxyNode(masks).GetSegmentation().GetNumberOfSegments() == 3
    driver.picture("segment-cine")


def test_what_is_no_heart_is_left_unlabelled_with_a_reason(driver: Driver) -> None:
    noise = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (4, 128, 128)).astype(np.int16))
    noise.SetSpacing((1.5, 1.5, 8.0))
    driver.ui.scanSelector.setCurrentNode(addImageNode(noise, "noise"))
    driver.open("segment")
    driver.run(driver.ui.segmentButton)
    assert "noise" in driver.ui.segmentLabel.text
    assert slicer.mrmlScene.GetFirstNodeByName("noise heart") is None
    driver.picture("segment-nothing")


def test_fine_tune_learns_from_the_scene_and_lists_the_model(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARDIAC_DIFFUSION_AUG_MODELS", str(tmp_path / "models"))
    ui = driver.ui
    driver.open("tune")
    for seed in range(3):
        image, mask = phantom_stack(seed=seed)
        volume = addImageNode(image, f"patient{seed}")
        addSegmentationNode(mask, f"heart{seed}", volume)
    made, _ = filled(3)
    driver.parameters.cases = made.browser
    process_events()
    made.judge(0, KEPT)
    made.judge(1, KEPT)
    driver.choose(ui.tuneSourceComboBox, TuneSource.SCENE.label())
    assert ui.tunePairsList.count == 3, "made cases are not listed"
    ui.tuneStepsSpinBox.value = 100000
    ui.tuneNameEdit.text = "ours"
    ui.tuneHeldOutSlider.value = 0.34
    with LongestPause() as pause:
        driver.click(ui.tuneButton)
        wait_until(lambda: slicer.mrmlScene.GetFirstNodeByName("ours training") is not None, 180)
        wait_until(lambda: ui.tuneTable.rowCount > 0, 60)
        driver.click(ui.finishButton)
        driver.wait_for_job(120)
    assert pause.milliseconds <= LONGEST_PAUSE_MS, str(pause)
    assert "Done" in driver.message, driver.message
    assert (tmp_path / "models" / "ours" / "bundle.json").is_file()
    assert not (tmp_path / "models" / "ours.training").exists()
    assert driver.ui.segmenterComboBox.currentText == "ours"
    figures = {ui.tuneTable.item(i, 0).text(): ui.tuneTable.item(i, 1).text() for i in range(ui.tuneTable.rowCount)}
    assert 0 < float(figures["mean"]) <= 1
    assert float(ui.tuneTable.item(ui.tuneTable.rowCount - 1, 2).text()) > 0
    chart = slicer.mrmlScene.GetFirstNodeByName("ours training")
    drawn = [chart.GetNthPlotSeriesNode(i).GetYColumnName() for i in range(chart.GetNumberOfPlotSeriesNodes())]
    assert drawn == ["loss", "Dice LV", "Dice MYO", "Dice RV", "Dice mean"]
    training = json.loads((tmp_path / "models" / "ours" / "bundle.json").read_text())["training"]
    assert training["synthetic"].startswith("2 slices")
    driver.picture("tune-done")


def test_the_nearest_real_slice_is_shown_beside_the_case(driver: Driver, tmp_path: Path) -> None:
    driver.open("review")
    real = write_acdc(tmp_path / "acdc", 3)
    cases, _ = filled(2)
    driver.parameters.cases = cases.browser
    driver.ui.realDataEdit.currentPath = str(real)
    driver.run(driver.ui.nearestButton)
    volume = slicer.mrmlScene.GetFirstNodeByName("Nearest real slice")
    assert volume.GetImageData().GetDimensions() == (128, 128, 1)
    assert "patient" in driver.ui.nearestLabel.text
    views = slicer.app.layoutManager()
    shown = [
        views.sliceWidget(v).sliceLogic().GetSliceCompositeNode().GetBackgroundVolumeID() for v in ("Red", "Yellow")
    ]
    assert shown == [cases.shownNodes()[0].GetID(), volume.GetID()]
    driver.picture("nearest")


def test_the_console_makes_the_same_with_plain_calls(driver: Driver, tmp_path: Path) -> None:
    logic = driver.logic
    cases = logic.generate(count=1, phase="ED", level=0.5, seed=3, filter=False)
    assert cases.row(0)["phase"] == "ED"
    image, segmentation = cases.shownNodes()
    more = logic.synthesize(segmentation, variations=1, seed=5)
    assert more.count == 1
    found = logic.segment(image)
    assert found.segmentation is not None or found.warning
    cases.judge(0, KEPT)
    assert logic.save(cases, tmp_path / "kept") == 1
    assert {Phase.ED.setting, Level.mid.setting, Group.HCM.setting, Group.ANY.setting} == {"ED", "mid", "HCM", None}
