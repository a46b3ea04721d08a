"""A job request → the text of its PBS script. Templates hold no logic beyond if and for; every value is quoted.

A repository may put files of its own in the place of packaged ones. They may come with a stranger's pull request, so
rendering them runs no code: Jinja's sandbox, no attribute or call that leads out of the values, and no file but those
that were read beforehand.
"""

from __future__ import annotations

import os
import re
import shlex
import traceback
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NoReturn

import jinja2
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reconciler.model.plan import JobRequest
from reconciler.model.problems import near, one_of
from reconciler.model.quantities import format_walltime
from reconciler.model.templates import Template, Templates, Unrenderable

JOBS: Final = ("train.pbs", "evaluate.pbs", "convert.pbs")
"""What a job is rendered from; the other files are included by these."""
SUFFIXES: Final = (".pbs", ".sh")
FILE_BYTES_MAX: Final = 256 * 1024
FILES_MAX: Final = 200
VALUE_BYTES_MAX: Final = 100_000
"""Linux takes no argument or variable above 128 KiB."""
_PACKAGED: Final = Path(__file__).parent.parent / "_data" / "templates"
_CHECKED_OUT: Final = Path(__file__).parent.parent.parent / "templates"


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's, without the operators by which a few characters of template keep a machine busy for ever."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: object, operator: str, left: object, right: object) -> NoReturn:
        """Called in place of `left * right`, when a template is rendered."""
        raise Unrenderable(f"a template computes with {operator}; no template needs to")


class Quoted(str):
    """Text that went through one of the filters; nothing else may reach a script."""


# --- reading ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def packaged() -> Templates:
    """The templates of the installed package, or of the source tree."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKED_OUT
    return Templates({name: _read(path, f"templates/{name}") for name, path in _files(folder, "templates")})


def templates_of(repository: Path, folder: str | None) -> Templates:
    """The packaged templates, and in front of them those in `folder` of the repository. All are parsed.

    Raises:
        Unrenderable: no such folder, a file that is broken, leads out of the folder, or would be used by nothing.
    """
    if folder is None:
        return packaged()
    root = repository / folder
    if not root.is_dir():
        raise Unrenderable(f"there is no folder {folder} in {repository}")
    if not Path(os.path.realpath(root)).is_relative_to(os.path.realpath(repository)):
        raise Unrenderable(f"{folder} is a link that leads out of the repository")
    own = {name: _read(path, f"{folder}/{name}") for name, path in _files(root, folder)}
    found = Templates({**packaged().files, **own}, folder)
    _parsed(found, own)
    return found


def _files(root: Path, shown: str) -> Iterator[tuple[str, Path]]:
    """(name, path) of every template below a folder, in order."""
    found = [path for path in sorted(root.rglob("*")) if path.suffix in SUFFIXES]
    if len(found) > FILES_MAX:
        raise Unrenderable(f"{shown} holds more than {FILES_MAX} templates")
    real = Path(os.path.realpath(root))
    for path in found:
        name = path.relative_to(root).as_posix()
        if not Path(os.path.realpath(path)).is_relative_to(real):
            raise Unrenderable(f"{shown}/{name} is a link that leads out of the folder")
        yield name, path


def _read(path: Path, shown: str) -> Template:
    try:
        if not path.is_file() or path.stat().st_size > FILE_BYTES_MAX:
            raise Unrenderable(f"{shown} is not an ordinary file of at most {FILE_BYTES_MAX} bytes")
        return Template(path.read_text(encoding="utf-8"), shown)
    except (OSError, UnicodeDecodeError) as error:
        raise Unrenderable(f"{shown} cannot be read: {error}") from error


def _parsed(templates: Templates, own: dict[str, Template]) -> None:
    """Refuse what is no template, and what no job would ever be rendered from: a misspelt name changes nothing."""
    environment = _environment(templates)
    used = set(JOBS)
    for name, template in templates.files.items():
        try:
            used.update(filter(None, meta.find_referenced_templates(environment.parse(template.text, name))))
        except jinja2.TemplateSyntaxError as error:
            raise Unrenderable(f"{template.file}:{error.lineno}: {error.message}") from error
    for name, template in own.items():
        if name not in used and not name.startswith("machine/"):
            meant = near(name, used)
            fix = f"Did you mean {meant}?" if meant else f"Job scripts are made from {one_of(sorted(used))}."
            raise Unrenderable(f"{template.file} would be used by nothing", fix)


def require_machine(templates: Templates, machine: str) -> str:
    """The name of the machine's template.

    Raises:
        Unrenderable: there is none.
    """
    name = f"machine/{machine}.sh"
    if name not in templates.files:
        meant = near(machine, templates.machines)
        fix = f"Did you mean {meant}?" if meant else f"Write {templates.folder or '<launcher.templates>'}/{name}."
        raise Unrenderable(f"there is no template {name}; known: {', '.join(templates.machines)}", fix)
    return name


# --- rendering --------------------------------------------------------------------------------------------------------


def render(job: JobRequest, log: str, templates: Templates | None = None) -> str:
    """The script's text. `log` is the absolute path of the joined output.

    Raises:
        Unrenderable: a value holds a character that no script may have (NUL, line breaks), or a template is broken.
    """
    chosen = templates if templates is not None and templates.files else packaged()
    machine = require_machine(chosen, str(job.values["machine"]))
    values = {**job.values, "directives": _directives(job, log), "header": job.header, "machine_setup": machine}
    return _rendered(chosen, f"{job.template}.pbs", values)


def machine_setup(machine: str, checkout: str, templates: Templates | None = None) -> str:
    """What every job there runs first: modules, paths, the site's proxy.

    Raises:
        Unrenderable: as for `render`.
    """
    chosen = templates if templates is not None and templates.files else packaged()
    return _rendered(chosen, require_machine(chosen, machine), {"checkout": checkout})


def _rendered(templates: Templates, name: str, values: Mapping[str, object]) -> str:
    try:
        return _environment(templates).get_template(name).render(**values)
    except Exception as error:  # whatever a template's own expressions raise
        raise Unrenderable(f"{_place(error, templates)}{_said(error)}") from error


def _place(error: Exception, templates: Templates) -> str:
    """`FILE:LINE: ` of the template where it happened; Jinja gives its frames the template's file and line."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{error.filename}:{error.lineno}: "
    files = {template.file for template in templates.files.values()}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    return f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""


def _said(error: Exception) -> str:
    match error:
        case jinja2.TemplateNotFound():
            return f"there is no template {error.name}"
        case jinja2.TemplateError() | Unrenderable():
            return str(error)
        case _:
            return f"{type(error).__name__}: {error}"


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
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > VALUE_BYTES_MAX:
        raise Unrenderable(f"a value of {size_bytes} bytes cannot be handed to a program: {text[:60]!r}…")
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


@lru_cache(maxsize=8)
def _environment(templates: Templates) -> jinja2.Environment:
    def source(name: str) -> tuple[str, str, None] | None:
        found = templates.files.get(name)
        return None if found is None else (found.text, found.file, None)

    environment = _Sandbox(
        loader=jinja2.FunctionLoader(source),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # shell, not HTML: every value goes through `sh` or `comment`
        keep_trailing_newline=True,
        finalize=_only_quoted,
    )
    environment.globals.clear()  # `range`, `lipsum` and the like: no template needs them
    environment.filters["sh"] = _quoted
    environment.filters["comment"] = _comment
    environment.filters["name"] = _name
    return environment
