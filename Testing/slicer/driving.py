"""Drives the panel as a user does: sets controls, clicks, waits, looks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import slicer

from CardiacDiffusionAugLib.environment import choosePython
from slicer_harness.loop import LongestPause, process_events, wait_until
from slicer_harness.views import screenshot

PICTURES = Path(__file__).resolve().parents[2] / "build" / "screenshots"
SECTIONS = ("model", "generate", "mask", "review", "save", "tune", "segment", "log")
PATIENCE = 120.0
LONGEST_PAUSE_MS = 100


class Driver:
    """A user in front of the panel.

    Args:
        widget: of the module, from the fixture `panel`.
    """

    def __init__(self, widget: Any) -> None:
        self.widget, self.ui, self.panel, self.logic = widget, widget.ui, widget.panel, widget.logic
        choosePython(sys.executable)
        self.panel.lookForPackages()

    @property
    def parameters(self) -> Any:
        """Settings of the scene."""
        return self.panel.parameters

    @property
    def message(self) -> str:
        """What stands beside the progress."""
        return str(self.ui.jobLabel.text)

    def open(self, *names: str) -> None:
        """Open these sections, and close the others."""
        for name in SECTIONS:
            getattr(self.ui, f"{name}Collapsible").collapsed = name not in names
        process_events()

    def choose(self, box: Any, text: str) -> None:
        """Choose an entry of a combo box, as with the mouse."""
        index = box.findText(text)
        assert index >= 0, f"{box.objectName} has no entry {text!r}"
        box.setCurrentIndex(index)
        box.activated.emit(index)
        process_events()

    def click(self, button: Any) -> None:
        """Click a button, which must be enabled."""
        process_events()
        assert button.enabled, f"{button.objectName} is disabled: {button.toolTip}"
        button.click()
        process_events()

    def run(self, button: Any, seconds: float = PATIENCE) -> str:
        """Click a button and wait for its job; returns what stands beside the progress then.

        Raises:
            AssertionError: meanwhile the window stood still longer than `LONGEST_PAUSE_MS`.
        """
        with LongestPause() as pause:
            self.click(button)
            self.wait_for_job(seconds)
        assert pause.milliseconds <= LONGEST_PAUSE_MS, f"the window stood still for {pause}"
        return self.message

    def wait_for_job(self, seconds: float = PATIENCE) -> None:
        """Wait until no job runs."""
        wait_until(lambda: self.panel.job is None, seconds, f"the job ends; it said: {self.message}")
        process_events()

    def picture(self, name: str, width: int = 350) -> Path:
        """Write a screenshot for the eye."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        return Path(screenshot(self.widget.parent, PICTURES / f"{name}.png", width))


def is_running(process: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def node_names() -> set[str]:
    """Identifiers of all nodes of the scene."""
    scene = slicer.mrmlScene
    return {scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())}
