"""The study as a whole, with small networks that learn for a step or two: it finds nothing, but all is there."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_networks
from cardiac_diffusion_aug import filtering
from cardiac_diffusion_aug.bundle import write_bundle
from cardiac_diffusion_aug.errors import Cancelled, CardiacError
from cardiac_diffusion_aug.evaluation.study.plan import ARMS
from cardiac_diffusion_aug.jobs import JOBS, Context
from cardiac_diffusion_aug.jobs.study import Study
from phantom import write_acdc
from tiny import CARD, tiny_info, tiny_networks

PATIENTS, TEST = 6, ["patient002", "patient005"]
SPLIT = "mod 3 == 2"
SEEDS = [0, 1]
FRACTIONS = ["2", "4"]
SMALL: dict[str, Any] = {
    "fractions": "2,all",
    "seeds": "0,1",
    "split": SPLIT,
    "mask_steps": 1,
    "image_steps": 1,
    "half_resolution_steps": 0,
    "unet_steps": 2,
    "batch_size": 2,
    "learning_rate": 0.01,
    "made_per_real": 0.25,
    "sampling_steps": 1,
    "filter": False,
    "device": "cpu",
}
WAIT_SECONDS = 120.0
KILLS = (3, 20)
"""A process is killed once so many units are done, each time after the study went on."""


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        small_networks.shrink(patch)
        patch.setenv("CARDIAC_DIFFUSION_AUG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_acdc(tmp_path_factory.mktemp("phantoms") / "data", PATIENTS, slices=3, shape=(150, 150))


@pytest.fixture(scope="module")
def finished(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole study; only to be read."""
    folder = tmp_path_factory.mktemp("studies") / "whole"
    study(phantoms, folder).run(Context())
    return folder


class Listener(Context):
    """Keeps what is told, and may end the job after so many units."""

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self.said: list[str] = []
        self.units: list[str] = []
        self.cancelled = lambda: most is not None and len(self.units) >= most

    def say(self, message: str) -> None:
        self.said.append(message)

    def result(self, facts: Mapping[str, Any]) -> None:
        self.units.append(facts["unit"])


def study(data: Path, folder: Path, **more: Any) -> Study:
    return Study(**{"data": data, "output": folder, **SMALL, **more})


def found_in(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return content


def lasting(folder: Path) -> dict[str, Any]:
    """What a study found, without the time that it took."""
    found = found_in(folder)
    found.pop("seconds")
    return found


def done_units(folder: Path) -> list[str]:
    # Unlike rglob, walk passes over folders that a running study removes meanwhile.
    found = (Path(place).relative_to(folder) for place, _, names in os.walk(folder) if "result.json" in names)
    return sorted(place.as_posix() for place in found)


# A whole study


def test_every_step_leaves_its_result(finished: Path) -> None:
    expected = set()
    for fraction in ("patients-002", "patients-004"):
        expected |= {f"{fraction}/{kind}" for kind in ("masks", "images", "generator", "made", "copying")}
        expected |= {f"{fraction}/{a}-{s}/{kind}" for a in ARMS for s in SEEDS for kind in ("unet", "scores")}
    assert set(done_units(finished)) == expected
    for key in expected:
        result = json.loads((finished / key / "result.json").read_text())
        assert result["unit"] == key
        assert result["seconds"] >= 0
    assert not list(finished.rglob("*.training"))
    assert not list(finished.rglob(".*"))


def test_networks_saw_the_patients_of_their_fraction_only(finished: Path) -> None:
    found = found_in(finished)
    assert found["patients"]["test"] == TEST
    lists = {name: set(own["train"]) for name, own in found["patients"]["fractions"].items()}
    assert len(lists["2"]) == 2
    assert lists["2"] < lists["4"]
    assert not lists["4"] & set(TEST)
    for name, train in lists.items():
        place = finished / f"patients-00{name}"
        models = [place / "generator" / f"generator-{name}", *place.glob("*/unet/model")]
        assert len(models) == 1 + len(ARMS) * len(SEEDS)
        for model in models:
            training = json.loads((model / "bundle.json").read_text())["training"]
            parts = (
                [training[p] for p in ("mask_denoiser", "image_denoiser")] if "generator" in str(model) else [training]
            )
            for part in parts:
                assert set(part["facts"]["split"]["train"]) == train
                assert part["facts"]["split"]["validation"] == []


def test_arms_differ_only_in_what_they_learn_from(finished: Path) -> None:
    differing = {"augmentation", "synthetic_share", "mixing", "note"}
    recipes = {}
    for arm in ARMS:
        model = finished / "patients-002" / f"{arm}-1" / "unet" / "model"
        training = json.loads((model / "bundle.json").read_text())["training"]
        recipes[arm] = training["recipe"]
        assert training["step"] == SMALL["unet_steps"]
        assert (training["synthetic"] is not None) == (arm in ("synthetic", "both"))
        assert training["options"]["augmentation"] == ("none" if arm == "plain" else "strong")
        assert differing >= {k for k, v in training["options"].items() if v != options_of(finished, "both").get(k)}
    assert recipes["plain"] == recipes["traditional"] == recipes["synthetic"] == recipes["both"]


def options_of(folder: Path, arm: str) -> dict[str, Any]:
    model = folder / "patients-002" / f"{arm}-1" / "unet" / "model"
    options: dict[str, Any] = json.loads((model / "bundle.json").read_text())["training"]["options"]
    return options


def dice_by_patient(folder: Path, fraction: str, arm: str) -> dict[str, float]:
    """Mean over structures of the mean over volumes and seeds, straight from the tables."""
    values: dict[str, dict[str, list[float]]] = {}
    for seed in SEEDS:
        path = folder / f"patients-00{fraction}" / f"{arm}-{seed}" / "scores" / "scores.csv"
        for row in csv.DictReader(path.read_text().splitlines()):
            values.setdefault(row["patient"], {}).setdefault(row["structure"], []).append(float(row["dice"]))
    return {patient: float(np.mean([np.mean(v) for v in own.values()])) for patient, own in values.items()}


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_figures_are_those_of_the_scores_on_disk(finished: Path, fraction: str) -> None:
    found = found_in(finished)
    both, traditional = (dice_by_patient(finished, fraction, arm) for arm in ("both", "traditional"))
    assert sorted(both) == TEST
    arm = found["arms"][fraction]["both"]["dice"]["mean"]
    assert arm["mean"] == pytest.approx(np.mean(list(both.values())))
    assert arm["patients"] == len(TEST)
    gain = found["comparisons"][fraction]["both-traditional"]["dice"]["mean"]
    differences = [100 * (both[p] - traditional[p]) for p in TEST]
    assert gain["mean"] == pytest.approx(np.mean(differences))
    # Of two patients, the interval of the bootstrap ends at the smaller and the larger.
    np.testing.assert_allclose(gain["interval"], sorted(differences))
    assert gain["mean"] == pytest.approx(np.mean(gain["seeds"]))


def test_the_sentence_says_what_the_figures_say(finished: Path) -> None:
    found = found_in(finished)
    *sentences, reach = found["sentences"]
    assert "one choice of patients" in reach
    for fraction, sentence in zip(FRACTIONS, sentences, strict=True):
        gain = found["comparisons"][fraction]["both-traditional"]["dice"]["mean"]
        low, high = gain["interval"]
        assert sentence.startswith(f"With {fraction} patients, synthetic pairs ")
        assert f"{abs(gain['mean']):.1f} points" in sentence
        assert f"{low:.1f} to {high:.1f}" in sentence
        assert "2 patients never seen, 2 seeds" in sentence
    page = (finished / "study.html").read_text(encoding="utf-8")
    assert all(sentence in page for sentence in found["sentences"])


def test_the_page_tells_it_all(finished: Path) -> None:
    page = (finished / "study.html").read_text(encoding="utf-8")
    for words in ARMS.values():
        assert words in page
    for title in ("Copying", "Failures", "Arms compared", "Dice by number of patients", "chosen once for all seeds"):
        assert title in page
    assert page.count("Worst volumes: 2 patients") == 2
    assert page.count("<img") > 10
    assert "http" not in page.replace("http-equiv", "")


def test_copying_is_measured_at_each_fraction(finished: Path) -> None:
    copying = found_in(finished)["copying"]
    assert set(copying) == set(FRACTIONS)
    assert {figure["key"] for figure in copying["2"]["figures"]} >= {"equal_masks", "near_masks", "near_images"}


def test_nothing_is_done_twice(phantoms: Path, finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    context = Listener()
    study(phantoms, finished, resume=True).run(context)
    assert context.units == []
    assert {p: p.stat().st_mtime_ns for p in before} == before


# Interrupted and shared


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on(phantoms: Path, finished: Path, tmp_path: Path) -> None:
    """Killed twice, the second time late; what it finds in the end is what an undisturbed one finds."""
    folder = tmp_path / "study"
    for units in KILLS:
        kill_after(units, phantoms, folder)
    kept = {key: (folder / key / "result.json").stat().st_mtime_ns for key in done_units(folder)}
    assert KILLS[-1] <= len(kept) < len(done_units(finished))
    outcome = study(phantoms, folder, resume=True).run(Context())
    assert {key: (folder / key / "result.json").stat().st_mtime_ns for key in kept} == kept
    assert lasting(folder) == lasting(finished)
    assert "42 of 42 done" in outcome["in all"]
    assert not list(folder.rglob("*.training"))


def kill_after(units: int, data: Path, folder: Path) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items() if name != "filter"]
    command: list[str | Path] = [
        sys.executable,
        small_networks.__file__,
        "study",
        "--data",
        data,
        "--output",
        folder,
        *options,
    ]
    process = subprocess.Popen([*command, "--no-filter", "--resume", "--quiet"], stderr=subprocess.PIPE)
    limit = time.monotonic() + WAIT_SECONDS
    while len(done_units(folder)) < units and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode() if process.stderr else ""


@pytest.mark.slow
def test_parts_together_make_the_whole(phantoms: Path, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    told: list[Listener] = []
    for part in ("1/2", "2/2", "1/2", "2/2"):
        told.append(Listener())
        study(phantoms, folder, part=part, resume=True).run(told[-1])
    first, second = told[:2]
    assert first.units
    assert second.units
    assert any("wait for other parts" in sentence for sentence in first.said)
    everything = [unit for context in told for unit in context.units]
    assert sorted(everything) == done_units(finished)
    assert lasting(folder) == lasting(finished)


@pytest.mark.slow
def test_a_study_that_is_stopped_says_what_is_not_run(phantoms: Path, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with pytest.raises(Cancelled):
        study(phantoms, folder, seeds="0", fractions="2").run(Listener(most=5))
    table = study(phantoms, folder, seeds="0", fractions="2", plan=True).run(Context())
    assert "done in" in table["2 patients, training of the mask network"]
    assert "left, about" in table["2 patients, U-Nets"]
    assert "left, not timed yet" in table["2 patients, made slices"]
    assert not (folder / "study.json").exists()
    study(phantoms, folder, seeds="0", fractions="2", part="2/9", resume=True).run(Context())
    found = found_in(folder)
    cells = [f"2 patients, {arm} arm: seed 0" for arm in ("traditional", "synthetic", "both")]
    assert found["not_run"] == [*cells, "2 patients, copying test"]
    assert found["sentences"][0].startswith("Nothing can be said yet")
    # Seeds may come later.
    study(phantoms, folder, fractions="2", resume=True).run(Context())
    assert found_in(folder)["arms"]["2"] == found_in(finished)["arms"]["2"]


def test_the_plan_alone_touches_nothing(phantoms: Path, tmp_path: Path) -> None:
    table = study(phantoms, tmp_path / "study", plan=True).run(Context())
    assert table["in all"] == "0 of 42 done in 0 s, 42 left, not timed yet"
    assert not (tmp_path / "study").exists()


# Refused


def test_a_study_is_not_begun_twice(phantoms: Path, finished: Path) -> None:
    with pytest.raises(CardiacError, match="holds a study; add --resume"):
        study(phantoms, finished).run(Context())


def test_a_study_is_not_gone_on_with_otherwise(phantoms: Path, finished: Path) -> None:
    with pytest.raises(CardiacError, match="was begun with another --unet-steps, --filter;"):
        study(phantoms, finished, resume=True, unet_steps=3, filter=True).run(Context())


def test_other_files_are_left_alone(phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "diary.txt").touch()
    with pytest.raises(CardiacError, match="holds files that no study made"):
        study(phantoms, tmp_path).run(Context())


def test_other_patients_are_not_mixed_in(finished: Path, tmp_path: Path) -> None:
    other = write_acdc(tmp_path / "data", 3, slices=1)
    with pytest.raises(CardiacError, match="a study of 6 patients, of whom --data lacks patient004"):
        study(other, finished, resume=True).run(Context())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fractions": "two"}, "--fractions is 'two', but must list whole numbers"),
        ({"fractions": "9"}, "asks for 9 patients, but 4 train; ask for 1 to 4, or all"),
        ({"seeds": "0,-1"}, "--seeds is '0,-1'"),
        ({"part": "3/2"}, "--part is '3/2'"),
        ({"split": "none"}, "keeps none of 6 patients to test on"),
        ({"fractions": "1", "selection": "best"}, "One patient cannot both train and select"),
        ({"half_resolution_steps": 2}, "--half-resolution-steps is 2, but must be fewer than the 1 of"),
        ({"half_resolution_steps": 2, "image_steps": None}, "--half-resolution-steps is 2; state --image-steps too"),
    ],
)
def test_what_makes_no_sense_is_told_before_any_work(
    phantoms: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(CardiacError, match=words):
        study(phantoms, tmp_path / "study", **options).run(Context())
    assert not (tmp_path / "study").exists()


def test_the_data_that_is_learned_from_tests_nothing(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(CardiacError, match="--test-data is the data set that is learned from"):
        study(phantoms, tmp_path / "study", test_data=phantoms).run(Context())


def test_processes_that_were_launched_together_are_refused(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CardiacError, match="start it several times with --part"):
        study(phantoms, tmp_path / "study").run(Context())


# Generators of the user


def generator_of(folder: Path, patients: list[str] | None) -> Path:
    info = tiny_info(folder.name)
    if patients is not None:
        part = {"facts": {"split": {"train": patients, "validation": [], "rule": "none"}}}
        info["training"] = {"mask_denoiser": part, "image_denoiser": part}
    from cardiac_diffusion_aug.training.objectives import flow_scheduler

    schedulers = {"mask_scheduler": flow_scheduler(1.0), "image_scheduler": flow_scheduler(0.0)}
    write_bundle(folder, tiny_networks(), schedulers, info, CARD)
    return folder


def test_a_generator_that_saw_more_is_refused(phantoms: Path, finished: Path, tmp_path: Path) -> None:
    train = found_in(finished)["patients"]["fractions"]
    model = generator_of(tmp_path / "model", train["4"]["train"])
    with pytest.raises(CardiacError, match=r"trained on 4 patients, among them patient00., who is not one of the 2 "):
        study(phantoms, tmp_path / "study", generators=model).run(Context())
    with pytest.raises(CardiacError, match="does not say which patients its mask_denoiser was trained on"):
        study(phantoms, tmp_path / "study", generators=generator_of(tmp_path / "mute", None)).run(Context())
    with pytest.raises(CardiacError, match="holds no model for 2 patients; name its folder 2,"):
        study(phantoms, tmp_path / "study", generators=tmp_path).run(Context())
    assert not (tmp_path / "study").exists()


def test_generators_and_further_data_of_the_user(phantoms: Path, finished: Path, tmp_path: Path) -> None:
    lists = found_in(finished)["patients"]["fractions"]
    generator_of(tmp_path / "models" / "2", lists["2"]["train"])
    further = write_acdc(tmp_path / "further", 3, slices=1, shape=(150, 150), seed=50)
    folder = tmp_path / "study"
    options: dict[str, Any] = {"fractions": "2", "seeds": "0", "generators": tmp_path / "models", "test_data": further}
    context = Listener()
    study(phantoms, folder, **options).run(context)
    assert not [unit for unit in context.units if unit.endswith(("masks", "images"))]
    found = found_in(folder)
    assert found["further"]["volumes"] == 6
    assert found["further"]["arms"]["2"]["both"]["dice"]["mean"]["patients"] == 3
    assert found["arms"]["2"]["both"]["dice"]["mean"]["patients"] == 2
    assert "(further data)" in found["sentences"][1]
    assert "Further data" in (folder / "study.html").read_text(encoding="utf-8")
    with pytest.raises(CardiacError, match="was begun with another --generators for 2 patients"):
        study(phantoms, folder, **{**options, "generators": None, "resume": True}).run(Context())


def test_a_generator_whose_slices_never_pass_costs_its_own_arms(
    phantoms: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "MOST_MASKS", 1)
    train = found_in(finished)["patients"]["fractions"]["2"]["train"]
    folder, context = tmp_path / "study", Listener()
    options = {"generators": generator_of(tmp_path / "model", train), "filter": True, "fractions": "2", "seeds": "1"}
    study(phantoms, folder, **options).run(context)
    # Seed 0 is trained too, for it looks through what is made.
    assert "patients-002/traditional-0/unet" in context.units
    assert "patients-002/traditional-0/scores" not in context.units
    assert "patients-002/traditional-1/scores" in context.units
    found = found_in(folder)
    assert "None of 1 draws of case" in found["failed"]["patients-002/made"]
    assert any("wait for what failed (patients-002/made)" in sentence for sentence in context.said)
    assert sorted(found["arms"]["2"]) == ["plain", "traditional"]


# Selection


def test_the_best_snapshot_is_chosen_by_patients_of_the_fraction(phantoms: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    options = {"selection": "best", "fractions": "all", "seeds": "0", "selection_share": 0.5}
    study(phantoms, folder, **options, part="2/9").run(Context())
    own = found_in(folder)["patients"]["fractions"]["4"]
    assert len(own["train"]) == len(own["select"]) == 2
    assert not set(own["train"] + own["select"]) & set(TEST)
    (model,) = folder.rglob("unet/model/bundle.json")
    split = json.loads(model.read_text())["training"]["facts"]["split"]
    assert (split["train"], split["validation"]) == (own["train"], own["select"])


def test_the_job_is_known() -> None:
    assert JOBS["study"] is Study
