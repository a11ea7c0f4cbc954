"""Variants of a study's arm: what they are called, what they do, and whether quality and benefit go together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_networks
from cardiac_diffusion_aug.attributes import Attributes, balanced, drawn
from cardiac_diffusion_aug.bundle import load_bundle, write_bundle
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import pack_cases
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.evaluation.plots import draw_points
from cardiac_diffusion_aug.evaluation.report import Points
from cardiac_diffusion_aug.evaluation.sets import real_set, synthetic_set
from cardiac_diffusion_aug.evaluation.study.benefit import MEASURES, quality_against_benefit
from cardiac_diffusion_aug.evaluation.study.plan import Fraction, of_part, study_units
from cardiac_diffusion_aug.evaluation.study.variant_plan import variant_units
from cardiac_diffusion_aug.evaluation.study.variant_results import variant_sentences
from cardiac_diffusion_aug.evaluation.study.variants import Variant, parse_variants
from cardiac_diffusion_aug.filtering import Judge
from cardiac_diffusion_aug.generation import Generator
from cardiac_diffusion_aug.jobs import Context
from cardiac_diffusion_aug.jobs.study import Study
from cardiac_diffusion_aug.training.objectives import flow_scheduler
from phantom import write_acdc
from tiny import CARD, tiny_info, tiny_networks, write_tiny_model

BASE = {"ratio": 2.0, "mixing": "mixed", "share": 0.5, "filter": True, "steps": 20}
EIGHT = Fraction(tuple(f"patient{k:03d}" for k in range(8)), (), 100)

# Names


def test_variants_are_read() -> None:
    text = "ratio=5, mixing=first,share=0.25 , filter=off, groups=balanced, masks=real, steps=4, ratio=10+filter=off"
    found = parse_variants(text, BASE)
    assert [variant.folder for variant in found] == [
        "ratio-5",
        "mixing-first",
        "share-0.25",
        "filter-off",
        "groups-balanced",
        "masks-real",
        "steps-4",
        "ratio-10+filter-off",
    ]
    assert found[-1] == Variant(ratio=10, filter=False)
    assert found[-1].words == "10 made for each real slice, without the filter"
    assert [variant.makes for variant in found] == [False, False, False, True, True, True, True, True]
    assert parse_variants("", BASE) == []
    assert parse_variants("ratio=5, ratio=5.0", BASE) == [Variant(ratio=5)]
    assert parse_variants("attributes=open", BASE)[0].words == "phase, level and group left open"


def test_what_is_as_in_the_study_is_dropped() -> None:
    assert parse_variants("ratio=5+mixing=mixed, ratio=5, share=0.5+ratio=5", BASE) == [Variant(ratio=5)]
    (kept,) = parse_variants("generator=other+steps=20+filter=on", BASE)
    assert kept == Variant(generator=Path("other"), steps=20), "its own number of calls may be another one"


def test_a_generator_is_called_by_its_folder(tmp_path: Path) -> None:
    (variant,) = parse_variants(f"generator={tmp_path / 'early'}+steps=4", BASE)
    assert variant.text == "steps=4+generator=early"
    assert variant.folder == "steps-4+generator-early"
    assert variant.words == "4 network calls for an image, generator early"
    assert variant.generator == tmp_path / "early"


WRONG = """ratio ratio= ratio=0 ratio=nan ratio=1e9 mixing=both filter=no steps=0 steps=2.5 groups=even masks=new
attributes=drawn"""


@pytest.mark.parametrize("text", [*WRONG.split(), "generator=", "unheard=1", "share=1.5", "ratio=5++mixing=first"])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(CardiacError, match="must list changes such as ratio=5"):
        parse_variants(text, BASE)


@pytest.mark.parametrize("text", ["ratio=2", "mixing=mixed", "filter=on", "share=0.5+ratio=2", "steps=20"])
def test_what_changes_nothing_is_refused(text: str) -> None:
    with pytest.raises(CardiacError, match="what the study does anyway"):
        parse_variants(text, BASE)


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CardiacError, match="two that are called generator-model"):
        parse_variants(f"generator={tmp_path / 'a' / 'model'},generator={tmp_path / 'b' / 'model'}", BASE)


REAL_ONES = "masks=real+groups=balanced masks=real+shape=2 filter=off+masks=real masks=real+attributes=open"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, "real masks are taken as they are") for text in REAL_ONES.split()),
        ("groups=balanced+attributes=open", "what is left open is not drawn"),
        ("ratio=5+ratio=10", "gives ratio twice"),
        ("generator=a+pretrained=b", "choose generator or pretrained"),
    ],
)
def test_what_contradicts_itself_is_refused(text: str, words: str) -> None:
    with pytest.raises(CardiacError, match=words):
        parse_variants(text, BASE)


# Units


def test_variants_share_what_they_can() -> None:
    variants = parse_variants("ratio=0.5, ratio=5, mixing=first, filter=off", BASE)
    units = {unit.key: unit for unit in variant_units([EIGHT], variants, [0, 1], 2.0)}
    home = "patients-008"
    assert {key for key in units if key.endswith("/made")} == {
        f"{home}/variants/ratio-5/made",
        f"{home}/variants/filter-off/made",
    }
    assert {key for key in units if key.endswith("quality")} == {
        f"{home}/quality",
        f"{home}/variants/filter-off/quality",
    }
    assert units[f"{home}/variants/ratio-5/made"].amount == 300, "the others are copied"
    for name in ("ratio-0.5", "mixing-first"):
        assert units[f"{home}/variants/{name}/both-1/unet"].needs == (f"{home}/made",)
    assert units[f"{home}/variants/filter-off/both-0/unet"].needs == (f"{home}/variants/filter-off/made",)
    assert units[f"{home}/variants/filter-off/both-0/scores"].name == "8 patients, filter=off, both arm, seed 0, scores"
    assert len([key for key in units if key.endswith("/unet")]) == 8
    base = {unit.key for unit in study_units([EIGHT], [0, 1], 2.0)}
    assert not base & set(units)
    known = base | set(units)
    assert all(set(unit.needs) <= known for unit in units.values())
    assert variant_units([EIGHT], [], [0], 2.0) == []


def test_what_is_made_once_is_not_made_again() -> None:
    text = "ratio=10, ratio=5, ratio=5+mixing=first, filter=off+ratio=5, filter=off+mixing=first, filter=off+ratio=0.5"
    units = {unit.key: unit for unit in variant_units([EIGHT], parse_variants(text, BASE), [0], 2.0)}
    home = "patients-008/variants"
    needs = {key: (unit.needs, unit.amount) for key, unit in units.items() if key.endswith("/made")}
    assert needs == {
        f"{home}/ratio-5/made": (("patients-008/made",), 300),
        f"{home}/ratio-10/made": ((f"{home}/ratio-5/made",), 500),
        f"{home}/filter-off/made": (("patients-008/made",), 200),
        f"{home}/ratio-5+filter-off/made": ((f"{home}/filter-off/made",), 300),
    }
    learned = {key.split("/")[2]: unit.needs[0] for key, unit in units.items() if unit.kind == "unet"}
    assert learned == {
        "ratio-10": f"{home}/ratio-10/made",
        "ratio-5": f"{home}/ratio-5/made",
        "ratio-5+mixing-first": f"{home}/ratio-5/made",
        "ratio-5+filter-off": f"{home}/ratio-5+filter-off/made",
        "mixing-first+filter-off": f"{home}/filter-off/made",
        "ratio-0.5+filter-off": f"{home}/filter-off/made",
    }
    measured = {unit.needs[0] for unit in units.values() if unit.kind == "quality"}
    assert measured == {"patients-008/made", f"{home}/filter-off/made"}, "sets of one size, or they are not compared"
    assert units[f"{home}/ratio-0.5+filter-off/both-0/unet"].group == units[f"{home}/filter-off/quality"].group


def test_parts_share_variants() -> None:
    variants = parse_variants("ratio=5, mixing=first, filter=off, steps=4, masks=real", BASE)
    base = study_units([EIGHT], [0], 2.0)
    units = [*base, *variant_units([EIGHT], variants, [0], 2.0)]
    parts = [of_part(units, f"{k}/2") for k in (1, 2)]
    assert parts[0] | parts[1] == {unit.key for unit in units}
    assert not parts[0] & parts[1]
    for part in parts:
        assert any("/variants/" in key and key.endswith("/made") for key in part)
    assert of_part(base, "1/2") == parts[0] & {unit.key for unit in base}, "variants leave the others where they were"


def test_a_filter_of_its_own_waits_for_the_network_that_filters() -> None:
    variants = parse_variants("filter=on, filter=on+steps=4", {**BASE, "filter": False})
    for seeds, trained in (([0, 1], 0), ([1], 1)):
        known = {unit.key for unit in study_units([EIGHT], seeds, 2.0, filters=False)}
        units = {unit.key: unit for unit in variant_units([EIGHT], variants, seeds, 2.0, known=known)}
        filtering = "patients-008/traditional-0/unet"
        assert [unit.key for unit in units.values() if unit.arm == "traditional"] == [filtering] * trained
        assert units["patients-008/variants/filter-on/made"].needs == ("patients-008/made", filtering)


# Groups


def test_balanced_groups_come_equally_often() -> None:
    table = [(0.0, 0.0, 0.5, 90), (1.0, 0.0, 0.5, 30), (0.0, 3.0, 0.5, 4), (0.0, 4.0, 0.2, 1), (1.0, 4.0, 0.8, 1)]
    places = (np.arange(300) + 0.5) / 300
    for rows, shares in ((table, {"NOR": 0.95, "HCM": 0.03, "RV": 0.02}), (balanced(table), {"NOR": 1 / 3})):
        found = [drawn(rows, Attributes(), place).group for place in places]
        for group, share in shares.items():
            assert found.count(group) / len(found) == pytest.approx(share, abs=0.02)
    even = [drawn(balanced(table), Attributes(), place) for place in places]
    assert [a.phase for a in even if a.group == "NOR"].count("ED") == pytest.approx(75, abs=2)


def test_proportions_of_masks_are_varied(tmp_path: Path) -> None:
    generator = Generator(write_tiny_model(tmp_path / "tiny"), "cpu")
    plain = np.stack(generator.masks(0, range(6), Attributes()))
    generator.configure(vary_shape_mm=4)
    varied = np.stack(generator.masks(0, range(6), Attributes()))
    areas = [[int((mask == value).sum()) for mask in varied] for value in (1, 2, 3)]
    usual = [[int((mask == value).sum()) for mask in plain] for value in (1, 2, 3)]
    grown = np.sign(np.array(areas) - np.array(usual))
    assert (grown != grown[:1]).any(), "structures grow and shrink independently of each other"
    assert (varied != plain).any(axis=(1, 2)).all()
    np.testing.assert_array_equal(generator.masks(0, [4], Attributes())[0], varied[4])
    generator.configure()
    np.testing.assert_array_equal(generator.masks(0, [4], Attributes())[0], plain[4])


# Quality and benefit


def sets_of(gains: list[float], patients: int = 12) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sets whose Frechet ratio falls as their gain grows, and whose recall is always the same."""
    random = np.random.default_rng(0)
    qualities = {
        f"set {i}": {**dict.fromkeys(MEASURES), "frechet_ratio": 3.0 - gain, "recall_ratio": 0.5, "adherence": gain**3}
        for i, gain in enumerate(gains)
    }
    noise = random.normal(0, 0.05, (patients, len(gains)))
    own = {f"set {i}": {f"patient{p:03d}": gain + noise[p, i] for p in range(patients)} for i, gain in enumerate(gains)}
    return qualities, own


def test_rank_correlation_of_quality_with_benefit() -> None:
    found = quality_against_benefit(*sets_of([0.1, 0.5, 1.0, 1.5, 2.0]))
    against = found["correlation"]["frechet_ratio"]
    assert [against["rho"], *against["interval"], against["sets"]] == pytest.approx([-1, -1, -1, 5])
    assert against["p"] == pytest.approx(2 / 120, abs=0.005), "of 120 orders of five sets, two are as good"
    assert found["correlation"]["adherence"]["rho"] == pytest.approx(1)
    assert found["correlation"]["recall_ratio"] is None
    assert found["correlation"]["kernel_ratio"] is None
    assert quality_against_benefit(*sets_of([0.7] * 5, patients=1))["correlation"]["frechet_ratio"] is None
    assert [point["name"] for point in found["points"]] == [f"set {i}" for i in range(5)]
    assert found["points"][4]["gain"] == pytest.approx(2.0, abs=0.1)
    json.dumps(found, allow_nan=False)


def test_the_interval_widens_where_patients_differ() -> None:
    qualities, gains = sets_of([0.1, 0.11, 0.12, 0.13, 0.14])
    found = quality_against_benefit(qualities, gains)["correlation"]["frechet_ratio"]
    assert found["interval"][1] - found["interval"][0] > 0.1
    assert found["interval"][0] <= found["rho"] <= found["interval"][1]


def test_too_few_sets_tell_nothing() -> None:
    found = quality_against_benefit(*sets_of([0.1, 0.5, 1.0, 1.5]))
    assert len(found["points"]) == 4
    assert set(found["correlation"].values()) == {None}
    empty = quality_against_benefit({}, {})
    assert empty["points"] == []
    assert set(empty["correlation"].values()) == {None}


def test_which_figures_follow_the_gain_in_plain_words() -> None:
    ends = {"frechet_ratio": (-1.0, -0.4), "recall_ratio": (-0.2, 0.9), "adherence": (0.5, 1.0), "shape": (0.1, 0.8)}
    ends["coverage_ratio"] = (0.1, 0.3)
    told = {
        key: {"rho": sum(pair) / 2, "interval": list(pair), "sets": 8, "p": 0.02 if key == "coverage_ratio" else 0.009}
        for key, pair in ends.items()
    }
    facts = {"points": [{}] * 8, "correlation": {**dict.fromkeys(MEASURES), **told}}
    assert variant_sentences({"8": {"rows": [], "quality_against_benefit": facts}}) == [
        "Over 8 sets of made slices, with 8 patients, the gain is higher where these are better: Frechet ratio (-0.70, "
        "-1.00 to -0.40), Mean Dice of adherence (0.75, 0.50 to 1.00); the gain is lower where these are better: "
        "Median Wasserstein ratio of shape (0.45, 0.10 to 0.80); no link is shown of the gain with Recall ratio "
        "(0.35, -0.20 to 0.90), Coverage ratio (0.20, 0.10 to 0.30) (rank correlations with 95 % intervals)."
    ]
    nothing = quality_against_benefit({}, {})
    assert variant_sentences({"8": {"rows": [], "quality_against_benefit": nothing}}) == []


def test_points_are_drawn() -> None:
    plots = [Points("8 patients", name, "gain", {f"set {i}": (i / 3, i**2) for i in range(9)}) for name in "abcd"]
    assert draw_points(plots).startswith(b"\x89PNG")


# A study with variants

FIRST = "ratio=0.25, mixing=first"
GROWN = "ratio=1, ratio=1.5+mixing=first"
MODELS = "generator={0}/other, pretrained={0}/wider"
MADE_OTHERWISE = f"masks=real, groups=balanced, attributes=open, shape=3, steps=2, filter=on, {MODELS}"
AS_CALLED = MADE_OTHERWISE.replace("{0}/", "")
LATER = f"{FIRST}, {GROWN}, share=0.25, {MADE_OTHERWISE}"
NAMES = f"{FIRST}, ratio=1, mixing=first+ratio=1.5, share=0.25, {AS_CALLED}"
CASES = 12
"""Of the study's own set."""


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study that was finished with two variants, and then gone on with more of them, killed twice on the way."""
    with pytest.MonkeyPatch.context() as patch:
        small_networks.shrink(patch)
        patch.setenv("CARDIAC_DIFFUSION_AUG_CACHE", str(tmp_path_factory.mktemp("cache")))
        for check in ("mask_failures", "pair_failures"):
            patch.setattr(Judge, check, lambda self, *of_case: ())
        folder = tmp_path_factory.mktemp("variants")
        write_acdc(folder / "data", 6, slices=3, shape=(150, 150))
        train = [f"patient{k:03d}" for k in (1, 3, 4, 6)]
        for name in ("model", "other"):
            generator_of(folder / name, train)
        generator_of(folder / "wider", [*train, "patient099"])
        study(folder, FIRST).run(Context())
        (folder / "first.json").write_bytes((folder / "study" / "study.json").read_bytes())
        # What a process leaves that is killed while it copies.
        rest = folder / "study" / "patients-004" / "variants" / "ratio-1" / "made" / "set.part"
        (rest / "labelsTr").mkdir(parents=True)
        (rest / "labelsTr" / "half.nii.gz").touch()
        kill_once_made(folder, GROWN, "ratio-1", CASES + 2)
        kill_once_made(folder, "masks=real", "masks-real", 3)
        study(folder, LATER.format(folder), resume=True).run(Context())
        yield folder


def kill_once_made(folder: Path, variants: str, name: str, cases: int) -> None:
    """Go on with a study in another process, which is killed once so many cases of a variant are there."""
    options = {k: v for k, v in settings_of(folder, variants).items() if k != "filter"}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, small_networks.__file__, "study", *words, "--no-filter", "--resume", "--quiet"]
    made = folder / "study" / "patients-004" / "variants" / name / "made"
    environment = {**os.environ, "KILLED_AT": f"{made / 'set'}:{cases}"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(names(made / "set")) >= cases
    assert not (made / "result.json").exists()


def names(folder: Path) -> list[str]:
    """Cases of a set."""
    return sorted(path.name for path in folder.glob("labelsTr/[!.]*"))


def generator_of(folder: Path, patients: list[str] | None) -> None:
    part = {} if patients is None else {"facts": {"split": {"train": patients, "validation": [], "rule": "none"}}}
    info = {**tiny_info(folder.name), "training": {"mask_denoiser": part, "image_denoiser": part}}
    table = [[0.0, 0.0, 0.5, 6], [1.0, 2.0, 0.5, 2]]
    info["attributes"] = {**info["attributes"], "table": table}
    schedulers = {"mask_scheduler": flow_scheduler(1.0), "image_scheduler": flow_scheduler(0.0)}
    write_bundle(folder, tiny_networks(), schedulers, info, CARD)


def settings_of(folder: Path, variants: str) -> dict[str, Any]:
    return {
        "data": folder / "data",
        "output": folder / "study",
        "fractions": "4",
        "seeds": "0",
        "split": "mod 3 == 2",
        "unet_steps": 2,
        "batch_size": 2,
        "made_per_real": 0.5,
        "filter": False,
        "generators": folder / "model",
        "variants": variants,
        "variant_fractions": "4",
        "device": "cpu",
    }


def study(folder: Path, variants: str, **more: Any) -> Study:
    return Study(**{**settings_of(folder, variants), **more})


def test_variants_may_be_added_to_a_study(studied: Path) -> None:
    first, later = (json.loads((studied / name).read_bytes()) for name in ("first.json", "study/study.json"))
    rows = {row["name"]: row for row in later["variants"]["4"]["rows"]}
    assert [row["name"] for row in first["variants"]["4"]["rows"]] == FIRST.split(", ")
    assert sorted(rows) == sorted(
        text.replace("mixing=first+ratio=1.5", "ratio=1.5+mixing=first") for text in NAMES.split(", ")
    )
    assert later["arms"] == first["arms"], "what was done stays"
    for row in first["variants"]["4"]["rows"]:
        assert rows[row["name"]] == row
    for row in rows.values():
        assert row["over_both"]["patients"] == 2
        assert row["over_traditional"]["of_seeds"] == [0]
        assert row["further"] is None
    assert {row["made"] for row in rows.values()} == {6, CASES, 24, 36}
    assert not later["not_run"]
    assert not later["failed"]


def test_variants_stay_on_the_page_of_whoever_goes_on_without_them(studied: Path, tmp_path: Path) -> None:
    def shown(folder: Path) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((folder / "study.json").read_bytes())["variants"]["4"]["rows"]
        return sorted(rows, key=lambda row: str(row["name"]))

    folder = tmp_path / "study"
    shutil.copytree(studied / "study", folder)
    study(studied, "", output=folder, resume=True).run(Context())
    assert shown(folder) == shown(studied / "study")


def test_variants_learn_from_the_slices_that_they_are_named_for(studied: Path) -> None:
    place = studied / "study" / "patients-004"
    made = {path.parents[1].name: path for path in place.glob("variants/*/made/set")}
    base = place / "made" / "set"
    assert {name: len(names(folder)) for name, folder in made.items()} == {
        "ratio-1": 24,
        "ratio-1.5": 36,
        **{text.replace("=", "-"): CASES for text in AS_CALLED.split(", ")},
    }
    assert len(names(base)) == CASES
    for smaller, larger in ((base, made["ratio-1"]), (made["ratio-1"], made["ratio-1.5"])):
        for name in names(smaller):
            assert (larger / "labelsTr" / name).read_bytes() == (smaller / "labelsTr" / name).read_bytes()
        rows = (larger / "manifest.csv").read_text(encoding="utf-8").splitlines()[1:]
        assert len(rows) == len(set(rows)) == len(names(larger)), "each once, though the process was killed"
    assert not list(place.rglob("*.part"))
    recipes = {}
    for path in place.glob("variants/*/both-0/unet/model/bundle.json"):
        recipes[path.parents[3].name] = json.loads(path.read_bytes())["training"]
    assert recipes["ratio-0.25"]["synthetic"] == "6 slices, mixed"
    assert recipes["ratio-1"]["synthetic"] == "24 slices, mixed"
    assert recipes["ratio-1.5+mixing-first"]["synthetic"] == "36 slices, first"
    assert recipes["mixing-first"]["synthetic"] == "12 slices, first"
    assert recipes["share-0.25"]["options"]["synthetic_share"] == 0.25
    settings = {name: (folder / "dataset.json").read_text(encoding="utf-8") for name, folder in made.items()}
    assert '"vary_shape": 3.0' in settings["shape-3"]
    assert '"steps": 2' in settings["steps-2"]
    assert '"balance_groups": true' in settings["groups-balanced"]
    assert '"draw_attributes": false' in settings["attributes-open"]
    assert '"model": "other"' in settings["generator-other"]
    assert '"model": "wider"' in settings["pretrained-wider"]
    filtering = load_bundle(place / "traditional-0" / "unet" / "model")
    assert f'"filter": "{filtering.sha256}"' in settings["filter-on"]


def test_real_masks_come_in_turn(studied: Path) -> None:
    place = studied / "study" / "patients-004"
    made, _ = synthetic_set(place / "variants" / "masks-real" / "made" / "set")
    train = (place / "train.txt").read_text(encoding="utf-8").split()
    real = real_set(pack_cases(read_cases(studied / "data")[1]).of_patients(train))
    assert len(made) == CASES
    np.testing.assert_array_equal(made.masks, real.masks[:CASES])
    assert not set(made.patients) & set(train)


def test_quality_stands_beside_benefit(studied: Path) -> None:
    found = json.loads((studied / "study" / "study.json").read_bytes())["variants"]["4"]
    points = found["quality_against_benefit"]["points"]
    assert [point["name"] for point in points] == [
        "as the study has it",
        *AS_CALLED.split(", "),
    ]
    assert all(point["frechet_ratio"] > 0 and 0 <= point["anatomy"] <= 1 for point in points)
    assert points[1]["anatomy"] > 0.9, "real masks are sound"
    by_name = {row["name"]: row for row in found["rows"]}
    figures = by_name["masks=real"]["quality"]
    assert {"pass_rate", "dice_MYO", "density_ratio", "near_masks", "presence_RV"} <= set(figures)
    assert figures["equal_masks"] == CASES
    assert by_name["ratio=1"]["quality"] is None
    page = (studied / "study" / "study.html").read_text(encoding="utf-8")
    for words in ("Quality against benefit", "images of the real masks", "diagnostic groups balanced"):
        assert words in page


def test_variants_of_patients_or_seeds_that_are_not_studied_are_refused(studied: Path) -> None:
    for more in ({"variant_fractions": "8"}, {"variant_seeds": "0,1"}):
        with pytest.raises(CardiacError, match="must be among those of the study"):
            study(studied, FIRST, resume=True, **more).run(Context())


def test_models_of_variants_are_checked_before_any_work(studied: Path, tmp_path: Path) -> None:
    generator_of(tmp_path / "wide", [f"patient{k:03d}" for k in range(1, 7)])
    generator_of(tmp_path / "silent", None)
    # By its name, it was tried already.
    generator_of(tmp_path / "other", ["patient001"])
    for text, words in {
        f"generator={tmp_path / 'nowhere'}": "nowhere",
        f"generator={tmp_path / 'wide'}": "was trained on 6 patients, among them patient002",
        f"generator={studied / 'wider'}": "was trained on 5 patients, among them patient099",
        f"pretrained={tmp_path / 'wide'}": "was trained on patient002, who is a test patient of this study",
        f"pretrained={tmp_path / 'silent'}": "does not say which patients its mask_denoiser was trained on",
        f"pretrained={studied / 'model'}": "is the study's own for 4 patients",
        f"generator={studied / 'model'}": "is the study's own for 4 patients",
        f"generator={tmp_path / 'other'}": "generator-other/made was made with another model than other",
        "steps=3": "what the study does anyway",
    }.items():
        with pytest.raises(CardiacError, match=words):
            study(studied, text, resume=True).run(Context())
    judge = studied / "study" / "patients-004" / "both-0" / "unet" / "model"
    with pytest.raises(CardiacError, match="quality was made with another judge than model"):
        study(studied, FIRST, resume=True, quality_model=str(judge)).run(Context())


def test_nothing_of_variants_is_done_twice(studied: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (studied / "study").rglob("*") if path.is_file()}
    outcome = study(studied, LATER.format(studied), resume=True, part="1/2").run(Context())
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "left" not in outcome["in all"]
