"""Writes the lists of files in CardiacDiffusionAug/CMakeLists.txt, since Slicer ships only what they name.

python Testing/cmake/update_lists.py          rewrites the lists
python Testing/cmake/update_lists.py --check  prints what differs, and exits 1 if anything does
"""

from __future__ import annotations

import argparse
import difflib
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = "CardiacDiffusionAug"
CMAKE = "CMakeLists.txt"


def module_files(root: Path) -> list[str]:
    """Files of the module, relative to its folder and sorted.

    Those that git does not know yet count too, unless ignored: a forgotten file shows before it is committed.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    folder = root / MODULE
    names = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.split("\0")
    return sorted(name for name in names if name and (folder / name).is_file())


def sort_into_lists(files: Sequence[str]) -> dict[str, list[str]]:
    """The two lists of the module: Python code, and whatever else must be shipped."""
    scripts = [name for name in files if name.endswith(".py") and not name.startswith("Resources/")]
    resources = [name for name in files if name not in scripts and name != CMAKE]
    return {"SCRIPTS": scripts, "RESOURCES": resources}


def rewrite(text: str, lists: dict[str, list[str]]) -> str:
    """The CMake file with the lines between each pair of markers replaced.

    Raises:
        ValueError: a pair of markers is missing.
    """
    for name, files in lists.items():
        between = re.compile(rf"(?P<begin>( *)# BEGIN {name}\n).*?(?P<end> *# END {name}\n)", re.DOTALL)
        found = between.search(text)
        if found is None:
            raise ValueError(f"{CMAKE} has lost its markers '# BEGIN {name}' and '# END {name}'; restore them.")
        indent = found[2]
        # Quotes keep a name with a blank in one piece.
        lines = "".join(f'{indent}"{file}"\n' if " " in file else f"{indent}{file}\n" for file in files)
        text = text[: found.end("begin")] + lines + text[found.start("end") :]
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Writes the lists of files that Slicer ships.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the lists are out of date")
    check = parser.parse_args(arguments).check
    path = ROOT / MODULE / CMAKE
    old = path.read_text(encoding="utf-8")
    new = rewrite(old, sort_into_lists(module_files(ROOT)))
    if not check:
        path.write_text(new, encoding="utf-8")
        return 0
    names = f"{MODULE}/{CMAKE}", f"{MODULE}/{CMAKE} as it should be"
    for line in difflib.unified_diff(old.splitlines(), new.splitlines(), *names, n=0, lineterm=""):
        print(line)
    return int(old != new)


if __name__ == "__main__":
    raise SystemExit(main())
