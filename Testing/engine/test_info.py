"""What is told about the machine, to people and to programs."""

from __future__ import annotations

import json

import psutil
import pytest
import torch

from cardiac_diffusion_aug import info
from cardiac_diffusion_aug.devices import choose_device

GIB = 1 << 30


def test_the_cpu_is_told() -> None:
    device = info.devices()[0]
    assert device["id"] == "cpu"
    assert device["name"].strip() == device["name"]
    assert device["name"].endswith(" cores")
    assert len(device["name"]) > len(", 1 cores") + 2
    assert 0 < device["free_gib"] <= device["total_gib"]
    assert device["total_gib"] == pytest.approx(psutil.virtual_memory().total / GIB, abs=0.1)


def test_each_device_can_be_chosen() -> None:
    for device in info.devices():
        assert set(device) == {"id", "name", "free_gib", "total_gib"}
        assert str(choose_device(device["id"])) == device["id"]


def test_cards_are_told_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: ((index + 1) * GIB, 24 * GIB))
    assert info.devices()[1:3] == [
        {"id": "cuda:0", "name": "Card 0", "free_gib": 1.0, "total_gib": 24.0},
        {"id": "cuda:1", "name": "Card 1", "free_gib": 2.0, "total_gib": 24.0},
    ]


def test_a_mac_s_gpu_shares_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    first, *_, last = info.devices()
    assert last["id"] == "mps"
    assert last["total_gib"] == first["total_gib"]


@pytest.mark.parametrize("system", ["Linux", "Darwin", "Windows", "Plan 9"])
def test_a_cpu_always_has_a_name(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    assert info._cpu_name()


def test_programs_get_the_list_and_people_get_texts() -> None:
    facts = info.machine_facts()
    assert [device["id"] for device in facts["devices"]] == [device["id"] for device in info.devices()]
    json.dumps(facts, allow_nan=False)
    told = info.facts_in_words()
    assert told.keys() == facts.keys() - {"devices"}
    assert all(isinstance(value, str) for value in told.values())
