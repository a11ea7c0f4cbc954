"""The README's commands are commands of this program, and what it links to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cardiac_diffusion_aug.cli import PROGRAM, _parser
from cardiac_diffusion_aug.jobs import JOBS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _commands() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    parts = [
        part.strip()
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        for part in line.split("&&")
    ]
    return [part for part in parts if PROGRAM in part.split()[0]]


def test_every_job_but_the_inner_ones_is_shown() -> None:
    assert {shlex.split(command)[1] for command in _commands()} == set(JOBS)


@pytest.mark.parametrize("command", _commands())
def test_command_is_understood(command: str) -> None:
    parsed = _parser().parse_args(shlex.split(command)[1:])
    job = parsed.job(**{name: value for name, value in vars(parsed).items() if name in parsed.job.__dataclass_fields__})
    assert job.NAME in command


@pytest.mark.parametrize("target", re.findall(r"\]\(((?!https?:)[^)#]+)\)", README))
def test_linked_file_is_there(target: str) -> None:
    assert (ROOT / target).is_file()


@pytest.mark.parametrize("script", re.findall(r"(?:bash|python) (Testing/[\w/.]+)", README))
def test_script_is_there(script: str) -> None:
    assert (ROOT / script).is_file()
