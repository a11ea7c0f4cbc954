"""Variants of a study's arm: what they are called, what they do, and whether quality and benefit go together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_networks
from cardiac_diffusion_aug.attributes import Attributes, balanced, drawn
from cardiac_diffusion_aug.bundle import write_bundle
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.evaluation.plots import draw_points
from cardiac_diffusion_aug.evaluation.report import Points
from cardiac_diffusion_aug.evaluation.study.benefit import MEASURES, quality_against_benefit
from cardiac_diffusion_aug.evaluation.study.plan import Fraction, study_units, variant_units
from cardiac_diffusion_aug.evaluation.study.variants import Variant, parse_variants
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


WRONG = "ratio ratio= ratio=0 ratio=nan ratio=1e9 mixing=both filter=no steps=0 steps=2.5 groups=even masks=new"


@pytest.mark.parametrize("text", [*WRONG.split(), "generator=", "unheard=1", "share=1.5", "ratio=5++mixing=first"])
def test_what_is_no_variant_is_refused(text: str) -> None:
    with pytest.raises(CardiacError, match="must list changes such as ratio=5"):
        parse_variants(text, BASE)


@pytest.mark.parametrize("text", ["ratio=2", "mixing=mixed", "filter=on", "share=0.5+ratio=2", "steps=20"])
def test_what_changes_nothing_is_refused(text: str) -> None:
    with pytest.raises(CardiacError, match="what the study does anyway"):
        parse_variants(text, BASE)


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CardiacError, match="two models generator-model"):
        parse_variants(f"generator={tmp_path / 'a' / 'model'},generator={tmp_path / 'b' / 'model'}", BASE)


@pytest.mark.parametrize("text", ["masks=real+groups=balanced", "masks=real+shape=2", "filter=off+masks=real"])
def test_real_masks_are_taken_as_they_are(text: str) -> None:
    with pytest.raises(CardiacError, match="real masks are taken as they are"):
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
    assert units[f"{home}/variants/ratio-5/made"].amount == 500
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
    assert found["correlation"]["adherence"]["rho"] == pytest.approx(1)
    assert found["correlation"]["recall_ratio"] is None
    assert found["correlation"]["kernel_ratio"] is None
    assert [point["name"] for point in found["points"]] == [f"set {i}" for i in range(5)]
    assert found["points"][4]["gain"] == pytest.approx(2.0, abs=0.1)
    json.dumps(found, allow_nan=False)


def test_the_interval_widens_where_patients_differ() -> None:
    qualities, gains = sets_of([0.1, 0.11, 0.12, 0.13, 0.14])
    found = quality_against_benefit(qualities, gains)["correlation"]["frechet_ratio"]
    assert found["interval"][1] - found["interval"][0] > 0.1
    assert found["interval"][0] <= found["rho"] <= found["interval"][1]


def test_too_few_sets_tell_nothing() -> None:
    found = quality_against_benefit(*sets_of([0.1, 0.5, 1.0]))
    assert len(found["points"]) == 3
    assert set(found["correlation"].values()) == {None}
    empty = quality_against_benefit({}, {})
    assert empty["points"] == []
    assert set(empty["correlation"].values()) == {None}


def test_points_are_drawn() -> None:
    plots = [Points("8 patients", name, "gain", {f"set {i}": (i / 3, i**2) for i in range(9)}) for name in "abcd"]
    assert draw_points(plots).startswith(b"\x89PNG")


# A study with variants

FIRST = "ratio=0.5, mixing=first"
LATER = f"{FIRST}, ratio=2, share=0.25, masks=real, groups=balanced, shape=3, steps=2, generator={{}}"


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study that was finished with two variants, and then gone on with more of them."""
    with pytest.MonkeyPatch.context() as patch:
        small_networks.shrink(patch)
        patch.setenv("CARDIAC_DIFFUSION_AUG_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("variants")
        write_acdc(folder / "data", 6, slices=3, shape=(150, 150))
        train = [f"patient{k:03d}" for k in (1, 3, 4, 6)]
        for name in ("model", "other"):
            generator_of(folder / name, train)
        study(folder, FIRST).run(Context())
        (folder / "first.json").write_bytes((folder / "study" / "study.json").read_bytes())
        study(folder, LATER.format(folder / "other"), resume=True).run(Context())
        yield folder


def generator_of(folder: Path, patients: list[str]) -> None:
    part = {"facts": {"split": {"train": patients, "validation": [], "rule": "none"}}}
    info = {**tiny_info(folder.name), "training": {"mask_denoiser": part, "image_denoiser": part}}
    table = [[0.0, 0.0, 0.5, 6], [1.0, 2.0, 0.5, 2]]
    info["attributes"] = {**info["attributes"], "table": table}
    schedulers = {"mask_scheduler": flow_scheduler(1.0), "image_scheduler": flow_scheduler(0.0)}
    write_bundle(folder, tiny_networks(), schedulers, info, CARD)


def study(folder: Path, variants: str, **more: Any) -> Study:
    settings = {
        "data": folder / "data",
        "output": folder / "study",
        "fractions": "4",
        "seeds": "0",
        "split": "mod 3 == 2",
        "unet_steps": 2,
        "batch_size": 2,
        "made_per_real": 1,
        "filter": False,
        "generators": folder / "model",
        "variants": variants,
        "variant_fractions": "4",
        "device": "cpu",
        **more,
    }
    return Study(**settings)


def test_variants_may_be_added_to_a_study(studied: Path) -> None:
    first, later = (json.loads((studied / name).read_bytes()) for name in ("first.json", "study/study.json"))
    rows = {row["name"]: row for row in later["variants"]["4"]["rows"]}
    assert [row["name"] for row in first["variants"]["4"]["rows"]] == ["ratio=0.5", "mixing=first"]
    assert len(rows) == 9
    assert later["arms"] == first["arms"], "what was done stays"
    for row in first["variants"]["4"]["rows"]:
        assert rows[row["name"]] == row
    for row in rows.values():
        assert row["over_both"]["patients"] == 2
        assert row["over_traditional"]["of_seeds"] == [0]
    assert not later["not_run"]
    assert not later["failed"]


def test_variants_learn_from_the_slices_that_they_are_named_for(studied: Path) -> None:
    place = studied / "study" / "patients-004"
    made = {path.parents[1].name: path for path in place.glob("variants/*/made/set")}
    base, more, real = place / "made" / "set", made["ratio-2"], made["masks-real"]

    def names(folder: Path) -> list[str]:
        return sorted(path.name for path in (folder / "labelsTr").iterdir())

    assert len(names(base)) == 24
    assert len(names(more)) == 48
    for name in names(base):
        assert (more / "labelsTr" / name).read_bytes() == (base / "labelsTr" / name).read_bytes()
    assert len(names(real)) == 24
    recipes = {}
    for path in place.glob("variants/*/both-0/unet/model/bundle.json"):
        recipes[path.parents[3].name] = json.loads(path.read_bytes())["training"]
    assert recipes["ratio-0.5"]["synthetic"] == "12 slices, mixed"
    assert recipes["ratio-2"]["synthetic"] == "48 slices, mixed"
    assert recipes["mixing-first"]["synthetic"] == "24 slices, first"
    assert recipes["share-0.25"]["options"]["synthetic_share"] == 0.25
    settings = {name: (folder / "dataset.json").read_text(encoding="utf-8") for name, folder in made.items()}
    assert '"vary_shape": 3.0' in settings["shape-3"]
    assert '"steps": 2' in settings["steps-2"]
    assert '"balance_groups": true' in settings["groups-balanced"]
    assert '"model": "other"' in settings["generator-other"]


def test_quality_stands_beside_benefit(studied: Path) -> None:
    found = json.loads((studied / "study" / "study.json").read_bytes())["variants"]["4"]["quality_against_benefit"]
    assert [point["name"] for point in found["points"]] == [
        "as the study has it",
        "masks=real",
        "groups=balanced",
        "shape=3",
        "steps=2",
        f"generator={studied / 'other'}",
    ]
    assert all(point["frechet_ratio"] > 0 and 0 <= point["anatomy"] <= 1 for point in found["points"])
    assert found["points"][1]["anatomy"] > 0.9, "real masks are sound"
    page = (studied / "study" / "study.html").read_text(encoding="utf-8")
    for words in ("Quality against benefit", "images of the real masks", "diagnostic groups balanced"):
        assert words in page


def test_variants_of_patients_or_seeds_that_are_not_studied_are_refused(studied: Path) -> None:
    for more in ({"variant_fractions": "8"}, {"variant_seeds": "0,1"}):
        with pytest.raises(CardiacError, match="must be among those of the study"):
            study(studied, FIRST, resume=True, **more).run(Context())
    wide = studied / "wide"
    if not wide.exists():
        generator_of(wide, [f"patient{k:03d}" for k in range(1, 7)])
    with pytest.raises(CardiacError, match="was trained on 6 patients, among them patient002"):
        study(studied, f"generator={wide}", resume=True).run(Context())
