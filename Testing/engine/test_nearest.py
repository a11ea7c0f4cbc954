"""The real slice that a made case is most like is found, written and told."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from cardiac_diffusion_aug.datasets import read_cases
from cardiac_diffusion_aug.datasets.pack import pack_cases
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.evaluation.copying import image_distance, mask_distance
from cardiac_diffusion_aug.evaluation.sets import SliceSet, real_set
from cardiac_diffusion_aug.export import DatasetWriter
from cardiac_diffusion_aug.jobs import JOBS, Context
from phantom import write_acdc

SPACING = (1.5, 1.5, 8.0)


class Told(Context):
    """Remembers what a job tells."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[dict[str, Any]] = []
        self.said: list[str] = []

    def result(self, facts: Mapping[str, Any]) -> None:
        # What is told is ready.
        assert Path(facts["image"]).is_file()
        assert Path(facts["mask"]).is_file()
        self.results.append(dict(facts))

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_acdc(tmp_path_factory.mktemp("acdc"), 3, 5, (140, 140))


@pytest.fixture(scope="module")
def real(data: Path) -> SliceSet:
    return real_set(pack_cases(read_cases(data)[1]))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARDIAC_DIFFUSION_AUG_CACHE", str(tmp_path / "cache"))


def stack(array: np.ndarray) -> sitk.Image:
    result = sitk.GetImageFromArray(array)
    result.SetSpacing(SPACING)
    return result


def grey(images: np.ndarray) -> np.ndarray:
    return np.rint((images + 1) * 127.5).astype(np.uint8)


@pytest.fixture
def cases(tmp_path: Path, real: SliceSet) -> Path:
    """A noisy copy, a rejected copy, a stack of an empty slice and a copy, and a mask without a heart."""
    writer = DatasetWriter(tmp_path / "made", {"job": "generate"})
    noise = np.random.default_rng(0).normal(0, 6, (128, 128))
    noisy = (grey(real.images[7]) + noise).clip(0, 255).astype(np.uint8)
    empty = np.zeros((1, 128, 128), np.uint8)
    writer.add("noisy", stack(noisy[None]), stack(real.masks[7][None]), {})
    writer.add("rejected", stack(grey(real.images[20:21])), stack(real.masks[20:21]), {"kept": "no"})
    deep = np.concatenate([empty + 9, grey(real.images[11:12])]), np.concatenate([empty, real.masks[11:12]])
    writer.add("stack", stack(deep[0]), stack(deep[1]), {})
    writer.add("heartless", stack(grey(real.images[3:4])), stack(empty), {})
    writer.finish()
    return tmp_path / "made"


def find(data: Path, cases: Path, output: Path, context: Told | None = None, **more: Any) -> Told:
    told = context or Told()
    asked = {"data": str(data), "cases": str(cases), "output": str(output), **more}
    told.results.clear()
    JOBS["nearest"].from_request(asked).run(told)
    return told


def test_copies_are_traced_to_their_slices(data: Path, cases: Path, real: SliceSet, tmp_path: Path) -> None:
    told = find(data, cases, tmp_path / "out")
    found = {result["name"]: result for result in told.results}
    assert list(found) == ["noisy", "rejected", "stack"]
    assert any("heartless" in sentence for sentence in told.said)
    for name, row, made_slice in (("noisy", 7, 0), ("rejected", 20, 0), ("stack", 11, 1)):
        result = found[name]
        assert result["patient"] == real.patients[row]
        assert result["slice"] == real.indices[row]
        assert result["phase"] == ("ED" if "frame01" in real.names[row] or "ED" in real.names[row] else "ES")
        assert result["made_slice"] == made_slice
        assert result["distance_mask"] == 0
        assert result["distance_image"] < 0.02
        image, mask = (sitk.ReadImage(result[kind]) for kind in ("image", "mask"))
        assert Path(result["image"]) == tmp_path / "out" / f"{name}_nearest.nii.gz"
        assert Path(result["mask"]) == tmp_path / "out" / f"{name}_nearest_mask.nii.gz"
        assert image.GetPixelID() == mask.GetPixelID() == sitk.sitkUInt8
        assert image.GetSpacing() == mask.GetSpacing() == SPACING
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[0], grey(real.images[row]))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask)[0], real.masks[row])
    with (tmp_path / "out" / "nearest.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == list(found)
    assert rows[0]["patient"] == found["noisy"]["patient"]


def test_slices_are_counted_in_their_own_stacks(data: Path, real: SliceSet) -> None:
    for case in read_cases(data)[1]:
        mask = case.load().mask
        assert mask is not None
        shown = np.flatnonzero(sitk.GetArrayFromImage(mask).any(axis=(1, 2)))
        np.testing.assert_array_equal(real.indices[real.names == case.name], shown)


def test_mask_and_image_count_both(data: Path, cases: Path, real: SliceSet, tmp_path: Path) -> None:
    """The mask of one slice with the image of another."""
    writer = DatasetWriter(tmp_path / "mixed", {"job": "generate"})
    writer.add("mixed", stack(grey(real.images[2:3])), stack(real.masks[15:16]), {})
    writer.finish()
    result = find(data, tmp_path / "mixed", tmp_path / "out").results[0]
    masks = mask_distance(real.masks[15:16], real.masks)[0]
    images = image_distance(real.images[2:3], real.images)[0]
    row = int((masks + images).argmin())
    assert (result["patient"], result["slice"]) == (real.patients[row], real.indices[row])
    assert result["distance_mask"] == pytest.approx(masks[row], abs=1e-3)
    assert result["distance_image"] == pytest.approx(images[row], abs=1e-3)


def test_the_real_set_stays_warm_until_it_changes(
    data: Path, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(data, tmp_path / "acdc")
    loads: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        loads.append(1)
        return pack_cases(*arguments, **options)

    monkeypatch.setattr("cardiac_diffusion_aug.evaluation.nearest.pack_cases", counted)
    told = find(own, cases, tmp_path / "out")
    before = list(told.results)
    find(own, cases, tmp_path / "out", told)
    assert told.results == before
    assert len(loads) == 1
    changed = next(own.rglob("*_gt.nii.gz"))
    os.utime(changed, (1, 1))
    find(own, cases, tmp_path / "out", told, names="noisy")
    assert len(loads) == 2
    assert len(told.models) == 1


def test_names_restrict_the_search(data: Path, cases: Path, tmp_path: Path) -> None:
    told = find(data, cases, tmp_path / "out", names=" stack ,noisy, stack")
    assert [result["name"] for result in told.results] == ["stack", "noisy"]
    for names, word in (("stack,nobody", "nobody"), (" , ", "' , '")):
        with pytest.raises(CardiacError, match=word):
            find(data, cases, tmp_path / "out", names=names)
    with pytest.raises(CardiacError, match="labels any pixel"):
        find(data, cases, tmp_path / "out", names="heartless")


@pytest.mark.parametrize("owner", ["cases", "stranger", "file"])
def test_a_folder_of_others_is_refused(data: Path, cases: Path, tmp_path: Path, owner: str) -> None:
    output = cases if owner == "cases" else tmp_path / "own"
    if owner == "stranger":
        output.mkdir()
        (output / "thesis.txt").write_text("mine")
    if owner == "file":
        output.write_text("mine")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises(CardiacError) as caught:
        find(data, cases, output, names="noisy")
    assert caught.value.code == "bad_output"
    assert [n for n in sorted(p.name for p in tmp_path.rglob("*")) if not n.startswith(("slices-", "cache"))] == before
