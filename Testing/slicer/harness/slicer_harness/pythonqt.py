"""PySide6 dressed as PythonQt, the binding that Slicer's scripted modules are written for.

The classes of PySide6 are changed in place, so that widgets which Qt itself makes, such as those of a `.ui` file, look
the same as those made in Python, and exact types compare equal, as `parameterNodeWrapper` needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, MethodType, ModuleType
from typing import Any

# Enums are whole numbers in PythonQt: `finished` gives a status that equals 0. Read when PySide6 is first imported.
os.environ.setdefault("PYSIDE6_OPTION_PYTHON_ENUM", "2")

import shiboken6
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

MODULES: tuple[ModuleType, ...] = (QtCore, QtGui, QtWidgets, QtUiTools)
VIRTUAL_GETTERS = frozenset({"sizeHint", "minimumSizeHint", "duration"})
"""Qt calls these back by name, and would find a value where it wants a method; so they stay methods."""


class PropertyAttribute:
    """A Qt property as an attribute of instances; on the class itself the method of that name stays.

    The second matters for `QTimer.singleShot(0, f)`, beside the property of that name.
    """

    def __init__(self, name: str, cls: type) -> None:
        title = name[0].upper() + name[1:]
        self._name = name
        self._original = getattr(cls, name, None)
        self._getter = getattr(cls, f"is{title}", None) or self._original
        self._setter = getattr(cls, f"set{title}", None)

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            if self._original is None:
                raise AttributeError(f"{owner.__name__} has the property {self._name}, which only instances have")
            return self._original
        if not callable(self._getter):
            return QtCore.QObject.property(instance, self._name)
        return self._getter() if isinstance(self._getter, BuiltinFunctionType) else self._getter(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        if isinstance(self._setter, BuiltinFunctionType):
            self._setter(value)
        elif self._setter is not None:
            self._setter(instance, value)
        elif not QtCore.QObject.setProperty(instance, self._name, value):
            raise AttributeError(f"the property {self._name} of {type(instance).__name__} cannot be set")


def dress() -> None:
    """Change the classes of PySide6; a second call does nothing."""
    if "className" in vars(QtCore.QObject):
        return
    classes = sorted(set(_classes()), key=lambda cls: len(cls.__mro__))
    for cls in classes:
        if hasattr(cls, "staticMetaObject"):
            _dress_properties(cls)
        if "exec" in vars(cls):
            cls.exec_ = cls.exec  # type: ignore[attr-defined]
    _dress_objects()
    _dress_processes()


def namespace() -> dict[str, Any]:
    """What `import qt` offers; no `Signal`, `Slot` or `Property`, which PythonQt lacks."""
    return {
        name: getattr(module, name)
        for module in MODULES
        for name in dir(module)
        if name.startswith("Q") and name[1:2] not in ("_", "")
    }


def unknown_attributes(widget: Any) -> list[str]:
    """What was set on a widget or its children although their classes have no such property, such as `w.enable`.

    PythonQt refuses that at once; PySide6 keeps it in the Python object, where it has no effect.
    """
    return [
        f"{type(each).__name__}.{name}"
        for each in (widget, *widget.findChildren(QtCore.QObject))
        if type(each).__module__.startswith(("PySide6.", "slicer_harness."))
        for name, value in vars(each).items()
        if not name.startswith("_") and not isinstance(value, (QtCore.SignalInstance, QtCore.QObject))
    ]


def _classes() -> Iterator[type]:
    for module in MODULES:
        for name in dir(module):
            value = getattr(module, name)
            if name.startswith("Q") and isinstance(value, type):
                yield value


def _dress_properties(cls: Any) -> None:
    meta = cls.staticMetaObject
    for i in range(meta.propertyCount()):
        name = meta.property(i).name()
        # A method of the same name on a subclass would hide the inherited attribute.
        if name not in VIRTUAL_GETTERS and (i >= meta.propertyOffset() or name in vars(cls)):
            setattr(cls, name, PropertyAttribute(name, cls))


def _dress_objects() -> None:
    cls: Any = QtCore.QObject
    find_child, find_children = cls.findChild, cls.findChildren
    own = {"connect": _by_signature(cls.connect, "connect"), "disconnect": _by_signature(cls.disconnect, "disconnect")}
    get_attribute = cls.__getattribute__

    def find_first(self: Any, kind: Any, name: str = "") -> Any:
        """As in PythonQt, a class comes first, by itself or by its name; a name alone finds nothing in Slicer."""
        return next(iter(find_all(self, kind, name)), None) if isinstance(kind, str) else find_child(self, kind, name)

    def find_all(self: Any, kind: Any = QtCore.QObject, name: str = "") -> list[Any]:
        if not isinstance(kind, str):
            return list(find_children(self, kind, name) if name else find_children(self, kind))
        every = find_children(self, QtCore.QObject)
        return [child for child in every if child.inherits(kind) and name in ("", child.objectName)]

    def get(self: Any, name: str) -> Any:
        """PySide6 looks these two up apart from the rest, so that replacing them on the class is not enough."""
        return MethodType(own[name], self) if name in own else get_attribute(self, name)

    cls.findChild, cls.findChildren = find_first, find_all
    cls.className = lambda self: self.metaObject().className()
    cls.delete = lambda self: shiboken6.delete(self)
    cls.name = property(lambda self: self.objectName, lambda self, name: self.setObjectName(name))
    cls.__getattribute__ = get


def _by_signature(original: Callable[..., Any], action: str) -> Callable[..., Any]:
    """`w.connect("clicked()", f)`, and `disconnect` likewise, beside PySide6's own forms."""

    def act(self: Any, *arguments: Any) -> Any:
        if arguments and isinstance(arguments[0], QtCore.QObject):
            return original(*arguments)  # as PySide6 itself calls it, with the sender first
        if not arguments or not isinstance(arguments[0], str) or arguments[0][:1] in "012":
            return original(self, *arguments)
        signature, *rest = arguments
        if len(rest) == 2:  # receiver and slot
            rest = [getattr(rest[0], str(rest[1]).split("(")[0].lstrip("1"))]
        meta = self.metaObject()
        if meta.indexOfSignal(QtCore.QMetaObject.normalizedSignature(signature).toStdString()) >= 0:
            original(self, QtCore.SIGNAL(signature), *rest)
            return True
        # Signals that carry MRML nodes have other types here than in Slicer.
        signal = getattr(self, signature.split("(")[0], None)
        if not isinstance(signal, QtCore.SignalInstance):
            raise RuntimeError(f"{type(self).__name__} has no signal {signature}")
        getattr(signal, action)(*rest)
        return True

    return act


def _dress_processes() -> None:
    cls: Any = QtCore.QIODevice
    write = cls.write

    def write_text(self: Any, data: Any) -> int:
        return int(write(self, data.encode() if isinstance(data, str) else data))

    cls.write = write_text
