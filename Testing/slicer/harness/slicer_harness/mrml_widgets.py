"""Stand-ins for Slicer's own widgets, over the real MRML scene."""

from __future__ import annotations

import weakref
from typing import Any

import shiboken6
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from . import pythonqt
from .ctk_widgets import ctkComboBox, ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget

pythonqt.dress()

NODE_ROLE, ACTION_ROLE = 256, 257
SCENE_EVENTS = ("NodeAddedEvent", "NodeRemovedEvent", "EndBatchProcessEvent", "EndCloseEvent")


class qMRMLWidget(QtWidgets.QWidget):
    """A panel that hands its scene to the widgets that it is connected with."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class _SceneObserver:
    """Observes a scene for as long as its widget lives."""

    def __init__(self, widget: QtCore.QObject) -> None:
        self._widget = weakref.ref(widget)
        self._tags: list[tuple[Any, int]] = []

    def observe(self, subject: Any, event: Any, method: str) -> None:
        self._tags.append((subject, subject.AddObserver(event, lambda caller, name: self._call(method, caller))))

    def clear(self) -> None:
        for subject, tag in self._tags:
            subject.RemoveObserver(tag)
        self._tags.clear()

    def _call(self, method: str, caller: Any) -> None:
        widget = self._widget()
        if widget is not None and shiboken6.isValid(widget):
            getattr(widget, method)(caller)


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Chooses a node of the scene, which it follows.

    As in Slicer: without a scene it is disabled; without `noneEnabled` it always has a node where there is one; when
    the chosen node is removed, the one that took its place in the list is chosen.
    """

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._types: list[str] = []
        self._hidden_types: list[str] = []
        self._none, self._add, self._rename, self._remove, self._edit = False, True, False, True, False
        self._children, self._show_hidden, self._select_new = True, False, True
        self._none_text, self._base_name = "None", ""
        self._attributes: dict[tuple[str, str], str | None] = {}
        self._current = ""
        self._scene_observer, self._node_observer = _SceneObserver(self), _SceneObserver(self)
        self._combo = ctkComboBox(self)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setMinimumContentsLength(8)
        self._combo.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._combo)
        self.setFocusProxy(self._combo)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.currentIndexChanged.connect(self._on_index)
        self._combo.activated.connect(self._on_activated)
        self.setEnabled(False)

    # Scene

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._scene_observer.clear()
        self._scene = scene
        if scene is not None:
            for event in SCENE_EVENTS:
                self._scene_observer.observe(scene, getattr(scene, event), "_refill")
        self.setEnabled(scene is not None)
        self._refill()

    def nodes(self) -> list[Any]:
        """Nodes that can be chosen, in the order of the scene."""
        return [node for node in self._typed_nodes() if self._accepts(node)]

    def _typed_nodes(self) -> list[Any]:
        """Nodes of the wanted types, hidden ones too; VTK looks for them, as Python would take too long."""
        if self._scene is None:
            return []
        found: dict[str, Any] = {}
        for kind in self._types:
            nodes = self._scene.GetNodesByClass(kind)
            nodes.UnRegister(None)
            for i in range(nodes.GetNumberOfItems()):
                node = nodes.GetItemAsObject(i)
                if self._of_types(node):
                    found[node.GetID()] = node
        every = self._scene.GetNodes()
        return sorted(found.values(), key=every.IndexOfFirstOccurence) if len(self._types) > 1 else list(found.values())

    def nodeCount(self) -> int:
        return len(self.nodes())

    def nodeFromIndex(self, index: int) -> Any:
        nodes = self.nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    def _of_types(self, node: Any) -> bool:
        if any(node.IsA(name) for name in self._hidden_types):
            return False
        name = node.GetClassName()
        return any(name == each or (self._children and node.IsA(each)) for each in self._types)

    def _accepts(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self._show_hidden:
            return False
        for (kind, name), wanted in self._attributes.items():
            if node.IsA(kind) and (node.GetAttribute(name) is None or wanted not in (None, node.GetAttribute(name))):
                return False
        return True

    def _refill(self, caller: Any = None) -> None:
        """Bring the list up to date; a scene that is opened or closed is followed at its end."""
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        before, row = self._current, self._combo.currentIndex
        nodes = self.nodes()
        blocked = self._combo.blockSignals(True)
        self._fill(nodes)
        ids = [node.GetID() for node in nodes]
        if self._current not in ids:
            self._current = self._replacement(ids, row)
        self._show_current()
        self._combo.blockSignals(blocked)
        if self._current != before:
            self._tell()

    def _replacement(self, ids: list[str], row: int) -> str:
        if self._none and (not self._current or row < 1):
            return ""
        position = row - int(self._none)
        return ids[max(0, min(position, len(ids) - 1))] if ids else ""

    def _fill(self, nodes: list[Any]) -> None:
        self._node_observer.clear()
        self._combo.clear()
        label = self._label(self._types[0]) if self._types else "node"
        self._combo.setDefaultText(f"Select a {label}")
        if self._none:
            self._combo.addItem(self._none_text)
        for node in nodes:
            self._combo.addItem(node.GetName() or "")
            self._combo.setItemData(self._combo.count - 1, node.GetID(), NODE_ROLE)
        if self._scene is not None:
            for node in self._typed_nodes():
                self._node_observer.observe(node, vtk.vtkCommand.ModifiedEvent, "_follow_node")
            self._fill_actions(label)

    def _fill_actions(self, label: str) -> None:
        actions = [
            (self._rename, f"Rename current {label}", "rename"),
            (self._edit, f"Edit current {label}", "edit"),
            *((self._add, f"Create new {self._label(kind)}", f"create {kind}") for kind in self._types),
            (self._remove, f"Delete current {label}", "delete"),
        ]
        shown = [(text, what) for wanted, text, what in actions if wanted]
        if shown:
            self._combo.insertSeparator(self._combo.count)
        for text, what in shown:
            self._combo.addItem(text)
            self._combo.setItemData(self._combo.count - 1, what, ACTION_ROLE)

    def _label(self, kind: str) -> str:
        return (self._scene.GetTypeDisplayNameByClassName(kind) if self._scene is not None else "") or "node"

    def _follow_node(self, node: Any) -> None:
        """A node has changed: its name, or whether it is offered at all."""
        row = self._row(node.GetID() or "")
        if self._accepts(node) != (row >= 0):
            self._refill()
        elif row >= 0 and self._combo.itemText(row) != (node.GetName() or ""):
            self._combo.setItemText(row, node.GetName() or "")

    # The chosen node

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, identifier: str | None) -> None:
        identifier = identifier or ""
        if identifier and self._row(identifier) < 0:
            self._refill()
        if identifier and self._row(identifier) < 0:
            identifier = ""
        changed = identifier != self._current
        self._current = identifier
        blocked = self._combo.blockSignals(True)
        self._show_current(chosen=True)
        self._combo.blockSignals(blocked)
        if changed:
            self._tell()

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def currentNodeIndex(self) -> int:
        return [node.GetID() for node in self.nodes()].index(self._current) if self._current else -1

    def _row(self, identifier: str) -> int:
        return int(self._combo.findData(identifier, NODE_ROLE))

    def _show_current(self, chosen: bool = False) -> None:
        if self._current:
            self._combo.setCurrentIndex(self._row(self._current))
        else:
            self._combo.setCurrentIndex(0 if self._none and chosen else -1)

    def _tell(self) -> None:
        node = self.currentNode()
        self.currentNodeChanged.emit(node)
        self.currentNodeIDChanged.emit(self._current)

    def _on_index(self, row: int) -> None:
        if self._combo.itemData(row, ACTION_ROLE) is None:
            self.setCurrentNodeID(self._combo.itemData(row, NODE_ROLE) or "")

    def _on_activated(self, row: int) -> None:
        action = self._combo.itemData(row, ACTION_ROLE)
        if action is None:
            self.nodeActivated.emit(self.currentNode())
            return
        blocked = self._combo.blockSignals(True)
        self._show_current()
        self._combo.blockSignals(blocked)
        what, _, kind = action.partition(" ")
        if what == "create":
            self.addNode(kind)
        elif what == "delete":
            self.removeCurrentNode()
        elif what == "rename":
            self.renameCurrentNode()

    def addNode(self, kind: str = "") -> Any:
        """Make a node of a type, the first by default."""
        kind = kind or (self._types[0] if self._types else "")
        if self._scene is None or kind not in self._types:
            return None
        node = self._scene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetName(self._scene.GenerateUniqueName(self._base_name or self._label(kind)))
        for (wanted, name), value in self._attributes.items():
            if node.IsA(wanted):
                node.SetAttribute(name, value or "")
        node = self._scene.AddNode(node)
        if self._select_new:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        if node is None:
            return
        answer: Any = QtWidgets.QInputDialog.getText(self, "Rename", "New name:", text=node.GetName())
        name = answer[0] if isinstance(answer, tuple) else answer
        if name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        """Offer only nodes of a type that have an attribute, of a value where one is given."""
        self._attributes[kind, name] = None if value is None else str(value)
        self._refill()

    def removeAttribute(self, kind: str, name: str) -> None:
        self._attributes.pop((kind, name), None)
        self._refill()

    def setBaseName(self, name: str, kind: str = "") -> None:
        self._base_name = name

    # Properties

    def setNodeTypes(self, types: Any) -> None:
        self._types = [types] if isinstance(types, str) else list(types)
        self._refill()

    def setHideChildNodeTypes(self, types: Any) -> None:
        self._hidden_types = [types] if isinstance(types, str) else list(types)
        self._refill()

    def _setter(name: str) -> Any:
        def set_value(self: Any, value: Any) -> None:
            setattr(self, name, value)
            self._refill()

        return set_value

    setNoneEnabled, setAddEnabled, setRenameEnabled = _setter("_none"), _setter("_add"), _setter("_rename")
    setRemoveEnabled, setEditEnabled = _setter("_remove"), _setter("_edit")
    setShowChildNodeTypes, setShowHidden = _setter("_children"), _setter("_show_hidden")
    setNoneDisplay, setSelectNodeUponCreation = _setter("_none_text"), _setter("_select_new")

    nodeTypes = Property("QStringList", lambda self: self._types, setNodeTypes)
    hideChildNodeTypes = Property("QStringList", lambda self: self._hidden_types, setHideChildNodeTypes)
    noneEnabled = Property(bool, lambda self: self._none, setNoneEnabled)
    addEnabled = Property(bool, lambda self: self._add, setAddEnabled)
    renameEnabled = Property(bool, lambda self: self._rename, setRenameEnabled)
    removeEnabled = Property(bool, lambda self: self._remove, setRemoveEnabled)
    editEnabled = Property(bool, lambda self: self._edit, setEditEnabled)
    showChildNodeTypes = Property(bool, lambda self: self._children, setShowChildNodeTypes)
    showHidden = Property(bool, lambda self: self._show_hidden, setShowHidden)
    selectNodeUponCreation = Property(bool, lambda self: self._select_new, setSelectNodeUponCreation)
    noneDisplay = Property(str, lambda self: self._none_text, setNoneDisplay)
    baseName = Property(str, lambda self: self._base_name, setBaseName)
    currentNodeID = Property(str, lambda self: self._current, setCurrentNodeID)
    del _setter


class qMRMLSliderWidget(ctkSliderWidget):
    """Known by type alone."""

    def setMRMLScene(self, scene: Any) -> None:
        """Units of the scene are not followed."""


class qMRMLSpinBox(ctkDoubleSpinBox):
    """Known by type alone."""

    def setMRMLScene(self, scene: Any) -> None:
        """Units of the scene are not followed."""


class qMRMLRangeWidget(ctkRangeWidget):
    """Known by type alone."""


WIDGETS: dict[str, type] = {name: value for name, value in list(globals().items()) if name.startswith("qMRML")}
