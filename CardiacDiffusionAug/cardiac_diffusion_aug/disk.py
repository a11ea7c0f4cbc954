"""Files that appear whole or not at all, and what the file system refuses in sentences."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import CardiacError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def writing_to(folder: Path, then: str = "go on with --resume") -> Iterator[None]:
    """Say in a sentence why a folder cannot be written.

    Args:
        folder: that is written.
        then: what to do once there is space again.

    Raises:
        CardiacError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise CardiacError(
                f"The disk that holds {folder} is full; free some space and {then}.", "disk_full"
            ) from error
        raise CardiacError(
            f"{folder} cannot be written ({error.strerror or error}); choose a folder that you may write to.",
            "bad_output",
        ) from error


@contextmanager
def whole(path: Path, writer: str = "") -> Iterator[Path]:
    """A path to write to, whose file becomes `path` at the end, or vanishes when that fails.

    Args:
        path: of the file.
        writer: tells apart those who may write the same file at the same time.
    """
    part = part_of(path, writer)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path, writer: str = "") -> Path:
    """Where a file lies, hidden, until it is whole; its suffix stays, since writers go by it."""
    return path.with_name(f".part-{writer and writer + '-'}{path.name}")


def write_whole(path: Path, content: bytes, writer: str = "") -> None:
    """Write a small file."""
    with whole(path, writer) as part:
        part.write_bytes(content)


def is_plain_name(name: str) -> bool:
    """Whether a text is the name of a file, and leads to no other folder."""
    return name != "" and "\0" not in name and Path(name).name == name


def append_line(path: Path, line: bytes) -> None:
    """Append all of a line or nothing.

    It is one write of one short line, of which a process that is killed has written all or nothing.
    """
    # Only Windows has, and needs, the flag against a second line end.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)


def reason_not_written(path: Path, size: int) -> OSError:
    """Why a file of about `size` bytes could not be written, as the file system tells it; libraries often do not."""
    probe = path.with_name(".probe")
    try:
        probe.write_bytes(bytes(size))
    except OSError as error:
        return error
    finally:
        probe.unlink(missing_ok=True)
    return OSError(errno.EIO, f"{path.name} did not come out whole")
