"""What every long job has in common: parameters described once, and a context to report to.

A job is a dataclass. Its fields are the options of the command, the request to the worker and the settings of the
panel; `option` gives each its help text, range and choices. Nothing heavy is imported until `run`.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import Cancelled, CardiacError, shown

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..generation import Generator
    from ..segmentation import Segmenter


def option(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """A field of a job.

    Args:
        default: value when nothing is said; `...` where it must be said.
        help: one phrase for people.
        minimum, maximum: limits of a number.
        choices: allowed texts.
        convert: from text, where the type alone does not tell.
    """
    facts = {"help": help, "minimum": minimum, "maximum": maximum, "choices": tuple(choices), "convert": convert}
    if default is ...:
        return dataclasses.field(metadata=facts)
    return dataclasses.field(default=default, metadata=facts)


class Context:
    """What a running job reports to; the two doors make their own.

    Attributes:
        models: what is kept warm between jobs, by kind: its key and the model.
        cancelled: whether the job is to end, and to leave what is whole.
        finishing: whether the job is to end early and in success, with the best that it has; jobs that have nothing
            to show for a part of their work pass over it.
    """

    def __init__(self) -> None:
        self.models: dict[str, tuple[Any, Any]] = {}
        self.cancelled: Callable[[], bool] = lambda: False
        self.finishing: Callable[[], bool] = lambda: False

    def progress(self, done: int, total: int, message: str = "") -> None:
        """How far the job is."""

    def result(self, facts: Mapping[str, Any]) -> None:
        """One result, as soon as it is ready, as plain values and paths."""

    def say(self, message: str) -> None:
        """A sentence that the user should know."""

    def warm(self, kind: str, key: Any, load: Callable[[], Any]) -> Any:
        """A model that is loaded already, or is loaded now.

        There is one of each kind at a time, since memory is what jobs fail for.
        """
        if kind not in self.models or self.models[kind][0] != key:
            self.models.pop(kind, None)
            self.models[kind] = (key, load())
        return self.models[kind][1]

    def check(self) -> None:
        """Raise `Cancelled` when the job should end."""
        if self.cancelled():
            raise Cancelled


@dataclasses.dataclass(kw_only=True)
class Job:
    """A long job; its fields are its parameters."""

    NAME: ClassVar[str]
    HELP: ClassVar[str]

    def __post_init__(self) -> None:
        for field in options(type(self)):
            setattr(self, field.name, checked(field, kind_of(type(self), field), getattr(self, field.name)))

    def run(self, context: Context) -> dict[str, Any]:
        """Do the work, and return what is worth telling at its end."""
        raise NotImplementedError

    @classmethod
    def from_request(cls, parameters: Mapping[str, Any]) -> Job:
        """A job from names and values, as a program sends them.

        Raises:
            CardiacError: a name is unknown, missing, or a value is out of range.
        """
        known = {field.name: field for field in options(cls)}
        unknown = sorted(set(parameters) - set(known))
        if unknown:
            raise CardiacError(f"The job {cls.NAME} has no parameter {unknown[0]!r}; it has {', '.join(known)}.")
        missing = [n for n, f in known.items() if f.default is dataclasses.MISSING and n not in parameters]
        if missing:
            raise CardiacError(f"The job {cls.NAME} needs {', '.join(missing)}.")
        return cls(**parameters)


def explained(error: Exception) -> CardiacError:
    """What ended a job, as the code and the sentence that both doors give."""
    if isinstance(error, CardiacError):
        return error
    if _is_out_of_memory(error):
        return CardiacError("Memory ran out; use a smaller batch size, or close other programs.", "out_of_memory")
    if isinstance(error, ImportError):
        name = error.name or error
        return CardiacError(f"The package {name} is missing; install this program anew.", "missing_dependency")
    if isinstance(error, OSError) and error.filename and error.strerror:
        return CardiacError(f"{error.filename} cannot be used ({error.strerror}); check the path and your rights.")
    cause = f"{type(error).__name__}: {error}"
    return CardiacError(f"This is a defect of the program ({cause}); please report it with --debug.", "internal")


def _is_out_of_memory(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from ..devices import is_out_of_memory

    return is_out_of_memory(error)


def options(job: type[Job]) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a job."""
    return dataclasses.fields(job)


def kind_of(job: type[Job], field: dataclasses.Field[Any]) -> type:
    """The plain type of a field: int, float, str, bool or Path; optional ones likewise."""
    kind = typing.get_type_hints(job)[field.name]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return typing.cast(type, kind)


def checked(field: dataclasses.Field[Any], kind: type, value: Any) -> Any:
    """A value of the field's type and within its range.

    Raises:
        CardiacError: it is not.
    """
    if value is None:
        if field.default is None:
            return None
        raise CardiacError(f"{flag(field.name)} needs a value.")
    facts = field.metadata
    try:
        if isinstance(value, bool) != (kind is bool):
            raise TypeError(value)
        value = facts["convert"](value) if facts["convert"] else _as(kind, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise CardiacError(f"{flag(field.name)} is {shown(value)}, but must be {_WORDS[kind]}.") from error
    low, high = facts["minimum"], facts["maximum"]
    if isinstance(value, (int, float)) and (
        (low is not None and not value >= low) or (high is not None and not value <= high)
    ):
        span = f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
        raise CardiacError(f"{flag(field.name)} is {value}, but must be {span}.")
    if facts["choices"] and value not in facts["choices"]:
        raise CardiacError(f"{flag(field.name)} is {shown(value)}, but must be one of {', '.join(facts['choices'])}.")
    return value


def flag(name: str) -> str:
    """The command-line spelling of a field's name."""
    return "--" + name.replace("_", "-")


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "yes or no", Path: "a path"}


def _as(kind: type, value: Any) -> Any:
    if kind is int and isinstance(value, float) and not value.is_integer():
        raise TypeError(value)
    if kind is str and not isinstance(value, (str, int, float)):
        raise TypeError(value)
    if kind is Path and (str(value) == "" or "\0" in str(value)):
        raise ValueError(value)
    result = kind(value)
    if isinstance(result, float) and not math.isfinite(result):
        raise ValueError(value)
    return result


def warm_generator(context: Context, bundle: Bundle, device: str, precision: str) -> Generator:
    """The networks of a generator, kept warm in the context, with the model's own settings."""
    from ..bundle import GENERATOR
    from ..generation import Generator

    key = (bundle.sha256, device, precision)
    generator: Generator = context.warm(GENERATOR, key, lambda: Generator(bundle, device, precision))
    # An earlier job may have left others.
    generator.configure()
    generator.notify = context.say
    return generator


def warm_segmenter(context: Context, model: str, device: str, precision: str) -> Segmenter:
    """The segmentation network of a model, kept warm in the context."""
    from ..bundle import SEGMENTER, load_bundle
    from ..segmentation import Segmenter

    bundle = load_bundle(model, SEGMENTER)
    key = (bundle.sha256, device, precision)
    segmenter: Segmenter = context.warm(SEGMENTER, key, lambda: Segmenter(bundle, device, precision))
    return segmenter
