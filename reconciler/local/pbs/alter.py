"""qalter: what may still be changed about a job."""

from __future__ import annotations

import os

from reconciler.local.pbs import depend, ending, options, request, resources, variables
from reconciler.local.pbs.change import each, may_act, unauthorized
from reconciler.local.pbs.config import Queue, Server, user_name
from reconciler.local.pbs.identify import live_job
from reconciler.local.pbs.job import HELD_BY_DEPENDENCY, Job
from reconciler.local.pbs.refusals import PBSE_CANNOT_CHANGE, Refusal, Usage, unsupported
from reconciler.local.pbs.schedule import Cycle, depends
from reconciler.local.pbs.spool import Spool
from reconciler.local.pbs.submit import absolute, limited

USAGE = """\
usage: qalter [-a date_time] [-A account_string] [-c interval] [-e path]
	[-h hold_list] [-j y|n] [-k keep] [-l resource_list]
	[-m mail_options] [-M user_list] [-N jobname] [-o path] [-p priority]
	[-R o|e|oe] [-r y|n] [-S path] [-u user_list] [-W dependency_list]
	[-P project_name] job_identifier...
       qalter --version
"""
FREE_WHILE_RUNNING = ("Job_Name", "Mail_Points", "Mail_Users")


def main(spool: Spool, server: Server, argv: list[str]) -> int:
    """qalter. What one job refuses does not keep the others from changing."""
    found, ids = options.parsed(argv, "a:A:c:e:h:j:k:l:m:M:N:o:p:P:q:r:R:S:u:v:W:", "qalter")
    wanted = Alteration(found, server)

    def act(cycle: Cycle, text: str) -> None:
        job = live_job(cycle, text, say_id=False)
        if not may_act(cycle, job):
            raise unauthorized(job)
        try:
            wanted.apply(cycle, job)
        except Refusal as refusal:
            if refusal.message.endswith(job.id):
                raise
            raise Refusal(f"{refusal.message} {job.id}", refusal.code) from None

    return each(spool, server, "qalter", ids, act)


class Alteration:
    """The changes that a command line asks for."""

    def __init__(self, found: list[tuple[str, str]], server: Server) -> None:
        self.attributes: dict[str, str] = {}
        self.resources: list[tuple[str, str]] = []
        self.variables: list[tuple[str, str]] = []
        self.depend: list[tuple[str, list[str]]] | None = None
        for letter, value in found:
            if letter == "l":
                self.resources += resources.split_list(value)
            elif letter == "v":
                self.variables = variables.requested(value, os.environ)
            elif letter == "W":
                self.depend = _depend_only(value, server)
            else:
                self.attributes.update(_attribute(letter, value, server))

    def apply(self, cycle: Cycle, job: Job) -> None:
        """Change a job's record, all of it or nothing.

        Raises:
            Refusal: the job runs and this is fixed, or the server does not allow it.
        """
        if job.state in "RE":
            frozen = [f"Resource_List.{name}" for name, _ in self.resources if name != "walltime"]
            frozen += [name for name in self.attributes if name not in FREE_WHILE_RUNNING]
            frozen += ["Variable_List"] if self.variables else []
            frozen += ["depend"] if self.depend is not None else []
            if frozen:
                raise Refusal(f"Cannot modify attribute while job running  {frozen[0]}", PBSE_CANNOT_CHANGE)
        if self.resources:
            self._resources(cycle, job)
        if self.variables:
            given = {name for name, _ in self.variables}
            own = [pair for pair in job.variables if pair[0] not in given]
            job.variables = [*own[:-2], *self.variables, *own[-2:]]  # the server's own two stay last
        job.set(cycle.now, **self.attributes)
        if self.depend is not None:
            _depend_anew(cycle, job, self.depend)
        cycle.spool.save(job)

    def _resources(self, cycle: Cycle, job: Job) -> None:
        """New values beside the old; what PBS derived from a replaced request is derived anew."""
        derived = ("nodect", "ncpus", "mpiprocs", "nodes")
        kept = [(name, value) for name, value in job.resources.items() if name not in derived]
        merged = resources.requested([*kept, *self.resources], cycle.server)
        after_s = resources.seconds(merged["walltime"]) if "walltime" in merged else None
        manager = user_name() in cycle.server.managers
        if job.state in "RE" and not manager and (after_s or 0) > (job.walltime_s or 0):
            raise unauthorized(job)
        queue = cycle.server.queue(job.queue) or Queue(job.queue)
        job.resources = limited(merged, queue, cycle.server)


def _attribute(letter: str, value: str, server: Server) -> dict[str, str]:
    if letter in "acqhu":
        raise unsupported(f"-{letter}")
    if letter in "oe":
        path = absolute(request.checked(letter, r"[ -~]+", value), server.name)
        return {"Output_Path" if letter == "o" else "Error_Path": path}
    return request.attribute(letter, value)


def _depend_only(value: str, server: Server) -> list[tuple[str, list[str]]]:
    pairs = request.named_values(value)
    if [name for name, _ in pairs] != ["depend"]:
        raise Usage("illegal -W value")
    return depend.parsed(pairs[0][1], server.name)


def _depend_anew(cycle: Cycle, job: Job, wanted: list[tuple[str, list[str]]]) -> None:
    """New dependencies in the place of the old."""
    kept = [(kind, ids) for kind, ids in job.depend if not kind.startswith("after")]
    left, dropped = cycle.unmet(wanted)
    job.depend = [*left, *kept]
    if dropped:
        ending.dropped(job, cycle.now)
        return
    job.set_holds(cycle.now, job.holds.replace("s", "") + ("s" if depends(job) else ""))
    if depends(job):
        job.set(cycle.now, job_state="H", substate=HELD_BY_DEPENDENCY, etime=None)
    else:
        cycle.release(job)
    cycle.tell_parents(job)
