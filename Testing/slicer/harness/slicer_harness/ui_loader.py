"""Loads the `.ui` files of scripted modules, with stand-ins for the widgets of CTK and Slicer."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import ctk_widgets, mrml_widgets

QSTANDARD = re.compile(r"Q[A-Z]")
WIDGETS: dict[str, type] = {**ctk_widgets.WIDGETS, **mrml_widgets.WIDGETS}


class UiLoader(QtUiTools.QUiLoader):
    """`QUiLoader` that knows the stand-ins, and refuses a class that neither Qt nor the harness has."""

    def createWidget(self, name: str, parent: Any = None, object_name: str = "") -> QtWidgets.QWidget:
        if name in WIDGETS:
            widget = WIDGETS[name](parent)
            widget.setObjectName(object_name)
            return widget
        if not QSTANDARD.match(name):
            raise RuntimeError(f"the .ui file names the class {name}, for which the harness has no stand-in")
        return super().createWidget(name, parent, object_name)

    def load(self, device: Any, parent: Any = None) -> QtWidgets.QWidget:
        if isinstance(device, str):
            device = QtCore.QFile(device)
            device.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        connections = _take_mrml_connections(root)
        _number_flags(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        for sender, signal, receiver, slot in connections:
            getattr(_named(widget, sender), signal).connect(getattr(_named(widget, receiver), slot))
        return widget


def _named(widget: QtWidgets.QWidget, name: str) -> Any:
    return widget if widget.objectName == name else widget.findChild(QtCore.QObject, name)


def _take_mrml_connections(root: ElementTree.Element) -> list[tuple[str, str, str, str]]:
    """Connections with types of VTK, which Qt's own loader could not make: (sender, signal, receiver, slot)."""
    taken = []
    for group in root.iter("connections"):
        for each in list(group):
            sender, signal, receiver, slot = (
                each.findtext(tag, "") for tag in ("sender", "signal", "receiver", "slot")
            )
            if "vtk" in signal:
                taken.append((sender, signal.split("(")[0], receiver, slot.split("(")[0]))
                group.remove(each)
    return taken


def _number_flags(root: ElementTree.Element) -> None:
    """Flags of stand-ins as numbers: their enums are of Python, of which Qt's loader knows nothing."""
    for value in root.iter("property"):
        flags = value.find("set")
        if flags is not None and flags.text and flags.text.startswith("ctk"):
            parts = [part.split("::") for part in flags.text.split("|")]
            number = sum(int(getattr(WIDGETS[part[0]], part[-1])) for part in parts)
            value.remove(flags)
            ElementTree.SubElement(value, "number").text = str(number)
