"""What is not asked for comes in the shares of the training data, and a case says what it was given."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cardiac_diffusion_aug import generation
from cardiac_diffusion_aug.attributes import LEVEL_TOLERANCE, Attributes, drawn
from cardiac_diffusion_aug.bundle import load_bundle, write_bundle
from cardiac_diffusion_aug.cli import main
from cardiac_diffusion_aug.datasets.pack import SlicePack
from cardiac_diffusion_aug.generation import Generator, attribute_rows
from cardiac_diffusion_aug.jobs import JOBS, Context
from cardiac_diffusion_aug.jobs.base import warm_generator
from tiny import CARD, tiny_info, tiny_networks

pytest_plugins = ["tiny"]

# Phase, group, level, count: no HCM at end-systole, more apices than bases.
TABLE: list[list[float]] = [[0, 0, 0.0, 3], [0, 0, 1.0, 1], [1, 0, 0.5, 2], [0, 3, 0.5, 2], [-1, -1, -1, 2]]


def shares(asked: Attributes, count: int = 1000) -> Counter[str]:
    return Counter(str(drawn(TABLE, asked, (i + 0.5) / count)) for i in range(count))


def test_what_is_not_asked_comes_in_its_shares() -> None:
    assert shares(Attributes()) == {
        "phase=ED group=NOR level=0.0": 300,
        "phase=ED group=NOR level=1.0": 100,
        "phase=ES group=NOR level=0.5": 200,
        "phase=ED group=HCM level=0.5": 200,
        "": 200,
    }


def test_what_is_asked_stays_and_the_rest_fits_it() -> None:
    assert shares(Attributes(group="HCM")) == {"phase=ED group=HCM level=0.5": 1000}
    assert set(shares(Attributes(phase="ED"))) == {
        "phase=ED group=NOR level=0.0",
        "phase=ED group=NOR level=1.0",
        "phase=ED group=HCM level=0.5",
    }
    assert set(shares(Attributes(level=0.5 + LEVEL_TOLERANCE / 2))) == {
        "phase=ES group=NOR level=0.575",
        "phase=ED group=HCM level=0.575",
    }


def test_what_no_training_slice_had_is_given_alone() -> None:
    asked = Attributes(phase="ES", group="DCM")
    assert drawn(TABLE, asked, 0.4) == asked
    assert drawn([], Attributes(phase="ES"), 0.4) == Attributes(phase="ES")


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_every_place_is_somewhere(place: float) -> None:
    assert str(drawn(TABLE[:4], Attributes(), place))


def test_a_pack_counts_its_slices_with_a_heart() -> None:
    masks = np.zeros((4, 4, 4), np.uint8)
    masks[:3] = 1
    attributes = np.array([[0, 1, 0.3333], [0, 1, 0.3334], [1, -1, -1], [0, 1, 0.3333]], np.float32)
    names = np.array(["a"] * 4)
    table = SlicePack(masks, masks, attributes, names, names).attribute_table()
    assert sorted(table) == [[0, 1, 0.33, 2], [1, -1, -1, 1]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a table."""
    from cardiac_diffusion_aug.training.objectives import flow_scheduler

    folder = tmp_path_factory.mktemp("models") / "with-table"
    info = tiny_info(folder.name)
    info["attributes"]["table"] = TABLE[:4]
    schedulers = {name: flow_scheduler(0.0) for name in ("mask_scheduler", "image_scheduler")}
    write_bundle(folder, tiny_networks(), schedulers, info, CARD)
    return folder


def test_cases_have_attributes_of_their_own(model: Path) -> None:
    generator = Generator(model, "cpu", "fp32")
    made = [generator.attributes_of(3, case, Attributes()) for case in range(300)]
    counts = Counter(str(one) for one in made)
    assert len(counts) == 4
    assert counts["phase=ED group=NOR level=0.0"] / 300 == pytest.approx(3 / 8, abs=0.08)
    assert made[5] == generator.attributes_of(3, 5, Attributes())
    case = next(iter(generator.generate(1, seed=3)))
    assert case.attributes == made[0]


def test_they_may_be_left_open(model: Path) -> None:
    generator = Generator(model, "cpu", "fp32", draw_attributes=False)
    assert generator.attributes_of(3, 0, Attributes(phase="ES")) == Attributes(phase="ES")
    assert next(iter(generator.generate(1))).attributes == Attributes()


def velocities(generator: Generator, own: Attributes, asked: Attributes | None) -> tuple[Tensor, list[list[float]]]:
    """What a guided network says that returns the sum of its attributes, and with which it was called."""
    seen: list[list[float]] = []

    def network(x: Tensor, sigma: Tensor, rows: Tensor) -> Tensor:
        seen.append([round(v, 2) for v in rows[0].tolist()])
        return x * 0 + rows.sum()

    generator._networks["mask"] = network
    return generator._sampled("mask", lambda: None, torch.zeros(1), *generator._rows([own], asked)), seen


def test_guidance_strengthens_what_was_asked_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The velocity itself, in place of where it leads.
    monkeypatch.setattr(generation, "sample", lambda denoiser, noise, *rest: denoiser(noise, torch.zeros(1)))
    generator = Generator(model, "cpu", "fp32", guidance_scale=2.0)
    own = Attributes("ES", "HCM", 0.5)
    full = attribute_rows([own])[0].tolist()
    assert velocities(generator, own, Attributes())[1] == [full]
    value, seen = velocities(generator, own, Attributes(group="HCM"))
    assert seen == [[1, -1, 0.5], full]
    assert float(value) == pytest.approx(0.5 + 2 * (4.5 - 0.5))
    assert velocities(generator, own, None)[1] == [[-1, -1, -1], full]


def test_the_manifest_tells_both(model: Path, tmp_path: Path) -> None:
    common = ["--model", str(model), "--no-filter", "--device", "cpu", "--quiet", "--count", "3"]

    def rows(name: str, *options: str) -> list[dict[str, Any]]:
        assert main(["generate", "--output", str(tmp_path / name), *common, *options]) == 0
        with (tmp_path / name / "manifest.csv").open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    for row in rows("drawn", "--phase", "ED"):
        assert row["asked"] == "phase=ED"
        assert row["phase"] == "ED"
        assert row["group"] in ("NOR", "HCM")
        assert row["level"] in ("0.0", "0.5", "1.0")
    for row in rows("open", "--phase", "ED", "--no-draw-attributes"):
        assert (row["asked"], row["phase"], row["group"], row["level"]) == ("phase=ED", "ED", "", "")


def test_the_shipped_model_knows_its_patients() -> None:
    table = load_bundle().info["attributes"]["table"]
    assert sum(row[3] for row in table) > 1000
    assert {row[0] for row in table} == {0, 1}
    assert {row[1] for row in table} == {0, 1, 2, 3, 4}


def test_a_job_does_not_leave_its_settings_to_the_next(tiny_model: Path, tmp_path: Path) -> None:
    context = Context()
    settings = {"count": 1, "filter": False, "draw_attributes": False, "steps": 1, "device": "cpu"}
    JOBS["generate"].from_request({"output": tmp_path / "made", "model": str(tiny_model), **settings}).run(context)
    generator = warm_generator(context, load_bundle(tiny_model), "cpu", "auto")
    assert len(context.models) == 1, "it is the generator of the job before"
    assert generator.draw_attributes
    assert generator.steps == generator.bundle.default("image_steps") != 1
