"""What would be shown to the user, written down; what the user would answer, set by the test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets

Buttons = QtWidgets.QMessageBox.StandardButton


@dataclass(frozen=True)
class Shown:
    """One dialog.

    Attributes:
        kind: name of the function or class that showed it, such as `errorDisplay`.
        text: what it says.
        details: keywords of the call.
    """

    kind: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)


class Dialogs:
    """Dialogs shown so far, and answers to those that ask.

    Attributes:
        shown: all dialogs, oldest first.
        opened: addresses and files given to the desktop.
        confirm: answer to questions; True agrees.
        paths: what file dialogs give, one each; an empty path cancels, as does a dialog for which none is left.
        texts: what text dialogs give, likewise.
        button: answer of message boxes; None agrees or refuses as `confirm` says.
    """

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self.opened: list[str] = []
        self.confirm = True
        self.paths: list[str] = []
        self.texts: list[str] = []
        self.button: int | None = None

    def reset(self) -> None:
        """Forget dialogs and answers."""
        vars(self).update(vars(Dialogs()))

    def texts_of(self, kind: str) -> list[str]:
        """What dialogs of a kind have said."""
        return [each.text for each in self.shown if each.kind == kind]

    @property
    def errors(self) -> list[str]:
        """What `slicer.util.errorDisplay` has said."""
        return self.texts_of("errorDisplay")

    def show(self, kind: str, text: Any, **details: Any) -> None:
        """Write a dialog down."""
        self.shown.append(Shown(kind, str(text), details))

    def install(self) -> None:
        """Put the recorders in place of everything that would wait for a user."""
        self._install_slicer()
        self._install_message_boxes()
        self._install_other_boxes()

    def _install_slicer(self) -> None:
        for kind in ("infoDisplay", "warningDisplay", "errorDisplay", "delayDisplay", "showStatusMessage"):
            setattr(slicer.util, kind, self._teller(kind))
        for kind in ("confirmOkCancelDisplay", "confirmYesNoDisplay", "confirmRetryCloseDisplay"):
            setattr(slicer.util, kind, self._asker(kind))

        def message_box(text: str, parent: Any = None, **details: Any) -> int:
            self.show("messageBox", text, **details)
            return self._button()

        slicer.util.messageBox = message_box

    def _teller(self, kind: str) -> Any:
        def tell(text: str, *arguments: Any, **details: Any) -> None:
            self.show(kind, text, **details)

        return tell

    def _asker(self, kind: str) -> Any:
        def ask(text: str, *arguments: Any, **details: Any) -> bool:
            self.show(kind, text, **details)
            return self.confirm

        return ask

    def _button(self, yes: int = Buttons.Ok, no: int = Buttons.Cancel) -> int:
        if self.button is not None:
            return self.button
        return yes if self.confirm else no

    def _install_message_boxes(self) -> None:
        boxes: Any = QtWidgets.QMessageBox
        for kind in ("information", "warning", "critical", "question", "about"):

            def static(parent: Any, title: str, text: str, *arguments: Any, kind: str = kind, **details: Any) -> int:
                self.show(f"QMessageBox.{kind}", text, title=title)
                return self._button(Buttons.Yes, Buttons.No) if kind == "question" else self._button()

            setattr(boxes, kind, staticmethod(static))

        def run(box: Any) -> int:
            self.show(type(box).__name__, box.text, title=box.windowTitle, detailedText=box.detailedText)
            buttons = int(box.standardButtons)
            yes = Buttons.Yes if buttons & Buttons.Yes else Buttons.Ok
            no = next((each for each in (Buttons.No, Buttons.Cancel, Buttons.Close) if buttons & each), Buttons.Cancel)
            return self._button(yes, no)

        boxes.exec = boxes.exec_ = run

    def _install_other_boxes(self) -> None:
        files: Any = QtWidgets.QFileDialog
        # PythonQt gives the path alone, PySide6 a tuple of path and filter.
        for kind in ("getOpenFileName", "getSaveFileName", "getExistingDirectory"):
            setattr(files, kind, staticmethod(self._path_asker(kind, False)))
        files.getOpenFileNames = staticmethod(self._path_asker("getOpenFileNames", True))

        def get_text(parent: Any, title: str, label: str, *arguments: Any, **details: Any) -> str:
            self.show("QInputDialog.getText", label, title=title)
            return self.texts.pop(0) if self.texts else ""

        inputs: Any = QtWidgets.QInputDialog
        inputs.getText = staticmethod(get_text)
        dialog: Any = QtWidgets.QDialog

        def run(box: Any) -> int:
            self.show(type(box).__name__, box.windowTitle, dialog=box)
            return int(self.confirm)

        dialog.exec = dialog.exec_ = run
        desktop: Any = QtGui.QDesktopServices

        def open_url(url: Any) -> bool:
            self.opened.append(url.toString() if isinstance(url, QtCore.QUrl) else str(url))
            return True

        desktop.openUrl = staticmethod(open_url)

    def _path_asker(self, kind: str, several: bool) -> Any:
        def ask(parent: Any = None, title: str = "", folder: str = "", *arguments: Any, **details: Any) -> Any:
            self.show(f"QFileDialog.{kind}", title, folder=folder)
            path = self.paths.pop(0) if self.paths else ""
            return ([path] if path else []) if several else path

        return ask


dialogs = Dialogs()
"""Of the one application that a test run has."""
