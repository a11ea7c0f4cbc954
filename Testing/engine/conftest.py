"""Fixtures shared by the tests: patient data where they are at hand, phantoms everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import SimpleITK as sitk

from patients import patient_data
from phantom import phantom_stack, write_acdc

# Read by torch when it is first imported, here and in child processes; importing it now would slow every test run.
os.environ.setdefault("OMP_NUM_THREADS", "2")

PHANTOM_PATIENTS = 5
"""Patient 4 is the first that the project's split keeps for validation."""


@pytest.fixture(scope="session")
def acdc_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ACDC, or phantoms in its layout; only to be read."""
    return patient_data() or write_acdc(tmp_path_factory.mktemp("acdc"), PHANTOM_PATIENTS)


@pytest.fixture(scope="session")
def real_acdc() -> Path:
    """ACDC's patients; only to be read. The test is skipped where they are absent."""
    root = patient_data()
    if root is None:
        pytest.skip("ACDC is not on this machine; set CARDIAC_ACDC to its folder of patients")
    return root


@pytest.fixture
def phantom() -> tuple[sitk.Image, sitk.Image]:
    """Image and mask of a normal heart at end-diastole."""
    return phantom_stack()
