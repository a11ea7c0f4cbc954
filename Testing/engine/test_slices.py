"""Onto the model's grid and back, and files that are no images."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk
from scipy import ndimage

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.labels import LV, MYO, RV
from cardiac_diffusion_aug.slices import (
    GRID_SIZE,
    GRID_SPACING,
    as_stack,
    frame_of,
    grid_around,
    heart_center,
    intensity_window,
    read_image,
    read_json,
    require_finite,
    resample_image,
    resample_labels,
    rescale,
    same_geometry,
)
from phantom import phantom_stack

Vector3 = tuple[float, float, float]
Stack = tuple[sitk.Image, sitk.Image]


def rotation(x: float, y: float, z: float) -> npt.NDArray[np.float64]:
    turn = sitk.Euler3DTransform((0, 0, 0), x, y, z)
    return np.array(turn.GetMatrix()).reshape(3, 3)


IDENTITY = np.eye(3)
OBLIQUE = rotation(0.7, -0.5, 1.1)
# Direction, pixel spacing and number of slices of a stack.
GEOMETRIES = {
    "axis-aligned": (IDENTITY, (1.4, 1.4, 8.0), 4),
    "oblique": (OBLIQUE, (1.4, 1.4, 8.0), 4),
    "left-handed": (OBLIQUE @ np.diag([1, 1, -1]), (1.4, 1.4, 8.0), 4),
    "mirrored": (np.diag([-1.0, -1, 1]), (1.4, 1.4, 8.0), 4),
    "anisotropic": (OBLIQUE, (1.1, 1.7, 10.0), 4),
    "fine": (IDENTITY, (0.7, 0.7, 5.0), 2),
    "one slice": (OBLIQUE, (1.3, 1.3, 9.0), 1),
}


@pytest.fixture(params=GEOMETRIES, ids=lambda name: name.replace(" ", "-"))
def placed(request: pytest.FixtureRequest) -> Stack:
    """Image and mask of a phantom, wherever a scanner may put it."""
    direction, spacing, slices = GEOMETRIES[request.param]
    shape = (round(300 / spacing[1]), round(320 / spacing[0]))
    stacks = phantom_stack(slices, shape, spacing, seed=3)
    for stack in stacks:
        stack.SetDirection(direction.ravel().tolist())
        stack.SetOrigin((-131.3, 87.9, 42.1))
    return stacks


@pytest.fixture
def grid(placed: Stack) -> sitk.Image:
    return grid_around(placed[1], heart_center(sitk.GetArrayViewFromImage(placed[1])))


def like(array: npt.NDArray[np.generic], geometry: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(geometry)
    return image


def centroid(labels: npt.NDArray[np.uint8], values: tuple[int, ...], geometry: sitk.Image) -> npt.NDArray[np.float64]:
    """Centre of structures in mm of the scanner."""
    index = np.argwhere(np.isin(labels, values)).mean(0)[::-1]
    return np.array(geometry.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def dice(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], value: int) -> float:
    return float(2 * ((a == value) & (b == value)).sum() / ((a == value).sum() + (b == value).sum()))


# Onto the grid and back


def test_the_grid_keeps_slices_and_direction(placed: Stack, grid: sitk.Image) -> None:
    mask = placed[1]
    assert grid.GetSize() == (GRID_SIZE, GRID_SIZE, mask.GetSize()[2])
    assert grid.GetSpacing() == (GRID_SPACING, GRID_SPACING, mask.GetSpacing()[2])
    assert grid.GetDirection() == pytest.approx(mask.GetDirection())
    for index in range(mask.GetSize()[2]):
        point = grid.TransformIndexToPhysicalPoint((0, 0, index))
        assert mask.TransformPhysicalPointToContinuousIndex(point)[2] == pytest.approx(index, abs=1e-6)


def test_the_heart_lies_in_the_middle(placed: Stack, grid: sitk.Image) -> None:
    row, column = heart_center(resample_labels(placed[1], grid))
    assert (row, column) == pytest.approx(((GRID_SIZE - 1) / 2,) * 2, abs=0.2)


def test_structures_stay_where_they_are_in_the_patient(placed: Stack, grid: sitk.Image) -> None:
    before, after = sitk.GetArrayFromImage(placed[1]), resample_labels(placed[1], grid)
    heart, lv = (
        np.linalg.norm(centroid(before, values, placed[1]) - centroid(after, values, grid))
        for values in ((LV, MYO, RV), (LV,))
    )
    assert heart < 0.3
    assert lv < 0.3
    # Of thin shapes, which pixels happen to fall inside moves the centre more.
    for value in (MYO, RV):
        moved = centroid(before, (value,), placed[1]) - centroid(after, (value,), grid)
        assert np.linalg.norm(moved) < GRID_SPACING / 2


def test_labels_come_back_as_they_were(placed: Stack, grid: sitk.Image) -> None:
    mask = placed[1]
    there = like(resample_labels(mask, grid), grid)
    back = resample_labels(there, mask)
    before = sitk.GetArrayFromImage(mask)
    assert back.shape == before.shape
    for value in (LV, MYO, RV):
        assert dice(before, back, value) > 0.95


def test_grey_levels_come_back_as_they_were(placed: Stack, grid: sitk.Image) -> None:
    # Without noise, which no coarser grid can hold; smooth over more than a pixel of either grid.
    smooth = ndimage.gaussian_filter(
        sitk.GetArrayFromImage(placed[0]).astype(np.float32), (0, *(3 / s for s in placed[0].GetSpacing()[1::-1]))
    )
    image = like(smooth, placed[0])
    there = like(resample_image(image, grid), grid)
    back = resample_image(there, image, outside=np.nan)
    seen = np.isfinite(back)
    assert 0.2 < seen.mean() < 0.6
    assert np.abs(back[seen] - smooth[seen]).mean() < 0.02 * np.ptp(smooth)
    assert np.corrcoef(back[seen], smooth[seen])[0, 1] > 0.99


def test_image_and_mask_stay_in_step(placed: Stack, grid: sitk.Image) -> None:
    image, labels = resample_image(placed[0], grid), resample_labels(placed[1], grid)
    assert image[labels == LV].mean() > 2 * image[labels == MYO].mean()
    assert image[labels == RV].mean() > 2 * image[labels == MYO].mean()


def test_beyond_the_stack_lies_background() -> None:
    image, mask = phantom_stack(2, shape=(70, 70), spacing=(1.5, 1.5, 8))
    grid = grid_around(image, heart_center(sitk.GetArrayViewFromImage(mask)))
    grey, labels = resample_image(like(sitk.GetArrayFromImage(image) + 500, image), grid), resample_labels(mask, grid)
    assert (grey[:, :20] == 0).all()
    assert (labels[:, :20] == 0).all()
    assert grey[:, 60:68, 60:68].min() > 0


def test_a_grid_of_another_size_and_spacing_has_the_same_centre() -> None:
    _, mask = phantom_stack(2)
    small, large = (grid_around(mask, (80.3, 101.9), size, spacing) for size, spacing in ((64, 3.0), (177, 0.9)))
    centers = [g.TransformContinuousIndexToPhysicalPoint([(g.GetSize()[0] - 1) / 2] * 2 + [0]) for g in (small, large)]
    assert centers[0] == pytest.approx(centers[1])
    assert mask.TransformPhysicalPointToContinuousIndex(centers[0]) == pytest.approx((101.9, 80.3, 0))


@pytest.mark.parametrize("spacing", [(0.5, 0.5), (0.5, 1.5), (0.9, 0.6)])
def test_a_fine_checkerboard_becomes_flat(spacing: tuple[float, float]) -> None:
    y, x = np.mgrid[:240, :240]
    board = ((x + y) % 2 * 200.0)[None]
    image = sitk.GetImageFromArray(board.astype(np.float32))
    image.SetSpacing((*spacing, 8.0))
    grid = grid_around(image, (119.5, 119.5), size=32)
    flat = resample_image(image, grid)
    plain = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear))
    assert flat.mean() == pytest.approx(100, abs=2)
    assert flat.std() < 8
    assert plain.std() > 4 * flat.std()


def test_a_grid_as_fine_as_the_image_changes_nothing() -> None:
    array = np.random.default_rng(0).normal(size=(2, 40, 40)).astype(np.float32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((GRID_SPACING, GRID_SPACING, 8))
    result = resample_image(image, grid_around(image, (20.5, 20.5), size=20))
    np.testing.assert_allclose(result, array[:, 11:31, 11:31], atol=1e-5)


def wall(size: int, spacing: float, center: tuple[float, float], thickness: float) -> npt.NDArray[np.uint8]:
    axis = (np.arange(size) - (size - 1) / 2) * spacing
    y, x = np.meshgrid(axis, axis, indexing="ij")
    distance = np.hypot(x - center[0], y - center[1])
    return np.where(distance < 20, LV, np.where(distance < 20 + thickness, MYO, 0)).astype(np.uint8)


@pytest.mark.parametrize("spacing", [0.7, 1.25, 1.4])
def test_thin_walls_are_kept_better_than_by_the_nearest_pixel(spacing: float) -> None:
    ours, nearest = [], []
    for seed in range(8):
        center = tuple(np.random.default_rng(seed).uniform(-3, 3, 2))
        mask = sitk.GetImageFromArray(wall(181, spacing, center, 3.0)[None])
        mask.SetSpacing((spacing, spacing, 8))
        grid = grid_around(mask, (90, 90))
        truth = wall(GRID_SIZE * 5, GRID_SPACING / 5, center, 3.0)
        labels = resample_labels(mask, grid)[0]
        simple = sitk.GetArrayFromImage(sitk.Resample(mask, grid, sitk.Transform(), sitk.sitkNearestNeighbor))[0]
        ours.append(dice(labels.repeat(5, 0).repeat(5, 1), truth, MYO))
        nearest.append(dice(simple.repeat(5, 0).repeat(5, 1), truth, MYO))
        assert not (ndimage.binary_dilation(labels == LV) & (labels == 0)).any(), "the wall has a gap"
    assert np.mean(ours) > np.mean(nearest) + 0.002


def test_the_middle_of_nothing_is_nowhere() -> None:
    assert heart_center(np.pad(np.ones((1, 3, 5)), ((0, 2), (4, 0), (2, 0)))) == (5.0, 4.0)
    with pytest.raises(CardiacError, match="The mask is empty: no pixel is labelled"):
        heart_center(np.zeros((2, 8, 8)))


# Stacks


def test_a_slice_and_a_single_frame_are_stacks() -> None:
    flat = sitk.Image([8, 6], sitk.sitkInt16)
    flat.SetSpacing((1.2, 1.3))
    assert as_stack(flat, "x").GetSize() == (8, 6, 1)
    assert as_stack(flat, "x").GetSpacing()[:2] == (1.2, 1.3)
    stack = phantom_stack(3, (32, 40))[0]
    assert as_stack(stack, "x") is stack
    cine = sitk.JoinSeries([stack])
    assert same_geometry(as_stack(cine, "x"), stack)


def test_a_frame_is_taken_out_of_a_cine() -> None:
    frames = [phantom_stack(2, (32, 40), phase=phase)[0] for phase in ("ED", "ES")]
    for frame in frames:
        frame.SetDirection(OBLIQUE.ravel().tolist())
        frame.SetOrigin((4, 5, 6))
    cine = sitk.JoinSeries(frames)
    for index, frame in enumerate(frames):
        taken = frame_of(cine, index)
        assert same_geometry(taken, frame)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(taken), sitk.GetArrayFromImage(frame))


@pytest.mark.parametrize(("size", "dimensions"), [((8, 8, 2, 3), 4), ((4, 4, 2, 2, 2), 5)])
def test_several_frames_are_no_stack(size: tuple[int, ...], dimensions: int) -> None:
    with pytest.raises(CardiacError, match=rf"cine\.nii has {dimensions} dimensions; .*pick one frame"):
        as_stack(sitk.Image(size, sitk.sitkUInt8), "cine.nii")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda i: None, True),
        (lambda i: i.SetOrigin((1e-4, 0, 0)), True),
        (lambda i: i.SetOrigin((0.1, 0, 0)), False),
        (lambda i: i.SetSpacing((1.41, 1.4, 8)), False),
        (lambda i: i.SetDirection(rotation(0, 0, 0.01).ravel().tolist()), False),
    ],
)
def test_geometry_is_compared(change: Callable[[sitk.Image], None], same: bool) -> None:
    one, other = phantom_stack(2, (32, 40))
    change(other)
    assert same_geometry(one, other) is same
    assert not same_geometry(one, phantom_stack(3, (32, 40))[1])


# Grey levels


def test_the_window_leaves_out_one_percent_at_either_end() -> None:
    array = np.arange(1001, dtype=np.float32)
    window = intensity_window(array, "x")
    assert window == pytest.approx((10, 990))
    scaled = rescale(array, window)
    assert scaled.dtype == np.float32
    assert (scaled[:11] == -1).all()
    assert (scaled[990:] == 1).all()
    assert scaled[500] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_grey_levels_that_are_no_numbers_are_refused(bad: float) -> None:
    array = np.arange(10, dtype=np.float32)
    require_finite(array, "x")
    array[3] = bad
    for function in (intensity_window, require_finite):
        with pytest.raises(CardiacError, match=r"scan\.nii holds NaN or infinite grey levels"):
            function(array, "scan.nii")


def test_a_constant_image_is_refused() -> None:
    with pytest.raises(CardiacError, match=r"scan\.nii has the same grey level everywhere"):
        intensity_window(np.full((2, 8, 8), 7, np.float32), "scan.nii")


# Files


PIXELS = np.random.default_rng(0).integers(0, 3000, (2, 24, 20)).astype(np.int16)


def nifti(shape: tuple[int, ...], spacing: tuple[float, ...] = (1, 1, 1), order: str = "<") -> bytes:
    """A header of 16-bit pixels."""
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, len(shape), *shape, *([1] * (7 - len(shape))))
    struct.pack_into(f"{order}2h", header, 70, 4, 16)
    struct.pack_into(f"{order}8f", header, 76, 1, *spacing, *([1] * (7 - len(spacing))))
    struct.pack_into(f"{order}f", header, 108, len(header))
    header[344:348] = b"n+1\0"
    return bytes(header)


def meta_image(size: str, spacing: str = "1 1 1", compressed: bool = True, data: str = "LOCAL") -> bytes:
    return (
        f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementSpacing = {spacing}\nElementType = MET_SHORT\n"
        f"CompressedData = {compressed}\nElementDataFile = {data}\n"
    ).encode()


def nrrd(size: str, spacing: str = "1") -> bytes:
    return (
        f"NRRD0004\ntype: short\ndimension: 3\nspace dimension: 3\nsizes: {size}\n"
        f"space directions: ({spacing},0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\nendian: little\n\n"
    ).encode()


SMALL = (20, 24, 2)
RAW = PIXELS.tobytes()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_whole_files_are_read(name: str, compressed: bool, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(PIXELS)
    image.SetSpacing((1.25, 1.5, 9))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=compressed)
    read = read_image(tmp_path / name)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), PIXELS)
    assert read.GetSpacing() == pytest.approx((1.25, 1.5, 9))


@pytest.mark.parametrize("order", "<>")
def test_both_byte_orders_are_read(order: str, tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    content = nifti(SMALL, (1, 2, 3), order) + PIXELS.astype(f"{order}i2").tobytes()
    path.write_bytes(content)
    read = read_image(path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), PIXELS)
    assert read.GetSpacing() == pytest.approx((1, 2, 3))
    path.write_bytes(content[:-1])
    with pytest.raises(CardiacError, match="breaks off or is damaged"):
        read_image(path)


def damaged_files() -> Iterator[tuple[str, bytes]]:
    whole = gzip.compress(nifti(SMALL) + RAW)
    yield "half.nii.gz", whole[: len(whole) // 2]
    yield "header.nii.gz", whole[:30]
    yield "no-checksum.nii.gz", whole[:-4]
    yield "flipped.nii.gz", whole[:900] + bytes([whole[900] ^ 0xFF]) + whole[901:]
    yield "half.nii", (nifti(SMALL) + RAW)[:1200]
    yield "last-pixel.nii", (nifti(SMALL) + RAW)[:-2]
    packed = zlib.compress(RAW)
    yield "half.mha", meta_image("20 24 2") + packed[: len(packed) // 2]
    yield "flipped.mha", meta_image("20 24 2") + packed[:50] + bytes([packed[50] ^ 0xFF]) + packed[51:]
    yield "half-plain.mha", meta_image("20 24 2", compressed=False) + RAW[:300]
    yield "half.nrrd", nrrd("20 24 2") + RAW[:300]
    yield "empty.nii.gz", b""
    yield "zeros.nii", bytes(400)
    yield "text.nii.gz", b"This is not an image."
    yield "text.mha", b"This is not an image.\n"
    yield "text.nrrd", b"NRRD0004\n"
    yield "text.png", b"\x89PNG\r\n"
    yield "no-size.nii", nifti((0, 24, 2)) + RAW
    yield "negative-size.nii", nifti((-20, 24, 2)) + RAW
    yield "offset.nii", nifti(SMALL)[:108] + struct.pack("<f", np.nan) + nifti(SMALL)[112:] + RAW
    yield "elsewhere.mhd", meta_image("20 24 2", data="elsewhere.zraw")


@pytest.mark.parametrize(("name", "content"), [pytest.param(*pair, id=pair[0]) for pair in damaged_files()])
def test_damaged_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CardiacError, match=f"{name} cannot be read as an image.*damaged"):
        read_image(tmp_path / name)


def test_missing_pixels_of_a_compressed_header_are_noticed(tmp_path: Path) -> None:
    packed = zlib.compress(RAW)
    (tmp_path / "a.mhd").write_bytes(meta_image("20 24 2", data="a.zraw"))
    (tmp_path / "a.zraw").write_bytes(packed)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read_image(tmp_path / "a.mhd")), PIXELS)
    (tmp_path / "a.zraw").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(CardiacError, match="breaks off or is damaged"):
        read_image(tmp_path / "a.mhd")


@pytest.mark.parametrize("spacing", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("axis", range(3))
def test_a_nifti_spacing_that_is_no_size_is_refused(spacing: float, axis: int, tmp_path: Path) -> None:
    sizes = [1.0, 1.0, 1.0]
    sizes[axis] = spacing
    (tmp_path / "a.nii").write_bytes(nifti(SMALL, tuple(sizes)) + RAW)
    with pytest.raises(CardiacError, match=rf"a\.nii states a pixel spacing of {spacing:g}; correct its header"):
        read_image(tmp_path / "a.nii")


def test_an_unknown_frame_time_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(nifti((20, 24, 1, 2), (1, 1, 8, 0)) + RAW)
    assert read_image(tmp_path / "a.nii").GetSize() == (20, 24, 1, 2)


@pytest.mark.parametrize(
    ("name", "content"), [("a.mha", meta_image("20 24 2", "0 1 1", False)), ("a.nrrd", nrrd("20 24 2", "0"))]
)
def test_a_spacing_of_zero_is_refused_in_other_formats(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content + RAW)
    with pytest.raises(CardiacError, match="states a pixel spacing that is not a size in mm"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_numbers_that_are_none_are_refused(name: str, kind: type[np.floating], bad: float, tmp_path: Path) -> None:
    pixels = PIXELS.astype(kind)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / name))
    assert read_image(tmp_path / name).GetSize() == SMALL
    pixels[-1, -1, -1] = bad
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / name))
    # ITK would read a 0 there.
    with pytest.raises(CardiacError, match=f"{name} holds NaN or infinite values; replace them"):
        read_image(tmp_path / name)


def test_a_path_without_an_image_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.nii.gz", tmp_path):
        with pytest.raises(CardiacError, match=f"There is no file {path}; check the path"):
            read_image(path)


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(nifti(SMALL) + RAW)

    def refuse(*_: object) -> None:
        raise PermissionError

    # Not by chmod, which does not keep root away.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CardiacError, match="cannot be opened; ask for the right to read it"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "pixels", "components"),
    [
        ("a.png", sitk.sitkVectorUInt8, 3),
        ("a.nii.gz", sitk.sitkVectorFloat32, 3),
        ("a.nrrd", sitk.sitkVectorUInt8, 4),
        ("a.nii", sitk.sitkComplexFloat32, 0),
    ],
)
def test_pixels_of_several_numbers_are_refused(name: str, pixels: int, components: int, tmp_path: Path) -> None:
    size = [8, 8] if name.endswith("png") else [8, 8, 2]
    sitk.WriteImage(sitk.Image(size, pixels, components), str(tmp_path / name))
    with pytest.raises(CardiacError, match="holds colour, vector or complex pixels"):
        read_image(tmp_path / name)


HUGE = (30000, 30000, 1)


def boastful_files() -> Iterator[tuple[str, bytes]]:
    yield "a.nii", nifti(HUGE) + RAW
    yield "a.nii.gz", gzip.compress(nifti(HUGE) + RAW)
    yield "b.nii", nifti((32767,) * 7) + RAW
    yield "a.mha", meta_image("30000 30000 1") + zlib.compress(RAW)
    yield "b.mha", meta_image("30000 30000 1", compressed=False) + RAW
    yield "a.nrrd", nrrd("30000 30000 1") + RAW


def test_a_boastful_header_takes_no_memory(tmp_path: Path) -> None:
    # In a process of its own, since the most that a process ever held is never forgotten.
    for name, content in boastful_files():
        (tmp_path / name).write_bytes(content)
    program = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from cardiac_diffusion_aug.errors import CardiacError\nfrom cardiac_diffusion_aug.slices import read_image\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = most()\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try:\n        read_image(path)\n"
        "    except CardiacError as error:\n        assert 'cannot be read as an image' in str(error), error\n"
        "    else:\n        raise AssertionError(path)\n"
        "print(most() - before)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "CardiacDiffusionAug")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout.splitlines()[-1]) * unit < 50 << 20


# JSON


def test_a_json_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"größe": [1, 2]}', encoding="utf-8")
    assert read_json(path) == {"größe": [1, 2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as JSON"),
        (b'{"a": 1', "cannot be read as JSON"),
        (b'{"a": "\xff\xfe"}', "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1, 2]", "does not hold a JSON object"),
        (b"null", "does not hold a JSON object"),
    ],
)
def test_other_files_are_no_json_object(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(CardiacError, match=message):
        read_json(path)


def test_a_missing_json_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(CardiacError, match="cannot be read as JSON; restore or correct it"):
            read_json(path)
