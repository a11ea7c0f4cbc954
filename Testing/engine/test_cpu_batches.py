"""Batches on a processor: the first case is not waited for, and nothing hangs on a case's neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cardiac_diffusion_aug.devices import (
    BATCHES_OF_THREADS,
    MOST_TOGETHER,
    has_fast_bfloat16,
    samples_together,
    suggested_batch_size,
)
from cardiac_diffusion_aug.generation import GeneratedCase, Generator

pytest_plugins = ["tiny"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def made(model: Path, threads: int, batch_size: int | None, count: int = 7) -> list[GeneratedCase]:
    torch.set_num_threads(threads)
    return list(Generator(model, "cpu", "bf16", batch_size=batch_size).generate(count, seed=2))


@pytest.mark.skipif(not has_fast_bfloat16(CPU), reason="the processor only emulates bfloat16")
@pytest.mark.parametrize(("threads", "batch_size"), [(1, 4), (2, None), (2, 1), (2, 3), (4, None)])
def test_a_case_is_the_same_to_the_bit(tiny_model: Path, threads: int, batch_size: int | None) -> None:
    for one, other in zip(made(tiny_model, 1, 1), made(tiny_model, threads, batch_size), strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.image, other.image)


def test_batches_grow_from_one_case_for_each_thread(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    generator = Generator(tiny_model, "cpu", "bf16", batch_size=7)
    sizes: list[int] = []
    make = generator._images_of

    def seen(masks: Any, *rest: Any) -> Any:
        sizes.append(len(masks))
        return make(masks, *rest)

    monkeypatch.setattr(generator, "_images_of", seen)
    assert len(list(generator.generate(30))) == 30
    assert sizes == [2, 4, 8, 8, 8]
    # The next job's first case is waited for too.
    generator.configure()
    assert (generator.batch_size, generator.largest_batch) == (2, 2 * BATCHES_OF_THREADS)


def test_one_at_a_time_where_a_batch_gains_nothing(tiny_model: Path) -> None:
    torch.set_num_threads(2)
    generator = Generator(tiny_model, "cpu", "fp32", batch_size=8)
    assert (generator.batch_size, generator.largest_batch) == (1, 1)
    torch.set_num_threads(MOST_TOGETHER + 1)
    assert samples_together(CPU, True) == 1
    assert suggested_batch_size(CPU, 1) == 1
