"""Each measure reacts as it should on known answers, and the job that takes them all goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy import ndimage

from cardiac_diffusion_aug.attributes import Attributes
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import PACK_SIZE, pack_cases
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.evaluation import evaluate as evaluation
from cardiac_diffusion_aug.evaluation.copying import Slices, copying
from cardiac_diffusion_aug.evaluation.evaluate import FEATURES, projected, slice_dices
from cardiac_diffusion_aug.evaluation.fidelity import compare
from cardiac_diffusion_aug.evaluation.obedience import QUESTIONS, Question, answers
from cardiac_diffusion_aug.evaluation.parts import Parts
from cardiac_diffusion_aug.evaluation.report import Section
from cardiac_diffusion_aug.evaluation.sections import (
    adherence_section,
    anatomy_section,
    attribute_section,
    copying_section,
    shape_section,
)
from cardiac_diffusion_aug.evaluation.sets import SliceSet, real_set, synthetic_set
from cardiac_diffusion_aug.export import DatasetWriter
from cardiac_diffusion_aug.jobs import JOBS, Context
from cardiac_diffusion_aug.jobs.evaluate import Evaluate
from cardiac_diffusion_aug.labels import LV, MYO
from cardiac_diffusion_aug.segmentation import Segmenter
from cardiac_diffusion_aug.slices import GRID_SIZE, LabelArray
from phantom import phantom_stack, write_acdc
from tiny import SmallDisk

pytest_plugins = ["tiny", "tiny_unet"]

VALIDATION, OTHERS = 10, 130

# Known answers, on real slices


@pytest.fixture(scope="module")
def real(real_acdc: Path) -> tuple[SliceSet, SliceSet]:
    """Training slices, and those of ten validation patients."""
    pack = pack_cases(read_cases(real_acdc)[1])
    patients = sorted(set(pack.patients.tolist()))
    unseen = [p for p in patients if int(p[-3:]) % 5 == 4 and p != "patient074"][:VALIDATION]
    return real_set(pack.of_patients([p for p in patients if int(p[-3:]) % 5 != 4])), real_set(pack.of_patients(unseen))


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(device="cpu")


def some(one: SliceSet, seed: int = 0) -> SliceSet:
    rows = np.random.default_rng(seed).choice(len(one), OTHERS, replace=False)
    return SliceSet(*(array[rows] for array in vars(one).values()))


def values(section: Section) -> dict[str, float]:
    return {figure.key: figure.value for figure in section.figures if figure.value is not None}


def test_fidelity_tells_real_from_noisy_blurred_and_uniform(
    real: tuple[SliceSet, SliceSet], segmenter: Segmenter
) -> None:
    training, validation = real
    good = some(training).images
    noise = np.random.default_rng(0).normal(0, 0.3, good.shape)
    sets = {
        "real": good,
        "noisy": np.clip(good + noise, -1, 1).astype(np.float32),
        "blurred": ndimage.gaussian_filter(good, (0, 3, 3)),
        "uniform": good[np.arange(OTHERS) % 3],
    }
    seen = segmenter.look(validation.images)[1]
    found = {}
    for name, images in sets.items():
        a, b = projected(np.asarray(seen, float), np.asarray(segmenter.look(images)[1], float))
        assert a.shape[1] == b.shape[1] == FEATURES
        found[name] = {key: one.ratio for key, one in compare(a, validation.patients, b).items()}
    assert found["real"]["frechet"] < 1.5
    assert found["real"]["kernel"] < 3
    assert found["real"]["coverage"] > 0.8
    for worse in ("noisy", "blurred", "uniform"):
        assert found[worse]["kernel"] > 1.5 * found["real"]["kernel"], found
        assert found[worse]["recall"] < 0.7 * found["real"]["recall"], found
    assert found["noisy"]["frechet"] > 1.5 * found["real"]["frechet"]
    assert found["uniform"]["coverage"] < 0.7 * found["real"]["coverage"]


def test_adherence_collapses_when_masks_are_shuffled(real: tuple[SliceSet, SliceSet], segmenter: Segmenter) -> None:
    one = some(real[1])
    seen = {"labels": segmenter.look(one.images)[0]}
    right = slice_dices(seen, one.masks)
    wrong = slice_dices(seen, np.roll(one.masks, OTHERS // 2, axis=0))
    figures = adherence_section(one, right, right).figures
    assert [figure.good for figure in figures] == [True] * 3
    assert values(adherence_section(one, right, right))["dice_LV"] > 0.85
    shuffled = adherence_section(one, wrong, right)
    assert [figure.good for figure in shuffled.figures] == [False] * 3
    assert [sheet.title for sheet in shuffled.sheets] == ["Worst adherence", "Median adherence", "Best adherence"]


def test_copies_of_training_slices_are_found(real: tuple[SliceSet, SliceSet]) -> None:
    training, validation = real
    copies = some(training)
    copied = replace(copies, images=np.roll(copies.images, 2, 2), masks=np.roll(copies.masks, 2, 2))

    def of(one: SliceSet) -> dict[str, float]:
        sets = (Slices(s.images, s.masks) for s in (training, validation, one))
        return values(copying_section(copying(*sets), one, training, validation))

    found = of(copied)
    assert found["equal_masks"] == OTHERS
    assert found["near_masks"] == 1
    assert found["near_images"] > 0.5
    fresh = of(some(validation))
    assert fresh["equal_masks"] == 0
    assert fresh["near_masks"] <= 0.02
    assert fresh["near_images"] <= 0.02


def test_shape_tells_other_patients_from_other_hearts(real: tuple[SliceSet, SliceSet]) -> None:
    training, validation = real
    same = some(training)
    small = replace(same, masks=np.stack([ndimage.zoom(m, 0.6, order=0) for m in same.masks]))
    small = replace(small, masks=np.pad(small.masks, ((0, 0), (26, 25), (26, 25))))
    assert small.masks.shape == same.masks.shape
    alike, unlike = (values(shape_section(one, training, validation)) for one in (same, small))
    assert np.median([v for k, v in alike.items() if k.startswith("w1")]) < 1.3
    for key in ("w1_area_LV", "w1_area_MYO", "w1_area_RV", "w1_wall_thickness", "w1_distance_LV_RV"):
        assert unlike[key] > 1.5, key


def test_anatomy_tells_broken_masks(real: tuple[SliceSet, SliceSet]) -> None:
    training, _ = real
    whole = some(training)
    broken = replace(whole, masks=np.where(whole.masks == MYO, 0, whole.masks).astype(np.uint8))
    assert values(anatomy_section(whole, training))["pass_rate"] > 0.95
    section = anatomy_section(broken, training)
    assert values(section)["pass_rate"] < 0.2
    assert section.figures[0].good is False
    assert "lv_touches_background" in section.sheets[0].captions[0]  # type: ignore[union-attr]


def test_another_part_of_the_patients_is_as_good_as_the_unseen(
    real: tuple[SliceSet, SliceSet], segmenter: Segmenter
) -> None:
    """Every ratio is near 1 where what is judged is real, too."""
    _, validation = real
    patients = np.unique(validation.patients)
    first = np.isin(validation.patients, patients[::2])
    judged, unseen = (SliceSet(*(array[rows] for array in vars(validation).values())) for rows in (first, ~first))
    seen, ours = (np.asarray(segmenter.look(one.images)[1], float) for one in (unseen, judged))
    a, b = projected(seen, ours)
    found = {key: one.ratio for key, one in compare(a, unseen.patients, b).items()}
    assert found["frechet"] < 1.5, found
    assert found["coverage"] > 0.6, found
    shape = values(shape_section(judged, unseen, unseen))
    assert np.median([value for key, value in shape.items() if key.startswith("w1")]) < 1.5


def test_adherence_falls_with_noise_and_blur(real: tuple[SliceSet, SliceSet], segmenter: Segmenter) -> None:
    one = SliceSet(*(array[:40] for array in vars(some(real[1])).values()))
    noise = np.random.default_rng(0).normal(0, 0.6, one.images.shape)
    sets = [one.images, np.clip(one.images + noise, -1, 1), ndimage.gaussian_filter(one.images, (0, 5, 5))]
    good, *worse = (
        np.nanmean(slice_dices({"labels": segmenter.look(images.astype(np.float32))[0]}, one.masks)) for images in sets
    )
    assert max(worse) < good - 0.05, (good, worse)


def test_phantoms_with_noise_or_blur_are_far_from_phantoms(tiny_unet: Path, tmp_path: Path) -> None:
    """Without patients, and with the smallest of networks."""

    def hearts(seed: int) -> SliceSet:
        folder = write_acdc(tmp_path / str(seed), 6, slices=4, shape=(144, 144), seed=seed)
        return real_set(pack_cases(read_cases(folder)[1], tmp_path))

    segmenter = Segmenter(tiny_unet, "cpu")
    unseen, others = hearts(100), hearts(200)
    noise = np.random.default_rng(0).normal(0, 0.15, others.images.shape).astype(np.float32)
    seen = segmenter.look(unseen.images)[1].astype(float)
    found = {}
    for name, images in {
        "fresh": others.images,
        "noisy": others.images + noise,
        "blurred": ndimage.gaussian_filter(others.images, (0, 1.5, 1.5)),
    }.items():
        a, b = projected(seen, segmenter.look(images)[1].astype(float))
        found[name] = compare(a, unseen.patients, b)["frechet"].ratio
    assert min(found["noisy"], found["blurred"]) > 3 * found["fresh"], found


# Attributes


class Obedient:
    """Draws discs as large as it is asked to, or all alike."""

    def __init__(self, obeys: bool) -> None:
        self.obeys = obeys
        self.asked: list[tuple[int, list[int], Attributes]] = []

    def masks(self, seed: int, cases: Sequence[int], asked: Attributes, check: Any) -> list[LabelArray]:
        check()
        self.asked.append((seed, list(cases), asked))
        more = any(asked == question.more for question in QUESTIONS)
        radius = (20 if more else 15) if self.obeys else 17
        distance = np.hypot(*(np.mgrid[:GRID_SIZE, :GRID_SIZE] - 64.0))
        mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
        mask[distance < radius * 1.6], mask[distance < radius] = MYO, LV
        return [mask] * len(cases)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.key)
def test_both_masks_of_a_pair_come_from_one_noise(question: Question) -> None:
    generator = Obedient(True)
    told: list[int] = []
    rows = answers(generator, question, 3, 7, progress=told.append)  # type: ignore[arg-type]
    assert rows.shape == (3, 2)
    assert (rows[:, 0] > rows[:, 1]).all()
    assert [(seed, cases) for seed, cases, _ in generator.asked] == [(7, [0, 1, 2])] * 2
    assert sum(told) == 6


def test_a_generator_that_does_not_listen_misses_the_bar() -> None:
    deaf = {q.key: answers(Obedient(False), q, 3) for q in QUESTIONS}  # type: ignore[arg-type]
    assert [figure.good for figure in attribute_section(QUESTIONS, deaf).figures] == [False] * 3
    left_out = attribute_section(QUESTIONS, {}, "No model.").figures
    assert [(f.value, f.good, f.words) for f in left_out] == [(None, None, "No model.")] * 3


# Parts and sets


def test_finished_parts_are_kept_until_what_they_are_made_from_changes(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> dict[str, npt.NDArray[Any]]:
        made.append("once")
        return {"a": np.arange(3)}

    for _ in range(2):
        np.testing.assert_array_equal(Parts(tmp_path, "key").get("part", make)["a"], [0, 1, 2])
    assert len(made) == 1
    Parts(tmp_path, "other").get("part", make)
    assert len(made) == 2
    path = next(tmp_path.rglob("part.npz"))
    path.write_bytes(path.read_bytes()[:50])
    Parts(tmp_path, "other").get("part", make)
    assert len(made) == 3
    Parts(tmp_path, "other").clear()
    assert not list(tmp_path.iterdir())


def test_parts_that_cannot_be_kept_are_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CardiacError, match="cannot be written") as error:
        Parts(tmp_path / "file", "key")
    assert error.value.code == "bad_output"


def test_a_full_disk_is_told_and_leaves_no_half_of_a_part(tmp_path: Path, small_disk: SmallDisk) -> None:
    parts = Parts(small_disk.folder, "key")
    with pytest.raises(CardiacError, match="start it again") as error:
        parts.get("part", lambda: {"a": np.random.default_rng(0).random(20_000)})
    assert error.value.code == "disk_full"
    assert list(parts.folder.iterdir()) == []


def write_made(folder: Path, count: int, model: str | None = None) -> Path:
    settings = {"job": "generate", **({"model": model, "model_sha256": "0"} if model else {})}
    writer = DatasetWriter(folder, settings)
    for index in range(count):
        image, mask = phantom_stack(
            slices=1,
            shape=(GRID_SIZE, GRID_SIZE),
            spacing=(1.5, 1.5, 8.0),
            seed=80 + index,
            phase="ES" if index % 2 else "ED",
        )
        # As floats first: SimpleITK makes the factor a whole number where the pixels are.
        grey = sitk.Cast(sitk.Clamp(image, sitk.sitkFloat32, 0, 1000) * 0.255, sitk.sitkUInt8)
        writer.add(f"case{index:03d}", grey, mask, {})
    writer.finish()
    return folder


def test_made_slices_are_taken_as_they_are(tmp_path: Path) -> None:
    folder = write_made(tmp_path / "made", 3)
    found, layout = synthetic_set(folder)
    assert "nnU-Net" in layout
    assert found.names.tolist() == ["case000", "case001", "case002"]
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "imagesTr" / "case001_0000.nii.gz")))[0]
    assert stored.max() > 150
    np.testing.assert_allclose((found.images[1] + 1) * 127.5, stored, atol=1e-3)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "labelsTr" / "case001.nii.gz")))[0]
    np.testing.assert_array_equal(found.masks[1], labels)


def test_grey_levels_of_other_programs_are_told_by_their_percentiles(tmp_path: Path) -> None:
    """The same files without the note of who made them: 0..255 means nothing then."""
    folder = write_made(tmp_path / "made", 1)
    own = synthetic_set(folder)[0]
    described = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    del described["cardiac_diffusion_aug"]
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    other = synthetic_set(folder)[0]
    low, high = np.percentile(own.images, (1, 99))
    assert high < 0.9, "the two windows differ"
    expected = np.clip((own.images - low) / (high - low) * 2 - 1, -1, 1)
    np.testing.assert_allclose(other.images, expected, atol=1e-4)
    np.testing.assert_array_equal(other.masks, own.masks)


def test_a_made_set_without_a_heart_is_refused(tmp_path: Path) -> None:
    folder = write_made(tmp_path / "made", 1)
    path = folder / "labelsTr" / "case000.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path)) * 0, str(path))
    with pytest.raises(CardiacError, match="labels any pixel"):
        synthetic_set(folder)


def test_slices_of_another_grid_are_put_onto_the_model_s(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / "made", {"job": "test"})
    image, mask = phantom_stack(slices=3, seed=3)
    array = sitk.GetArrayFromImage(mask)
    array[2] = 0
    empty = sitk.GetImageFromArray(array)
    empty.CopyInformation(mask)
    writer.add("stack", image, empty, {})
    writer.finish()
    found, _ = synthetic_set(tmp_path / "made")
    assert found.images.shape == found.masks.shape == (2, GRID_SIZE, GRID_SIZE)
    assert np.abs(np.argwhere(found.masks[0] > 0).mean(0) - 64).max() < 12


def test_a_pack_is_cut_in_its_middle(acdc_root: Path) -> None:
    pack = pack_cases(read_cases(acdc_root)[1][:2])
    margin = (PACK_SIZE - GRID_SIZE) // 2
    found = real_set(pack)
    shown = pack.masks[:, margin:-margin, margin:-margin].any(axis=(1, 2))
    assert len(found) == shown.sum()
    np.testing.assert_array_equal(found.masks, pack.masks[shown][:, margin:-margin, margin:-margin])
    assert found.images.min() == -1


# The job


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_acdc(tmp_path_factory.mktemp("real") / "data", 8, slices=4)


@pytest.fixture
def asked(phantoms: Path, tiny_unet: Path, tmp_path: Path) -> dict[str, Any]:
    """What the job is asked for."""
    unseen = tmp_path / "unseen.txt"
    unseen.write_text("patient001\npatient002\npatient003\npatient004\n")
    return {
        "data": phantoms,
        "synthetic": write_made(tmp_path / "made", 8),
        "output": tmp_path / "report",
        "segmenter": str(tiny_unet),
        "split": f"list {unseen}",
        "device": "cpu",
    }


class Interrupting(Context):
    """Ends the job when it says a word."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word
        self.said: list[str] = []
        self.messages: list[str] = []

    def progress(self, done: int, total: int, message: str = "") -> None:
        assert 0 <= done <= total
        self.messages.append(message)
        if self.word and self.word in message:
            raise KeyboardInterrupt

    def say(self, message: str) -> None:
        self.said.append(message)


def test_a_report_is_written_and_goes_on_where_it_was(asked: dict[str, Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        Evaluate(**asked).run(Interrupting("copying"))
    assert not (asked["output"] / "report.html").exists()
    context = Interrupting("")
    told = Evaluate(**asked).run(context)
    assert "looking at slices" not in context.messages, "what was seen before is not looked at again"
    page = Path(told["report"]).read_text(encoding="utf-8")
    figures = json.loads((asked["output"] / "report.json").read_text(encoding="utf-8"))["figures"]
    for section in ("anatomy", "adherence", "fidelity", "copying", "shape", "attributes"):
        assert any(key.startswith(f"{section}.") for key in figures)
    assert figures["attributes.order_phase"]["value"] is None
    assert "does not say which model made it" in page
    assert told["anatomy.pass_rate"].startswith("1.000")
    assert "not measured" in told["attributes.order_phase"]
    assert sorted(p.name for p in asked["output"].iterdir()) == ["report.html", "report.json"]


def test_attributes_are_asked_of_the_model(asked: dict[str, Any], tiny_model: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(evaluation, "PAIRS", 2)
    context = Interrupting("")
    told = Evaluate(**asked, model=str(tiny_model)).run(context)
    assert "not measured" not in told["attributes.order_level"]
    assert any("asking for" in message for message in context.messages)


def test_questions_that_were_answered_are_not_asked_again(
    asked: dict[str, Any], tiny_model: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(evaluation, "PAIRS", 2)
    asked["model"] = str(tiny_model)
    with pytest.raises(KeyboardInterrupt):
        Evaluate(**asked).run(Interrupting("asking for group"))
    context = Interrupting("")
    told = Evaluate(**asked).run(context)
    counted = {q.key: context.messages.count(f"asking for {q.key}") for q in QUESTIONS}
    assert counted == {"phase": 0, "group": 2, "level": 2}
    resumed = (asked["output"] / "report.json").read_bytes()
    assert Evaluate(**asked).run(Interrupting("")) == told
    assert (asked["output"] / "report.json").read_bytes() == resumed, "going on gives what one run gives"


def test_a_model_of_another_version_is_not_asked(asked: dict[str, Any], tmp_path: Path) -> None:
    made = write_made(tmp_path / "others", 7, model="acdc-128")
    Evaluate(**{**asked, "synthetic": made}).run(Interrupting(""))
    assert "another version" in (asked["output"] / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "mod 5 == 4"}, r"leaves 1 of 8 patients .* unseen, too few .*--split"),
        ({"split": "none"}, r"leaves 0 of 8 patients .* unseen, too few .*--split"),
        ({"split": None}, "--split"),
        ({"model": "heart-9000"}, "heart-9000"),
        ({"segmenter": "acdc-128"}, "is a generator"),
        ({"synthetic": Path("nowhere")}, "nowhere"),
        ({"data": Path("nowhere")}, "nowhere"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(asked: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    context = Interrupting("")
    with pytest.raises(CardiacError, match=words):
        Evaluate(**{**asked, **changes}).run(context)
    assert not asked["output"].exists()
    assert "looking at slices" not in context.messages, "it is told before the long work"


def test_a_data_set_of_one_patient_is_refused(asked: dict[str, Any], tmp_path: Path) -> None:
    alone = write_acdc(tmp_path / "one", 1, slices=2)
    with pytest.raises(CardiacError, match="training"):
        Evaluate(**{**asked, "data": alone, "split": "fraction 0.5"}).run(Interrupting(""))


def test_a_segmenter_that_knows_the_unseen_is_told_of(asked: dict[str, Any], phantoms: Path, tmp_path: Path) -> None:
    from cardiac_diffusion_aug.jobs.train_unet import TrainUnet

    known: dict[str, Any] = {"steps": 1, "batch_size": 2, "split": "none", "device": "cpu"}
    TrainUnet(data=phantoms, output=tmp_path / "knows", **known).run(Context())
    context = Interrupting("")
    Evaluate(**{**asked, "segmenter": str(tmp_path / "knows")}).run(context)
    assert any("was trained on 4 of the patients" in sentence for sentence in context.said)


def test_the_job_is_known() -> None:
    assert JOBS["evaluate"] is Evaluate
