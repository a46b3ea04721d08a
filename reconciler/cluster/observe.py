"""One exec to look: everything the planner needs to know of a cluster, however many stages and files."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final, TypeVar

from reconciler.cluster import answers, frames
from reconciler.cluster.fields import Fields, Malformed
from reconciler.cluster.ports import ClusterError, CommandFailed, Transport
from reconciler.model.observed import Observed, Unread, Wish

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ObserveRequest:
    """What to look at."""

    workspace: str
    """Absolute path on the cluster."""
    campaign: str
    lists: tuple[str, ...] = ()
    """Absolute paths of data lists whose text is wanted."""
    folders: Mapping[str, tuple[Wish, ...]] = field(default_factory=dict)
    """Absolute paths of folders of checkpoints that no attempt made, and what is wanted of them."""
    logs: tuple[str, ...] = ()
    """Absolute paths of training logs of others."""
    inside: bool = False
    """Whether every complete checkpoint of the attempts is opened for what it says of itself."""
    windows: int = 64
    """Into how many windows each training log is summed up."""
    pbs_timeout_s: float = 30.0
    timeout_s: float = 120.0


AGENT_FILES: Final = (
    "agent_qstat.py",
    "agent_disk.py",
    "agent_pbs.py",
    "agent_journal.py",
    "agent_lock.py",
    "agent_flights.py",
    "agent_numbers.py",
    "agent_logs.py",
    "agent_checkpoints.py",
    "agent_pickle.py",
    "agent_inside.py",
    "agent_folders.py",
    "agent_attempts.py",
    "agent_upkeep.py",
    "agent_work.py",
    "agent.py",
)
"""In this order they are one program; the last one runs it."""
_START: Final = b'if __name__ == "__main__":\n    main()\n'
"""The end of the agent."""


@cache
def agent_source() -> bytes:
    """The agent, as it is sent."""
    folder = files("reconciler.cluster")
    return b"\n\n".join(folder.joinpath(name).read_bytes() for name in AGENT_FILES)


def agent_with(*names: str) -> bytes:
    """The agent's source with other files behind it, in one namespace: the last of them starts in the agent's place."""
    folder = files("reconciler.cluster")
    agent, starts, rest = agent_source().rpartition(_START)
    assert starts and not rest, "the agent does not end by starting itself"  # noqa: S101
    return b"\n\n".join([agent, *(folder.joinpath(name).read_bytes() for name in names)])


def observe(link: Transport, request: ObserveRequest) -> Observed:
    """Look once. Never raises for what a cluster or a link can do: what was not read is `Unread` with the reason."""
    nonce = secrets.token_hex(16)
    body = {
        "operation": "observe",
        "workspace": request.workspace,
        "campaign": request.campaign,
        "lists": list(request.lists),
        "folders": [
            {"path": path, "wanted": [asdict(wish) for wish in wishes]} for path, wishes in request.folders.items()
        ],
        "logs": list(request.logs),
        "inside": request.inside,
        "windows": request.windows,
        "pbs_timeout_s": request.pbs_timeout_s,
    }
    sent = frames.request(agent_source(), body, nonce)
    try:
        answer = Fields(frames.decode(link.exec(sent.argv, sent.stdin, request.timeout_s), nonce), "the answer")
        if answer.has("failed"):
            return _nothing_read(link, request, answer.line("failed"))
        return _observed(answer.fields("answer"), request)
    except CommandFailed as failed:
        return _nothing_read(link, request, _why(failed, link))
    except ClusterError as error:
        return _nothing_read(link, request, error.message)
    except (frames.Garbled, Malformed) as garbled:
        return _nothing_read(link, request, f"{link.host}: {garbled}")


def _why(failed: CommandFailed, link: Transport) -> str:
    if failed.status in (126, 127):
        return f"{link.host} has no python3 that runs (status {failed.status}); check with: python3 --version"
    return failed.message


def _nothing_read(link: Transport, request: ObserveRequest, why: str) -> Observed:
    unread = Unread(why)
    return Observed(
        now_s=0.0,
        host=link.host,
        jobs=unread,
        attempts=unread,
        receipts=unread,
        lists=dict.fromkeys(request.lists, unread),
        folders=dict.fromkeys(request.folders, unread),
        applied=unread,
    )


def _observed(seen: Fields, request: ObserveRequest) -> Observed:
    lists, folders, logs = seen.mapping("lists"), seen.mapping("folders"), seen.mapping("logs")
    read = {path: answers.foreign_log(logs.get(path)) for path in request.logs}
    return Observed(
        now_s=seen.number("now"),
        host=seen.line("host"),
        receipts=_part(seen, "receipts", answers.receipts),
        jobs=_part(seen, "jobs", answers.jobs),
        attempts=_part(seen, "attempts", answers.attempts),
        applied=_part(seen, "applied", answers.applied),
        lock=answers.lock(seen),
        lists={path: answers.data_list(lists.get(path)) for path in request.lists},
        folders={path: answers.folder(folders.get(path)) for path in request.folders},
        logs={path: log for path, log in read.items() if log is not None},
    )


def _part(seen: Fields, name: str, read: Callable[[Fields], T]) -> T | Unread:
    """One part of the answer; a part that is not as agreed is unread, and the others stand."""
    try:
        part = seen.fields(name)
        if part.has("unread"):
            return Unread(part.line("unread"))
        value = read(part)
        part.end()
    except Malformed as malformed:
        return Unread(f"the cluster's answer is not as agreed: {malformed}")
    return value
