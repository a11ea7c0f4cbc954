"""What a folder holds, to be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path


def contents(folder: Path) -> dict[str, str | None]:
    """Every path below a folder, and every file's SHA-256, since a test that fails would compare bytes for hours."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in folder.rglob("*")
    }
