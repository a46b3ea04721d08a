"""What jobs will find: the launcher, their Python, token files, checkpoints made elsewhere. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from reconciler.cluster.doctor_need import ListNeed, Need, SourceNeed
from reconciler.cluster.doctor_report import Check, failed, ok, unread, warning
from reconciler.cluster.fields import Fields, printable
from reconciler.model.quantities import counted

NARROW_TYPE_VOCABULARY_MAX: Final = 65_500
"""Megatron's preprocessing stores tokens of smaller vocabularies in 16 bits, of larger ones in 32."""
_COMPOUND: Final = re.compile(r"^\s*(if|for|while|until|case|select|function)\b|[({]\s*$|\\$|&\s*$|<<", re.MULTILINE)
"""Bash that does not survive `; ` in the place of its line ends."""
CLONE: Final = "git clone https://github.com/argonne-lcf/Megatron-DeepSpeed"


def names(need: Need) -> tuple[str, ...]:
    """The names of these checks, in order."""
    lists = tuple(f"data {wanted.name}" for wanted in need.lists.values())
    types = ("token types",) if lists else ()
    return ("launcher", "environment", *lists, *types, *(f"source of {stage}" for stage in need.sources))


# --- Programs ---------------------------------------------------------------------------------------------------------


def launcher(seen: Fields, need: Need) -> Check:
    """Whether the checkout is there and whole.

    Raises:
        Malformed: the answer is not as agreed.
    """
    place = shlex.quote(need.checkout)
    anew = f"Make the embedded cluster anew:\n    {need.again}" if need.again else ""
    if not seen.flag("there"):
        clone = f"Clone it, or correct `checkout` in the Cluster's manifest:\n    {need.there(f'{CLONE} {place}')}"
        return failed("launcher", f"there is no folder {need.checkout}", anew or clone)
    wanting, commit = seen.texts("wanting", 20), seen.line("commit")
    if wanting:
        look = f"Check `checkout` in the Cluster's manifest, and what is there:\n    {need.there(f'ls {place}')}"
        return failed("launcher", f"{need.checkout} has no readable {', '.join(wanting)}", anew or look)
    if not seen.flag("writable"):
        told = f"{need.checkout} is not writable; jobs write their logs into it"
        return failed("launcher", told, "Use a clone of your own, and name it as `checkout` in the Cluster's manifest.")
    return ok("launcher", f"{need.checkout}{f' at commit {commit}' if commit else ''}")


def environment(seen: Fields, need: Need) -> Check:
    """Whether the Python of jobs has what the launcher needs.

    Raises:
        Malformed: the answer is not as agreed.
    """
    status, python, version = seen.integer("status", -1000, 1000), seen.line("python"), seen.line("version")
    wanting, errors = seen.texts("wanting", 20), seen.line("errors")
    said = f": {errors}" if errors else ""
    fix = f"Make the embedded cluster anew:\n    {need.again}" if need.again else _like_a_job(need)
    if not python.startswith("/") or not version:
        ended = "did not end in time" if status == -1 else f"ended with status {status}"
        return failed("environment", f"no python3 after a job script's first lines, which {ended}{said}", fix)
    if wanting:
        return failed("environment", f"{python} ({version}) has no {', '.join(wanting)}{said}", fix)
    told = f"jobs get {python} ({version}) with {' and '.join(need.modules)}, after {seen.number('seconds'):.1f} s"
    return warning("environment", f"{told}; with messages{said}", fix) if errors else ok("environment", told)


def _like_a_job(need: Need) -> str:
    """What a job's shell does, as one line to paste, if its lines can be put on one."""
    if _COMPOUND.search(need.setup):
        return "Run the lines of the machine's template in `bash -l` there, then python3, and make that work."
    lines = [line for line in need.setup.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    imports = "; ".join(f"import {name}" for name in need.modules)
    script = "; ".join((*lines, f"python3 -c {shlex.quote(imports)}"))
    return f"This is what a job script does; make it work:\n    {need.there(f'bash -lc {shlex.quote(script)}')}"


# --- Data -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """One list and the token files that it names."""

    rows: int
    looked: int
    """Rows that there was time for."""
    wrong: int
    problems: tuple[str, ...]
    """Of the first wrong rows."""
    sha256: str
    tokens: int
    types: Mapping[str, int]
    """Token type → rows."""


def data(found: Mapping[str, Any], need: Need) -> Iterator[Check]:
    """Every list, its token files, and whether all of them are of one type.

    Raises:
        Malformed: the answer is not as agreed.
    """
    kinds: dict[str, list[str]] = {}
    for path, wanted in need.lists.items():
        part = Fields(found.get(path), f"the list {path}")
        if part.has("unread"):
            fix = "Put it there, or correct `lists` in the manifest."
            yield failed(f"data {wanted.name}", f"{path}: {part.line('unread')}", fix)
            continue
        seen = _seen(part.fields("read"))
        for kind in seen.types:
            kinds.setdefault(kind, []).append(wanted.name)
        yield _list(path, wanted, seen)
    if not need.lists:
        return
    told = "; ".join(f"{kind}: {', '.join(lists[:5])}" for kind, lists in sorted(kinds.items()))
    if not kinds:
        yield unread("token types", "no token file could be read")
    elif len(kinds) > 1:
        fix = "One tokenizer makes one type: tokenise again what was made with another."
        yield failed("token types", f"the data is of several types: {told}", fix)
    else:
        yield ok("token types", f"all data is {next(iter(kinds))}")


def _seen(part: Fields) -> _Seen:
    return _Seen(
        rows=part.integer("rows"),
        looked=part.integer("looked"),
        wrong=part.integer("count"),
        problems=part.texts("problems", 20),
        sha256=part.line("sha256"),
        tokens=part.integer("tokens", high=2**63),
        types={printable(kind): rows for kind, rows in part.mapping("types").items()},
    )


def _list(path: str, wanted: ListNeed, seen: _Seen) -> Check:
    title = f"data {wanted.name}"
    if wanted.sha256 is not None and seen.sha256 != wanted.sha256:
        told = f"{path} has SHA-256 {seen.sha256}, the manifest pins {wanted.sha256}"
        return failed(title, told, "Find out which of the two is meant, and correct the other.")
    if seen.wrong:
        more = f" (and {counted(seen.wrong - 1, 'more line')} like it)" if seen.wrong > 1 else ""
        fix = "Put the token files there whole, or correct the list."
        return failed(title, f"{path}, {seen.problems[0] if seen.problems else 'a line is wrong'}{more}", fix)
    if not seen.rows:
        return failed(title, f"{path} is empty", "Write the list; a line is: weight prefix corpus")
    if seen.looked < seen.rows:
        told = f"{path}: there was time for {seen.looked} of {seen.rows} rows, which are fine"
        return warning(title, told, "Look again at a quieter time.")
    expected = "uint16" if wanted.vocabulary < NARROW_TYPE_VOCABULARY_MAX else "int32"
    if set(seen.types) != {expected}:
        told = f"{path}: tokens are {' and '.join(sorted(seen.types))}; a vocabulary of {wanted.vocabulary:,} is stored"
        fix = "Check that it was tokenised with the model's tokenizer."
        return warning(title, f"{told} as {expected}", fix)
    return ok(title, f"{counted(seen.rows, 'pair')}, {seen.tokens:,} tokens of {expected}")


# --- Sources ----------------------------------------------------------------------------------------------------------


def sources(found: Mapping[str, Any], need: Need) -> Iterator[Check]:
    """Every checkpoint that was made elsewhere.

    Raises:
        Malformed: the answer is not as agreed.
    """
    for stage, wanted in need.sources.items():
        yield _source(stage, wanted, Fields(found.get(stage), f"the source of {stage}"))


def _source(stage: str, wanted: SourceNeed, part: Fields) -> Check:
    title = f"source of {stage}"
    fix = "Put the checkpoint there, or correct `source` in the stage's manifest."
    if part.has("unread"):
        return failed(title, f"{wanted.path}: {part.line('unread')}", fix)
    seen = part.fields("read")
    suffix = "_universal" if wanted.universal else ""
    number = "…" if wanted.iteration is None else wanted.iteration
    folder, pointer = f"global_step{number}{suffix}", seen.line("pointer")
    if not seen.flag("folder"):
        return failed(title, f"{wanted.path} has no {folder}, or nothing is in it", fix)
    if not pointer:
        told = f"{wanted.path} has no latest{suffix}, without which the launcher starts from random weights"
        return failed(title, told, fix)
    if wanted.universal and wanted.iteration is not None and pointer != folder:
        # For the other form the launcher is told the folder; for this one it goes by the pointer.
        return failed(title, f"{wanted.path}/latest{suffix} names {pointer}, the manifest iteration {folder}", fix)
    what = "checkpoints" if wanted.iteration is None else f"iteration {wanted.iteration}"
    return ok(title, f"{what} in {wanted.path}")
