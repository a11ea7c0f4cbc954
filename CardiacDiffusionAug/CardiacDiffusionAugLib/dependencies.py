"""What the worker needs in Slicer's Python, and how it is installed: asked once, never by itself."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from cardiac_diffusion_aug.errors import CardiacError

from .environment import chosenPython

REQUIREMENTS = Path(__file__).resolve().parent.parent / "Resources" / "requirements.txt"
TORCH_REQUIREMENT = ">=2.4"
QUESTION = _(
    "The worker needs PyTorch and a few Python packages, which are not in Slicer yet. They are downloaded once, about "
    "1 GB for a computer without an NVIDIA GPU and 3 GB with one, and take 3 to 10 minutes to install. Slicer's own "
    "packages are not changed. Install them now?"
)
FAILED = _(
    "{what} could not be installed ({why}). Without a network, install on another computer and choose its Python under "
    "Model, or try again when you are online. The log holds all that was printed."
)


def missingPackages() -> list[str]:
    """Packages that the worker lacks; none where the user has chosen a Python of her own, which is not looked into."""
    if chosenPython():
        return []
    return [name for name in ("torch", *requirementNames()) if not _isInstalled(name)]


def requirementNames() -> list[str]:
    """Names in `requirements.txt`."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0] for line in lines if line.strip() and line[0] != "#"]


def _isInstalled(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def install(ask: Callable[[str], bool] = slicer.util.confirmOkCancelDisplay) -> bool:
    """Install what is missing, after one confirmation.

    Args:
        ask: shows a question and tells whether it was agreed to.

    Returns:
        Whether all is there now; False also where the user refused.

    Raises:
        CardiacError: something could not be installed.
    """
    if not missingPackages():
        return True
    if not ask(QUESTION):
        return False
    if not _isInstalled("torch"):
        _attempt("PyTorch", _installTorch)
    # After torch: these would otherwise take a build of it that does not fit the GPU.
    _attempt("The Python packages", _installRest)
    still = missingPackages()
    if still:
        raise CardiacError(FAILED.format(what=", ".join(still), why=_("still missing")), "missing_dependency")
    return True


def _attempt(what: str, step: Callable[[], None]) -> None:
    try:
        step()
    except (RuntimeError, OSError, ImportError, subprocess.CalledProcessError) as error:
        raise CardiacError(FAILED.format(what=what, why=error), "missing_dependency") from error


def _installTorch() -> None:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise ImportError(_("the extension PyTorch is missing; install it in the Extensions Manager")) from error
    if (
        PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=TORCH_REQUIREMENT)
        is None
    ):
        raise RuntimeError(_("the installation was refused"))


def _installRest() -> None:
    try:
        from slicer import packaging
    except ImportError:
        # Slicer before 5.12.
        slicer.util.pip_install(f"-r {REQUIREMENTS}")
        return
    packaging.pip_ensure(
        packaging.load_requirements(str(REQUIREMENTS)), requester="CardiacDiffusionAug", prompt_install=False
    )
