"""Stand-in for `slicer.packaging`: checks for real what is installed, and installs nothing.

Tests set `on_install` to what an installation is to do, such as raising an error, and read `calls`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import slicer
from packaging.requirements import Requirement

Requirements = str | Requirement | Sequence[str | Requirement]

calls: list[tuple[str, list[str], dict[str, Any]]] = []
"""Name of the function, requirements, keywords; oldest first."""
on_install: Callable[[list[str]], None] | None = None


def reset() -> None:
    """Forget the calls, and let installations succeed."""
    global on_install
    calls.clear()
    on_install = None


def fail(code: int = 1) -> None:
    """Let installations fail as pip does."""

    def raise_error(requirements: list[str]) -> None:
        raise subprocess.CalledProcessError(code, ["pip", "install", *requirements])

    global on_install
    on_install = raise_error


def load_requirements(path: str | Path) -> list[Requirement]:
    """Requirements of a file; comments and pip's options are left out."""
    lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def pip_check(req: Requirements) -> bool:
    """Whether all is installed; extras are not looked into."""
    return all(_is_met(each) for each in _listed(req))


def pip_ensure(
    requirements: Requirements,
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> list[str] | None:
    """Ask, where that is wanted, and record what would be installed.

    Raises:
        RuntimeError: the user has refused.
    """
    missing = [str(each) for each in _listed(requirements) if not _is_met(each)]
    calls.append(("pip_ensure", missing, {"requester": requester, "prompt_install": prompt_install}))
    if not missing:
        return None
    if prompt_install and not slicer.util.confirmOkCancelDisplay(f"{requester} needs {', '.join(missing)}. Install?"):
        raise RuntimeError("the installation was refused")
    _install(missing)
    return None


def pip_install(requirements: str | list[str], **keywords: Any) -> list[str] | None:
    """Record what would be installed."""
    wanted = requirements.split() if isinstance(requirements, str) else [str(each) for each in requirements]
    calls.append(("pip_install", wanted, keywords))
    _install(wanted)
    return None


def pip_uninstall(requirements: str | list[str]) -> None:
    """Record what would be removed."""
    wanted = requirements.split() if isinstance(requirements, str) else requirements
    calls.append(("pip_uninstall", wanted, {}))


def isPipInstallInProgress() -> bool:
    """Nothing is ever under way here."""
    return False


def _install(wanted: list[str]) -> None:
    if on_install is not None:
        on_install(wanted)


def _listed(requirements: Requirements) -> list[Requirement]:
    if isinstance(requirements, Requirement):
        return [requirements]
    each = requirements.split() if isinstance(requirements, str) else requirements
    return [one if isinstance(one, Requirement) else Requirement(one) for one in each]


def _is_met(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
