"""Stand-ins for the widgets of CTK that scripted modules use: their properties and signals, and roughly their looks."""

from __future__ import annotations

import enum
import math
import os
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal

from . import pythonqt

pythonqt.dress()

SLIDER_STEPS = 10_000
HIDDEN_BY_CALLER = "_hiddenByCaller"


class _Foldable:
    """Hides the children of a widget, but for what its caller hides: that stays hidden when it is opened again."""

    def __init__(self, widget: QtWidgets.QWidget) -> None:
        self._widget = widget
        self._forcing = False

    def watch(self, child: QtCore.QObject) -> None:
        if isinstance(child, QtWidgets.QWidget):
            child.installEventFilter(self._widget)

    def note(self, child: QtCore.QObject, kind: QtCore.QEvent.Type, collapsed: bool) -> None:
        """The caller has shown or hidden a child."""
        if self._forcing or not isinstance(child, QtWidgets.QWidget) or child.parentWidget() is not self._widget:
            return
        if kind == QtCore.QEvent.Type.ShowToParent:
            child.setProperty(HIDDEN_BY_CALLER, False)
            if collapsed:
                self._set_visible(child, False)
        elif kind == QtCore.QEvent.Type.HideToParent:
            child.setProperty(HIDDEN_BY_CALLER, True)

    def fold(self, collapsed: bool) -> None:
        for child in self._widget.children():
            if isinstance(child, QtWidgets.QWidget) and not child.isWindow():
                if collapsed:
                    self._set_visible(child, False)
                elif not child.property(HIDDEN_BY_CALLER):
                    self._set_visible(child, True)

    def _set_visible(self, child: QtWidgets.QWidget, visible: bool) -> None:
        self._forcing = True
        child.setVisible(visible)
        self._forcing = False


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header bar over contents that it hides and shows."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        super().__init__(next((each for each in arguments if isinstance(each, QtWidgets.QWidget)), None))
        self._folding = _Foldable(self)
        self._collapsed = False
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.MinimumExpanding, QtWidgets.QSizePolicy.Policy.Preferred)
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.toggled.connect(lambda checked: self._fold(not checked))

    def isCollapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, isCollapsed, setCollapsed)

    def _fold(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self._folding.fold(collapsed)
        self.setMaximumHeight(self._header_height() if collapsed else 16777215)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def _header_height(self) -> int:
        return self.fontMetrics().height() + 10

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        if event.added():
            self._folding.watch(event.child())
        super().childEvent(event)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        self._folding.note(watched, event.type(), self._collapsed)
        return False

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() <= self._header_height()

    def sizeHint(self) -> QtCore.QSize:
        width = self.fontMetrics().horizontalAdvance(self.text) + 40
        height = self._header_height()
        if self.layout() is not None and not self._collapsed:
            inside = self.layout().sizeHint()
            return QtCore.QSize(max(width, inside.width()), height + inside.height())
        return QtCore.QSize(width, height)

    def minimumSizeHint(self) -> QtCore.QSize:
        if self.layout() is not None and not self._collapsed:
            inside = self.layout().minimumSize()
            return QtCore.QSize(inside.width(), self._header_height() + inside.height())
        return QtCore.QSize(40, self._header_height())

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), self._header_height())
        option.state |= QtWidgets.QStyle.StateFlag.State_Raised
        painter = QtWidgets.QStylePainter(self)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        _draw_arrow(painter, option, QtCore.QRect(8, option.rect.height() // 2 - 5, 10, 10), not self._collapsed)
        painter.setPen(self.palette.color(QtGui.QPalette.ColorRole.ButtonText))
        painter.drawText(option.rect.adjusted(26, 0, -4, 0), Qt.AlignmentFlag.AlignVCenter, self.text)
        if self.hasFocus():
            focus = QtWidgets.QStyleOptionFocusRect()
            focus.initFrom(self)
            focus.rect = option.rect.adjusted(3, 3, -3, -3)
            painter.drawPrimitive(QtWidgets.QStyle.PrimitiveElement.PE_FrameFocusRect, focus)


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box whose title folds its contents."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._folding = _Foldable(self)
        self._collapsed = False
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda checked: self._fold(not checked))

    def isCollapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, isCollapsed, setCollapsed)

    def _fold(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self._folding.fold(collapsed)
        self.setMaximumHeight(self.fontMetrics().height() + 12 if collapsed else 16777215)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        if event.added():
            self._folding.watch(event.child())
        super().childEvent(event)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        self._folding.note(watched, event.type(), self._collapsed)
        return False

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        option = QtWidgets.QStyleOptionGroupBox()
        self.initStyleOption(option)
        control, part = QtWidgets.QStyle.ComplexControl.CC_GroupBox, QtWidgets.QStyle.SubControl.SC_GroupBoxCheckBox
        box = self.style().subControlRect(control, option, part, self)
        option.subControls &= ~part
        option.text = f"     {option.text}"  # room for the arrow, in place of the check box
        painter = QtWidgets.QStylePainter(self)
        painter.drawComplexControl(control, option)
        _draw_arrow(painter, option, box.adjusted(1, 1, -1, -1), not self._collapsed)


def _draw_arrow(painter: QtWidgets.QStylePainter, like: QtWidgets.QStyleOption, rect: QtCore.QRect, down: bool) -> None:
    arrow = QtWidgets.QStyleOption(like)
    arrow.rect = rect
    element = QtWidgets.QStyle.PrimitiveElement
    painter.drawPrimitive(element.PE_IndicatorArrowDown if down else element.PE_IndicatorArrowRight, arrow)


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box with one value."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, SLIDER_STEPS)
        self._slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._box = QtWidgets.QDoubleSpinBox(self)
        self._box.setRange(0.0, 99.0)
        self._box.setKeyboardTracking(False)
        self.setFocusProxy(self._box)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._box)
        self._page_step = 10.0
        self._box.valueChanged.connect(self._on_value)
        self._slider.valueChanged.connect(self._on_slider)

    def _on_value(self, value: float) -> None:
        self._place_slider()
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _on_slider(self, step: int) -> None:
        lowest, highest = self._box.minimum, self._box.maximum
        self._box.setValue(lowest + (highest - lowest) * step / SLIDER_STEPS)

    def _place_slider(self) -> None:
        span = self._box.maximum - self._box.minimum
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(round(SLIDER_STEPS * (self._box.value - self._box.minimum) / span) if span else 0)
        self._slider.blockSignals(blocked)

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def setMinimum(self, value: float) -> None:
        self._box.setMinimum(_finite(value))
        self._place_slider()

    def setMaximum(self, value: float) -> None:
        self._box.setMaximum(_finite(value))
        self._place_slider()

    def setRange(self, minimum: float, maximum: float) -> None:
        self.setMinimum(minimum)
        self.setMaximum(maximum)

    def setSingleStep(self, step: float) -> None:
        self._box.setSingleStep(step)

    def setPageStep(self, step: float) -> None:
        self._page_step = step

    def setDecimals(self, decimals: int) -> None:
        self._box.setDecimals(decimals)

    def setSuffix(self, suffix: str) -> None:
        self._box.setSuffix(suffix)

    def setPrefix(self, prefix: str) -> None:
        self._box.setPrefix(prefix)

    def setTracking(self, tracking: bool) -> None:
        self._slider.setTracking(tracking)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._box.setVisible(visible)

    value = Property(float, lambda self: self._box.value, setValue)
    minimum = Property(float, lambda self: self._box.minimum, setMinimum)
    maximum = Property(float, lambda self: self._box.maximum, setMaximum)
    singleStep = Property(float, lambda self: self._box.singleStep, setSingleStep)
    pageStep = Property(float, lambda self: self._page_step, setPageStep)
    decimals = Property(int, lambda self: self._box.decimals, setDecimals)
    suffix = Property(str, lambda self: self._box.suffix, setSuffix)
    prefix = Property(str, lambda self: self._box.prefix, setPrefix)
    tracking = Property(bool, lambda self: self._slider.tracking, setTracking)
    spinBoxVisible = Property(bool, lambda self: not self._box.isHidden(), setSpinBoxVisible)


class ctkRangeWidget(QtWidgets.QWidget):
    """Two spin boxes, a minimum and a maximum."""

    valuesChanged = Signal(float, float)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(self), QtWidgets.QDoubleSpinBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for box in (self._low, self._high):
            row.addWidget(box)
            box.valueChanged.connect(lambda value: self.valuesChanged.emit(self._low.value, self._high.value))

    def setRange(self, minimum: float, maximum: float) -> None:
        self._low.setRange(minimum, maximum)
        self._high.setRange(minimum, maximum)

    def setValues(self, low: float, high: float) -> None:
        self._low.setValue(low)
        self._high.setValue(high)

    minimumValue = Property(float, lambda self: self._low.value, lambda self, value: self._low.setValue(value))
    maximumValue = Property(float, lambda self: self._high.value, lambda self, value: self._high.setValue(value))


class ctkDoubleRangeSlider(ctkRangeWidget):
    """Known by type alone."""


class ctkDoubleSlider(ctkSliderWidget):
    """Known by type alone."""


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path to type, or to choose in a dialog."""

    class Filter(enum.IntFlag):
        """As `QDir.Filter`."""

        Dirs = 0x1
        Files = 0x2
        Drives = 0x4
        NoSymLinks = 0x8
        Readable = 0x10
        Writable = 0x20
        Executable = 0x40

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    Dirs, Files, Drives, NoSymLinks = Filter.Dirs, Filter.Files, Filter.Drives, Filter.NoSymLinks
    Readable, Writable, Executable = Filter.Readable, Filter.Writable, Filter.Executable

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._filters = int(self.Filter.Files)
        self._label, self._setting, self._valid = "", "", False
        self._names: list[str] = []
        self._combo = QtWidgets.QComboBox(self)
        self._combo.setEditable(True)
        self._combo.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._combo.setMinimumContentsLength(6)
        self._button = QtWidgets.QToolButton(self)
        self._button.setText("...")
        self.setFocusProxy(self._combo)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addWidget(self._combo)
        row.addWidget(self._button)
        self._combo.editTextChanged.connect(self._on_text)
        self._button.clicked.connect(self.browse)

    def _on_text(self, path: str) -> None:
        self.currentPathChanged.emit(path)
        valid = (os.path.isdir(path) and bool(self._filters & 1)) or (os.path.isfile(path) and bool(self._filters & 2))
        if valid != self._valid:
            self._valid = valid
            self.validInputChanged.emit(valid)

    def setCurrentPath(self, path: str) -> None:
        self._combo.setEditText(str(path))

    def setFilters(self, filters: int) -> None:
        self._filters = int(filters)

    def setNameFilters(self, names: list[str]) -> None:
        self._names = list(names)

    def setLabel(self, label: str) -> None:
        self._label = label

    def setSettingKey(self, key: str) -> None:
        self._setting = key

    def setShowBrowseButton(self, visible: bool) -> None:
        self._button.setVisible(visible)

    def browse(self) -> None:
        """Ask for a path with a dialog."""
        files = QtWidgets.QFileDialog
        title, now = self._label or "Select a file or folder", self._combo.currentText
        if self._filters & self.Filter.Dirs:
            path: Any = files.getExistingDirectory(self, title, now)
        elif self._filters & self.Filter.Writable:
            path = files.getSaveFileName(self, title, now, ";;".join(self._names))
        else:
            path = files.getOpenFileName(self, title, now, ";;".join(self._names))
        if path:
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self) -> None:
        """Offer the path in the list from now on."""
        path = self._combo.currentText
        if path and self._combo.findText(path) < 0:
            blocked = self._combo.blockSignals(True)
            self._combo.insertItem(0, path)
            self._combo.setCurrentIndex(0)
            self._combo.blockSignals(blocked)

    currentPath = Property(str, lambda self: self._combo.currentText, setCurrentPath)
    filters = Property(int, lambda self: self._filters, setFilters)
    nameFilters = Property("QStringList", lambda self: self._names, setNameFilters)
    label = Property(str, lambda self: self._label, setLabel)
    settingKey = Property(str, lambda self: self._setting, setSettingKey)
    showBrowseButton = Property(bool, lambda self: not self._button.isHidden(), setShowBrowseButton)


class ctkDirectoryButton(QtWidgets.QPushButton):
    """A button that names a folder and asks for another."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*[each for each in arguments if isinstance(each, QtWidgets.QWidget)])
        self._directory = "."
        self.clicked.connect(self.browse)

    def setDirectory(self, path: str) -> None:
        if str(path) != self._directory:
            self._directory = str(path)
            self.setText(self._directory)
            self.directoryChanged.emit(self._directory)

    def browse(self) -> None:
        """Ask for a folder with a dialog."""
        path: Any = QtWidgets.QFileDialog.getExistingDirectory(self, "Select a folder", self._directory)
        if path:
            self.setDirectory(path)
            self.directorySelected.emit(path)

    directory = Property(str, lambda self: self._directory, setDirectory)


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text to show while nothing is chosen."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._force = False

    def setDefaultText(self, text: str) -> None:
        self.setPlaceholderText(text)

    defaultText = Property(str, lambda self: self.placeholderText, setDefaultText)


class ctkCheckBox(QtWidgets.QCheckBox):
    """Known by type alone."""


class ctkPushButton(QtWidgets.QPushButton):
    """Known by type alone."""


class ctkCheckablePushButton(QtWidgets.QPushButton):
    """Known by type alone."""

    checkBoxControlsButtonToggleState = False


class ctkDoubleSpinBox(QtWidgets.QDoubleSpinBox):
    """Known by type alone."""


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """Known by type alone."""


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box with a setting under which the user is not asked again."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._key = ""

    dontShowAgainSettingsKey = Property(str, lambda self: self._key, lambda self, key: setattr(self, "_key", key))


class ctkColorPickerButton(QtWidgets.QPushButton):
    """A button with a colour."""

    colorChanged = Signal(QtGui.QColor)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._color = QtGui.QColor("black")

    def setColor(self, color: QtGui.QColor) -> None:
        if color != self._color:
            self._color = color
            self.colorChanged.emit(color)

    color = Property(QtGui.QColor, lambda self: self._color, setColor)


def _finite(value: float) -> float:
    """Spin boxes take no infinity."""
    return value if math.isfinite(value) else math.copysign(1e300, value)


WIDGETS: dict[str, type] = {name: value for name, value in list(globals().items()) if name.startswith("ctk")}
