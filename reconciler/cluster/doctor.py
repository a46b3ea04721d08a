"""`reconcile doctor`: everything that an apply relies on at a cluster, looked at in one exec; the link itself counts.

Nothing there is changed but a folder of the doctor's own, made and removed again.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from reconciler.cluster import doctor_checks, frames
from reconciler.cluster.doctor_need import Need
from reconciler.cluster.doctor_report import Check, completed, failed, ok, warning
from reconciler.cluster.fields import Fields, Malformed, printable
from reconciler.cluster.observe import agent_with
from reconciler.cluster.ports import Clock, ClusterError, CommandFailed, Transport, Unreachable

DOCTOR_FILES: Final = ("doctor_agent_data.py", "doctor_agent.py")
"""What is sent behind the agent, in this order."""
PBS_TIMEOUT_S: Final = 30.0
"""For each of three looks at PBS."""
ENVIRONMENT_TIMEOUT_S: Final = 90.0
"""Modules of a busy file system take their time."""
DATA_TIMEOUT_S: Final = 60.0
MARGIN_S: Final = 30.0
TIMEOUT_S: Final = 3 * PBS_TIMEOUT_S + ENVIRONMENT_TIMEOUT_S + DATA_TIMEOUT_S + MARGIN_S
NO_PROGRAM: Final = (126, 127)
_CUT_SHORT: Final = 71
"""The agent's status when less than what was sent arrived."""
_SHOWN: Final = 80


@cache
def source() -> bytes:
    """What is sent: the agent's source with the doctor's behind it."""
    return agent_with(*DOCTOR_FILES)


def names(need: Need) -> tuple[str, ...]:
    """The names of all checks, in order: the link's, then the cluster's."""
    return (*_link_names(need), "answer", *doctor_checks.names(need))


def _link_names(need: Need) -> tuple[str, ...]:
    if not need.reach:
        return ("reachable",)
    return ("master",) if need.master else ("reachable", "host key", "login")


def not_opened(error: ClusterError, need: Need) -> tuple[Check, ...]:
    """All checks when there is no link; the first says why, the others were not looked at."""
    stages = _link_names(need)
    stage = stages[0]
    if len(stages) > 1:
        # Imported only here, where it has been loaded already: it brings the SSH library with it.
        from reconciler.cluster.sshauth import Refused
        from reconciler.cluster.sshlogin import Untrusted

        stage = "host key" if isinstance(error, Untrusted) else "login" if isinstance(error, Refused) else stage
    before = [ok(name, _passed(name)) for name in stages[: stages.index(stage)]]
    return completed([*before, failed(stage, _one_line(error.message), error.fix or _try_again(need))], names(need))


def _passed(name: str) -> str:
    return "a login node answers" if name == "reachable" else "it is the one on file"


def _try_again(need: Need) -> str:
    return f"See whether this works:\n    {need.there('true')}" if need.reach else ""


def examine(link: Transport, first_host: str, need: Need, clock: Clock) -> tuple[Check, ...]:
    """Every check, over an open link, in one exec. Never raises for what a cluster or a link can do.

    `first_host` is the login node that the manifest names first.
    """
    return completed([*_opened(link, first_host, need), *_answered(link, need, clock)], names(need))


def _opened(link: Transport, first_host: str, need: Need) -> Iterator[Check]:
    if not need.reach:
        yield ok("reachable", "the cluster's commands run on this machine")
    elif need.master:
        yield ok("master", f"a connection to {link.host} is open")
    else:
        if link.host == first_host:
            yield ok("reachable", f"{link.host} answers")
        else:
            told = f"{first_host} does not answer; {link.host} does"
            yield warning("reachable", told, f"See why:\n    {need.there('true')}")
        yield ok("host key", "it is the one on file")
        yield ok("login", f"{link.host} lets us in")


def _answered(link: Transport, need: Need, clock: Clock) -> Iterator[Check]:
    nonce = secrets.token_hex(16)
    sent = frames.request(source(), _request(need), nonce)
    began_s, received = clock.now_s(), b""
    try:
        received = link.exec(sent.argv, sent.stdin, TIMEOUT_S)
        ended_s = clock.now_s()
        facts = Fields(frames.decode(received, nonce), "the answer").fields("answer")
        took_s = facts.number("seconds")
        yield _answer(received, nonce, took_s, max(0.0, ended_s - began_s - took_s))
        yield from doctor_checks.judge(facts, need, took_s, began_s, ended_s)
    except CommandFailed as error:
        yield _not_run(error, link, need)
    except Unreachable as error:
        yield failed("answer" if need.reach else "python", _one_line(error.message), error.fix or _try_again(need))
    except ClusterError as error:
        hangs = need.there(f"ls {shlex.quote(need.workspace)} {shlex.quote(need.checkout)}; qstat -B")
        yield failed("answer", _one_line(error.message), f"See whether one of these hangs:\n    {hangs}\n{error.fix}")
    except frames.Garbled as garbled:
        yield failed("answer", f"{garbled}{_begins(received)}", _rc_file(need))
    except Malformed as malformed:
        told = f"it is not as this version of the doctor gives it: {malformed}"
        yield failed("answer", told, "This is a defect of the reconciler: report it with this line.")


def _request(need: Need) -> dict[str, Any]:
    return {
        "workspace": need.workspace,
        "checkout": need.checkout,
        "files": list(need.files),
        "setup": need.setup,
        "modules": list(need.modules),
        "lists": list(need.lists),
        "sources": {stage: [each.path, each.iteration, each.universal] for stage, each in need.sources.items()},
        "pbs_timeout_s": PBS_TIMEOUT_S,
        "environment_timeout_s": ENVIRONMENT_TIMEOUT_S,
        "data_timeout_s": DATA_TIMEOUT_S,
    }


def _answer(received: bytes, nonce: str, took_s: float, way_s: float) -> Check:
    noise = received.partition(f"=cpt-answer= {nonce}".encode("ascii"))[0].strip()
    told = f"whole, after {took_s:.1f} s there and {way_s:.1f} s on the way"
    if noise:
        told += f"; {len(noise)} bytes before it, which an rc file prints, are passed over{_begins(noise)}"
    return ok("answer", told)


def _begins(noise: bytes) -> str:
    """The first of it, as a person may see it."""
    text = printable(noise[:_SHOWN].decode("utf-8", "replace"))
    return f": {text}" if text else ""


def _not_run(error: CommandFailed, link: Transport, need: Need) -> Check:
    version = need.there("python3 --version")
    if error.status in NO_PROGRAM:
        fix = "Python 3.6 or newer must be on the PATH of a shell that is no login shell"
        if need.reach:
            fix += ", or its folder be named as `path` of the transport"
        return failed("python", _one_line(error.message), f"{fix}:\n    {version}")
    last = error.message.strip().rpartition("\n")[2] or "no message"
    told = f"python3 ended with status {error.status} on {link.host}: {last.strip()}"
    if error.status == _CUT_SHORT:
        told = "less arrived than was sent"
    return failed("answer", told, f"Python must be 3.6 or newer:\n    {version}\n{_rc_file(need)}")


def _rc_file(need: Need) -> str:
    return (
        "An rc file of the login shell may end it, start another shell, or read its input. This must print `done`;\n"
        f"whatever else it prints comes from there:\n    {need.there('echo done')}"
    )


def _one_line(message: str) -> str:
    return " ".join(message.split())
