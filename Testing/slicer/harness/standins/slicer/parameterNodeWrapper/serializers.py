"""How values of each type are kept in a parameter node."""

from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import Callable, Iterable, MutableSequence
from typing import Any

import slicer

from .annotations import Validator, members, split


class Serializer:
    """Keeps values of a type as text under a name.

    Args:
        accepts: types that may be written.
        to_text, from_text: conversions.
        default: where none is given.
    """

    cached = True

    def __init__(
        self,
        accepts: tuple[type, ...],
        to_text: Callable[[Any], str],
        from_text: Callable[[str], Any],
        default: Any,
    ) -> None:
        self.accepts, self.default = accepts, default
        self._to_text, self._from_text = to_text, from_text
        self.validators: list[Validator] = []

    def validate(self, value: Any) -> None:
        if not isinstance(value, self.accepts):
            raise (ValueError if value is None else TypeError)(f"{value!r} is not of type {self.accepts}")
        for validator in self.validators:
            if value is not None:
                validator.validate(value)

    def has(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, self._to_text(value))

    def read(self, node: Any, name: str) -> Any:
        return self._from_text(node.GetParameter(name))

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)


class NodeSerializer(Serializer):
    """Keeps nodes as references, so that they survive saving and importing."""

    def __init__(self, kind: type) -> None:
        super().__init__((kind, type(None)), str, str, None)

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)

    def remove(self, node: Any, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class UnionSerializer(Serializer):
    """Keeps a value under the number of the first type that takes it."""

    def __init__(self, serializers: list[Serializer]) -> None:
        self.serializers = serializers
        self.validators = []
        self.accepts = tuple(kind for each in serializers for kind in each.accepts)
        self.default = None if type(None) in self.accepts else serializers[0].default
        self.cached = all(each.cached for each in serializers)

    def has(self, node: Any, name: str) -> bool:
        return any(each.has(node, f"{name}.{i}") for i, each in enumerate(self.serializers))

    def write(self, node: Any, name: str, value: Any) -> None:
        chosen = next(i for i, each in enumerate(self.serializers) if isinstance(value, each.accepts))
        self.serializers[chosen].validate(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self.serializers[chosen].write(node, f"{name}.{chosen}", value)

    def read(self, node: Any, name: str) -> Any:
        for i, each in enumerate(self.serializers):
            if each.has(node, f"{name}.{i}"):
                return each.read(node, f"{name}.{i}")
        raise KeyError(f"the parameter node has no value for {name}")

    def remove(self, node: Any, name: str) -> None:
        for i, each in enumerate(self.serializers):
            each.remove(node, f"{name}.{i}")


class ListSerializer(Serializer):
    """Keeps a list item by item, with its length."""

    def __init__(self, item: Serializer) -> None:
        self.item, self.validators, self.default = item, [], []
        self.accepts = (list, SavedList)
        self.cached = item.cached

    def validate(self, value: Any) -> None:
        super().validate(value)
        for each in value:
            self.item.validate(each)

    def has(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def write(self, node: Any, name: str, value: Any) -> None:
        with slicer.util.NodeModify(node):
            before = self._length(node, name)
            for i, each in enumerate(value):
                self.item.write(node, f"{name}.{i}", each)
            for i in range(len(value), before):
                self.item.remove(node, f"{name}.{i}")
            node.SetParameter(f"{name}.len", str(len(value)))

    def read(self, node: Any, name: str) -> Any:
        values = [self.item.read(node, f"{name}.{i}") for i in range(self._length(node, name))]
        return SavedList(values, lambda new: self.write(node, name, new))

    def remove(self, node: Any, name: str) -> None:
        self.write(node, name, [])
        node.UnsetParameter(f"{name}.len")

    def _length(self, node: Any, name: str) -> int:
        return int(node.GetParameter(f"{name}.len") or 0)


class SavedList(MutableSequence[Any]):
    """A list that writes itself to its node whenever it is changed."""

    def __init__(self, values: Iterable[Any], save: Callable[[list[Any]], None]) -> None:
        self._values, self._save = list(values), save

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._values[index] = value
        self._save(self._values)

    def __delitem__(self, index: Any) -> None:
        del self._values[index]
        self._save(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def insert(self, index: int, value: Any) -> None:
        self._values.insert(index, value)
        self._save(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == (other._values if isinstance(other, SavedList) else other)

    def __repr__(self) -> str:
        return repr(self._values)


def serializer_for(kind: Any) -> Serializer:
    """The serializer of a type, with the validators of its annotations."""
    plain, annotations = split(kind)
    made = _serializer_for_plain(plain)
    made.validators += [each for each in annotations if isinstance(each, Validator)]
    return made


def _serializer_for_plain(kind: Any) -> Serializer:
    union = members(kind)
    if union is not None:
        return UnionSerializer([serializer_for(each) for each in union])
    if typing.get_origin(kind) is list:
        return ListSerializer(serializer_for(typing.get_args(kind)[0]))
    if kind is type(None):
        return Serializer((type(None),), lambda value: "None", lambda text: None, None)
    if kind is bool:
        return Serializer((bool,), str, lambda text: text == "True", False)
    if kind is int:
        return Serializer((int,), str, int, 0)
    if kind is float:
        return Serializer((int, float), str, float, 0.0)
    if kind is str:
        return Serializer((str,), str, str, "")
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return Serializer((kind,), lambda value: value.name, lambda text: kind[text], next(iter(kind)))
    if isinstance(kind, type) and issubclass(kind, pathlib.PurePath):
        return Serializer((kind,), str, kind, kind())
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeSerializer(kind)
    raise TypeError(f"the harness has no parameters of type {kind}; in Slicer it may exist")
