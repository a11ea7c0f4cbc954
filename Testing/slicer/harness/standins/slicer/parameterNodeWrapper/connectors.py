"""Which widget shows a parameter of which type; the match is on the widget's exact type, as in Slicer."""

from __future__ import annotations

import enum
import pathlib
from collections.abc import Callable
from typing import Any

import slicer

import ctk
import qt

from .annotations import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange, first, node_classes, split


class GuiConnector:
    """Reads and writes one widget.

    Args:
        widget: that is bound.
        kind: type of the parameter, with its annotations.
    """

    signal = ""

    def __init__(self, widget: Any, kind: Any) -> None:
        self._widget = widget
        self.kind, self.annotations = split(kind)
        self._callback: Callable[[], None] | None = None

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        raise NotImplementedError

    @classmethod
    def create(cls, widget: Any, datatype: Any) -> GuiConnector | None:
        return cls(widget, datatype) if cls.canRepresent(widget, datatype) else None

    def widget(self) -> Any:
        return self._widget

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        getattr(self, "_disconnect" if callback is None else "_connect")()

    def changed(self, *ignored: Any) -> None:
        if self._callback is not None:
            self._callback()

    def _connect(self) -> None:
        if self.signal:
            getattr(self._widget, self.signal).connect(self.changed)

    def _disconnect(self) -> None:
        if self.signal:
            getattr(self._widget, self.signal).disconnect(self.changed)

    def read(self) -> Any:
        raise NotImplementedError

    def write(self, value: Any) -> None:
        raise NotImplementedError


_connectors: list[type[GuiConnector]] = []


def parameterNodeGuiConnector(classtype: Any = None) -> Any:
    """Register a connector of one's own."""
    if classtype is None:
        return parameterNodeGuiConnector
    _connectors.append(classtype)
    return classtype


def createGuiConnector(widget: Any, datatype: Any) -> GuiConnector:
    """Connector between a widget and a type.

    Raises:
        RuntimeError: there is none.
    """
    for each in _connectors:
        if each.canRepresent(widget, datatype):
            return each.create(widget, datatype)  # type: ignore[return-value]
    raise RuntimeError(f"a {type(widget).__name__} cannot show a parameter of type {datatype}")


class _PropertyConnector(GuiConnector):
    """The parameter is a property of the widget."""

    name = ""

    def read(self) -> Any:
        return getattr(self._widget, self.name)

    def write(self, value: Any) -> None:
        setattr(self._widget, self.name, value)


@parameterNodeGuiConnector
class CheckBoxConnector(_PropertyConnector):
    """bool"""

    signal, name = "toggled", "checked"

    def __init__(self, widget: Any, kind: Any) -> None:
        super().__init__(widget, kind)
        widget.checkable = True

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        kinds = (qt.QCheckBox, ctk.ctkCheckBox, qt.QPushButton, ctk.ctkCheckablePushButton)
        return split(datatype)[0] is bool and type(widget) in kinds


@parameterNodeGuiConnector
class NumberConnector(_PropertyConnector):
    """int in spin boxes and sliders of whole numbers, int and float in those of broken ones."""

    signal, name = "valueChanged", "value"
    WHOLE = (qt.QSlider, qt.QSpinBox)
    BROKEN = (
        qt.QDoubleSpinBox,
        ctk.ctkSliderWidget,
        ctk.ctkDoubleSlider,
        ctk.ctkDoubleSpinBox,
        slicer.qMRMLSliderWidget,
        slicer.qMRMLSpinBox,
    )
    MUST_END = (qt.QSlider, ctk.ctkSliderWidget, slicer.qMRMLSliderWidget)

    def __init__(self, widget: Any, kind: Any) -> None:
        super().__init__(widget, kind)
        self._apply_steps()
        self._apply_range()

    @classmethod
    def canRepresent(cls, widget: Any, datatype: Any) -> bool:  # type: ignore[override]
        kind = split(datatype)[0]
        return (kind is int and type(widget) in cls.WHOLE) or (kind in (int, float) and type(widget) in cls.BROKEN)

    def _apply_steps(self) -> None:
        decimals, step = first(self.annotations, Decimals), first(self.annotations, SingleStep)
        if type(self._widget) in self.BROKEN and (decimals is not None or self.kind is int):
            self._widget.decimals = decimals.value if decimals is not None and self.kind is float else 0
        if step is not None:
            self._widget.singleStep = step.value

    def _apply_range(self) -> None:
        both = first(self.annotations, WithinRange)
        low, high = both or first(self.annotations, Minimum), both or first(self.annotations, Maximum)
        if (low is None or high is None) and type(self._widget) in self.MUST_END:
            raise RuntimeError(f"a {type(self._widget).__name__} needs a parameter with both a minimum and a maximum")
        limit = 2**31 - 1 if type(self._widget) in self.WHOLE else float("inf")
        lowest, highest = (low.minimum if low else -limit), (high.maximum if high else limit)
        self._widget.setMinimum(_clipped(lowest))
        self._widget.setMaximum(_clipped(highest))

    def read(self) -> Any:
        return self.kind(self._widget.value)


def _clipped(value: float) -> float:
    """Qt's spin boxes take no infinity here."""
    return max(-1e300, min(1e300, value)) if isinstance(value, float) else value


@parameterNodeGuiConnector
class ComboBoxConnector(GuiConnector):
    """An Enum, or a plain type with Choice."""

    signal = "currentIndexChanged"

    def __init__(self, widget: Any, kind: Any) -> None:
        super().__init__(widget, kind)
        if issubclass(self.kind, enum.Enum):
            self._values = list(self.kind)
            texts = [each.label() if hasattr(each, "label") else each.name for each in self._values]
        else:
            choice = first(self.annotations, Choice)
            if choice is None:
                raise RuntimeError("a combo box needs a parameter with Choice")
            self._values = list(choice.choices)
            texts = [str(each) for each in self._values]
        chosen = widget.currentIndex
        widget.clear()
        widget.addItems(texts)
        widget.currentIndex = max(0, min(chosen, len(texts) - 1))

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        kind = split(datatype)[0]
        fits = kind in (int, float, str, bool) or (isinstance(kind, type) and issubclass(kind, enum.Enum))
        return fits and type(widget) in (qt.QComboBox, ctk.ctkComboBox)

    def read(self) -> Any:
        return self._values[self._widget.currentIndex]

    def write(self, value: Any) -> None:
        self._widget.currentIndex = self._values.index(value)


@parameterNodeGuiConnector
class LineEditConnector(_PropertyConnector):
    """str"""

    signal, name = "textChanged", "text"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return split(datatype)[0] is str and type(widget) is qt.QLineEdit

    def write(self, value: Any) -> None:
        # Writing moves the cursor to the end, also when the text comes from the field itself.
        if value != self._widget.text:
            self._widget.text = value


@parameterNodeGuiConnector
class LabelConnector(_PropertyConnector):
    """str, shown only"""

    name = "text"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return split(datatype)[0] is str and type(widget) is qt.QLabel


@parameterNodeGuiConnector
class TextEditConnector(_PropertyConnector):
    """str of several lines"""

    signal, name = "textChanged", "plainText"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return split(datatype)[0] is str and type(widget) is qt.QTextEdit


class _PathConnector(_PropertyConnector):
    def read(self) -> Any:
        return self.kind(super().read())

    def write(self, value: Any) -> None:
        super().write(str(value))


@parameterNodeGuiConnector
class PathLineEditConnector(_PathConnector):
    """Path"""

    signal, name = "currentPathChanged", "currentPath"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _is_path(datatype) and type(widget) is ctk.ctkPathLineEdit


@parameterNodeGuiConnector
class DirectoryButtonConnector(_PathConnector):
    """Path of a folder"""

    signal, name = "directoryChanged", "directory"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _is_path(datatype) and type(widget) is ctk.ctkDirectoryButton


@parameterNodeGuiConnector
class NodeComboBoxConnector(GuiConnector):
    """MRML nodes; as in Slicer, binding sets the box's node types to those of the parameter."""

    signal = "currentNodeChanged"

    def __init__(self, widget: Any, kind: Any) -> None:
        super().__init__(widget, kind)
        widget.nodeTypes = node_classes(kind)

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return type(widget) is slicer.qMRMLNodeComboBox and node_classes(datatype) is not None

    def read(self) -> Any:
        return self._widget.currentNode()

    def write(self, value: Any) -> None:
        self._widget.setCurrentNode(value)


def _is_path(datatype: Any) -> bool:
    kind = split(datatype)[0]
    return isinstance(kind, type) and issubclass(kind, pathlib.PurePath)
