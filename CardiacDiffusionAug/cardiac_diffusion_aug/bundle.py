"""A model on disk: a folder in the layout of a diffusers pipeline with `bundle.json`, verified before it is used.

    acdc-128/
      bundle.json           what it is, how it was made, and the SHA-256 of every other file
      model_index.json      which class each subfolder belongs to
      mask_denoiser/        config.json, diffusion_pytorch_model.safetensors
      image_denoiser/       likewise
      mask_scheduler/       scheduler_config.json
      image_scheduler/      likewise
      MODEL_CARD.md

Nothing in a bundle is ever unpickled, and no class outside the fixed table below is made from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .errors import CardiacError

if TYPE_CHECKING:
    from torch import nn

BUNDLE_FILE = "bundle.json"
INDEX_FILE = "model_index.json"
CARD_FILE = "MODEL_CARD.md"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
DEFAULT_MODEL = "acdc-128"
FORMAT = 1
ALLOWED_SUFFIXES = {".json", ".safetensors", ".md", ".png"}
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Bundle:
    """A verified bundle, its networks not yet in memory.

    Attributes:
        path: its folder.
        info: the contents of `bundle.json`.
        sha256: of `bundle.json`, and so of everything that it lists.
    """

    path: Path
    info: Mapping[str, Any]
    sha256: str

    @property
    def name(self) -> str:
        """Name given when it was made."""
        return str(self.info["name"])

    @property
    def version(self) -> str:
        """Version given when it was made."""
        return str(self.info["version"])

    def default(self, name: str) -> Any:
        """A default that came with the model, such as `mask_steps`."""
        return self.info["defaults"][name]

    def network(self, part: str) -> nn.Module:
        """The network of a subfolder, float32, on the CPU, ready for inference.

        Raises:
            CardiacError: the weights do not fit the configuration.
        """
        from safetensors.torch import load_file

        from .networks.image_denoiser import ImageDenoiser
        from .networks.mask_denoiser import MaskDenoiser

        classes: dict[str, Any] = {"mask_denoiser": MaskDenoiser, "image_denoiser": ImageDenoiser}
        folder = self.path / part
        try:
            network = classes[part].from_config(_read_json(folder / "config.json"))
            weights = load_file(folder / WEIGHTS_FILE)
            network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        except (OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
            raise CardiacError(
                f"The {part} of {self.path} cannot be loaded: its weights do not fit its configuration; "
                "get the model anew.",
                "bad_model",
            ) from error
        result: nn.Module = network.eval()
        return result

    def scheduler(self, part: str) -> Any:
        """The scheduler of a subfolder."""
        import diffusers

        config = _read_json(self.path / part / "scheduler_config.json")
        name = str(config.get("_class_name"))
        if name not in ("DPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"):
            raise CardiacError(f"{self.path} asks for the scheduler {name!r}, which is not supported.", "bad_model")
        return getattr(diffusers, name).from_config(config)


def model_folders() -> list[Path]:
    """Folders in which models are looked for by name: shipped ones, then the user's."""
    shipped = [_HERE / "models", _HERE.parent / "Resources" / "Models"]
    own = os.environ.get("CARDIAC_DIFFUSION_AUG_MODELS")
    user = Path(own) if own else Path.home() / ".local" / "share" / "cardiac-diffusion-aug" / "models"
    return [folder for folder in (*shipped, user) if folder.is_dir()]


def available_models() -> dict[str, Path]:
    """Name and folder of every model found, the shipped ones first."""
    found: dict[str, Path] = {}
    for folder in model_folders():
        for path in sorted(folder.glob(f"*/{BUNDLE_FILE}")):
            found.setdefault(path.parent.name, path.parent)
    return found


def find_model(model: str) -> Path:
    """The folder of a model given by name or path.

    Raises:
        CardiacError: there is no such model.
    """
    known = available_models()
    if model in known:
        return known[model]
    path = Path(model)
    if (path / BUNDLE_FILE).is_file():
        return path
    names = ", ".join(known) or "none"
    raise CardiacError(
        f"There is no model {model!r}: neither a known name ({names}) nor a folder with a {BUNDLE_FILE}.", "bad_model"
    )


def load_bundle(model: str | Path = DEFAULT_MODEL) -> Bundle:
    """Find a model by name or path, and verify it.

    Raises:
        CardiacError: it is not there, damaged, or holds what a bundle must not hold.
    """
    path = find_model(str(model))
    raw = (path / BUNDLE_FILE).read_bytes()
    try:
        info = json.loads(raw)
        files = info["files"]
        ok = info["format"] == FORMAT and isinstance(files, dict) and isinstance(info["defaults"], dict)
    except (ValueError, KeyError, TypeError):
        ok = False
    if not ok:
        raise CardiacError(f"{path / BUNDLE_FILE} is not of a model that this version reads; get it anew.", "bad_model")
    _refuse_strangers(path, files)
    for name, expected in files.items():
        _verify_file(path, name, str(expected))
    return Bundle(path, info, hashlib.sha256(raw).hexdigest())


def write_bundle(
    folder: Path,
    networks: Mapping[str, Any],
    schedulers: Mapping[str, Any],
    info: Mapping[str, Any],
    card: str,
) -> None:
    """Write a bundle in half precision; the folder appears whole, or stays as it was.

    Args:
        folder: of the bundle; one that is there is replaced.
        networks: diffusers models by subfolder.
        schedulers: diffusers schedulers by subfolder.
        info: what `bundle.json` says beside format and hashes.
        card: text of the model card.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    _write_parts(part, networks, schedulers)
    (part / CARD_FILE).write_text(card, encoding="utf-8")
    files = {p.relative_to(part).as_posix(): _sha256(p) for p in sorted(part.rglob("*")) if p.is_file()}
    _write_json(part / BUNDLE_FILE, {"format": FORMAT, **info, "files": files})
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def _write_parts(part: Path, networks: Mapping[str, Any], schedulers: Mapping[str, Any]) -> None:
    import torch
    from safetensors.torch import save_file

    index: dict[str, Any] = {"_class_name": "CardiacDiffusionPipeline"}
    for name, network in networks.items():
        network.save_config(part / name)
        tensors = {
            key: value.detach().cpu().to(torch.float16).contiguous() for key, value in network.state_dict().items()
        }
        save_file(tensors, part / name / WEIGHTS_FILE)
        index[name] = ["cardiac_diffusion_aug", type(network).__name__]
    for name, scheduler in schedulers.items():
        scheduler.save_config(part / name)
        index[name] = ["diffusers", type(scheduler).__name__]
    _write_json(part / INDEX_FILE, index)


def _refuse_strangers(path: Path, files: Mapping[str, Any]) -> None:
    for found in sorted(path.rglob("*")):
        name = found.relative_to(path).as_posix()
        if found.is_symlink() and not found.resolve().is_relative_to(path.resolve()):
            raise CardiacError(f"{path} holds the link {name} that leads out of it; get the model anew.", "bad_model")
        if found.is_file() and name not in files and name != BUNDLE_FILE:
            kind = (
                "a pickle, which could run code"
                if found.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt")
                else "a file"
            )
            raise CardiacError(
                f"{path} holds {name}, {kind} that its {BUNDLE_FILE} does not list; remove it.", "bad_model"
            )


def _verify_file(path: Path, name: str, expected: str) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
        raise CardiacError(f"{path} lists {name!r}, a path out of its folder; do not use this model.", "bad_model")
    if pure.suffix not in ALLOWED_SUFFIXES:
        raise CardiacError(
            f"{path} lists {name!r}; a model holds {', '.join(sorted(ALLOWED_SUFFIXES))} files only, never a pickle.",
            "bad_model",
        )
    if not (path / name).is_file():
        raise CardiacError(f"{path} lacks its file {name}; get the model anew.", "bad_model")
    if _sha256(path / name) != expected:
        raise CardiacError(
            f"{path / name} is not the file that was published (SHA-256 differs); get it anew.", "bad_model"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
