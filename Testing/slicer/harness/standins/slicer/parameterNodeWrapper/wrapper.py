"""The decorator that turns a class with type hints into typed access to a parameter node."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any

import slicer
import vtk

import qt

from .annotations import Default, first, split
from .connectors import GuiConnector, createGuiConnector
from .serializers import Serializer, serializer_for

SlicerParameterNamePropertyName = "SlicerParameterName"


@dataclass
class Parameter:
    """One member of a wrapper."""

    name: str
    kind: Any
    serializer: Serializer
    default: Default

    def read(self, node: Any) -> Any:
        if not self.serializer.has(node, self.name):
            self.write(node, self.default.value)
        return self.serializer.read(node, self.name)

    def write(self, node: Any, value: Any) -> None:
        self.serializer.validate(value)
        self.serializer.write(node, self.name, value)


class _Wrapper:
    """Methods of every wrapper; events and modification are those of the node."""

    allParameters: typing.ClassVar[dict[str, Parameter]]
    _is_parameter_node_wrapper = True

    def _initialize(self, parameterNode: Any, prefix: str | None = None) -> None:
        if prefix:
            raise NotImplementedError("the harness has no prefixes of parameters")
        self.parameterNode = parameterNode
        self._connectors: dict[int, dict[str, GuiConnector]] = {}
        self._tags: dict[int, int] = {}
        self._next = 0
        self._showing = False
        for parameter in self.allParameters.values():
            parameter.read(parameterNode)

    def getValue(self, name: str) -> Any:
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._parameter(name).write(self.parameterNode, value)

    def default(self, name: str) -> Default:
        return self._parameter(name).default

    def isCached(self, name: str) -> bool:
        return self._parameter(name).serializer.cached

    @classmethod
    def dataType(cls, name: str) -> Any:
        return cls._parameter(name).kind

    @classmethod
    def _parameter(cls, name: str) -> Parameter:
        if name not in cls.allParameters:
            raise ValueError(f"there is no parameter {name}, only {', '.join(cls.allParameters)}")
        return cls.allParameters[name]

    def connectGui(self, gui: Any) -> int:
        """Bind all widgets that name a parameter, below a widget or among the attributes of an object."""
        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if is_widget else list(vars(gui).values())
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        connectors = {
            name: widget if isinstance(widget, GuiConnector) else createGuiConnector(widget, self.dataType(name))
            for name, widget in mapping.items()
        }
        tag, self._next = self._next, self._next + 1
        self._connectors[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(lambda name=name, connector=connector: self._take(name, connector))
        self._tags[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *arguments: self._show())
        return tag

    def disconnectGui(self, tag: int) -> None:
        for connector in self._connectors.pop(tag, {}).values():
            connector.onChanged(None)
        if tag in self._tags:
            self.RemoveObserver(self._tags.pop(tag))

    def _take(self, name: str, connector: GuiConnector) -> None:
        if not self._showing:
            with slicer.util.NodeModify(self.parameterNode):
                self.setValue(name, connector.read())

    def _show(self) -> None:
        if self._showing:
            return
        self._showing = True
        try:
            for connectors in list(self._connectors.values()):
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
        finally:
            self._showing = False

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return int(self.parameterNode.AddObserver(event, callback, priority))

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:
        return int(self.parameterNode.StartModify())

    def EndModify(self, wasModified: int) -> Any:
        return self.parameterNode.EndModify(wasModified)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(classtype: Any = None) -> Any:
    """Class decorator, with or without parentheses."""
    if classtype is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(classtype, include_extras=True)
    reserved = [name for name in vars(_Wrapper) if not name.startswith("__")]
    for name in hints:
        if name in reserved:
            raise ValueError(f"the name {name} is reserved in a parameterNodeWrapper")
    parameters = {name: _parameter(classtype, name, kind) for name, kind in hints.items()}
    for name in reserved:
        setattr(classtype, name, vars(_Wrapper)[name])
    for name, parameter in parameters.items():
        setattr(classtype, name, _property(parameter))
    classtype.allParameters = parameters
    classtype.__init__ = _Wrapper._initialize
    return classtype


def _parameter(classtype: type, name: str, kind: Any) -> Parameter:
    serializer = serializer_for(kind)
    if hasattr(classtype, name):
        default = Default(getattr(classtype, name))
    else:
        default = first(split(kind)[1], Default) or Default(serializer.default)
    serializer.validate(default.value)
    return Parameter(name, kind, serializer, default)


def _property(parameter: Parameter) -> property:
    return property(
        lambda self: parameter.read(self.parameterNode),
        lambda self, value: parameter.write(self.parameterNode, value),
    )


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    """Whether the decorator made it."""
    return bool(getattr(classOrObj, "_is_parameter_node_wrapper", False))


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    """The widget below another that names a parameter."""
    children = widget.findChildren(qt.QWidget)
    return next((each for each in children if each.property(SlicerParameterNamePropertyName) == parameter), None)
