"""Parameters of jobs: converted and checked alike for the command line and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cardiac_diffusion_aug.attributes import parse_level
from cardiac_diffusion_aug.errors import Cancelled, CardiacError
from cardiac_diffusion_aug.jobs import JOBS
from cardiac_diffusion_aug.jobs.base import Context, Job, flag, kind_of, option, options


@dataclass(kw_only=True)
class Example(Job):
    """A parameter of each type."""

    NAME: ClassVar[str] = "example"
    HELP: ClassVar[str] = "an example"

    output: Path = option(..., "a folder")
    count: int = option(8, "a count", minimum=1, maximum=100)
    least: int = option(0, "any count", minimum=0)
    most: float = option(0.0, "any number", maximum=5)
    scale: float = option(1.5, "a scale", minimum=0, maximum=20)
    steps: int | None = option(None, "some steps", minimum=1)
    size: float = option(1.0, "a size without limits")
    name: str = option("acdc", "a name")
    phase: str | None = option(None, "a phase", choices=("ED", "ES"))
    level: float | None = option(None, "a level", minimum=0, maximum=1, convert=parse_level)
    resume: bool = option(False, "whether to go on")
    source: Path | None = option(None, "a file")


def made(**parameters: Any) -> Example:
    job = Example.from_request({"output": "out", **parameters})
    assert isinstance(job, Example)
    return job


def refused(message: str, **parameters: Any) -> None:
    for make in (made, lambda **p: Example(**{"output": "out", **p})):
        with pytest.raises(CardiacError, match=message) as caught:
            make(**parameters)
        assert caught.value.code == "bad_input"


def test_defaults_are_as_stated() -> None:
    job = made()
    assert job.output == Path("out")
    assert (job.count, job.scale, job.steps, job.name, job.phase, job.level) == (8, 1.5, None, "acdc", None, None)
    assert job.resume is False
    assert job.source is None


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("count", "12", 12),
        ("count", " 12 ", 12),
        ("count", 12.0, 12),
        ("count", 1, 1),
        ("count", 100, 100),
        ("least", 10**9, 10**9),
        ("steps", "4", 4),
        ("steps", None, None),
        ("scale", "2.5", 2.5),
        ("scale", "1e1", 10.0),
        ("scale", 0, 0.0),
        ("most", -1e300, -1e300),
        ("name", 12, "12"),
        ("name", "a b", "a b"),
        ("phase", "ES", "ES"),
        ("level", "basal", 5 / 6),
        ("level", "0.25", 0.25),
        ("level", 1, 1.0),
        ("level", "", None),
        ("resume", True, True),
        ("output", "a/b", Path("a/b")),
        ("output", Path("c"), Path("c")),
        ("source", "x.nii.gz", Path("x.nii.gz")),
    ],
)
def test_values_become_what_the_field_is(name: str, given: Any, expected: Any) -> None:
    value = getattr(made(**{name: given}), name)
    assert value == expected
    assert type(value) is type(expected)


NAN, INFINITY = float("nan"), float("inf")
WRONG_TYPES: list[tuple[str, str, list[Any]]] = [
    ("count", "a whole number", ["", "many", "1.5", 1.5, "0x10", True, False, [1], {}, b"\xff"]),
    ("count", "a whole number", [NAN, INFINITY, "9" * 5000, "²"]),
    ("scale", "a number", ["", "big", "1,5", True, False, [1.0], float]),
    ("scale", "a number", [NAN, "nan", INFINITY, "-inf", 10**400]),
    ("size", "a number", [INFINITY, "1e999"]),
    ("name", "a text", [True, ["a"], {"a": 1}, Path("a")]),
    ("resume", "yes or no", [0, 1, "yes", "true", "", 1.0]),
    ("output", "a path", ["", 3, True, ["a"], "a\0b"]),
    ("level", "a number", [True, [0.5]]),
]


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [(name, value, words) for name, words, values in WRONG_TYPES for value in values],
)
def test_values_of_another_type_are_refused(name: str, given: Any, words: str) -> None:
    refused(rf"^--{name} is .*, but must be {words}\.$", **{name: given})


@pytest.mark.parametrize(
    ("name", "given", "span"),
    [
        ("count", 0, "from 1 to 100"),
        ("count", "101", "from 1 to 100"),
        ("count", -(10**30), "from 1 to 100"),
        ("least", -1, "at least 0"),
        ("most", 5.001, "at most 5"),
        ("scale", "-0.1", "from 0 to 20"),
        ("scale", 20.5, "from 0 to 20"),
        ("steps", 0, "at least 1"),
        ("level", 1.5, "from 0 to 1"),
        ("level", "-0.01", "from 0 to 1"),
        ("level", "nan", "from 0 to 1"),
    ],
)
def test_values_out_of_range_are_refused(name: str, given: Any, span: str) -> None:
    refused(rf"^--{name} is .*, but must be {span}\.$", **{name: given})


@pytest.mark.parametrize("given", ["ed", "", "MID", "EDES"])
def test_values_that_are_no_choice_are_refused(given: str) -> None:
    refused(f"--phase is '{given}', but must be one of ED, ES", phase=given)


def test_a_word_that_the_converter_does_not_know_is_refused() -> None:
    refused("There is no slice level 'middle'", level="middle")


@pytest.mark.parametrize("name", ["output", "count", "scale", "name", "resume"])
def test_nothing_is_a_value_only_where_it_is_the_default(name: str) -> None:
    refused(f"--{name} needs a value", **{name: None})


def test_unknown_parameters_are_refused_with_the_known_ones() -> None:
    with pytest.raises(CardiacError, match="The job example has no parameter 'conut'; it has output, count, least"):
        made(conut=3)


def test_missing_parameters_are_named() -> None:
    with pytest.raises(CardiacError, match="The job example needs output"):
        Example.from_request({})


def test_a_flag_is_spelled_with_dashes() -> None:
    assert flag("batch_size") == "--batch-size"


def test_kinds_are_plain_types() -> None:
    kinds = {field.name: kind_of(Example, field) for field in options(Example)}
    assert kinds["steps"] is int
    assert kinds["level"] is float
    assert kinds["phase"] is str
    assert kinds["output"] is kinds["source"] is Path
    assert kinds["resume"] is bool


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_every_job_describes_its_parameters(job: type[Job]) -> None:
    assert job.HELP
    for field in options(job):
        facts, kind = field.metadata, kind_of(job, field)
        assert facts["help"], field.name
        assert kind in (int, float, str, bool, Path), field.name
        if kind in (int, float):
            assert facts["minimum"] is not None, field.name
            assert facts["maximum"] is not None, field.name
        if facts["choices"] and field.default is not None:
            assert field.default in facts["choices"]


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_every_default_passes_its_own_check(job: type[Job]) -> None:
    required = {f.name: "x" for f in options(job) if f.default.__class__.__name__ == "_MISSING_TYPE"}
    made = job.from_request(required)
    for field in options(job):
        if field.name not in required:
            assert getattr(made, field.name) == field.default


def test_a_context_checks_for_cancellation() -> None:
    context = Context()
    context.check()
    context.progress(1, 2)
    context.result({})
    context.say("hello")
    assert not context.finishing()
    context.cancelled = lambda: True
    with pytest.raises(Cancelled):
        context.check()
