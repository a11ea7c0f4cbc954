"""The command `cardiac-diffusion-aug`: a door to the jobs, and to what there is to know about models and machine."""

from __future__ import annotations

import argparse
import dataclasses
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from . import __version__
from .errors import Cancelled
from .jobs import JOBS, Context, Job
from .jobs.base import explained, flag, kind_of, options

PROGRAM = "cardiac-diffusion-aug"
BROKEN_PIPE = 128 + 13
"""What a shell reports for a program that the signal of a broken pipe ended."""


class TerminalContext(Context):
    """Shows progress on standard error and results on standard output."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__()
        self._quiet = quiet
        self._bar: Any = None
        interrupted = threading.Event()
        self.cancelled = interrupted.is_set
        self._interrupted = interrupted

    def interrupt(self, *_: object) -> None:
        """End the job at its next step; a second time, at once."""
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        self._interrupted.set()

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Move the bar."""
        if self._quiet:
            return
        from tqdm import tqdm

        if self._bar is None or self._bar.total != total or done < self._bar.n:
            self.close()
            self._bar = tqdm(total=total, initial=done, file=sys.stderr, dynamic_ncols=True, mininterval=0.5)
        self._bar.set_postfix_str(message, refresh=False)
        self._bar.update(done - self._bar.n)

    def say(self, message: str) -> None:
        """Print a sentence without tearing the bar."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.clear()
        print(message, file=sys.stderr)

    def close(self, leave: bool = True) -> None:
        """End the bar, and wipe it out unless it is to stay."""
        if self._bar is not None:
            self._bar.leave = leave
            self._bar.close()
            self._bar = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 success, 2 what the user can mend, 130 interrupted, 1 a defect."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal may lack characters that a path has.
        sys.stdout.reconfigure(errors="backslashreplace")
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if parsed.debug else logging.ERROR, format="%(name)s: %(message)s")
    try:
        result: int = parsed.run(parsed)
        sys.stdout.flush()
        return result
    except (Cancelled, KeyboardInterrupt):
        return _fail(parsed, "Stopped; what was finished is kept.", 130)
    except BrokenPipeError:
        # The reader of a pipe has gone; there is nobody left to tell, and Python would try to at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        cause = explained(error)
        return _fail(parsed, str(cause), 1 if cause.code == "internal" else 2)


def _fail(parsed: argparse.Namespace, message: str, code: int) -> int:
    if parsed.debug:
        logging.getLogger(PROGRAM).exception("traceback")
    # What a path or a library says may hold line ends.
    print(f"{PROGRAM}: {' '.join(message.splitlines())}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, as all others."""

    def error(self, message: str) -> Any:
        text = " ".join(message.splitlines())
        self.exit(2, f"{PROGRAM}: {text[:1].upper()}{text[1:]}; see {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(PROGRAM, description="Labelled short-axis cardiac MR made by diffusion models.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, job in JOBS.items():
        _add_job(commands.add_parser(name, help=job.HELP, description=job.HELP), job)
    _add_models(commands.add_parser("models", help="list, show or verify models"))
    commands.add_parser("info", help="device, memory, versions and models").set_defaults(run=_show_info)
    worker = commands.add_parser("worker", help="take jobs as JSON lines on standard input")
    worker.set_defaults(run=_run_worker)
    return parser


def _add_job(parser: argparse.ArgumentParser, job: type[Job]) -> None:
    for field in options(job):
        facts, kind = field.metadata, kind_of(job, field)
        required = field.default is dataclasses.MISSING
        text = facts["help"].replace("%", "%%")
        if kind is bool:
            parser.add_argument(
                flag(field.name), action=argparse.BooleanOptionalAction, default=field.default, help=text
            )
            continue
        shown = "" if required or field.default is None else f" (default: {field.default})"
        metavar = "{" + ",".join(facts["choices"]) + "}" if facts["choices"] else kind.__name__.upper()
        default = None if required else field.default
        # Values stay text here: the job itself converts and checks them, for both doors alike.
        parser.add_argument(flag(field.name), required=required, default=default, metavar=metavar, help=text + shown)
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(run=_run_job, job=job)


def _run_job(parsed: argparse.Namespace) -> int:
    job = parsed.job(**{field.name: getattr(parsed, field.name) for field in options(parsed.job)})
    # Of several processes that train together one speaks.
    first = os.environ.get("RANK", "0") == "0"
    context = TerminalContext(parsed.quiet or not first)
    previous = signal.signal(signal.SIGINT, context.interrupt)
    try:
        outcome = job.run(context)
    except Exception:
        # The sentence that follows stands alone.
        context.close(leave=False)
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
        context.close()
    if first:
        _print_facts(outcome)
    return 0


def _add_models(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="names and folders").set_defaults(run=_list_models)
    for name, text, run in (("show", "the model card", _show_model), ("verify", "hashes and contents", _verify_model)):
        action = actions.add_parser(name, help=text)
        action.add_argument("model", nargs="?" if name == "show" else "*", help="name or folder")
        action.set_defaults(run=run)


def _list_models(parsed: argparse.Namespace) -> int:
    from .bundle import available_models

    _print_facts(available_models())
    return 0


def _show_model(parsed: argparse.Namespace) -> int:
    from .bundle import CARD_FILE, DEFAULT_MODEL, load_bundle

    bundle = load_bundle(parsed.model or DEFAULT_MODEL)
    print((bundle.path / CARD_FILE).read_text(encoding="utf-8"))
    return 0


def _verify_model(parsed: argparse.Namespace) -> int:
    from .bundle import available_models, load_bundle

    for model in parsed.model or available_models():
        bundle = load_bundle(model)
        print(f"{bundle.name} {bundle.version}: {len(bundle.info['files'])} files as published, {bundle.sha256[:16]}")
    return 0


def _show_info(parsed: argparse.Namespace) -> int:
    from .info import facts_in_words

    _print_facts(facts_in_words())
    return 0


def _run_worker(parsed: argparse.Namespace) -> int:
    from .worker import serve

    return serve()


def _print_facts(facts: Mapping[str, Any]) -> None:
    width = max((len(name) for name in facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {_in_words(value)}")


def _in_words(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    figures = {key: f"{v:.4f}" if isinstance(v, float) else "none" if v is None else v for key, v in value.items()}
    return ", ".join(f"{key} {figure}" for key, figure in figures.items())


if __name__ == "__main__":
    sys.exit(main())
