"""What `Annotated` may say of a parameter."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import slicer

T = TypeVar("T")


class Validator:
    """Refuses values."""

    def validate(self, value: Any) -> None:
        """Raise ValueError for a value that is not allowed."""
        raise NotImplementedError


@dataclass
class WithinRange(Validator):
    """Both ends belong to it."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within [{self.minimum}, {self.maximum}]")


@dataclass
class Minimum(Validator):
    """Allowed itself."""

    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"{value} is below {self.minimum}")


@dataclass
class Maximum(Validator):
    """Allowed itself."""

    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"{value} is above {self.maximum}")


@dataclass
class Choice(Validator):
    """One of these."""

    choices: Sequence[Any]

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"{value!r} is none of {self.choices}")


@dataclass
class Exclude(Validator):
    """None of these."""

    excludedValues: Sequence[Any]

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"{value!r} is excluded")


@dataclass
class Decimals:
    """For spin boxes and sliders."""

    value: int


@dataclass
class SingleStep:
    """For spin boxes and sliders."""

    value: float


class Default:
    """Value of a parameter that nobody has set; a generator makes a new one each time."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator is not None else self._value


def split(kind: Any) -> tuple[Any, list[Any]]:
    """A type without its annotations, and these."""
    if typing.get_origin(kind) is typing.Annotated:
        return kind.__origin__, list(kind.__metadata__)
    return kind, []


def first(annotations: list[Any], kind: type[T]) -> T | None:
    """The first annotation of a kind."""
    return next((each for each in annotations if isinstance(each, kind)), None)


def members(kind: Any) -> tuple[Any, ...] | None:
    """Types of a union; None for any other type."""
    kind = split(kind)[0]
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else None


def node_classes(kind: Any) -> list[str] | None:
    """Names of the classes of nodes, where the type is nodes alone, or None."""
    kinds = [split(each)[0] for each in members(kind) or (split(kind)[0],)]
    if not all(isinstance(each, type) and issubclass(each, (slicer.vtkMRMLNode, type(None))) for each in kinds):
        return None
    return [each().GetClassName() for each in kinds if each is not type(None)] or None
