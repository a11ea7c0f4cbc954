"""Fixtures shared by the tests: patient data where they are at hand, phantoms everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import SimpleITK as sitk

from phantom import phantom_stack, write_acdc

# Read by torch when it is first imported, here and in child processes; importing it now would slow every test run.
os.environ.setdefault("OMP_NUM_THREADS", "2")

PHANTOM_PATIENTS = 5
"""Patient 4 is the first that the project's split keeps for validation."""


def _patient_data() -> Path | None:
    """ACDC on this machine: where CARDIAC_ACDC says, or in `shared/data/acdc` beside the checkout."""
    named = os.environ.get("CARDIAC_ACDC")
    if named and not Path(named).is_dir():
        raise pytest.UsageError(f"CARDIAC_ACDC names the folder {named}, which is not there; correct or unset it.")
    root = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data" / "acdc"
    return root if root.is_dir() else None


@pytest.fixture(scope="session")
def acdc_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ACDC, or phantoms in its layout; only to be read."""
    return _patient_data() or write_acdc(tmp_path_factory.mktemp("acdc"), PHANTOM_PATIENTS)


@pytest.fixture(scope="session")
def real_acdc() -> Path:
    """ACDC's patients; only to be read. The test is skipped where they are absent."""
    root = _patient_data()
    if root is None:
        pytest.skip("ACDC is not on this machine; set CARDIAC_ACDC to its folder of patients")
    return root


@pytest.fixture
def phantom() -> tuple[sitk.Image, sitk.Image]:
    """Image and mask of a normal heart at end-diastole."""
    return phantom_stack()
