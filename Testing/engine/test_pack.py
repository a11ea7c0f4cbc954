"""Packed slices and their cache."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from cardiac_diffusion_aug.attributes import GROUPS, PHASES
from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.case import Case, LoadedCase
from cardiac_diffusion_aug.datasets.pack import PACK_SIZE, SlicePack, cache_folder, fingerprint, pack_cases
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import ACDC_ORDER, LV, MNMS_ORDER, MYO, RV
from phantom import write_acdc

PATIENTS, SLICES = 2, 3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_acdc(tmp_path / "data", PATIENTS, SLICES, shape=(120, 128))


@pytest.fixture
def cases(root: Path) -> list[Case]:
    return read_cases(root)[1]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases whose files were read."""
    names: list[str] = []
    original = Case.load

    def load(self: Case) -> LoadedCase:
        names.append(self.name)
        return original(self)

    monkeypatch.setattr(Case, "load", load)
    return names


def the_same(a: SlicePack, b: SlicePack) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(SlicePack))


def edit(path: Path, change: Callable[[np.ndarray], None]) -> None:
    """Change pixels of an image file."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    change(array)
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path))


def test_a_pack_holds_every_labelled_slice(cases: list[Case], cache: Path) -> None:
    pack = pack_cases(cases, cache)
    count = PATIENTS * 2 * SLICES
    assert len(pack) == count
    assert pack.images.shape == pack.masks.shape == (count, PACK_SIZE, PACK_SIZE)
    assert pack.images.dtype == pack.masks.dtype == np.uint8
    assert pack.attributes.shape == (count, 3)
    assert list(pack.cases[::SLICES]) == [case.name for case in cases]
    assert set(pack.patients) == {"patient001", "patient002"}
    assert set(np.unique(pack.masks)) == {0, LV, MYO, RV}


def test_grey_levels_and_labels_are_those_of_the_scan(cases: list[Case], cache: Path) -> None:
    pack = pack_cases(cases, cache)
    inner = pack.images[:, 24:-24, 24:-24]
    assert inner.min() == 0
    assert inner.max() == 255
    assert pack.images[pack.masks == LV].mean() > 1.5 * pack.images[pack.masks == MYO].mean()
    volume = 1.4 * 1.4 / 1.5**2
    for index, case in enumerate(cases):
        mask = case.load().mask
        assert mask is not None
        array = sitk.GetArrayFromImage(mask)
        packed = pack.masks[index * SLICES : (index + 1) * SLICES]
        for value in (LV, MYO, RV):
            assert (packed == value).sum() == pytest.approx((array == value).sum() * volume, rel=0.03)
        middle = np.argwhere(packed > 0)[:, 1:].mean(0)
        np.testing.assert_allclose(middle, (PACK_SIZE - 1) / 2, atol=0.3)


def test_grey_levels_are_scaled_by_what_lies_around_the_heart(tmp_path: Path, cache: Path) -> None:
    pack = pack_cases(read_cases(write_acdc(tmp_path / "large", 1, 4))[1], cache)
    for images in (pack.images[:4], pack.images[4:]):
        # A hundredth of the stack is as bright as can be, within the model's grid, and less within the wider slice.
        assert (images[:, 24:-24, 24:-24] == 255).mean() == pytest.approx(0.01, abs=0.002)
        assert (images == 255).mean() != pytest.approx(0.01, abs=0.002)


def test_attributes_are_those_of_the_case(cases: list[Case], cache: Path) -> None:
    cases[1] = replace(cases[1], phase=None, group=None)
    attributes = pack_cases(cases, cache).attributes.reshape(-1, SLICES, 3)
    for case, rows in zip(cases, attributes, strict=True):
        assert (rows[:, 0] == (-1 if case.phase is None else PHASES.index(case.phase))).all()
        assert (rows[:, 1] == (-1 if case.group is None else GROUPS.index(case.group))).all()
        # The phantom runs from the base to the apex.
        np.testing.assert_allclose(rows[:, 2], [1, 0.5, 0])


def test_slices_without_a_heart_have_no_level(cases: list[Case], cache: Path) -> None:
    assert cases[0].mask_path is not None
    edit(cases[0].mask_path, lambda array: array[0].fill(0))
    pack = pack_cases(cases[:1], cache)
    np.testing.assert_allclose(pack.attributes[:, 2], [-1, 1, 0])
    assert not pack.masks[0].any()
    assert pack.images[0].any()


def test_cases_without_a_mask_are_left_out(cases: list[Case], cache: Path, loads: list[str]) -> None:
    cases[0] = replace(cases[0], mask_path=None)
    pack = pack_cases(cases, cache)
    assert cases[0].name not in loads
    assert cases[0].name not in pack.cases


def test_cases_with_an_empty_mask_are_left_out(cases: list[Case], cache: Path) -> None:
    assert cases[0].mask_path is not None
    edit(cases[0].mask_path, lambda array: array.fill(0))
    assert set(pack_cases(cases, cache).cases) == {case.name for case in cases[1:]}


def test_nothing_labelled_is_an_error(cases: list[Case], cache: Path) -> None:
    for case in cases:
        assert case.mask_path is not None
        edit(case.mask_path, lambda array: array.fill(0))
    for chosen in (cases, [replace(case, mask_path=None) for case in cases], []):
        with pytest.raises(CardiacError, match="No mask of the data set labels any pixel"):
            pack_cases(chosen, cache)
    assert not list(cache.glob("*"))


def test_progress_is_told(cases: list[Case], cache: Path) -> None:
    told: list[tuple[int, int]] = []
    pack_cases(cases, cache, lambda done, total: told.append((done, total)))
    assert told == [(k + 1, len(cases)) for k in range(len(cases))]


@pytest.mark.parametrize("place", ["middle", "edge"])
def test_grey_levels_that_are_no_numbers_are_refused(place: str, tmp_path: Path, cache: Path) -> None:
    case = read_cases(write_acdc(tmp_path / "large", 1, 2))[1][0]
    image = sitk.Cast(sitk.ReadImage(str(case.image_path)), sitk.sitkFloat32)
    # The edge lies beyond the model's grid, but within the wider slice that deformations read from.
    image[{"middle": (108, 100, 0), "edge": (108, 20, 0)}[place]] = float("nan")
    path = tmp_path / "image.nrrd"
    sitk.WriteImage(image, str(path))
    with pytest.raises(CardiacError, match="patient001_ED holds NaN or infinite grey levels"):
        pack_cases([replace(case, image_path=path)], cache)


def test_a_part_of_a_pack_keeps_its_rows_together(cases: list[Case], cache: Path) -> None:
    pack = pack_cases(cases, cache)
    part = pack.of_patients({"patient002"})
    assert len(part) == 2 * SLICES
    assert set(part.patients) == {"patient002"}
    assert the_same(part, pack.where(pack.patients == "patient002"))
    assert len(pack.of_patients([])) == len(pack.of_patients({"patient003"})) == 0


# The cache


def test_a_second_start_reads_no_file(cases: list[Case], cache: Path, root: Path, loads: list[str]) -> None:
    first = pack_cases(cases, cache)
    assert len(loads) == len(cases)
    assert the_same(pack_cases(read_cases(root)[1], cache), first)
    assert len(loads) == len(cases)


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_a_changed_file_is_packed_anew(kind: str, cases: list[Case], cache: Path, loads: list[str]) -> None:
    first = pack_cases(cases, cache)
    path = cases[0].image_path if kind == "image" else cases[0].mask_path
    assert path is not None
    edit(path, lambda array: np.copyto(array[1], array[0]))
    second = pack_cases(cases, cache)
    assert len(loads) == 2 * len(cases)
    assert not the_same(first, second)


def test_a_touched_file_is_packed_anew(cases: list[Case], cache: Path, loads: list[str]) -> None:
    pack_cases(cases, cache)
    later = time.time() + 10
    os.utime(cases[0].image_path, (later, later))
    pack_cases(cases, cache)
    assert len(loads) == 2 * len(cases)


def test_everything_that_a_pack_depends_on_is_in_its_fingerprint(cases: list[Case], tmp_path: Path) -> None:
    one = cases[0]
    assert one.order == ACDC_ORDER
    copy = tmp_path / "copy.nii.gz"
    shutil.copy2(one.image_path, copy)
    changed = [
        [],
        cases,
        [cases[1]],
        [replace(one, name="other")],
        [replace(one, patient="other")],
        [replace(one, phase=None)],
        [replace(one, group=None)],
        [replace(one, frame=2)],
        [replace(one, order=MNMS_ORDER)],
        [replace(one, image_path=copy)],
        [replace(one, mask_path=None)],
    ]
    prints = [fingerprint(chosen) for chosen in ([one], *changed)]
    assert len(set(prints)) == len(prints)
    assert fingerprint([replace(one, facts={"vendor": "any"})]) == prints[0]


@pytest.mark.parametrize("damage", ["empty", "text", "half", "flipped", "missing array", "folder of nothing"])
def test_a_damaged_cache_is_made_anew(damage: str, cases: list[Case], cache: Path, loads: list[str]) -> None:
    first = pack_cases(cases, cache)
    (path,) = cache.iterdir()
    content = path.read_bytes()
    middle = len(content) // 2
    if damage == "missing array":
        with path.open("wb") as stream:
            np.savez_compressed(stream, images=first.images)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"This is no archive.",
                "half": content[:middle],
                "flipped": content[:middle]
                + bytes(255 - b for b in content[middle : middle + 64])
                + content[middle + 64 :],
                "folder of nothing": b"PK\5\6" + bytes(18),
            }[damage]
        )
    assert the_same(pack_cases(cases, cache), first)
    assert len(loads) == 2 * len(cases)
    assert the_same(pack_cases(cases, cache), first)
    assert len(loads) == 2 * len(cases)


def test_a_pickle_in_the_cache_is_never_opened(cases: list[Case], cache: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return pytest.fail, ("a pickle was opened",)

    first = pack_cases(cases, cache)
    (path,) = cache.iterdir()
    with path.open("wb") as stream:
        np.savez_compressed(stream, **{**vars(first), "images": np.array([Trap()], dtype=object)})
    assert the_same(pack_cases(cases, cache), first)


def test_without_room_for_the_cache_the_work_goes_on(cases: list[Case], tmp_path: Path, loads: list[str]) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    for folder in (blocked, blocked / "below"):
        assert len(pack_cases(cases, folder)) == PATIENTS * 2 * SLICES
    assert len(loads) == 2 * len(cases)


def test_a_full_disk_leaves_no_half_cache(cases: list[Case], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    assert len(pack_cases(cases, cache)) == PATIENTS * 2 * SLICES
    assert not list(cache.iterdir())


def test_a_pack_is_written_whole_or_not_at_all(
    cases: list[Case], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = pack_cases(cases, cache)
    path = tmp_path / "pack.npz"
    pack.save(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("interrupted")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="interrupted"):
        pack.where(pack.patients == "patient001").save(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    assert the_same(SlicePack.load(path), pack)


def test_the_cache_lies_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CARDIAC_DIFFUSION_AUG_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cardiac-diffusion-aug"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "cardiac-diffusion-aug"
    monkeypatch.setenv("CARDIAC_DIFFUSION_AUG_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


# Levels


@pytest.mark.parametrize("upside_down", [False, True])
def test_the_base_is_where_the_heart_is_large(upside_down: bool, cases: list[Case]) -> None:
    loaded = cases[0].load()
    assert loaded.mask is not None
    mask = sitk.Flip(loaded.mask, (False, False, True)) if upside_down else loaded.mask
    levels = LoadedCase(cases[0], loaded.image, mask).levels()
    assert levels == ([0, 0.5, 1] if upside_down else [1, 0.5, 0])


def test_a_single_slice_is_in_the_middle(cases: list[Case]) -> None:
    image, mask = (sitk.Image([8, 8, 3], sitk.sitkUInt8) for _ in range(2))
    assert LoadedCase(cases[0], image, mask).levels() == [None, None, None]
    assert LoadedCase(cases[0], image, None).levels() == [None, None, None]
    mask[4, 4, 1] = LV
    assert LoadedCase(cases[0], image, mask).levels() == [None, 0.5, None]
