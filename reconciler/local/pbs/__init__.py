"""An embedded PBS: qsub, qstat, qdel, qhold, qrls, qselect, qalter and pbsnodes over a spool directory.

The commands answer as OpenPBS 23.06 does, within a subset (docs/pbs-subset.md). There is no daemon: every command
runs a scheduling cycle, and each job has a supervisor of its own that lives as long as the job.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reconciler.local.pbs.config import FLAGS, VERSION, Queue, Server, Vnode, write_server
from reconciler.local.pbs.refusals import PBSE_NO_SERVER, Refusal, ServerUnreachable, Usage
from reconciler.local.pbs.spool import Spool

__all__ = ["COMMANDS", "Queue", "Server", "Vnode", "install", "main", "run"]

COMMANDS = ("qsub", "qstat", "qdel", "qhold", "qrls", "qselect", "qalter", "pbsnodes")
SPOOL_VARIABLE = "PBS_LOCAL_SPOOL"


def install(
    bin_dir: Path,
    spool: Path,
    *,
    python: str = sys.executable,
    server: str = "pbs-local",
    nodes: Sequence[Vnode] | None = None,
    queues: Sequence[Queue] | None = None,
    history: bool = True,
    history_duration_s: int = 1_209_600,
    exclusive: bool = False,
    resources: Sequence[str] = ("filesystems",),
    environment: Mapping[str, str] | None = None,
    managers: Sequence[str] = (),
) -> None:
    """Write the commands into `bin_dir` and the settings into `spool`; jobs that are there already stay.

    Args:
        bin_dir, spool: made where missing; the spool is for its owner alone.
        python: the interpreter (3.11 or later) that the commands and supervisors run in.
        server: its name, also that of the host in output paths.
        nodes: one with all of this machine's cpus and the server's name by default.
        queues: the first is the default one; `workq`, without limits, by default.
        resources: names of the site's own resources for `-l`.
        environment: variables that every job gets, as from `pbs_environment`.

    Raises:
        ValueError: a name that PBS could not carry.
        OSError: a directory cannot be written.
    """
    chosen = Server(
        name=server,
        nodes=tuple(nodes) if nodes is not None else (Vnode(server, os.cpu_count() or 1),),
        queues=tuple(queues) if queues is not None else (Queue("workq"),),
        bin_dir=str(bin_dir.absolute()),
        history=history,
        history_duration_s=history_duration_s,
        exclusive=exclusive,
        resources=tuple(resources),
        environment=dict(environment or {}),
        managers=tuple(managers),
    )
    for name in (server, *(node.name for node in chosen.nodes), *(queue.name for queue in chosen.queues)):
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name):
            raise ValueError(f"{name!r} is not a name for a server, node or queue: use letters, digits, '-', '_', '.'")
    bin_dir.mkdir(parents=True, exist_ok=True)
    where = Spool(spool.absolute())
    where.create()
    write_server(where.settings, chosen)
    entry = Path(__file__).resolve().with_name("entry.py")
    for command in COMMANDS:
        words = [python, *FLAGS, str(entry), str(spool.absolute()), command]
        script = bin_dir / command
        temporary = bin_dir / f".{command}.{os.getpid()}"
        temporary.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        temporary.chmod(0o755)
        temporary.replace(script)


def main(argv0: str, argv: Sequence[str]) -> int:
    """Run a command by name; the spool is the one that the environment variable PBS_LOCAL_SPOOL names."""
    return run(Path(os.environ.get(SPOOL_VARIABLE, "/var/spool/pbs")), Path(argv0).name, list(argv))


def run(spool: Path, command: str, argv: list[str]) -> int:
    """Run one command over a spool; returns what it exits with. Messages go to stderr as PBS words them."""
    where = Spool(spool)
    if command == "pbs_mom":
        from reconciler.local.pbs import mom

        return mom.supervise(where, int(argv[0]), argv[1], int(argv[2]))
    if argv == ["--version"]:
        print(f"pbs_version = {VERSION}")
        return 0
    usage = ""
    try:
        server = where.server()
        act, usage = _command(command)
        code = act(where, server, argv)
    except Usage as problem:
        prefix = "" if command == "qstat" or not problem.complaints else f"{command}: "
        for text in problem.complaints:
            print(text if text.startswith(f"{command}: ") else prefix + text, file=sys.stderr)
        print(usage, end="", file=sys.stderr)
        code = 2
    except Refusal as refusal:
        between = "" if refusal.message[:1].isspace() else " "
        print(f"{command}:{between}{refusal.message}", file=sys.stderr)
        code = refusal.code
    except (ServerUnreachable, OSError) as error:
        print(f"{command}: cannot connect to server (errno={PBSE_NO_SERVER}): {error}", file=sys.stderr)
        code = 255 if command == "qstat" else PBSE_NO_SERVER & 0xFF
    sys.stdout.flush()
    return code


def _command(name: str) -> tuple[Callable[[Spool, Server, list[str]], int], str]:
    """The function of a command and its usage text; only its own module is imported, as start-up time counts."""
    if name == "qsub":
        from reconciler.local.pbs import submit

        return submit.main, submit.USAGE
    if name == "qstat":
        from reconciler.local.pbs import status

        return status.main, status.USAGE
    if name == "qselect":
        from reconciler.local.pbs import selection

        return selection.main, selection.USAGE
    if name == "pbsnodes":
        from reconciler.local.pbs import nodes

        return nodes.main, nodes.USAGE
    if name == "qalter":
        from reconciler.local.pbs import alter

        return alter.main, alter.USAGE
    from reconciler.local.pbs import change

    found = {
        "qdel": (change.qdel, change.QDEL_USAGE),
        "qhold": (change.qhold, change.QHOLD_USAGE),
        "qrls": (change.qrls, change.QRLS_USAGE),
    }
    return found[name]
