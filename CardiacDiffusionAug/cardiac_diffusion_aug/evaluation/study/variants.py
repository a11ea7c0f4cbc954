"""Changes to what the arm with real and made slices gets, each tried beside it: what a user could decide."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...errors import CardiacError, shown

BALANCED, REAL = "balanced", "real"


@dataclass(frozen=True)
class Variant:
    """A change; what is None stays as the study has it.

    Attributes:
        ratio: made slices for each real one.
        mixing: `mixed` or `first`.
        share: of the samples that are made ones.
        filter: whether only sound slices are kept.
        groups: `balanced` where each diagnostic group comes as often as the others.
        masks: `real` where images are made for the real masks in place of new ones.
        shape: mm by which proportions of new masks are varied at most.
        steps: network calls for an image.
        generator: another model of the same patients.
    """

    ratio: float | None = None
    mixing: str | None = None
    share: float | None = None
    filter: bool | None = None
    groups: str | None = None
    masks: str | None = None
    shape: float | None = None
    steps: int | None = None
    generator: Path | None = None

    @property
    def text(self) -> str:
        """As it is asked for."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        words = {name: _text(value) for name, value in values.items() if value is not None}
        return "+".join(f"{name}={word}" for name, word in words.items())

    @property
    def folder(self) -> str:
        """Of all that belongs to it; the name of a generator's folder stands for its path."""
        named = self if self.generator is None else replace(self, generator=Path(self.generator.resolve().name))
        return named.text.replace("=", "-")

    @property
    def words(self) -> str:
        """For a table."""
        told = (_WORDS[f.name](getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) is not None)
        return ", ".join(told)

    @property
    def makes(self) -> bool:
        """Whether its slices are made in another way, not only another number of them."""
        return any(value is not None for value in self._of_the_set)

    @property
    def _of_the_set(self) -> tuple[Any, ...]:
        return self.filter, self.groups, self.masks, self.shape, self.steps, self.generator

    @property
    def remixes(self) -> bool:
        """Whether the U-Net gets another number or mixture of slices."""
        return any(value is not None for value in (self.ratio, self.mixing, self.share))


def parse_variants(text: str, base: Mapping[str, Any]) -> list[Variant]:
    """The variants that a text such as `ratio=5, mixing=first, ratio=5+filter=off` lists, each once.

    Args:
        text: empty for none.
        base: values of the study itself by the names of a variant's attributes.

    Raises:
        CardiacError: one is not understood, or changes nothing.
    """
    found: dict[str, Variant] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        variant = _parsed(word)
        same = {f.name: value for f in fields(variant) if (value := getattr(variant, f.name)) is not None}
        if all(name in base and base[name] == value for name, value in same.items()):
            raise CardiacError(f"--variants names {shown(word)}, which is what the study does anyway; leave it out.")
        if found.setdefault(variant.folder, variant) != variant:
            raise CardiacError(f"--variants names two models {variant.folder}; give their folders different names.")
    return list(found.values())


def _parsed(word: str) -> Variant:
    values: dict[str, Any] = {}
    for part in word.split("+"):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            values[name] = _READERS[name](value)
        except (KeyError, ValueError, OverflowError) as error:
            raise CardiacError(
                f"--variants names {shown(part)}, but must list changes such as {', '.join(_EXAMPLES)}."
            ) from error
    variant = Variant(**values)
    if variant.masks == REAL and any(v is not None for v in (variant.groups, variant.shape, variant.filter)):
        raise CardiacError(
            f"--variants names {shown(word)}, but real masks are taken as they are; leave groups, shape and filter out."
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
    return f"{value:g}" if isinstance(value, float) else str(value)


_READERS: dict[str, Callable[[str], Any]] = {
    "ratio": _number(0.01, 1000),
    "mixing": _one_of("mixed", "first"),
    "share": _number(0.0, 1.0),
    "filter": lambda text: {"on": True, "off": False}[text],
    "groups": _one_of(BALANCED),
    "masks": _one_of(REAL),
    "shape": _number(0.1, 10.0),
    "steps": _number(1, 1000, int),
    "generator": _folder,
}
_EXAMPLES = (
    "ratio=5",
    "mixing=first",
    "share=0.25",
    "filter=off",
    "groups=balanced",
    "masks=real",
    "shape=3",
    "steps=4",
    "generator=FOLDER",
    "ratio=5+mixing=first",
)
_WORDS: dict[str, Callable[[Any], str]] = {
    "ratio": lambda value: f"{value:g} made for each real slice",
    "mixing": lambda value: "made slices first, real ones after" if value == "first" else "made and real slices mixed",
    "share": lambda value: f"{value:.0%} of the samples made",
    "filter": lambda value: "only sound slices" if value else "without the filter",
    "groups": lambda value: "diagnostic groups balanced",
    "masks": lambda value: "images of the real masks",
    "shape": lambda value: f"proportions of new masks varied by up to {value:g} mm",
    "steps": lambda value: f"{value} network calls for an image",
    "generator": lambda value: f"generator {value.resolve().name}",
}
