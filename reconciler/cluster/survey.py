"""One look at a run that was made by hand, and one at the data lists that it names. Nothing there is changed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from reconciler.cluster import answers, frames
from reconciler.cluster.fields import Fields, Malformed, is_text
from reconciler.cluster.observe import agent_with
from reconciler.cluster.ports import CommandFailed, Transport
from reconciler.model.legacy import DataFound, LaunchScript, Run, RunJob, RunLog, Said, Survey
from reconciler.model.observed import FolderSeen, Unread

ADOPT_FILES: Final = ("doctor_agent_data.py", "adopt_agent.py")
"""What is sent behind the agent, in this order."""
PBS_TIMEOUT_S: Final = 30.0
DATA_TIMEOUT_S: Final = 60.0
TIMEOUT_S: Final = 180.0
TEXT_CHARS_MAX: Final = 1000
SCRIPT_CHARS_MAX: Final = 256 * 1024
NUMBER_MAX: Final = 2**53


class NotSurveyed(Exception):
    """There was no answer, or not the agreed one, or the folder could not be looked at; the message says which."""


@cache
def source() -> bytes:
    """What is sent."""
    return agent_with(*ADOPT_FILES)


def survey(
    link: Transport,
    path: str,
    *,
    arguments: Sequence[str],
    variables: Sequence[str],
    iteration: int | None = None,
    logs: Sequence[str] = (),
    scripts: Sequence[str] = (),
) -> Survey:
    """Look at `path` and at what lies near it. `arguments` and `variables` name all that may be told of a log, a
    checkpoint or an environment; the rest of those stays on the cluster.

    Raises:
        NotSurveyed, ClusterError.
    """
    body = {
        "operation": "survey",
        "path": path,
        "iteration": iteration,
        "logs": list(logs),
        "scripts": list(scripts),
        "names": {"arguments": list(arguments), "variables": list(variables)},
        "pbs_timeout_s": PBS_TIMEOUT_S,
    }
    answer = _asked(link, body)
    try:
        found = _survey(answer)
        answer.end()
    except Malformed as malformed:
        raise NotSurveyed(f"{link.host}: the answer is not as agreed: {malformed}") from None
    return found


def data_of(link: Transport, checkout: str, paths: Sequence[str]) -> dict[str, DataFound]:
    """Data lists by path, and how many tokens their files hold; relative prefixes start at the launcher's checkout.

    Raises:
        NotSurveyed, ClusterError.
    """
    body = {"operation": "lists", "checkout": checkout, "lists": list(paths), "data_timeout_s": DATA_TIMEOUT_S}
    answer = _asked(link, body)
    try:
        texts, held = answer.mapping("lists"), answer.fields("tokens")
        found = {
            path: DataFound(answers.data_list(texts.get(path)), held.optional(held.integer, path)) for path in paths
        }
    except Malformed as malformed:
        raise NotSurveyed(f"{link.host}: the answer is not as agreed: {malformed}") from None
    return found


def _asked(link: Transport, body: Mapping[str, Any]) -> Fields:
    nonce = secrets.token_hex(16)
    sent = frames.request(source(), body, nonce)
    try:
        answer = Fields(frames.decode(link.exec(sent.argv, sent.stdin, TIMEOUT_S), nonce), "the answer")
        if answer.has("failed"):
            raise NotSurveyed(answer.line("failed"))
        return answer.fields("answer")
    except CommandFailed as failed:
        raise NotSurveyed(failed.message) from None
    except (frames.Garbled, Malformed) as garbled:
        raise NotSurveyed(f"{link.host}: {garbled}") from None


def _survey(answer: Fields) -> Survey:
    scripts = answer.each("scripts", _script)
    jobs_unread = answer.line("jobs_unread")
    return Survey(
        path=answer.line("path"),
        host=answer.line("host"),
        now_s=answer.number("now"),
        runs=answer.each("runs", _run),
        scripts=tuple(script for script in scripts if isinstance(script, LaunchScript)),
        jobs=answer.each("jobs", _job),
        unread=(
            *(script.why for script in scripts if isinstance(script, Unread)),
            *((f"PBS's jobs: {jobs_unread}",) if jobs_unread else ()),
        ),
    )


def _run(fields: Fields) -> Run:
    saves = answers.folder(fields.mapping("saves"))
    if not isinstance(saves, FolderSeen):
        raise Malformed("a run's checkpoints are none")
    inside = fields.optional(lambda name: _inside(fields.fields(name)), "inside")
    found = Run(
        folder=fields.line("folder"),
        saves=saves.checkpoints,
        latest_universal=saves.latest_universal,
        inside_file=inside[0] if inside else "",
        arguments=inside[1] if inside else {},
        logs=fields.each("logs", _log),
        environment={name: str(value) for name, value in _values(fields, "environment").items()},
        unread=fields.texts("unread", 4096),
    )
    fields.end()
    return found


def _inside(fields: Fields) -> tuple[str, dict[str, Said]]:
    found = fields.line("file"), _values(fields, "arguments")
    fields.end()
    return found


def _values(fields: Fields, name: str) -> dict[str, Said]:
    return {str(key): _said(value) for key, value in fields.mapping(name).items()}


def _said(value: Any) -> Said:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) <= NUMBER_MAX else None
    if isinstance(value, float):
        return value if abs(value) <= 1e300 else None  # neither NaN nor infinity
    return value if is_text(value, TEXT_CHARS_MAX) and value.isprintable() else None


def _log(fields: Fields) -> RunLog:
    found = RunLog(
        path=fields.line("path"),
        arguments=_values(fields, "arguments"),
        loaded_from=fields.optional(fields.line, "loaded_from") or "",
        loaded_iteration=fields.optional(fields.integer, "loaded"),
        random=fields.flag("random"),
        first=fields.optional(fields.integer, "first"),
        last=fields.optional(fields.integer, "last"),
        last_rate=fields.optional(fields.number, "rate"),
        target=fields.optional(fields.integer, "target"),
        batch=fields.optional(fields.integer, "batch"),
        changed_s=fields.number("changed"),
    )
    fields.end()
    return found


def _script(fields: Fields) -> LaunchScript | Unread:
    path, why = fields.line("path"), fields.line("unread")
    text = fields.optional(lambda name: fields.text(name, SCRIPT_CHARS_MAX), "text")
    return LaunchScript(path, text) if text is not None else Unread(why)


def _job(fields: Fields) -> RunJob:
    fields.optional(lambda name: fields.integer(name, -NUMBER_MAX), "exit")
    found = RunJob(
        job_id=fields.line("id"),
        run=fields.line("run"),
        named_by=fields.line("named_by"),
        name=fields.line("name"),
        letter=fields.line("state"),
        queue=fields.line("queue"),
        nodes=fields.optional(fields.integer, "nodes"),
        walltime=fields.line("walltime"),
        started_s=fields.optional(fields.number, "started"),
    )
    fields.end()
    return found
