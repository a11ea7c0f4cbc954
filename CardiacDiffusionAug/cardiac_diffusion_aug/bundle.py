"""A model on disk: a folder in the layout of a diffusers pipeline with `bundle.json`, verified before it is used.

There are two kinds. A generator makes cases:

    acdc-128/
      bundle.json           what it is, how it was made, and the SHA-256 of every other file
      model_index.json      which class each subfolder belongs to
      mask_denoiser/        config.json, diffusion_pytorch_model.safetensors
      image_denoiser/       likewise
      mask_scheduler/       scheduler_config.json
      image_scheduler/      likewise
      MODEL_CARD.md

A segmenter finds the heart, and holds the one network `unet` in place of those.

Nothing in a bundle is ever unpickled, and no class outside the fixed table below is made from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .attributes import GROUPS, PHASES
from .disk import reason_not_written, writing_to
from .errors import CardiacError, shown
from .labels import LABEL_VALUES

if TYPE_CHECKING:
    from torch import nn

BUNDLE_FILE = "bundle.json"
INDEX_FILE = "model_index.json"
CARD_FILE = "MODEL_CARD.md"
CONFIG_FILE, SCHEDULER_FILE = "config.json", "scheduler_config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
GENERATOR, SEGMENTER = "generator", "segmenter"
NETWORKS = {GENERATOR: ("mask_denoiser", "image_denoiser"), SEGMENTER: ("unet",)}
SCHEDULERS = {GENERATOR: ("mask_scheduler", "image_scheduler"), SEGMENTER: ()}
REQUIRED_FILES = {
    kind: (
        INDEX_FILE,
        CARD_FILE,
        *(f"{part}/{name}" for part in NETWORKS[kind] for name in (CONFIG_FILE, WEIGHTS_FILE)),
        *(f"{part}/{SCHEDULER_FILE}" for part in SCHEDULERS[kind]),
    )
    for kind in NETWORKS
}
DEFAULT_MODEL, DEFAULT_SEGMENTER = "acdc-128", "acdc-unet"
FORMAT, READ_FORMATS = 2, (1, 2)
"""The first stored all weights in half precision."""
ALLOWED_SUFFIXES = {".json", ".safetensors", ".md", ".png"}
PICKLE_SUFFIXES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
LEFT_BY_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave in any folder that they show; never read."""
ALLOWED_SCHEDULERS = ("DPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler")
LONGEST_SCHEDULE = 10_000
CALLS = {"mask_steps", "image_steps"}
LARGEST_SIZES = {"channels": 4096, "blocks": 16, "width": 4096, "hidden": 4096, "patch": 16}
MOST_LEVELS = 8
"""A configuration beyond these would only keep the computer busy."""
USUAL_BYTES = 64 << 20
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

    @property
    def kind(self) -> str:
        """`generator` or `segmenter`."""
        return _kind(self.info)

    def default(self, name: str) -> Any:
        """A default that came with the model, such as `mask_steps`."""
        return self.info["defaults"][name]

    @property
    def fixed_calls(self) -> tuple[str, ...]:
        """Of `mask_steps` and `image_steps` those whose default the network was taught, so that no other is good."""
        return tuple(self.info.get("fixed_calls", ()))

    def training_patients(self, part: str | None = None) -> list[str] | None:
        """Patients whom a network learned from, those of the models that it builds on among them.

        `part` names the network of a generator; a segmenter has one alone. None where the model does not say.
        """
        try:
            training = self.info["training"]
            facts = (training if part is None else training[part])["facts"]
            others = [facts[name]["patients"] for name in ("start", "teacher") if name in facts]
            return sorted({str(patient) for patients in (facts["split"]["train"], *others) for patient in patients})
        except (LookupError, TypeError):
            return None

    def network(self, part: str) -> nn.Module:
        """The network of a subfolder, float32, on the CPU, ready for inference.

        Raises:
            CardiacError: the weights do not fit the configuration, or are no numbers.
        """
        from safetensors import SafetensorError

        from .weights import load_weights

        network_class = _network_class(part)
        folder = self.path / part
        try:
            config = _read_json(folder / CONFIG_FILE)
            _require_plausible(config, network_class.__name__)
            network = _without_weights(network_class, config)
            network.load_state_dict(load_weights(folder / WEIGHTS_FILE), assign=True)
        except (OSError, RuntimeError, TypeError, ValueError, LookupError, SafetensorError) as error:
            raise CardiacError(
                f"{folder / WEIGHTS_FILE} cannot be loaded: the weights are damaged or do not fit {CONFIG_FILE} "
                "beside them; get the model anew.",
                "bad_model",
            ) from error
        result: nn.Module = network.eval()
        return result

    def scheduler(self, part: str) -> Any:
        """The scheduler of a subfolder.

        Raises:
            CardiacError: it is not one of those that a model may ask for, or its settings are none of it.
        """
        import diffusers

        path = self.path / part / SCHEDULER_FILE
        try:
            config = _read_json(path)
            _require_flow_scheduler(config)
            scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
            scheduler.set_timesteps(2)
            if not all(0 <= sigma <= 1 for sigma in scheduler.sigmas.tolist()):
                raise ValueError("noise levels that no network was trained on")
        except Exception as error:  # Any, since diffusers trusts its settings.
            raise CardiacError(
                f"{path} is not of a scheduler for flow matching ({' or '.join(ALLOWED_SCHEDULERS)}); "
                "get the model anew.",
                "bad_model",
            ) from error
        return scheduler


def _without_weights(network_class: Any, config: dict[str, Any]) -> Any:
    """A network on "meta", where nothing is allocated before the weights are known to fit."""
    import torch
    from torch.overrides import TorchFunctionMode

    class NotFilled(TorchFunctionMode):
        """Leaves out normal numbers: on "meta" alone these take torch's compiler, which is a second of imports."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func.__name__.endswith("normal_"):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with torch.device("meta"), NotFilled():
        return network_class.from_config(config)


def _network_class(part: str) -> Any:
    # One by one, since what each of them imports is heavy.
    if part == "mask_denoiser":
        from .networks.mask_denoiser import MaskDenoiser

        return MaskDenoiser
    if part == "image_denoiser":
        from .networks.image_denoiser import ImageDenoiser

        return ImageDenoiser
    from .networks.segmentation_unet import SegmentationUNet

    return SegmentationUNet


def model_folders() -> list[Path]:
    """Folders in which models are looked for by name: shipped ones, then the user's."""
    shipped = [_HERE / "models", _HERE.parent / "Resources" / "Models"]
    return [folder for folder in (*shipped, own_model_folder()) if folder.is_dir()]


def own_model_folder() -> Path:
    """The folder of the user's own models, which need not be there yet."""
    named = os.environ.get("CARDIAC_DIFFUSION_AUG_MODELS")
    # Without a home folder this leaves "~" as it is, where `Path.home` would raise.
    return Path(named or os.path.expanduser("~/.local/share/cardiac-diffusion-aug/models"))


def available_models() -> dict[str, Path]:
    """Name and folder of every model found, the shipped ones first."""
    found: dict[str, Path] = {}
    for folder in model_folders():
        for path in sorted(folder.glob(f"*/{BUNDLE_FILE}")):
            # What is hidden is being written, or was left by one that was interrupted.
            if not path.parent.name.startswith("."):
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
    # Unlike `Path.is_file` this takes any text, such as one that is too long for a path.
    if os.path.isfile(os.path.join(model, BUNDLE_FILE)):
        return Path(model)
    names = ", ".join(known) or "none"
    raise CardiacError(
        f"There is no model {shown(model)}: neither a known name ({names}) nor a folder with a {BUNDLE_FILE}.",
        "bad_model",
    )


def load_bundle(model: str | Path = DEFAULT_MODEL, kind: str | None = None) -> Bundle:
    """Find a model by name or path, and verify it.

    Args:
        model: name or folder.
        kind: that it must be of, `generator` or `segmenter`; any when None.

    Raises:
        CardiacError: it is not there, of another kind, damaged, or holds what a bundle must not hold.
    """
    path = find_model(str(model))
    try:
        raw = (path / BUNDLE_FILE).read_bytes()
        info = _parsed(raw)
        if info is None:
            raise CardiacError(
                f"{path / BUNDLE_FILE} is not of a model that this version reads; get it anew.", "bad_model"
            )
        if kind not in (None, _kind(info)):
            raise CardiacError(f"{path} is a {_kind(info)}, but a {kind} is needed; choose another model.", "bad_model")
        _verify_files(path, info["files"], _kind(info))
    except OSError as error:
        raise CardiacError(f"{path} cannot be read ({error.strerror or error}).", "bad_model") from error
    return Bundle(path, info, hashlib.sha256(raw).hexdigest())


def write_bundle(
    folder: Path,
    networks: Mapping[str, Any],
    schedulers: Mapping[str, Any],
    info: Mapping[str, Any],
    card: str,
) -> None:
    """Write a bundle, its weights as `weights` says; the folder appears whole, or stays as it was.

    Args:
        folder: of the bundle; a model that is there is replaced.
        networks: diffusers models by subfolder.
        schedulers: diffusers schedulers by subfolder.
        info: what `bundle.json` says beside format and hashes.
        card: text of the model card.

    Raises:
        CardiacError: the folder holds something else than a model, or cannot be written.
    """
    from safetensors import SafetensorError

    folder = folder.resolve()
    part, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("part", "old"))
    with writing_to(folder, "try again"):
        if old.exists() and not folder.exists():
            # An earlier run was killed between the two renames below.
            os.replace(old, folder)
        _require_replaceable(folder)
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            _write_parts(part, networks, schedulers)
            (part / CARD_FILE).write_text(card, encoding="utf-8")
            files = {p.relative_to(part).as_posix(): _sha256(p) for p in sorted(part.rglob("*")) if p.is_file()}
            _write_json(part / BUNDLE_FILE, {"format": FORMAT, **info, "files": files})
            _replace_folder(folder, part, old)
        except SafetensorError as error:
            raise reason_not_written(folder, USUAL_BYTES) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _require_replaceable(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        files = json.loads((folder / BUNDLE_FILE).read_bytes())["files"]
        stranger = next(_strangers(folder, files), None)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        stranger = "something else than a model"
    if stranger is not None:
        raise CardiacError(f"{folder} holds {stranger}; choose another folder for the model.", "bad_output")


def _replace_folder(folder: Path, part: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(part, folder)
    except BaseException:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_parts(part: Path, networks: Mapping[str, Any], schedulers: Mapping[str, Any]) -> None:
    from .weights import save_weights

    index: dict[str, Any] = {"_class_name": "CardiacDiffusionPipeline"}
    for name, network in networks.items():
        network.save_config(part / name)
        save_weights(network.state_dict(), part / name / WEIGHTS_FILE)
        index[name] = ["cardiac_diffusion_aug", type(network).__name__]
    for name, scheduler in schedulers.items():
        scheduler.save_config(part / name)
        index[name] = ["diffusers", type(scheduler).__name__]
    _write_json(part / INDEX_FILE, index)


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """The contents of `bundle.json`, or None where they are not of a model that this version reads."""
    from .slices import GRID_SIZE, GRID_SPACING

    try:
        info = json.loads(raw)
        fits = (
            info["format"] in READ_FORMATS
            and isinstance(info["files"], dict)
            and all(isinstance(info[key], str) and info[key] for key in ("name", "version"))
            and info["grid"] == {"size": GRID_SIZE, "spacing_mm": GRID_SPACING}
            and info["labels"] == LABEL_VALUES
            and (_kind(info) == SEGMENTER or _generates(info))
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return info if fits else None


def _kind(info: Mapping[str, Any]) -> str:
    # The first models had one kind only, and do not name it.
    kind = info.get("kind", GENERATOR)
    return str(kind) if kind in NETWORKS else GENERATOR


def _generates(info: Mapping[str, Any]) -> bool:
    """Whether there is all that a generator must say of itself."""
    defaults = info["defaults"]
    return bool(
        info.get("kind", GENERATOR) == GENERATOR
        and info["attributes"]["phase"] == list(PHASES)
        and info["attributes"]["group"] == list(GROUPS)
        and 0 < float(info["slice_thickness_mm"]) <= 1000
        and all(1 <= int(defaults[key]) <= 1000 for key in CALLS)
        and 0 <= float(defaults["guidance_scale"]) <= 20
        and set(info.get("fixed_calls", ())) <= CALLS
    )


def _verify_files(path: Path, files: Mapping[str, Any], kind: str) -> None:
    for stranger in _strangers(path, files):
        raise CardiacError(f"{path} holds {stranger}; remove it.", "bad_model")
    for name in REQUIRED_FILES[kind]:
        if name not in files:
            raise CardiacError(f"{path / BUNDLE_FILE} does not list {name}; get the model anew.", "bad_model")
    for name, expected in files.items():
        _verify_file(path, name, str(expected))


def _strangers(path: Path, files: Mapping[str, Any]) -> Iterator[str]:
    """What lies in a bundle's folder and is not part of it, in words."""
    root = os.path.realpath(path)
    for found in sorted(path.rglob("*")):
        name = found.relative_to(path).as_posix()
        if found.is_symlink() and not Path(os.path.realpath(found)).is_relative_to(root):
            yield f"the link {name}, which leads out of it"
        elif found.is_file() and name not in files and name != BUNDLE_FILE and found.name not in LEFT_BY_SYSTEM:
            pickle = found.suffix.lower() in PICKLE_SUFFIXES
            kind = "a pickle, which could run code" if pickle else f"which its {BUNDLE_FILE} does not list"
            yield f"{name}, {kind}"


def _verify_file(path: Path, name: str, expected: str) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name:
        raise CardiacError(f"{path} lists {shown(name)}, a path out of its folder; do not use this model.", "bad_model")
    if pure.suffix not in ALLOWED_SUFFIXES:
        raise CardiacError(
            f"{path} lists {shown(name)}; a model holds {', '.join(sorted(ALLOWED_SUFFIXES))} files only, never a "
            "pickle.",
            "bad_model",
        )
    if not os.path.isfile(path / name):
        raise CardiacError(f"{path} lacks its file {shown(name)}; get the model anew.", "bad_model")
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
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(f"{path} holds no JSON object")
    return content


def _require_plausible(config: Mapping[str, Any], name: str) -> None:
    if config.get("_class_name") != name:
        raise ValueError(f"not of a {name}")
    for key, largest in LARGEST_SIZES.items():
        sizes = config.get(key, 1)
        sizes = sizes if isinstance(sizes, list) else [sizes]
        if len(sizes) > MOST_LEVELS or not all(type(size) is int and 1 <= size <= largest for size in sizes):
            raise ValueError(f"{key} out of range")


def _require_flow_scheduler(config: Mapping[str, Any]) -> None:
    name = config.get("_class_name")
    if name not in ALLOWED_SCHEDULERS or not 1 <= config.get("num_train_timesteps", 1) <= LONGEST_SCHEDULE:
        raise ValueError(f"{name} with {config.get('num_train_timesteps')} time steps")
    if name == "DPMSolverMultistepScheduler" and config.get("prediction_type") != "flow_prediction":
        raise ValueError(f"prediction of {config.get('prediction_type')}")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
