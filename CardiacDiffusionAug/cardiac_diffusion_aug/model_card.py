"""The model card: the contents of `bundle.json` in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from torch import nn

TRAINED_BY = {"mask_denoiser": "train-masks", "image_denoiser": "train-images"}
AUGMENTATIONS = {
    "strong": "strong traditional augmentation",
    "centered": "strong traditional augmentation of windows around the heart, whose place it must be told",
    "none": "no augmentation",
}
UNLISTED = ("weight_decay", "gradient_clip", "keep_best")
"""Of a recipe, what no option sets."""


def model_card(
    info: Mapping[str, Any], networks: Mapping[str, nn.Module], figures: Mapping[str, Mapping[str, Any]]
) -> str:
    """Markdown text for a generator.

    Args:
        info: as in `bundle.json`.
        networks: by subfolder, for their sizes.
        figures: of a report of `evaluate` by key; none when it was not evaluated.
    """
    training = info["training"]
    split = training["image_denoiser"]["facts"]["split"]
    parts = [
        f"# {info['name']} {info['version']}",
        "Two diffusion models for labelled short-axis cine MR of the heart: one makes masks of the left ventricle "
        "(LV), its myocardium (MYO) and the right ventricle (RV) from noise, the other makes the MR slice for a mask, "
        "conditioned through spatially-adaptive normalization (SPADE).",
        "## Intended use",
        "Enlarging labelled training sets for segmentation research, and teaching. Not for diagnosis: no image shows "
        "a real patient.",
        "## Data",
        f"{training['data']}. Validation patients: rule `{split['rule']}`.\n\n"
        f"- {len(split['train'])} training patients: {_names(split['train'])}\n"
        f"- {len(split['validation'])} validation patients: {_names(split['validation'])}",
        "## Networks and recipes",
        *(_network_text(part, networks[part], training[part]) for part in networks),
        *([training["note"]] if training["note"] else []),
        "## Sampling",
        f"{info['defaults']['mask_steps']} network calls for a mask and {info['defaults']['image_steps']} for an "
        "image, by DPM-Solver++ of second order, or of first order (straight steps) where a teacher was followed; "
        f"guidance scale {info['defaults']['guidance_scale']} where "
        "phase, level or group are asked for. What is not asked for is drawn in the shares of the training data.",
        *_figures_text(figures),
        "## Limits",
        f"Slices of {info['grid']['size']} x {info['grid']['size']} pixels at {info['grid']['spacing_mm']} mm, one at "
        "a time: neighbouring slices are not a volume. One centre and the scanners of the training data; other "
        "vendors, contrast agents, devices and congenital hearts were never seen. With so few training patients a made "
        "slice may come close to a real one.",
        f"## License\n\n{info['license']}, the terms of the training data.",
    ]
    return "\n\n".join(parts) + "\n"


def _figures_text(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    judged = [figure for figure in figures.values() if figure.get("bar") and figure.get("value") is not None]
    if not judged:
        return []
    rows = []
    for figure in judged:
        sign = "at least" if figure["bar"]["at_least"] else "at most"
        word = "good" if figure["good"] else "missed"
        rows.append(f"| {figure['name']} | {figure['value']:.3f} | {sign} {figure['bar']['limit']:.3f} | {word} |")
    head = "| figure | value | bar | |\n| --- | --- | --- | --- |\n"
    words = "Of cases made without the filter, beside the validation patients; `evaluate` measures and explains them."
    return ["## Figures", words, head + "\n".join(rows)]


def segmenter_card(info: Mapping[str, Any], network: nn.Module) -> str:
    """Markdown text for a segmenter.

    Args:
        info: as in `bundle.json`.
        network: for its size.
    """
    training = info["training"]
    split, recipe, last = training["facts"]["split"], training["recipe"], training["history"][-1]
    count = sum(p.numel() for p in network.parameters()) / 1e6
    options = " ".join(f"--{n.replace('_', '-')} {shlex.quote(str(v))}" for n, v in training["options"].items())
    dice = f"{1 - last['validation_loss']:.3f}" if last["validation_loss"] is not None else "not measured"
    parts = [
        f"# {info['name']} {info['version']}",
        "A U-Net (MONAI's DynUNet, the shape of nnU-Net) that labels the left ventricle (LV), its myocardium (MYO) and "
        "the right ventricle (RV) in short-axis cine MR. It works on single slices, in two passes: one over the whole "
        "field of view finds the heart, one around it finds the outlines.",
        "## Intended use",
        "Segmentation research, teaching, and judging made images. Not for diagnosis.",
        "## Data",
        f"{training['data']}. {training['facts']['slices']} slices train. Synthetic slices: "
        f"{training['synthetic'] or 'none'}. Validation patients: rule `{split['rule']}`; they chose the snapshot.\n\n"
        f"- {len(split['train'])} training patients: {_names(split['train'])}\n"
        f"- {len(split['validation'])} validation patients: {_names(split['validation'])}",
        "## Network and recipe",
        f"{count:.1f} M parameters; the snapshot of the best validation Dice, at step {training['step']} of "
        f"{recipe['steps']} steps of {recipe['batch_size']} windows; Dice and cross-entropy loss; "
        f"{AUGMENTATIONS[training['options'].get('augmentation', 'strong')]}. Mean Dice of the three structures over "
        f"volumes of validation patients, around the heart on the model's grid: {dice}. Made by\n\n"
        f"    cardiac-diffusion-aug train-unet --data ACDC --output FOLDER {options}",
        *([training["note"]] if training["note"] else []),
        "## Limits",
        "One centre, one vendor, adults. Slices beyond the base and other views are what it was not taught. A scan "
        "that does not look like short-axis cine is left unlabelled, with a warning.",
        f"## License\n\n{info['license']}, the terms of the training data.",
    ]
    return "\n\n".join(parts) + "\n"


def _network_text(part: str, network: nn.Module, training: Mapping[str, Any]) -> str:
    count = sum(p.numel() for p in network.parameters()) / 1e6
    recipe, last = training["recipe"], training["history"][-1]
    flags = {
        name: value
        for name, value in recipe.items()
        if name not in UNLISTED and (name != "half_resolution_steps" or part == "image_denoiser")
    }
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in flags.items())
    rule = training["facts"]["split"]["rule"]
    start, teacher = (training["facts"].get(name) for name in ("start", "teacher"))
    loss, which = "Flow-matching loss", ""
    if start is not None:
        options += f" --start {start['name']}"
        which = (
            f". It started from the weights of {start['name']} {start['version']} (SHA-256 {start['sha256']})"
            f"{_others(start, training)}"
        )
    if teacher is not None:
        options += f" --teacher {teacher['name']} --calls {teacher['calls']}"
        loss = f"It follows {teacher['name']} {teacher['version']} in {teacher['calls']} calls. Loss"
        which = f" (SHA-256 of the teacher {teacher['sha256']}{_others(teacher, training)})"
    return (
        f"**{part}**: {count:.1f} M parameters, {training['step']} steps of {recipe['batch_size']} samples from "
        f"{training['facts']['slices']} slices. {loss} at the end {last['loss']:.4f}, on validation "
        f"patients {last['validation_loss']:.4f}{which}. Made by\n\n"
        f"    cardiac-diffusion-aug {TRAINED_BY[part]} --data ACDC --output FOLDER --split '{rule}' {options}"
    )


def _others(model: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """Whom a model that this one builds on learned from beside the training patients."""
    if model["patients"] is None:
        return ", which does not say whom it learned from"
    others = sorted(set(model["patients"]) - set(training["facts"]["split"]["train"]))
    return f", which learned from these patients too: {', '.join(others)}" if others else ""


def _names(patients: list[str]) -> str:
    return ", ".join(patients) or "none"
