"""What every control must have: a tooltip, a place in the keyboard's order, and room for its text, light and dark."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import qt
from driving import SECTIONS, Driver
from slicer_harness.loop import process_events
from slicer_harness.views import set_dark
from test_cases import filled

UI = Path(__file__).resolve().parents[2] / "CardiacDiffusionAug" / "Resources" / "UI" / "CardiacDiffusionAug.ui"
NARROW = 350
CONTROLS = (
    "QPushButton",
    "QToolButton",
    "QCheckBox",
    "QComboBox",
    "QSpinBox",
    "QDoubleSpinBox",
    "QLineEdit",
    "QListWidget",
    "QTableWidget",
    "QPlainTextEdit",
    "ctkPathLineEdit",
    "ctkSliderWidget",
    "ctkCollapsibleButton",
    "qMRMLNodeComboBox",
)


def named_controls() -> list[str]:
    """Names of all controls in the `.ui` file."""
    found = re.findall(r'<widget class="(\w+)" name="(\w+)"', UI.read_text(encoding="utf-8"))
    return [name for kind, name in found if kind in CONTROLS]


@pytest.fixture
def driver(panel: Any) -> Driver:
    """A user who has opened all sections and has cases to look at."""
    user = Driver(panel)
    cases, _ = filled(3)
    user.parameters.cases = cases.browser
    user.open(*SECTIONS)
    return user


def test_every_control_tells_what_it_does(driver: Driver) -> None:
    names = named_controls()
    assert len(names) > 50
    silent = [name for name in names if not getattr(driver.ui, name).toolTip.strip()]
    assert silent == []


def test_every_control_is_reached_with_the_keyboard(driver: Driver) -> None:
    def reached(widget: Any) -> bool:
        own = bool(int(widget.focusPolicy) & int(qt.Qt.TabFocus))
        return own or any(reached(child) for child in widget.findChildren(qt.QWidget) if child is not widget)

    assert [name for name in named_controls() if not reached(getattr(driver.ui, name))] == []


def test_every_disabled_control_says_why(driver: Driver) -> None:
    own = dict(re.findall(r'name="(\w+Button)">\s*<property name="toolTip">\s*<string>(.*?)</string>', UI.read_text()))
    for name in named_controls():
        widget = getattr(driver.ui, name)
        if not widget.enabled and name in own:
            assert len(widget.toolTip) > len(own[name].replace("&amp;", "&")), f"{name} does not say why it is off"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_text_is_cut_off_in_a_narrow_panel(driver: Driver, slicer_app: Any, dark: bool) -> None:
    set_dark(slicer_app, dark)
    try:
        driver.picture("all-dark" if dark else "all", NARROW)
        process_events()
        cut = []
        for kind in (qt.QLabel, qt.QPushButton, qt.QCheckBox):
            for widget in driver.widget.parent.findChildren(kind):
                if widget.isVisible() and widget.text and not fits(widget):
                    cut.append(f"{widget.objectName}: {widget.text!r}")
        assert cut == []
        assert driver.widget.parent.width <= NARROW
    finally:
        set_dark(slicer_app, False)


def fits(widget: Any) -> bool:
    """Whether all of a widget's text is seen."""
    if getattr(widget, "wordWrap", False):
        return bool(widget.heightForWidth(widget.width) <= widget.height)
    return bool(widget.sizeHint().width() <= widget.width)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_stand_out_from_their_background(driver: Driver, slicer_app: Any, dark: bool) -> None:
    set_dark(slicer_app, dark)
    try:
        driver.panel.review.judge("kept")
        driver.panel.review.judge("rejected")
        process_events()
        for line in range(2):
            cell = driver.ui.caseTable.item(line, 0)
            ink, paper = cell.foreground().color().lightness(), cell.background().color().lightness()
            assert abs(ink - paper) > 120
    finally:
        set_dark(slicer_app, False)


def test_a_picture_imports_nothing_heavy() -> None:
    """Whatever it imports stops the window while the first cases come."""
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(UI.parents[2])!r})\n"
        "import numpy as np, SimpleITK as sitk\n"
        "from CardiacDiffusionAugLib.pictures import png, thumbnail\n"
        "mask = np.zeros((2, 32, 32), np.uint8)\n"
        "mask[1, 8:20, 8:20], mask[1, 10:18, 10:18] = 2, 1\n"
        "picture = thumbnail(sitk.GetImageFromArray(mask * 50), sitk.GetImageFromArray(mask))\n"
        "assert picture.shape == (32, 32, 3) and png(picture).startswith(b'\\x89PNG')\n"
        "assert len({tuple(pixel) for pixel in picture[14, 8:12]}) == 3, 'outlines of both, and what is within'\n"
        "assert not {'scipy', 'torch', 'matplotlib'} & set(sys.modules), sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
