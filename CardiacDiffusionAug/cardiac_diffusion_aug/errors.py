"""The one exception that users see: a stable code and a sentence that says what to do."""

from __future__ import annotations

from typing import Literal

ErrorCode = Literal[
    "bad_input",
    "bad_model",
    "bad_output",
    "disk_full",
    "internal",
    "missing_dependency",
    "no_device",
    "out_of_memory",
    "too_few_pass",
    "training_failed",
]


class CardiacError(Exception):
    """A problem that the user can solve.

    Args:
        message: one sentence that names the thing at fault and the remedy.
        code: stable identifier, meant for programs.
    """

    def __init__(self, message: str, code: ErrorCode = "bad_input") -> None:
        super().__init__(message)
        self.code: ErrorCode = code


class Cancelled(Exception):
    """Raised between two steps of a job whose cancellation was asked for."""


LONGEST_VALUE = 80


def shown(value: object) -> str:
    """A value as it stands in a sentence: quoted where it is text, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
