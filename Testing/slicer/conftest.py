"""Starts the stand-in for Slicer before any test is imported; without its packages the tests here are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import slicer_harness

MISSING = slicer_harness.missing_requirement()

if not MISSING:
    # At once: the module's files ask for `slicer.app` and `slicer.i18n` when a test imports them.
    slicer_harness.start_application()
    from slicer_harness.fixtures import *  # noqa: F403


class SkippedFile(pytest.Module):
    """Takes the place of a file that could not even be imported."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(MISSING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip a file with the reason, in place of an error of its imports."""
    return SkippedFile.from_parent(parent, path=module_path) if MISSING else None
