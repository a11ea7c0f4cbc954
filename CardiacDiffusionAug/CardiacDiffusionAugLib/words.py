"""Times and progress for people."""

from __future__ import annotations

from slicer.i18n import tr as _

from .job import Job


def progressText(job: Job, seconds: float, message: str) -> str:
    """How far a job is and how long it still takes, for people."""
    parts = [message] if message else []
    if job.total > 0:
        parts.append(f"{job.done} / {job.total}")
        if 0 < job.done < job.total:
            left = seconds / job.done * (job.total - job.done)
            parts.append(_("{time} left").format(time=duration(left)))
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """A time for people, such as `40 s` or `3 min 20 s`."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s" if seconds >= 0.5 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
