"""What a study computes, on answers that are known: units, patients, figures, sentences, plots."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import wilcoxon

from cardiac_diffusion_aug.bundle import Bundle
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import SlicePack, pack_cases
from cardiac_diffusion_aug.datasets.splits import take_patients
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.evaluation.plots import draw_curves
from cardiac_diffusion_aug.evaluation.report import Curves, Report, Section, Table, page_html
from cardiac_diffusion_aug.evaluation.scores import Score, read_scores, scores_table
from cardiac_diffusion_aug.evaluation.statistics import signed_rank_p
from cardiac_diffusion_aug.evaluation.study.cohort import Cohort, find_cohort, find_fractions, require_within
from cardiac_diffusion_aug.evaluation.study.ledger import Clock, Ledger, table
from cardiac_diffusion_aug.evaluation.study.plan import (
    ARMS,
    COPYING,
    MADE,
    UNET,
    Fraction,
    Unit,
    made_count,
    of_part,
    study_units,
)
from cardiac_diffusion_aug.evaluation.study.results import (
    MEAN,
    Cell,
    arm_figures,
    by_patient,
    compared,
    gain_sentence,
    worst_volumes,
)
from cardiac_diffusion_aug.evaluation.study.scoring import SMALL_OBJECT_MM2, small_dice
from phantom import write_acdc

NAN = float("nan")
FRACTIONS = [
    Fraction(("a", "b"), (), 10),
    Fraction(("a", "b", "c"), ("d",), 30, whole=True),
]

# Units


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("trains", [True, False])
def test_every_unit_comes_after_what_it_needs(trains: bool, filters: bool) -> None:
    units = study_units(FRACTIONS, [1, 2], 2.0, trains, filters, further=True)
    seen: set[str] = set()
    for unit in units:
        assert set(unit.needs) <= seen, unit
        assert unit.key not in seen
        seen.add(unit.key)
    assert ("patients-002/masks" in seen) == trains
    # The filter's U-Net, of seed 0, though no seed asks for it.
    assert ("patients-002/traditional-0/unet" in seen) == filters
    cells = {(u.fraction.count, u.arm, u.seed) for u in units if u.kind == "scores"}
    assert cells == {(n, arm, seed) for n in (2, 4) for arm in ARMS for seed in (1, 2)}
    assert all(u.fraction.patients >= set(u.fraction.train) for u in units)


def test_parts_share_all_units_and_keep_what_hangs_together() -> None:
    units = study_units(FRACTIONS, [0, 1, 2], 2.0)
    parts = [of_part(units, f"{index}/3") for index in (1, 2, 3)]
    assert sorted(key for part in parts for key in part) == sorted(unit.key for unit in units)
    for unit in units:
        if unit.kind in ("generator", MADE, COPYING, "scores"):
            owner = next(part for part in parts if unit.key in part)
            assert set(unit.needs) <= owner


def test_twice_as_many_are_made() -> None:
    assert made_count(FRACTIONS[0], 2.0) == 20
    assert made_count(FRACTIONS[0], 0.01) == 1
    (unit,) = (u for u in study_units(FRACTIONS[:1], [0], 2.0) if u.kind == MADE)
    assert unit.amount == 20


# Patients


def cohort(count: int) -> Cohort:
    return Cohort({f"patient{index:03d}": 8 for index in range(count)}, ("test1", "test2"), ())


def test_fractions_lie_within_each_other_and_are_those_of_every_job() -> None:
    people = cohort(20)
    fractions, too_large = find_fractions(people, "16, 4,8,64,all", 0, 0.0)
    assert [f.count for f in fractions] == [4, 8, 16, 20]
    assert too_large == [64]
    for smaller, larger in itertools.pairwise(fractions):
        assert smaller.patients < larger.patients
    assert fractions[1].train == take_patients(people.pool, 8, 0)
    assert fractions[1].slices == 64
    assert [f.whole for f in fractions] == [False, False, False, True]
    assert find_fractions(people, "8", 1, 0.0)[0][0].train != fractions[1].train


@pytest.mark.parametrize(("count", "select"), [(2, 1), (4, 1), (8, 2), (16, 4)])
def test_a_part_of_a_fraction_selects(count: int, select: int) -> None:
    ((fraction,), _) = find_fractions(cohort(20), str(count), 0, 0.25)
    assert (len(fraction.select), len(fraction.train)) == (select, count - select)
    assert fraction.patients == set(take_patients(cohort(20).pool, count, 0))


def test_a_test_patient_whom_the_training_holds_is_left_out(tmp_path: Path) -> None:
    pack = pack_cases(read_cases(write_acdc(tmp_path / "data", 4, slices=2, shape=(150, 150)))[1], tmp_path)
    assert find_cohort(pack, "mod 2 == 0").left_out == ()
    twin = renamed(pack.of_patients(["patient001"]), "patient006")
    both = SlicePack(*(np.concatenate([vars(p)[n] for p in (pack, twin)]) for n in SlicePack.__dataclass_fields__))
    found = find_cohort(both, "mod 2 == 0")
    assert found.left_out == ("patient006",)
    assert found.test == ("patient002", "patient004")
    assert found.slices == {"patient001": 4, "patient003": 4}
    assert Cohort.from_dict(found.as_dict()) == found
    with pytest.raises(CardiacError, match="hold the recordings of all test patients"):
        find_cohort(both.of_patients(["patient001", "patient006"]), "mod 2 == 0")


def renamed(pack: SlicePack, patient: str) -> SlicePack:
    count = len(pack)
    return SlicePack(pack.images, pack.masks, pack.attributes, np.full(count, patient), np.full(count, patient))


def bundle(masks: Sequence[str], images: Sequence[str]) -> Bundle:
    parts = {"mask_denoiser": masks, "image_denoiser": images}
    training = {part: {"facts": {"split": {"train": list(seen)}}} for part, seen in parts.items()}
    return Bundle(Path("model"), {"name": "model", "training": training}, "")


def test_generators_within_a_fraction_pass() -> None:
    require_within(bundle(["a"], ["a", "b"]), FRACTIONS[0])
    with pytest.raises(CardiacError, match=r"The image_denoiser of the model model .* 3 patients, among them c,"):
        require_within(bundle(["a"], ["a", "b", "c"]), FRACTIONS[0])


# Scores


def score(case: str, dice: float, structure: str = "LV", far: float = 1.0) -> Score:
    return Score(case, case.partition("_")[0], case.partition("_")[2] or None, structure, dice, far, 0.0)


def cell(values: dict[str, float], far: float = 1.0) -> Cell:
    """Of the same Dice for all structures of a volume."""
    scores = [score(case, dice, key, far) for case, dice in values.items() for key in ("LV", "MYO", "RV")]
    return Cell(scores, [score(case, dice / 2) for case, dice in values.items()])


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    scores = [score("a_ED", 0.5), score("b", NAN, "RV", NAN)]
    (tmp_path / "scores.csv").write_bytes(scores_table(scores))
    first, second = read_scores(tmp_path / "scores.csv")
    assert first == scores[0]
    assert second.phase is None
    assert math.isnan(second.dice)
    (tmp_path / "scores.csv").write_text("nothing\n1\n")
    with pytest.raises(CardiacError, match="not a table of scores"):
        read_scores(tmp_path / "scores.csv")


def test_a_patient_counts_once_and_what_was_not_found_spoils_the_distance() -> None:
    scores = [score("a_ED", 0.8), score("a_ES", 0.6), score("a_ED", 0.0, "RV", NAN), score("b_ED", 0.4)]
    scores += [score("b_ED", NAN, "RV", NAN)]
    dice = by_patient(scores, "dice")
    assert dice["LV"] == pytest.approx({"a": 0.7, "b": 0.4})
    assert dice["RV"] == {"a": 0.0}
    assert dice[MEAN] == pytest.approx({"a": 0.35, "b": 0.4})
    far = by_patient(scores, "hausdorff_95_mm")
    assert far["LV"] == {"a": 1.0, "b": 1.0}
    assert far[MEAN] == {"b": 1.0}


def test_gains_are_paired_by_patient_and_averaged_over_seeds() -> None:
    first = {0: cell({"a_ED": 0.9, "b_ED": 0.7, "c_ED": 0.5}), 1: cell({"a_ED": 0.7, "b_ED": 0.7, "c_ED": 0.7})}
    second = {
        0: cell({"a_ED": 0.5, "b_ED": 0.6, "c_ED": 0.5}, far=3.0),
        1: cell({"a_ED": 0.5, "b_ED": 0.6, "c_ED": 0.5}, far=3.0),
    }
    facts = compared(first, {**second, 2: cell({"a_ED": 0.0})})
    assert facts is not None
    assert facts["seeds"] == [0, 1]
    gain = facts["dice"][MEAN]
    assert gain["mean"] == pytest.approx((30 + 10 + 10) / 3)
    assert gain["patients"] == 3
    assert gain["seeds"] == pytest.approx([50 / 3, 50 / 3])
    assert gain["p"] == pytest.approx(wilcoxon([30, 10, 10]).pvalue)
    assert gain["interval"][0] >= 10 - 1e-9
    assert facts["hausdorff_95_mm"][MEAN]["mean"] == pytest.approx(-2.0)
    assert facts["small_dice"][MEAN]["mean"] == pytest.approx(gain["mean"] / 2)
    assert facts["ratio"] == pytest.approx((0.8 + 0.7 + 0.6) / (0.5 + 0.6 + 0.5))
    # The worst of three volumes is the worst tenth.
    assert facts["worst_dice"]["mean"] == pytest.approx(100 * ((0.5 + 0.7) / 2 - 0.5))
    assert compared(first, {}) is None


def test_what_one_arm_alone_has_a_dice_of_is_not_compared() -> None:
    """The reference lacks the RV; a pixel that one network labels costs it nothing in one place and all in another."""
    right, wrong = cell({"a_ED": 0.8, "b_ED": 0.8}), cell({"a_ED": 0.8, "b_ED": 0.8})
    for one, dice in ((right, NAN), (wrong, 0.0)):
        one.scores[:] = [replace(s, dice=dice) if (s.case, s.structure) == ("b_ED", "RV") else s for s in one.scores]
    facts = compared({0: wrong}, {0: right})
    assert facts is not None
    assert facts["dice"]["RV"]["patients"] == 1
    assert facts["dice"][MEAN]["mean"] == pytest.approx(0.0)
    assert arm_figures([wrong])["dice"][MEAN]["mean"] < arm_figures([right])["dice"][MEAN]["mean"]


def test_figures_of_an_arm() -> None:
    cells = [cell({"a_ED": 0.9, "b_ED": 0.7}), cell({"a_ED": 0.8, "b_ED": 0.0}, far=NAN)]
    figures = arm_figures(cells)
    assert figures["dice"][MEAN]["mean"] == pytest.approx(0.6)
    assert figures["dice"][MEAN]["seeds"] == pytest.approx([0.8, 0.4])
    assert figures["hausdorff_95_mm"][MEAN] == {"mean": None, "interval": None, "patients": 0, "seeds": [1.0, None]}
    assert figures["worst_dice"]["mean"] == pytest.approx((0.7 + 0.0) / 2)
    assert figures["no_distance"] == {"count": 6, "of": 12}
    assert [(seed, s.case) for seed, s in worst_volumes(dict(enumerate(cells)), 5)] == [(1, "b_ED"), (1, "a_ED")]


@pytest.mark.parametrize(
    ("gain", "interval", "words"),
    [
        (
            3.21,
            [1.04, 5.05],
            "add 3.2 points of Dice (95 % interval 1.0 to 5.0) over strong traditional augmentation; 20",
        ),
        (
            0.5,
            [-1.0, 2.0],
            "add 0.5 points of Dice (95 % interval -1.0 to 2.0, which holds 0: no difference is shown) over",
        ),
        (-2.0, [-3.0, -1.0], "take 2.0 points of Dice away (95 % interval of the gain -3.0 to -1.0) from strong"),
        (1.0, None, "add 1.0 points of Dice (no interval from one patient)"),
        (None, None, "nothing could be compared"),
    ],
)
def test_the_gain_in_plain_words(gain: float | None, interval: list[float] | None, words: str) -> None:
    facts = {"seeds": [0, 1, 2], "dice": {MEAN: {"mean": gain, "interval": interval, "patients": 20}}}
    sentence = gain_sentence("8 patients", facts)
    assert sentence.startswith("With 8 patients, ")
    assert words in sentence
    assert sentence.endswith(".")


def test_small_objects_are_judged_in_their_slices_alone() -> None:
    side = math.ceil(math.sqrt(SMALL_OBJECT_MM2))
    true = np.zeros((3, 40, 40), np.uint8)
    true[0, :side, :side] = 1  # Too large.
    true[1, :10, :10] = 1
    true[2, :10, :10] = 3
    found = np.zeros_like(true)
    found[1, :5, :10] = 1
    assert small_dice(found, true, 1.0) == pytest.approx({"LV": 2 / 3, "RV": 0.0})
    assert small_dice(found, true, 10.0) == {}


def test_the_signed_rank_test() -> None:
    values = [1.0, 2.0, 3.0, -0.5, 4.0]
    assert signed_rank_p([*values, NAN]) == pytest.approx(wilcoxon(values).pvalue)
    assert signed_rank_p([0.0, 0.0]) == 1.0
    assert signed_rank_p([NAN]) is None


# Time


def test_time_left_comes_from_what_was_measured(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    units = [Unit(f"{index}/unet", UNET, FRACTIONS[0], "plain", index) for index in range(4)]
    for unit in units:
        ledger.place(unit).mkdir(parents=True)
    ledger.finish(units[0], 600, {"a": 1}, ["said"])
    clock = Clock(ledger, units[1])
    clock.tick(0.5)
    clock.write()
    (tmp_path / units[1].key / ".clock.json").write_text('{"seconds": 300, "share": 0.5}')
    assert ledger.facts(units[0]) == {"a": 1}
    assert ledger.share(units[1]) == 0.5
    # Half of one is left, and two more, at ten minutes each.
    expected = "1 of 4 done in 15 min, 3 left, about 25 min"
    assert table(ledger, units) == {"2 patients, U-Nets": expected, "in all": expected}
    assert Clock(ledger, units[1]).seconds >= 300
    # A result that was cut off counts for nothing.
    (tmp_path / units[0].key / "result.json").write_text('{"format": 1')
    assert not ledger.is_done(units[0])


# The page


def test_tables_and_heads_of_a_page() -> None:
    hostile = "<b>&"
    section = Section("s", "S", "", tables=[Table(hostile, [hostile], [[hostile]])])
    page = page_html(Report("t", {}, [section], heads=("Value", "Beside")))
    assert page.count("&lt;b&gt;&amp;") == 3
    assert hostile not in page


def test_intervals_and_ticks_are_drawn() -> None:
    lines: dict[str, Any] = {"a": ([4, 8, 64], [0.5, 0.6, NAN]), "b": ([4, 8, 64], [0.4, 0.5, 0.9])}
    plain = draw_curves(Curves("t", "x", "y", lines))
    with_ticks = draw_curves(Curves("t", "x", "y", lines, {}, [4, 8, 64]))
    intervals: dict[str, Any] = {"b": ([0.3, 0.4, 0.8], [0.5, 0.6, NAN])}
    assert len({plain, with_ticks, draw_curves(Curves("t", "x", "y", lines, intervals, [4, 8, 64]))}) == 3
