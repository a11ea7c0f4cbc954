"""What a case may be asked for."""

from __future__ import annotations

from typing import Any

import pytest

from cardiac_diffusion_aug.attributes import GROUPS, LEVELS, PHASES, Attributes, parse_level
from cardiac_diffusion_aug.errors import CardiacError


def test_nothing_is_asked_by_default() -> None:
    assert not Attributes().asked
    assert Attributes().as_dict() == {"phase": None, "group": None, "level": None}


@pytest.mark.parametrize(
    "known", [*({"phase": p} for p in PHASES), *({"group": g} for g in GROUPS), *({"level": v} for v in (0.0, 0.4, 1))]
)
def test_each_attribute_may_be_asked_alone(known: dict[str, Any]) -> None:
    asked = Attributes(**known)
    assert asked.asked
    assert {name: value for name, value in asked.as_dict().items() if value is not None} == known


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        ({"phase": "diastole"}, "There is no phase 'diastole'; ask for ED or ES"),
        ({"phase": ""}, "There is no phase ''"),
        ({"group": "ED"}, "There is no group 'ED'; ask for one of NOR, MINF, DCM, HCM, RV"),
        ({"level": 1.01}, "level 1.01 is not between"),
        ({"level": -0.01}, "level -0.01 is not between"),
        ({"level": float("nan")}, "level nan is not between"),
    ],
)
def test_what_there_is_not_is_refused(unknown: dict[str, Any], message: str) -> None:
    with pytest.raises(CardiacError, match=message):
        Attributes(**unknown)


@pytest.mark.parametrize(
    ("text", "level"),
    [(None, None), ("", None), ("0", 0.0), (" 0.25 ", 0.25), (0.75, 0.75), (1, 1.0), *LEVELS.items(), (" Mid", 0.5)],
)
def test_a_level_is_a_word_or_a_number(text: str | float | None, level: float | None) -> None:
    assert parse_level(text) == level


def test_the_words_lie_in_the_middle_of_their_thirds() -> None:
    assert list(LEVELS.values()) == pytest.approx([1 / 6, 3 / 6, 5 / 6])


@pytest.mark.parametrize("text", ["apex", "middle", "0,5", "1/2"])
def test_other_words_are_no_level(text: str) -> None:
    with pytest.raises(CardiacError, match=f"There is no slice level '{text}'; ask for apical, mid, basal"):
        parse_level(text)
