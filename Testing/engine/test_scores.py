"""Agreement of masks of known overlap, and the job that scores folders of them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from cardiac_diffusion_aug.cli import PROGRAM, main
from cardiac_diffusion_aug.evaluation.scores import Score, hausdorff_95, score_volume, summarize
from cardiac_diffusion_aug.labels import ACDC_ORDER, LV, MYO, RV, dice
from phantom import phantom_stack, write_acdc

SPACING = (8.0, 2.0, 1.5)
"""Between slices, rows and columns."""
ML = 8.0 * 2.0 * 1.5 / 1000
PATIENTS = 2
BoolArray = npt.NDArray[np.bool_]


def box(slices: int = 4, shift: tuple[int, int, int] = (0, 0, 0)) -> BoolArray:
    """A box of 10 rows and 20 columns in a larger volume."""
    inside = np.zeros((slices + 2, 20, 40), bool)
    inside[1 : 1 + slices, 4:14, 8:28] = True
    return np.roll(inside, shift, (0, 1, 2))


EMPTY = np.zeros_like(box())


# One volume


def test_what_is_alike_agrees() -> None:
    labels = sitk.GetArrayFromImage(phantom_stack(4)[1])
    for score in score_volume(labels, labels, (8.0, 1.4, 1.4), "anna_ED", "anna", "ED"):
        assert (score.dice, score.hausdorff_95_mm, score.volume_error_ml) == (1.0, 0.0, 0.0)
        assert (score.case, score.patient, score.phase) == ("anna_ED", "anna", "ED")


@pytest.mark.parametrize(
    ("shift", "overlap", "mm"),
    [((0, 0, 4), 16 / 20, 6.0), ((0, 3, 0), 7 / 10, 6.0), ((1, 0, 0), 3 / 4, 8.0), ((0, 0, -2), 18 / 20, 3.0)],
)
def test_a_box_that_is_shifted(shift: tuple[int, int, int], overlap: float, mm: float) -> None:
    """More than 5 % of its surface is a face that lies as far off as it was shifted."""
    assert dice(box(), box(shift=shift)) == pytest.approx(overlap)
    assert hausdorff_95(box(), box(shift=shift), SPACING) == pytest.approx(mm)
    assert hausdorff_95(box(shift=shift), box(), SPACING) == pytest.approx(mm)


def test_a_single_slice_has_an_outline() -> None:
    """Not all of its area is surface, as it would be for a stack of one slice."""
    assert hausdorff_95(box(1)[1:2], box(1, (0, 0, 4))[1:2], SPACING) == pytest.approx(6.0)


def test_a_few_stray_pixels_count_less_than_five_percent() -> None:
    stray = box()
    stray[2, 19, 39] = True
    assert hausdorff_95(stray, box(), SPACING) == 0.0


def test_shapes_that_touch_the_border_are_measured() -> None:
    a, b = np.zeros((2, 2, 12, 12), bool)
    a[:, :, :10] = True
    b[:, :, :8] = True
    assert hausdorff_95(a, b, SPACING) == pytest.approx(3.0)


def test_nothing_against_nothing_and_against_something() -> None:
    assert math.isnan(dice(EMPTY, EMPTY))
    assert dice(EMPTY, box()) == dice(box(), EMPTY) == 0.0
    for a, b in ((EMPTY, EMPTY), (EMPTY, box()), (box(), EMPTY)):
        assert math.isnan(hausdorff_95(a, b, SPACING))


def test_an_error_of_volume_is_positive_where_too_much_is_labelled() -> None:
    reference, prediction = (box() * np.uint8(LV) for _ in range(2))
    prediction[1, 4:14, 8] = 0
    prediction[0, 0, :7] = RV
    errors = {s.structure: s.volume_error_ml for s in score_volume(prediction, reference, SPACING, "a", "a", None)}
    assert errors == pytest.approx({"LV": -10 * ML, "MYO": 0.0, "RV": 7 * ML})


# Many volumes


def scores_of(values: list[float], patients: list[str] | None = None, measure: str = "dice") -> list[Score]:
    rows = []
    for index, value in enumerate(values):
        patient = patients[index] if patients else f"p{index}"
        told = {"dice": 0.5, "hausdorff_95_mm": 0.0, "volume_error_ml": 0.0, measure: value}
        rows.append(Score(f"case{index}", patient, None, "LV", **told))
    return rows


def test_a_summary() -> None:
    values = [0.9, 0.8, 0.7, 0.95, 0.6]
    found = summarize(scores_of(values), "dice")
    assert found is not None
    assert found.count == 5
    assert found.mean == pytest.approx(0.79)
    assert found.spread == pytest.approx(np.std(values))
    assert found.median == 0.8
    assert found.worst == 0.6
    assert found.interval is not None
    low, high = found.interval
    assert 0.6 < low < 0.79 < high < 0.95


@pytest.mark.parametrize(
    ("measure", "values", "worst"),
    [
        ("dice", [0.1, 0.3, *[0.9] * 18], 0.2),
        ("hausdorff_95_mm", [30.0, 20.0, *[2.0] * 18], 25.0),
        ("volume_error_ml", [-30.0, 20.0, *[2.0] * 18], 25.0),
        ("volume_error_ml", [-3.0], 3.0),
    ],
)
def test_the_worst_tenth(measure: str, values: list[float], worst: float) -> None:
    found = summarize(scores_of(values, measure=measure), measure)
    assert found is not None
    assert found.worst == pytest.approx(worst)


def test_what_is_not_defined_is_left_out() -> None:
    found = summarize(scores_of([0.5, math.nan, 0.7]), "dice")
    assert found is not None
    assert found.count == 2
    assert found.mean == pytest.approx(0.6)
    assert summarize(scores_of([math.nan, math.nan]), "dice") is None
    assert summarize([], "dice") is None


def test_volumes_of_one_patient_have_no_interval() -> None:
    found = summarize(scores_of([0.5, 0.7], ["anna", "anna"]), "dice")
    assert found is not None
    assert found.interval is None
    # A patient whose only value is not defined does not count either.
    found = summarize(scores_of([0.5, 0.7, math.nan], ["anna", "anna", "berta"]), "dice")
    assert found is not None
    assert found.interval is None


def test_an_interval_is_over_patients() -> None:
    values = [0.9, 0.5] * 20
    by_patient = summarize(scores_of(values, ["anna", "berta"] * 20), "dice")
    by_volume = summarize(scores_of(values), "dice")
    assert by_patient is not None
    assert by_volume is not None
    assert by_patient.interval == pytest.approx((0.5, 0.9))
    assert by_volume.interval is not None
    assert by_volume.interval[1] - by_volume.interval[0] < 0.2


# The job

Runner = Callable[..., str]


@pytest.fixture
def score(capsys: pytest.CaptureFixture[str]) -> Runner:
    """Runs `score`, and returns what it says on standard error, without the bar."""

    def run(predictions: Path, references: Path, *options: str | Path, code: int = 0) -> str:
        arguments = ["score", "--predictions", predictions, "--references", references, *options]
        assert main([str(argument) for argument in arguments]) == code
        told = capsys.readouterr().err.rpartition("\r")[2].strip() if code else capsys.readouterr().err
        if code:
            assert told.startswith(f"{PROGRAM}: ")
            assert told.endswith(".")
            assert told.count("\n") == 0
        return told

    return run


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in ACDC's layout; only to be read."""
    return write_acdc(tmp_path_factory.mktemp("references"), PATIENTS, 3, (80, 90))


def truth(patient: int, phase: str) -> sitk.Image:
    """The mask of a patient of the data set, in the values used here."""
    return phantom_stack(3, (80, 90), phase=phase, seed=patient, group=("NOR", "MINF")[patient])[1]


def write_predictions(
    folder: Path, patients: int = PATIENTS, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = lambda a: a
) -> Path:
    """The masks of the data set as `segment` names them, with their arrays changed."""
    folder.mkdir(parents=True)
    for patient in range(patients):
        for phase in ("ED", "ES"):
            mask = truth(patient, phase)
            changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(mask)))
            changed.SetSpacing(mask.GetSpacing())
            sitk.WriteImage(changed, str(folder / f"patient{patient + 1:03d}_{phase}.nii.gz"))
    return folder


def in_acdc_order(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.select([labels == own for own in ACDC_ORDER.values()], list(ACDC_ORDER)).astype(np.uint8)


def table_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def summary_of(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    content: dict[str, dict[str, dict[str, Any]]] = json.loads((folder / "scores.json").read_text("utf-8"))
    return content


def test_masks_against_themselves(score: Runner, references: Path, tmp_path: Path) -> None:
    score(write_predictions(tmp_path / "made"), references, "--output", tmp_path / "out")
    rows = table_of(tmp_path / "out")
    assert [(r["case"], r["patient"], r["phase"], r["structure"]) for r in rows] == [
        (f"patient{p:03d}_{phase}", f"patient{p:03d}", phase, structure)
        for p in (1, 2)
        for phase in ("ED", "ES")
        for structure in ("LV", "MYO", "RV")
    ]
    numbers = ("dice", "hausdorff_95_mm", "volume_error_ml")
    assert {tuple(float(r[n]) for n in numbers) for r in rows} == {(1.0, 0.0, 0.0)}
    summary = summary_of(tmp_path / "out")
    assert set(summary) == {"all", "ED", "ES"}
    assert set(summary["all"]) == {f"{key}.{n}" for key in ("LV", "MYO", "RV", "mean") for n in numbers}
    assert [summary[group]["LV.dice"]["count"] for group in ("all", "ED", "ES")] == [4, 2, 2]
    assert summary["all"]["LV.dice"]["interval"] == [1.0, 1.0]


def test_the_order_of_labels_is_known_by_name(score: Runner, references: Path, tmp_path: Path) -> None:
    made = write_predictions(tmp_path / "made", change=in_acdc_order)
    score(made, references, "--output", tmp_path / "wrong")
    (made / "dataset.json").write_text('{"labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3}}')
    score(made, references, "--output", tmp_path / "right")
    (made / "dataset.json").unlink()
    score(made, references, "--output", tmp_path / "stated", "--prediction-labels", "RV=1,MYO=2,LV=3")
    found = {name: summary_of(tmp_path / name)["all"]["LV.dice"]["mean"] for name in ("wrong", "right", "stated")}
    assert found == {"wrong": 0.0, "right": 1.0, "stated": 1.0}


def test_the_order_of_references_may_be_stated(score: Runner, tmp_path: Path) -> None:
    made = write_predictions(tmp_path / "made", 1)
    true = write_predictions(tmp_path / "true", 1, in_acdc_order)
    score(made, true, "--output", tmp_path / "out", "--labels", "RV=1,MYO=2,LV=3")
    assert summary_of(tmp_path / "out")["all"]["mean.dice"]["mean"] == 1.0


def test_the_tables_hold_what_was_measured(score: Runner, references: Path, tmp_path: Path) -> None:
    def without_rv(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.where(labels == RV, 0, np.roll(labels, 1, 2)).astype(np.uint8)

    score(write_predictions(tmp_path / "made", change=without_rv), references, "--output", tmp_path / "out")
    for row in table_of(tmp_path / "out"):
        true = sitk.GetArrayFromImage(truth(int(row["patient"][-1]) - 1, row["phase"]))
        found = without_rv(true)
        for value, key in ((LV, "LV"), (MYO, "MYO"), (RV, "RV")):
            if row["structure"] == key:
                error = (int((found == value).sum()) - int((true == value).sum())) * 1.4 * 1.4 * 8 / 1000
                assert float(row["dice"]) == pytest.approx(dice(found == value, true == value), abs=1e-4)
                assert float(row["volume_error_ml"]) == pytest.approx(error, abs=1e-4)
    lv = summary_of(tmp_path / "out")["ED"]["LV.dice"]
    dices = [float(r["dice"]) for r in table_of(tmp_path / "out") if (r["structure"], r["phase"]) == ("LV", "ED")]
    assert lv["mean"] == pytest.approx(np.mean(dices), abs=1e-4)


def test_a_structure_that_is_missing_has_no_distance(score: Runner, references: Path, tmp_path: Path) -> None:
    made = write_predictions(tmp_path / "made", change=lambda a: np.where(a == RV, 0, a).astype(np.uint8))
    score(made, references, "--output", tmp_path / "out")
    rows = [row for row in table_of(tmp_path / "out") if row["structure"] == "RV"]
    assert {(row["dice"], row["hausdorff_95_mm"]) for row in rows} == {("0.0000", "")}
    summary = summary_of(tmp_path / "out")["all"]
    assert "RV.hausdorff_95_mm" not in summary
    assert summary["mean.hausdorff_95_mm"]["count"] == 8


def test_a_data_set_of_one_patient(score: Runner, tmp_path: Path) -> None:
    true = write_acdc(tmp_path / "true", 1, 3, (80, 90))
    score(write_predictions(tmp_path / "made", 1), true, "--output", tmp_path / "out")
    summary = summary_of(tmp_path / "out")
    assert summary["all"]["LV.dice"]["interval"] is None
    assert summary["all"]["LV.dice"]["count"] == 2


def test_one_file_against_one_file_of_another_name(score: Runner, tmp_path: Path) -> None:
    files = [tmp_path / "found.nrrd", tmp_path / "anna_ES.mha"]
    for path in files:
        sitk.WriteImage(truth(0, "ES"), str(path))
    score(*files, "--output", tmp_path / "out")
    rows = table_of(tmp_path / "out")
    assert [(r["case"], r["patient"], r["phase"], r["dice"]) for r in rows] == [("anna_ES", "anna", "ES", "1.0000")] * 3


def test_without_a_folder_figures_are_told_alone(
    score: Runner, references: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_predictions(tmp_path / "made")
    assert main(["score", "--predictions", str(made), "--references", str(references)]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["volumes"] == "4"
    assert told["LV.dice"].startswith("1.000 +- 0.000 (95 % interval 1.000 to 1.000), ED 1.000, ES 1.000")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]


def test_references_without_prediction_are_told(score: Runner, references: Path, tmp_path: Path) -> None:
    told = score(write_predictions(tmp_path / "made", 1), references, "--output", tmp_path / "out")
    assert "2 references have no prediction and are left out, such as patient002_ED." in told
    assert len(table_of(tmp_path / "out")) == 6


# What cannot be scored


def refused(score: Runner, made: Path, true: Path, output: Path, *options: str) -> str:
    told = score(made, true, "--output", output, *options, code=2)
    assert not output.exists()
    return told


def test_a_prediction_without_reference(score: Runner, references: Path, tmp_path: Path) -> None:
    made = write_predictions(tmp_path / "made", 1)
    sitk.WriteImage(truth(0, "ED"), str(made / "stranger.nii.gz"))
    told = refused(score, made, references, tmp_path / "out")
    assert "no reference for stranger" in told
    assert "(1 of 3 lack one)" in told
    assert "such as patient001_ED" in told


def test_masks_of_another_size(score: Runner, references: Path, tmp_path: Path) -> None:
    made = write_predictions(tmp_path / "made", 1, lambda a: a[:2])
    told = refused(score, made, references, tmp_path / "out")
    assert "90 x 80 x 2 pixels" in told
    assert "90 x 80 x 3" in told


def test_masks_of_another_pixel_size(score: Runner, references: Path, tmp_path: Path) -> None:
    made = write_predictions(tmp_path / "made", 1)
    path = str(made / "patient001_ED.nii.gz")
    mask = sitk.ReadImage(path)
    mask.SetSpacing((1.0, 1.0, 8.0))
    sitk.WriteImage(mask, path)
    told = refused(score, made, references, tmp_path / "out")
    assert "patient001_ED.nii.gz and its reference" in told
    assert "differ in pixel size" in told


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda a: a * np.uint8(2), "holds the label"), (lambda a: a * np.float32(0.5), "holds fractions")],
    ids=["unknown label", "fractions"],
)
def test_masks_of_other_values(
    score: Runner, references: Path, tmp_path: Path, change: Callable[[Any], Any], words: str
) -> None:
    told = refused(score, write_predictions(tmp_path / "made", 1, change), references, tmp_path / "out")
    assert words in told
    assert "patient001_ED.nii.gz" in told


@pytest.mark.parametrize("names", ['{"labels": {"LV": 1, "MYO": 2}}', '{"labels": [1]}', "{", '{"labels": {"LA": 1}}'])
def test_a_description_that_tells_no_order(score: Runner, references: Path, tmp_path: Path, names: str) -> None:
    made = write_predictions(tmp_path / "made", 1)
    (made / "dataset.json").write_text(names)
    assert "dataset.json" in refused(score, made, references, tmp_path / "out")


def test_paths_that_are_not_there(score: Runner, references: Path, tmp_path: Path) -> None:
    made = write_predictions(tmp_path / "made", 1)
    (tmp_path / "empty").mkdir()
    for wrong, words in (("nowhere", "There is no file or folder"), ("empty", "holds no masks"), ("x" * 5000, "xxx")):
        assert words in refused(score, tmp_path / wrong, references, tmp_path / "out")
        assert words in refused(score, made, tmp_path / wrong, tmp_path / "out")


def test_a_damaged_mask(score: Runner, references: Path, tmp_path: Path) -> None:
    made = write_predictions(tmp_path / "made", 1)
    path = made / "patient001_ES.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    assert "patient001_ES.nii.gz cannot be read" in refused(score, made, references, tmp_path / "out")


def test_an_output_that_is_a_file(score: Runner, references: Path, tmp_path: Path) -> None:
    made = write_predictions(tmp_path / "made", 1)
    (tmp_path / "out").write_text("mine")
    assert "out cannot be written" in score(made, references, "--output", tmp_path / "out", code=2)
    assert (tmp_path / "out").read_text() == "mine"
