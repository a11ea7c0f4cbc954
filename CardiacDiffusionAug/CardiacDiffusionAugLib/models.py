"""The models at hand, and each at a glance, from its `bundle.json` alone: nothing is loaded or verified here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cardiac_diffusion_aug.bundle import BUNDLE_FILE, CARD_FILE, GENERATOR, available_models


@dataclass(frozen=True)
class Model:
    """A model on disk.

    Attributes:
        name: that jobs find it by: a known name, or its folder.
        folder: where it lies.
        info: what it says of itself; empty where that cannot be read.
    """

    name: str
    folder: Path
    info: dict[str, Any]

    @property
    def kind(self) -> str:
        """`generator` or `segmenter`."""
        return str(self.info.get("kind", GENERATOR))

    @property
    def glance(self) -> str:
        """One line for people: version, training, license."""
        if not self.info:
            return f"{self.folder} cannot be read; choose another model."
        training = self.info.get("training", {})
        trained = training.get("image_denoiser", training)
        patients = len(trained.get("facts", {}).get("split", {}).get("train", ()))
        parts = (
            f"{self.info.get('name')} {self.info.get('version')}",
            f"trained on {patients} patients" if patients else "",
            str(self.info.get("license", "")),
        )
        return ", ".join(part for part in parts if part)

    @property
    def imageCalls(self) -> int | None:
        """Network calls for an image, where the model was taught to make one in so many and no other number is good."""
        return self.info["defaults"]["image_steps"] if "image_steps" in self.info.get("fixed_calls", ()) else None

    @property
    def card(self) -> str:
        """The model card in Markdown; empty where there is none."""
        path = self.folder / CARD_FILE
        return path.read_text(encoding="utf-8") if path.is_file() else ""


def models(kind: str, extra: str = "") -> list[Model]:
    """Models of a kind, shipped ones first.

    Args:
        kind: `generator` or `segmenter`.
        extra: folder of a further one; may be empty.
    """
    found = [modelAt(folder, name) for name, folder in available_models().items()]
    if extra and (Path(extra) / BUNDLE_FILE).is_file():
        found.append(modelAt(Path(extra), extra))
    return [model for model in found if model.kind == kind or not model.info]


def modelAt(folder: Path, name: str = "") -> Model:
    """The model in a folder."""
    try:
        info = json.loads((folder / BUNDLE_FILE).read_bytes())
    except (OSError, ValueError):
        info = {}
    return Model(name or str(folder), folder, info if isinstance(info, dict) else {})
