"""A job request → the text of its PBS script. Templates hold no logic beyond if and for; every value is quoted."""

from __future__ import annotations

import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Final

import jinja2

from reconciler.model.plan import JobRequest
from reconciler.model.quantities import format_walltime

_PACKAGED: Final = Path(__file__).parent.parent / "_data" / "templates"
_CHECKED_OUT: Final = Path(__file__).parent.parent.parent / "templates"


class Quoted(str):
    """Text that went through one of the filters; nothing else may reach a script."""


class Unrenderable(ValueError):
    """A value that must not get into a script; the message names it."""


def templates_folder() -> Path:
    """Where the templates lie: in the installed package, or in the source tree."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKED_OUT


def render(job: JobRequest, log: str) -> str:
    """The script's text. `log` is the absolute path of the joined output.

    Raises:
        Unrenderable: a value holds a character that no script may have (NUL, line breaks).
    """
    template = _environment().get_template(f"{job.template}.pbs")
    machine = str(job.values["machine"])
    return template.render(
        **job.values, directives=_directives(job, log), header=job.header, machine_setup=f"machine/{machine}.sh"
    )


def _directives(job: JobRequest, log: str) -> list[str]:
    lines = [
        f"-N {job.name}",
        f"-q {job.queue}",
        f"-l select={job.nodes}",
        f"-l walltime={format_walltime(job.walltime_s)}",
        "-j oe",
        # Written in place while the job runs: a log that arrives with the job's end can stop nothing.
        "-k doe",
        f"-o {log}",
        "-r n",
    ]
    if job.account:
        lines.insert(1, f"-A {job.account}")
    if job.filesystems:
        lines.insert(3, f"-l filesystems={':'.join(job.filesystems)}")
    return [_one_line(line) for line in lines]


def _one_line(value: object) -> str:
    text = str(value)
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise Unrenderable(f"a control character cannot stand in a job script: {text[:60]!r}")
    return text


def _quoted(value: object) -> Quoted:
    return Quoted(shlex.quote(_one_line(value)))


def _comment(value: object) -> Quoted:
    return Quoted(_one_line(value))


def _name(value: object) -> Quoted:
    if re.fullmatch(r"[A-Z][A-Z0-9_]*", str(value)) is None:
        raise Unrenderable(f"not the name of an environment variable: {str(value)[:60]!r}")
    return Quoted(value)


def _only_quoted(value: object) -> object:
    """A string that a template prints without a filter is a defect of the template, whatever it holds."""
    if isinstance(value, (Quoted, int)):
        return value
    raise Unrenderable(f"a template prints {str(value)[:60]!r} without the filter `sh`, `comment` or `name`")


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # shell, not HTML: every value goes through `sh` or `comment`
        keep_trailing_newline=True,
        finalize=_only_quoted,
    )
    environment.filters["sh"] = _quoted
    environment.filters["comment"] = _comment
    environment.filters["name"] = _name
    return environment
