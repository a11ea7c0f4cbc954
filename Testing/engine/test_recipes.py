"""How long a generator is trained that nobody says the steps of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cardiac_diffusion_aug.errors import CardiacError
from cardiac_diffusion_aug.jobs import Context
from cardiac_diffusion_aug.jobs.train import LEAST_STEPS, MOST_STEPS, GeneratorTraining, TrainImages, TrainMasks


def recipe(
    job: type[GeneratorTraining], slices: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> dict[str, Any]:
    """That of a training on so many slices."""
    monkeypatch.setattr(job, "packs", lambda self, context: (range(slices), range(0), {}))
    monkeypatch.setattr(job, "carry_out", lambda self, *given: vars(self.recipe()))
    return job(data=Path("nowhere"), output=Path("nowhere"), **options).run(Context())


@pytest.mark.parametrize("job", [TrainMasks, TrainImages])
def test_few_slices_are_learned_from_for_few_steps(
    job: type[GeneratorTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [recipe(job, slices, monkeypatch)["steps"] for slices in (4, 146, 292, 100_000)]
    assert steps[0] == LEAST_STEPS
    assert steps[1] == round(146 * job.PASSES / 16)
    assert steps[2] == pytest.approx(2 * steps[1], abs=1)
    assert steps[3] == MOST_STEPS
    assert recipe(job, 146, monkeypatch, batch_size=32)["steps"] == round(146 * job.PASSES / 32)


def test_images_are_learned_at_half_the_resolution_first(monkeypatch: pytest.MonkeyPatch) -> None:
    told = recipe(TrainImages, 1136, monkeypatch)
    assert told["half_resolution_steps"] == pytest.approx(0.6 * told["steps"], abs=1)
    assert recipe(TrainImages, 1136, monkeypatch, steps=1000)["half_resolution_steps"] == 600
    assert recipe(TrainImages, 1136, monkeypatch, steps=1000, half_resolution_steps=0)["half_resolution_steps"] == 0


def test_what_is_asked_for_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for job in (TrainMasks, TrainImages):
        told = recipe(job, 146, monkeypatch, steps=7, learning_rate=1e-4)
        assert (told["steps"], told["learning_rate"]) == (7, 1e-4)
        assert recipe(job, 146, monkeypatch, teacher="acdc-128")["steps"] == 2000


def test_a_training_that_never_sees_a_whole_slice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        CardiacError, match=r"--half-resolution-steps is 4000, but must be fewer than the \d+ of --steps"
    ):
        recipe(TrainImages, 146, monkeypatch, half_resolution_steps=4000)
