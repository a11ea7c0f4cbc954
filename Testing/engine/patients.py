"""Where the patients of ACDC are on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def patient_data() -> Path | None:
    """ACDC on this machine: where CARDIAC_ACDC says, or in `shared/data/acdc` beside the checkout."""
    named = os.environ.get("CARDIAC_ACDC")
    if named and not Path(named).is_dir():
        raise pytest.UsageError(f"CARDIAC_ACDC names the folder {named}, which is not there; correct or unset it.")
    root = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data" / "acdc"
    return root if root.is_dir() else None
