"""Cases are drawn again until they pass, always alike, and never for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from cardiac_diffusion_aug import filtering
from cardiac_diffusion_aug.attributes import Attributes
from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.filtering import (
    ATTRIBUTE_TRIES,
    IMAGE_TRIES,
    MOST_BATCHES,
    MOST_MASKS,
    Judge,
    generate_filtered,
    slice_dice,
)
from cardiac_diffusion_aug.generation import MASK_STREAM, GeneratedCase, Generator, GreyArray
from cardiac_diffusion_aug.labels import LV, MYO, RV
from cardiac_diffusion_aug.segmentation import Segmenter
from cardiac_diffusion_aug.slices import GRID_SIZE, LabelArray
from phantom import phantom_stack

pytest_plugins = ["tiny", "tiny_unet"]


class Picky(Judge):
    """Fails what it is told to fail, by the number of masks and images that it has seen."""

    def __init__(self, bad_masks: Sequence[int] = (), bad_images: Sequence[int] = ()) -> None:
        super().__init__(cast(Segmenter, None))
        self.bad_masks, self.bad_images = set(bad_masks), set(bad_images)
        self.masks: list[LabelArray] = []
        self.images: list[GreyArray] = []

    def mask_failures(self, mask: LabelArray) -> tuple[str, ...]:
        self.masks.append(mask)
        return ("lv_hole",) if len(self.masks) - 1 in self.bad_masks else ()

    def dice(self, images: Sequence[GreyArray], masks: Sequence[LabelArray]) -> list[dict[str, float]]:
        first = len(self.images)
        self.images += images
        return [{"LV": 0.1 if first + i in self.bad_images else 0.95} for i in range(len(images))]

    def pair_failures(self, dice: dict[str, float], mask: LabelArray) -> tuple[str, ...]:
        return ("LV Dice 0.10",) if dice["LV"] < 0.5 else ()


@pytest.fixture(scope="module")
def generator(tiny_model: Path) -> Generator:
    return Generator(tiny_model, "cpu", "fp32")


def same(a: GeneratedCase, b: GeneratedCase) -> bool:
    return bool(
        (a.image == b.image).all() and (a.mask == b.mask).all() and (a.case, a.variation) == (b.case, b.variation)
    )


def test_what_passes_at_once_is_what_comes_without_checks(generator: Generator) -> None:
    plain = list(generator.generate(3, seed=2, variations=2))
    checked = list(generate_filtered(generator, Picky(), 3, seed=2, variations=2))
    assert len(plain) == len(checked) == 6
    assert all(same(a, b) for a, b in zip(plain, checked, strict=True))
    assert [case.rejected for case in checked] == [()] * 6
    assert [case.dice for case in checked] == [{"LV": 0.95}] * 6


def test_a_mask_that_fails_is_drawn_again_from_other_noise(generator: Generator) -> None:
    judge = Picky(bad_masks=[1, 2])
    made = list(generate_filtered(generator, judge, 3))
    plain = list(generator.generate(3))
    assert [same(a, b) for a, b in zip(plain, made, strict=True)] == [True, False, True]
    assert made[1].rejected == ("lv_hole", "lv_hole")
    assert [case.draws for case in made] == [1, 3, 1]
    assert (made[1].mask == judge.masks[3]).all()
    assert not any((judge.masks[3] == other).all() for other in judge.masks[:3])
    assert len(judge.images) == 3, "no image is made for a mask that fails"


def test_an_image_that_fails_is_drawn_again_for_the_same_mask(generator: Generator) -> None:
    judge = Picky(bad_images=[0])
    (made,) = generate_filtered(generator, judge, 1)
    assert len(judge.masks) == 1
    assert (made.mask == judge.masks[0]).all()
    assert (made.image == judge.images[1]).all()
    assert not (judge.images[0] == judge.images[1]).all()
    assert (made.draws, made.rejected) == (2, ("LV Dice 0.10",))


def test_what_passes_at_once_was_drawn_once_whatever_its_variations(generator: Generator) -> None:
    assert [case.draws for case in generate_filtered(generator, Picky(), 2, variations=3)] == [1] * 6


def test_a_mask_without_a_good_image_is_given_up(generator: Generator) -> None:
    judge = Picky(bad_images=range(IMAGE_TRIES))
    (made,) = generate_filtered(generator, judge, 1)
    assert len(judge.masks) == 2
    assert (made.mask == judge.masks[1]).all()
    assert made.draws == IMAGE_TRIES + 1


def test_all_variations_of_a_case_share_the_mask_that_passed(generator: Generator) -> None:
    # The second image of the first mask never passes, though the first does.
    judge = Picky(bad_images=range(1, 1 + IMAGE_TRIES))
    made = list(generate_filtered(generator, judge, 1, variations=2))
    assert [case.variation for case in made] == [0, 1]
    assert all((case.mask == judge.masks[1]).all() for case in made)
    assert not (made[0].image == made[1].image).all()


def test_it_does_not_go_on_for_ever(generator: Generator) -> None:
    judge = Picky(bad_masks=range(10**4))
    with pytest.raises(
        CardiacError, match=rf"{MOST_MASKS} draws of case 0 .*lv_hole {MOST_MASKS} times.*--no-filter"
    ) as error:
        list(generate_filtered(generator, judge, 2))
    assert error.value.code == "too_few_pass"
    assert len(judge.masks) == MOST_MASKS


def test_a_case_that_never_passes_is_tried_with_other_attributes(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One case that the model cannot make must not end a run of thousands."""
    table = [[0, 0, level / 100, 1] for level in range(100)]
    monkeypatch.setattr(generator, "_table", table)
    its = [generator.attributes_of(4, 0, Attributes(), again) for again in range(ATTRIBUTE_TRIES)]
    assert len(set(its)) == ATTRIBUTE_TRIES
    judge = Picky(bad_masks=range(MOST_MASKS + 3))
    first, second = generate_filtered(generator, judge, 2, seed=4)
    assert first.attributes == its[1]
    assert first.draws == len(first.rejected) + 1 > MOST_MASKS
    assert second.attributes == generator.attributes_of(4, 1, Attributes())
    # The mask is that of the attributes told.
    stream = filtering._Draw(0, [0], its, len(first.rejected)).stream(MASK_STREAM)
    (mask,) = generator.masks(4, [0], Attributes(), streams=[stream], own=[its[1]])
    assert (mask == first.mask).all()
    # What was asked for stays, and with nothing left to draw it ends after the first.
    every = Picky(bad_masks=range(10**4))
    with pytest.raises(CardiacError, match=f"None of {MOST_MASKS} draws"):
        next(generate_filtered(generator, every, 1, 4, Attributes("ES", "DCM", 0.5)))
    every = Picky(bad_masks=range(10**4))
    with pytest.raises(CardiacError, match=f"None of {MOST_MASKS * ATTRIBUTE_TRIES} draws of case 0"):
        next(generate_filtered(generator, every, 1, 4))


def test_a_redrawn_case_depends_on_seed_and_number_alone(generator: Generator) -> None:
    class ByContent(Judge):
        """By what it sees, not by turn: what is redrawn must not depend on what is made before it."""

        def mask_failures(self, mask: LabelArray) -> tuple[str, ...]:
            return ("odd",) if int(mask.sum()) % 3 == 0 else ()

        def dice(self, images: Sequence[GreyArray], masks: Sequence[LabelArray]) -> list[dict[str, float]]:
            return [{"LV": float(int(image.sum()) % 3)} for image in images]

        def pair_failures(self, dice: dict[str, float], mask: LabelArray) -> tuple[str, ...]:
            return ("odd image",) if dice["LV"] == 0 else ()

    judge = ByContent(cast(Segmenter, None))
    expected = list(generate_filtered(generator, judge, 6, seed=5, variations=2))
    assert any(case.rejected for case in expected)

    def all_but(chosen: int) -> Callable[[int, int], bool]:
        return lambda case, variation: case != chosen

    for chosen in range(6):
        alone = list(generate_filtered(generator, judge, 6, 5, variations=2, skip=all_but(chosen)))
        assert len(alone) == 2
        for one, other in zip(alone, expected[2 * chosen :], strict=False):
            assert same(one, other)
            assert (one.draws, one.rejected) == (other.draws, other.rejected)


class ByMask(Judge):
    """Fails the first image of every third mask, and every fifth mask, by their content."""

    def __init__(self) -> None:
        super().__init__(cast(Segmenter, None))
        self.seen: dict[bytes, int] = {}

    def mask_failures(self, mask: LabelArray) -> tuple[str, ...]:
        return ("odd",) if int(mask.sum()) % 5 == 0 else ()

    def dice(self, images: Sequence[GreyArray], masks: Sequence[LabelArray]) -> list[dict[str, float]]:
        looks = []
        for mask in masks:
            self.seen[mask.tobytes()] = self.seen.get(mask.tobytes(), 0) + 1
            looks.append({"LV": float(self.seen[mask.tobytes()] > 1 or int(mask.sum()) % 3 > 0)})
        return looks

    def pair_failures(self, dice: dict[str, float], mask: LabelArray) -> tuple[str, ...]:
        return ("odd image",) if dice["LV"] == 0 else ()


def test_what_is_drawn_again_shares_its_batch_with_what_is_new(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = list(generate_filtered(generator, ByMask(), 12, seed=3))
    sizes: list[int] = []
    draw = generator.images

    def images(masks: Sequence[LabelArray], *arguments: Any) -> list[GreyArray]:
        sizes.append(len(masks))
        return draw(masks, *arguments)

    for size in ("batch_size", "largest_batch"):
        monkeypatch.setattr(generator, size, 4)
    monkeypatch.setattr(generator, "images", images)
    together = list(generate_filtered(generator, ByMask(), 12, seed=3))
    assert sum(case.draws for case in together) > 15
    assert [case.case for case in together] == list(range(12))
    for one, other in zip(alone, together, strict=True):
        assert (one.mask == other.mask).all()
        assert (one.draws, one.rejected) == (other.draws, other.rejected)
        # Kernels of a CPU round otherwise for other batches.
        assert np.abs(one.image.astype(int) - other.image).max() <= 1
    assert max(sizes) == 4
    # Masks that fail leave gaps, and so does the end.
    assert sum(sizes[:-3]) >= 3 * len(sizes[:-3])


def test_not_too_many_cases_wait_for_one(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: set[int] = set()
    tells = most = 0

    class First(Judge):
        """Fails every image of the first mask."""

        def mask_failures(self, mask: LabelArray) -> tuple[str, ...]:
            return ()

        def dice(self, images: Sequence[GreyArray], masks: Sequence[LabelArray]) -> list[dict[str, float]]:
            return [{} for _ in images]

        def pair_failures(self, dice: dict[str, float], mask: LabelArray) -> tuple[str, ...]:
            return ("odd image",) if (mask == first).all() else ()

    def masks(seed: int, cases: Sequence[int], *arguments: Any) -> list[LabelArray]:
        begun.update(cases)
        return [first if case == 0 and tells < 30 else other for case in cases]

    def images(given: Sequence[LabelArray], *arguments: Any) -> list[GreyArray]:
        nonlocal tells, most
        tells, most = tells + 1, max(most, len(begun))
        return [first] * len(given)

    first, other = on_grid(), on_grid(np.flipud)
    for size in ("batch_size", "largest_batch"):
        monkeypatch.setattr(generator, size, 4)
    monkeypatch.setattr(generator, "masks", masks)
    monkeypatch.setattr(generator, "images", images)
    made = generate_filtered(generator, First(cast(Segmenter, None)), 1000)
    assert next(made).draws == 31
    assert most == 4 * MOST_BATCHES
    assert [next(made).case for _ in range(100)] == list(range(1, 101))


def test_skipped_cases_are_not_made(generator: Generator) -> None:
    judge = Picky()
    made = list(generate_filtered(generator, judge, 3, skip=lambda case, variation: case != 1))
    assert [case.case for case in made] == [1]
    assert len(judge.masks) == 1


def test_a_cancelled_run_stops_between_steps(generator: Generator) -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        raise Stop

    with pytest.raises(Stop):
        next(generate_filtered(generator, Picky(), 1, check=check))


def on_grid(transform: Callable[[Any], Any] = lambda x: x) -> LabelArray:
    _, mask = phantom_stack(slices=1, shape=(GRID_SIZE, GRID_SIZE), spacing=(1.5, 1.5, 8.0))
    return np.ascontiguousarray(transform(sitk.GetArrayFromImage(mask)[0]))


def test_the_real_judge_knows_a_heart_from_a_broken_one(tiny_unet: Path) -> None:
    judge = Judge(Segmenter(tiny_unet, "cpu"))
    whole = on_grid()
    assert judge.mask_failures(whole) == ()
    broken = whole.copy()
    broken[whole == MYO] = 0
    assert "lv_touches_background" in judge.mask_failures(broken)
    assert judge.mask_failures(np.zeros_like(whole)) == ("empty",)


def test_the_real_judge_finds_the_mask_in_its_image_and_no_other(tiny_unet: Path) -> None:
    from cardiac_diffusion_aug.slices import intensity_window, rescale

    image, mask = (
        sitk.GetArrayFromImage(one)[1]
        for one in phantom_stack(slices=4, shape=(GRID_SIZE, GRID_SIZE), spacing=(1.5, 1.5, 8.0), seed=41)
    )
    grey = rescale(image.astype(np.float32), intensity_window(image.astype(np.float32), "it"))
    shown = np.rint((grey + 1) * 127.5).astype(np.uint8)
    judge = Judge(Segmenter(tiny_unet, "cpu"))
    moved = np.roll(mask, 30, axis=0)
    right, wrong = judge.dice([shown, shown], [mask, moved])
    assert min(right.values()) > 0.7
    assert judge.pair_failures(right, mask) == ()
    assert judge.pair_failures(wrong, moved) != ()
    assert "Dice" in judge.pair_failures(wrong, moved)[0]
    without = np.where(mask == RV, 0, mask).astype(np.uint8)
    (hidden,) = judge.dice([shown], [without])
    assert judge.pair_failures(hidden, without) == ("RV Dice 0.00",), "an image must not show what its mask lacks"


def test_small_structures_are_not_judged() -> None:
    judge = Judge(cast(Segmenter, None))
    mask = np.zeros((GRID_SIZE, GRID_SIZE), np.uint8)
    mask[:30, :30], mask[40:43, 40:43] = LV, RV
    assert judge.pair_failures({"LV": 0.9, "RV": 0.0}, mask) == ()
    assert judge.pair_failures({"LV": 0.2, "RV": 0.0}, mask) == ("LV Dice 0.20",)


def test_dice_of_a_slice() -> None:
    a, b = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    a[0], b[0, :2], b[1, 0] = LV, LV, RV
    assert slice_dice(a, b) == {"LV": pytest.approx(2 * 2 / 6), "RV": 0.0}


@pytest.fixture
def six_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("six_threads")
def test_what_a_judge_finds_hangs_on_the_image_alone_with_many_threads(tiny_unet: Path) -> None:
    test_what_a_judge_finds_hangs_on_the_image_alone(tiny_unet, "bf16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_judge_finds_hangs_on_the_image_alone(tiny_unet: Path, precision: str) -> None:
    image = sitk.GetArrayFromImage(phantom_stack(7, (GRID_SIZE, GRID_SIZE), (1.5, 1.5, 8.0), "ED", 3)[0])
    greys = (2 * (image - image.min()) / np.ptp(image) - 1).astype(np.float32)
    judge = Judge(Segmenter(tiny_unet, "cpu", precision))
    together = judge._found(greys)
    assert len(np.unique(together)) > 2, "it finds something"
    np.testing.assert_array_equal(together, np.concatenate([judge._found(grey[None]) for grey in greys]))
    np.testing.assert_array_equal(together[::-1], judge._found(greys[::-1]))
