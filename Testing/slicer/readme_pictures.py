"""Makes the pictures of the README: the panel and the slice view beside it, with the shipped weights.

.venv/bin/python Testing/slicer/readme_pictures.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("CardiacDiffusionAug", "Testing/slicer/harness", "Testing/slicer")]
sys.path.append(str(ROOT / "Testing" / "engine"))

import slicer_harness  # noqa: E402

PICTURES = ROOT / "Resources" / "Screenshots"
VIEW = (520, 520)


def compose(user: Any, name: str) -> None:
    """Write the panel, and the slice view at its right."""
    from PIL import Image

    from slicer_harness.views import screenshot, slice_png

    with tempfile.TemporaryDirectory() as folder:
        panel = Image.open(screenshot(user.widget.parent, Path(folder) / "panel.png", 370)).convert("RGB")
        view = Image.open(slice_png(Path(folder) / "view.png", VIEW)).convert("RGB")
    picture = Image.new("RGB", (panel.width + view.width, max(panel.height, view.height)), panel.getpixel((2, 2)))
    picture.paste(panel, (0, 0))
    picture.paste(view, (panel.width, 0))
    PICTURES.mkdir(exist_ok=True)
    picture.save(PICTURES / f"{name}.png", optimize=True)


def main() -> None:
    """Drive the panel through the tutorial."""
    slicer_harness.start_application()
    import slicer

    from slicer_harness.loop import process_events, wait_until
    from slicer_harness.modules import load_module, unload_module

    widget = load_module(ROOT / "CardiacDiffusionAug" / "CardiacDiffusionAug.py")
    from CardiacDiffusionAugLib import sample
    from CardiacDiffusionAugLib.cases import KEPT, REJECTED
    from driving import Driver

    user = Driver(widget)
    ui, review = user.ui, user.panel.review
    user.open("generate", "review")
    ui.countSpinBox.value = 9
    user.choose(ui.groupComboBox, "Hypertrophic")
    user.run(ui.generateButton, 300)
    wait_until(lambda: not review._queue, 30)
    review.goTo(4)
    user.open("generate")
    compose(user, "Generate")

    user.open("review")
    review.goTo(0)
    for state in (KEPT, KEPT, REJECTED, KEPT):
        review.judge(state)
    process_events()
    compose(user, "Review")

    volume, segmentation = sample.load()
    user.open("mask")
    ui.maskSelector.setCurrentNode(segmentation)
    process_events()
    user.run(ui.synthesizeButton, 300)
    cases = review.cases
    compose(user, "FromMyMask")

    user.open("segment")
    for shown in cases.shownNodes():
        slicer.mrmlScene.RemoveNode(shown)
    segmentation.GetDisplayNode().SetVisibility(False)
    ui.scanSelector.setCurrentNode(volume)
    user.run(ui.segmentButton, 300)
    compose(user, "Segment")
    unload_module("CardiacDiffusionAug")


if __name__ == "__main__":
    main()
