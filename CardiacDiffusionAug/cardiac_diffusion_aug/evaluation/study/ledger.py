"""What of a study is done, on disk: a `result.json` in the folder of each finished unit, and the time that it took."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...disk import write_whole, writing_to
from ...training.loop import format_time
from .plan import KINDS, Unit

RESULT, CLOCK = "result.json", ".clock.json"
FORMAT = 1
CLOCK_SECONDS = 15.0
"""Between two writings of the time that a running unit has taken; a kill loses no more of it."""


class Ledger:
    """The units of a study folder.

    Args:
        folder: of the study.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, unit: Unit | str) -> Path:
        """Folder of a unit."""
        return self.folder / (unit if isinstance(unit, str) else unit.key)

    def is_done(self, unit: Unit | str) -> bool:
        """Whether a unit is finished."""
        return self._content(unit, RESULT) is not None

    def facts(self, unit: Unit | str) -> dict[str, Any]:
        """What a finished unit told."""
        content = self._content(unit, RESULT)
        return {} if content is None else dict(content.get("facts", {}))

    def seconds(self, unit: Unit | str) -> float:
        """Time spent on a unit so far."""
        content = self._content(unit, RESULT) or self._content(unit, CLOCK) or {}
        return float(content.get("seconds", 0.0))

    def share(self, unit: Unit) -> float:
        """How much of a unit is done, 0 to 1."""
        if self.is_done(unit):
            return 1.0
        return min(1.0, float((self._content(unit, CLOCK) or {}).get("share", 0.0)))

    def finish(self, unit: Unit, seconds: float, facts: Mapping[str, Any], said: Sequence[str]) -> None:
        """Note that a unit is done."""
        content = {"format": FORMAT, "unit": unit.key, "seconds": round(seconds, 2), "facts": facts, "said": list(said)}
        with writing_to(self.folder):
            write_whole(self.place(unit) / RESULT, json_bytes(content))
            (self.place(unit) / CLOCK).unlink(missing_ok=True)

    def _content(self, unit: Unit | str, name: str) -> dict[str, Any] | None:
        try:
            content = json.loads((self.place(unit) / name).read_bytes())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None


class Clock:
    """The time that a unit takes, over all the runs that worked at it.

    Args:
        ledger: of the study.
        unit: that runs.
    """

    def __init__(self, ledger: Ledger, unit: Unit) -> None:
        self._path = ledger.place(unit) / CLOCK
        self._earlier, self._share = ledger.seconds(unit), ledger.share(unit)
        self._started = self._written = time.monotonic()

    @property
    def seconds(self) -> float:
        """Up to now."""
        return self._earlier + time.monotonic() - self._started

    def tick(self, share: float) -> None:
        """Note how much is done, now and then."""
        self._share = share
        if time.monotonic() - self._written > CLOCK_SECONDS:
            self.write()

    def write(self) -> None:
        """Note it at once."""
        self._written = time.monotonic()
        if self._path.parent.is_dir():
            write_whole(self._path, json_bytes({"seconds": round(self.seconds, 2), "share": round(self._share, 4)}))


def table(ledger: Ledger, units: Sequence[Unit]) -> dict[str, str]:
    """What is done and what is left, with the time for it: a line for each kind of each fraction, and one for all."""
    rates = _rates(ledger, units)
    rows: dict[str, list[Unit]] = {}
    for unit in units:
        rows.setdefault(f"{unit.fraction.name}, {KINDS[unit.kind]}", []).append(unit)
    lines = {name: _line(ledger, own, rates) for name, own in rows.items()}
    return {**lines, "in all": _line(ledger, units, rates)}


def _rates(ledger: Ledger, units: Sequence[Unit]) -> dict[str, float]:
    """Seconds for one of amount, by kind, where any was measured."""
    spent: dict[str, tuple[float, float]] = {}
    for unit in units:
        seconds, amount = spent.get(unit.kind, (0.0, 0.0))
        spent[unit.kind] = (seconds + ledger.seconds(unit), amount + unit.amount * ledger.share(unit))
    return {kind: seconds / amount for kind, (seconds, amount) in spent.items() if amount > 0}


def _line(ledger: Ledger, units: Sequence[Unit], rates: Mapping[str, float]) -> str:
    done = [unit for unit in units if ledger.is_done(unit)]
    left = [unit for unit in units if not ledger.is_done(unit)]
    spent = format_time(sum(ledger.seconds(unit) for unit in units))
    text = f"{len(done)} of {len(units)} done in {spent}"
    if not left:
        return text
    timed = [unit for unit in left if unit.kind in rates]
    seconds = sum(rates[unit.kind] * unit.amount * (1 - ledger.share(unit)) for unit in timed)
    if not timed:
        return f"{text}, {len(left)} left, not timed yet"
    rest = "" if len(timed) == len(left) else f" and {len(left) - len(timed)} that were not timed yet"
    return f"{text}, {len(left)} left, about {format_time(seconds)}{rest}"


def write_shared(path: Path, content: bytes) -> None:
    """Write a small file that other processes may be writing at the same time; it appears whole."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{uuid.uuid4().hex}-{path.name}")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def json_bytes(content: Any) -> bytes:
    """Strict JSON as a file."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
