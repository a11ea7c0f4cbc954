"""Changes to what the arm with real and made slices gets, each tried beside it: what a user could decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...errors import CardiacError, shown

BALANCED, OPEN, REAL = "balanced", "open", "real"


@dataclass(frozen=True)
class Variant:
    """A change; what is None stays as the study has it.

    Attributes:
        ratio: made slices for each real one.
        mixing: `mixed` or `first`.
        share: of the samples that are made ones.
        filter: whether only sound slices are kept.
        groups: `balanced` where each diagnostic group comes as often as the others.
        attributes: `open` where phase, level and group are not drawn from the training data, but left to the networks.
        masks: `real` where images are made for the real masks in place of new ones.
        shape: mm by which proportions of new masks are varied at most.
        steps: network calls for an image.
        generator: another model of the same patients.
        pretrained: a model that other patients trained too, though none of those who test.
    """

    ratio: float | None = None
    mixing: str | None = None
    share: float | None = None
    filter: bool | None = None
    groups: str | None = None
    attributes: str | None = None
    masks: str | None = None
    shape: float | None = None
    steps: int | None = None
    generator: Path | None = None
    pretrained: Path | None = None

    @property
    def text(self) -> str:
        """As it is asked for, but the name of a generator's folder stands for its path."""
        return "+".join(f"{name}={_text(value)}" for name, value in self.changes.items())

    @property
    def folder(self) -> str:
        """Of all that belongs to it."""
        return self.text.replace("=", "-")

    @property
    def words(self) -> str:
        """For a table."""
        return ", ".join(_WORDS[name](value) for name, value in self.changes.items())

    @property
    def changes(self) -> dict[str, Any]:
        """What is not None, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    @property
    def making(self) -> Variant:
        """What it changes of how slices are made, without their number and mixture."""
        return replace(self, ratio=None, mixing=None, share=None)

    @property
    def model(self) -> Path | None:
        """That makes the slices in place of the study's."""
        return self.generator or self.pretrained

    @property
    def makes(self) -> bool:
        """Whether its slices are made in another way, not only another number of them."""
        return self.making != Variant()

    @property
    def remixes(self) -> bool:
        """Whether the U-Net gets another number or mixture of slices."""
        return self != self.making


def parse_variants(text: str, base: Mapping[str, Any]) -> list[Variant]:
    """The variants that a text such as `ratio=5, mixing=first, ratio=5+filter=off` lists, each once.

    What is as in the study anyway is dropped from a variant that changes something else.

    Args:
        text: empty for none.
        base: values of the study itself by the names of a variant's attributes.

    Raises:
        CardiacError: one is not understood, or changes nothing.
    """
    found: dict[str, Variant] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        variant = _without(_parsed(word), base)
        if variant == Variant():
            raise CardiacError(f"--variants names {shown(word)}, which is what the study does anyway; leave it out.")
        if found.setdefault(variant.folder, variant) != variant:
            raise CardiacError(
                f"--variants names two that are called {variant.folder}; give the folders of their models different "
                "names."
            )
    return list(found.values())


def _without(variant: Variant, base: Mapping[str, Any]) -> Variant:
    # Another model has a number of network calls of its own, which the study's need not be.
    same = {
        name
        for name, value in variant.changes.items()
        if name in base and base[name] == value and not (name == "steps" and variant.model)
    }
    return replace(variant, **dict.fromkeys(same))


def _parsed(word: str) -> Variant:
    values: dict[str, Any] = {}
    for part in word.split("+"):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name in values:
            raise CardiacError(f"--variants names {shown(word)}, which gives {name} twice; give it once.")
        try:
            values[name] = _READERS[name](value)
        except (KeyError, ValueError, OverflowError) as error:
            raise CardiacError(
                f"--variants names {shown(part)}, but must list changes such as {', '.join(_EXAMPLES)}."
            ) from error
    variant = Variant(**values)
    of_masks = (variant.groups, variant.attributes, variant.shape, variant.filter)
    if variant.masks == REAL and any(value is not None for value in of_masks):
        raise CardiacError(
            f"--variants names {shown(word)}, but real masks are taken as they are; leave groups, attributes, shape "
            "and filter out."
        )
    if variant.generator and variant.pretrained:
        raise CardiacError(
            f"--variants names {shown(word)}, but one model makes the slices; choose generator or pretrained."
        )
    if variant.groups and variant.attributes:
        raise CardiacError(
            f"--variants names {shown(word)}, but what is left open is not drawn; choose groups or attributes."
        )
    return variant


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return read


def _number(low: float, high: float, kind: type = float) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = kind(text)
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(text)
        return value

    return read


def _folder(text: str) -> Path:
    if not text:
        raise ValueError(text)
    return Path(text)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Path):
        return value.resolve().name
    return f"{value:g}" if isinstance(value, float) else str(value)


_READERS: dict[str, Callable[[str], Any]] = {
    "ratio": _number(0.01, 1000),
    "mixing": _one_of("mixed", "first"),
    "share": _number(0.0, 1.0),
    "filter": lambda text: {"on": True, "off": False}[text],
    "groups": _one_of(BALANCED),
    "attributes": _one_of(OPEN),
    "masks": _one_of(REAL),
    "shape": _number(0.1, 10.0),
    "steps": _number(1, 1000, int),
    "generator": _folder,
    "pretrained": _folder,
}
_EXAMPLES = (
    "ratio=5",
    "mixing=first",
    "share=0.25",
    "filter=off",
    "groups=balanced",
    "attributes=open",
    "masks=real",
    "shape=3",
    "steps=4",
    "generator=FOLDER",
    "pretrained=acdc-128",
    "ratio=5+mixing=first",
)
_WORDS: dict[str, Callable[[Any], str]] = {
    "ratio": lambda value: f"{value:g} made for each real slice",
    "mixing": lambda value: "made slices first, real ones after" if value == "first" else "made and real slices mixed",
    "share": lambda value: f"{value:.0%} of the samples made",
    "filter": lambda value: "only sound slices" if value else "without the filter",
    "groups": lambda value: "diagnostic groups balanced",
    "attributes": lambda value: "phase, level and group left open",
    "masks": lambda value: "images of the real masks",
    "shape": lambda value: f"proportions of new masks varied by up to {value:g} mm",
    "steps": lambda value: f"{value} network calls for an image",
    "generator": lambda value: f"generator {_text(value)}",
    "pretrained": lambda value: f"pretrained generator {_text(value)}, which learned from other patients too",
}
