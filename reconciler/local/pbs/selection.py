"""qselect: the ids of jobs that match."""

from __future__ import annotations

import sys

from reconciler.local.pbs import options
from reconciler.local.pbs.config import Server
from reconciler.local.pbs.refusals import PBSE_UNKNOWN_QUEUE, Refusal, Usage, unsupported
from reconciler.local.pbs.schedule import Cycle
from reconciler.local.pbs.spool import Spool
from reconciler.local.pbs.status import NO_HISTORY

USAGE = """\
usage: qselect [-a [op]date_time] [-A account_string] [-c [op]interval]
	[-h hold_list] [-H] [-J] [-l resource_list] [-N name] [-p [op]priority]
	[-q destination] [-r y|n] [-s states] [-t subopt[op]date_time] [-T] [-P project_name]
	[-x] [-u user_name]
       qselect --version
"""
STATES = "EHQRTWSUBXFM"


def main(spool: Spool, server: Server, argv: list[str]) -> int:
    """qselect. Options narrow the list; ended jobs are in it with -x, alone with -H."""
    found, operands = options.parsed(argv, "a:A:c:h:HJl:N:p:q:r:s:t:TP:xu:", "qselect")
    if operands:
        raise Usage()
    wanted = dict(found)
    for letter in wanted:
        if letter not in "AHNPqsxu":
            raise unsupported(f"-{letter}")
    if "s" in wanted and (not wanted["s"] or set(wanted["s"]) - set(STATES)):
        raise Usage("qselect: illegal -s value")
    queue = wanted.get("q", "").partition("@")[0]
    if queue and server.queue(queue) is None:
        raise Refusal("Unknown queue", PBSE_UNKNOWN_QUEUE)
    history = "x" in wanted or "H" in wanted
    if history and not server.history:
        print(f"qselect: {NO_HISTORY}", file=sys.stderr)
        return 0
    with spool.lock():
        cycle = Cycle(spool, server)
        cycle.run()
        past = list(spool.past().values()) if history else []
    live = [] if "H" in wanted else list(cycle.live.values())
    users = [name.split("@")[0] for name in wanted.get("u", "").split(",") if name]
    names = {"A": "Account_Name", "P": "project"}
    attributes = {names[letter]: value for letter, value in wanted.items() if letter in names}
    for job in sorted([*past, *live], key=lambda job: job.seq):
        fits = (
            (not users or job.user in users)
            and job.state in wanted.get("s", job.state)
            and job.name == wanted.get("N", job.name)
            and job.queue == (queue or job.queue)
            and all(job.attributes.get(name) == value for name, value in attributes.items())
        )
        if fits:
            print(job.id)
    return 0
