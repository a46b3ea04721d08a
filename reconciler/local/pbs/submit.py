"""qsub: from a request to a job's record."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from reconciler.local.pbs import directives, ending, resources, variables
from reconciler.local.pbs.config import PROJECT, Queue, Server, user_name
from reconciler.local.pbs.job import HELD, HELD_BY_DEPENDENCY, QUEUED, WAITING, Job
from reconciler.local.pbs.refusals import (
    PBSE_OVER_LIMITS,
    PBSE_OVER_MAX_QUEUED,
    PBSE_QUEUE_DISABLED,
    PBSE_UNKNOWN_HOST,
    PBSE_UNKNOWN_QUEUE,
    Refusal,
    Usage,
    unsupported,
)
from reconciler.local.pbs.request import Request, job_name
from reconciler.local.pbs.schedule import Cycle
from reconciler.local.pbs.spool import Spool

USAGE = """\
usage: qsub [-a date_time] [-A account_string] [-c interval]
	[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
	[-k keep] [-l resource_list] [-m mail_options] [-M user_list]
	[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]
	[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]
	[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]
       qsub --version
"""
INTERACTIVE = "\tstandard input and output must be a terminal for\n\tinteractive job submission"
BLOCK_LOOK_S = 0.1


class Submission:
    """What one qsub brings along: the request, the script or the command, and the variables for the job."""

    def __init__(self, argv: list[str], environment: Mapping[str, str], server: str, now: float) -> None:
        self.request = Request(server)
        self.command: list[str] = []
        self.script = b""
        self.arguments = " ".join(argv)
        line, dashes, command = _cut(argv)
        operands = self.request.take(line, now)
        if len(operands) > (0 if dashes else 1) or (dashes and not command):
            raise Usage()
        if self.request.interactive:
            terminal = sys.stdin.isatty() and sys.stdout.isatty()
            raise unsupported("-I") if terminal else Refusal(INTERACTIVE, 1)
        self.command = command
        if not dashes:
            self.script = directives.read_script(operands[0] if operands else None)
            for words in directives.directives(self.script):
                extra = self.request.take(words, now)
                if extra:
                    raise Refusal(f"directive error: {' '.join(words)}", 2)
        default = Path(operands[0]).name if operands else "STDIN"
        self.name = self.request.attributes.pop("Job_Name", "") or job_name(default)
        if self.request.variables:
            self.variables = variables.requested(self.request.variables, environment)
        else:
            self.variables = []
        self.environment = environment


def _cut(argv: list[str]) -> tuple[list[str], bool, list[str]]:
    """The command line up to a bare "--", whether there was one, and what follows it."""
    if "--" not in argv:
        return argv, False, []
    at = argv.index("--")
    return argv[:at], True, argv[at + 1 :]


def main(spool: Spool, server: Server, argv: list[str]) -> int:
    """qsub. Prints the id once the job's record is on disk."""
    now = time.time()
    submission = Submission(argv, os.environ, server.name, now)
    with spool.lock():
        cycle = Cycle(spool, server)
        cycle.run()
        job = _accepted(cycle, submission)
        job.seq = spool.take_id()
        _paths(job, submission)
        spool.write_script(job.seq, submission.script)
        spool.save(job)  # from here on the job exists
        cycle.live[job.seq] = job
        cycle.tell_parents(job)
        cycle.run()
    if not submission.request.quiet:
        print(job.id, flush=True)
    return _wait(spool, job.seq) if submission.request.block else 0


def _queue(server: Server, destination: str | None) -> tuple[Queue, str]:
    """The execution queue of a job and the name it was submitted under."""
    name, _, host = (destination or "").partition("@")
    if host and host != server.name:
        print("Unknown Host.", file=sys.stderr)
        raise Refusal(f"cannot connect to server {server.name} (errno={PBSE_UNKNOWN_HOST})", PBSE_UNKNOWN_HOST)
    queue = server.queue(name) if name else server.default_queue
    asked = queue.name if queue else ""
    for _ in range(len(server.queues)):
        if queue is None or queue.route_to is None:
            break
        queue = server.queue(queue.route_to)
    if queue is None:
        raise Refusal("Unknown queue", PBSE_UNKNOWN_QUEUE)
    return queue, asked


def _accepted(cycle: Cycle, submission: Submission) -> Job:
    """Check the request against the server and build the record, all but its number.

    Raises:
        Refusal: what PBS would refuse, with its code.
        Usage: a dependency on another server's job.
    """
    server, request = cycle.server, submission.request
    queue, asked = _queue(server, request.queue)
    wanted = resources.requested(request.resources, server)
    if not queue.enabled:
        raise Refusal("Queue is not enabled", PBSE_QUEUE_DISABLED)
    user = user_name()
    mine = sum(job.queue == queue.name and job.user == user for job in cycle.live.values())
    if queue.max_queued is not None and mine >= queue.max_queued:
        raise Refusal("would exceed queue generic's per-user limit", PBSE_OVER_MAX_QUEUED)
    job = Job(0, server.name)
    job.resources = limited(wanted, queue, server)
    job.command = submission.command
    job.variables = _variables(submission, asked, server)
    moment = int(cycle.now)
    job.attributes = {
        "Job_Name": submission.name,
        "Job_Owner": f"{user}@{server.name}",
        "queue": queue.name,
        "server": server.name,
        "Checkpoint": "u",
        "ctime": str(moment),
        "Join_Path": "n",
        "Keep_Files": "n",
        "Mail_Points": "a",
        "Priority": "0",
        "qtime": str(moment),
        "Rerunable": "True",
        "project": PROJECT,
        "Submit_Host": server.name,
        **request.attributes,
    }
    if submission.arguments:
        job.attributes["Submit_arguments"] = submission.arguments
    if submission.command:
        job.attributes.update(_command_attributes(submission.command))
    _first_state(cycle, job, request)
    return job


def limited(wanted: dict[str, str], queue: Queue, server: Server) -> dict[str, str]:
    """The resources with the queue's default walltime.

    Raises:
        Refusal: 15036, more walltime than the queue allows.
    """
    default = queue.default_walltime if queue.default_walltime is not None else queue.max_walltime
    if "walltime" not in wanted and default is not None:
        wanted = resources.with_totals({**wanted, "walltime": resources.clock(default)}, server)
    if queue.max_walltime is not None and resources.seconds(wanted["walltime"]) > queue.max_walltime:
        raise Refusal("Job violates queue and/or server resource limits", PBSE_OVER_LIMITS)
    return wanted


def _first_state(cycle: Cycle, job: Job, request: Request) -> None:
    """Queued, waiting, held, or dropped at once by a dependency that can no longer be met."""
    job.attributes["Hold_Types"] = "n"
    held = "u" if request.hold else ""
    job.depend, dropped = cycle.unmet(request.depend)
    state, substate = ("H", HELD) if held else ("Q", QUEUED)
    if job.depend:
        held, state, substate = held + "s", "H", HELD_BY_DEPENDENCY
    if request.not_before is not None and request.not_before > cycle.now:
        job.attributes["Execution_Time"] = str(request.not_before)
        state, substate = (state, substate) if state == "H" else ("W", WAITING)
    job.set_holds(cycle.now, held)
    job.set(cycle.now, job_state=state, substate=substate, etime=int(cycle.now) if state == "Q" else None)
    if dropped:
        ending.dropped(job, cycle.now)


def _variables(submission: Submission, queue: str, server: Server) -> list[tuple[str, str]]:
    environment = submission.environment
    names = ("HOME", "LANG", "LOGNAME", "PATH", "MAIL", "SHELL", "TZ")
    pairs = [(f"PBS_O_{name}", environment[name]) for name in names if name in environment]
    if "HOME" not in environment:
        pairs.insert(0, ("PBS_O_HOME", str(Path.home())))
    pairs += [("PBS_O_INTERACTIVE_AUTH_METHOD", "resvport"), ("PBS_O_INTERACTIVE_ENCRYPT_METHOD", "")]
    pairs += [("PBS_O_WORKDIR", str(_here())), ("PBS_O_SYSTEM", os.uname().sysname), *submission.variables]
    return [*pairs, ("PBS_O_QUEUE", queue), ("PBS_O_HOST", server.name)]


def _command_attributes(command: list[str]) -> dict[str, str]:
    def tagged(tag: str, text: str) -> str:
        quoted = text
        for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&apos;")):
            quoted = quoted.replace(plain, entity)
        return f"<jsdl-hpcpa:{tag}>{quoted}</jsdl-hpcpa:{tag}>"

    attributes = {"executable": tagged("Executable", command[0])}
    if len(command) > 1:
        attributes["argument_list"] = "".join(tagged("Argument", text) for text in command[1:])
    return attributes


def _paths(job: Job, submission: Submission) -> None:
    """Output_Path and Error_Path: absolute, with the host in front."""
    for letter, attribute in (("o", "Output_Path"), ("e", "Error_Path")):
        given = submission.request.paths.get(letter, f"{job.name}.{letter}{job.seq}")
        job.attributes[attribute] = absolute(given, job.server)


def absolute(given: str, server: str) -> str:
    """`[host:]path` → host:absolute path, relative ones from here."""
    host, colon, path = given.partition(":")
    if not colon or "/" in host:
        host, path = server, given
    slash = "/" if path.endswith("/") else ""
    return f"{host}:{os.path.normpath(_here() / path)}{slash}"


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise Refusal("the current directory is no longer there", 255) from None


def _wait(spool: Spool, seq: int) -> int:
    """`-W block=true`: the job's exit status when it has ended; 1 when it never ran."""
    while True:
        job = spool.find(seq)
        if job is None or job.state == "F":
            status = job.exit_status if job else None
            return 1 if status is None else status & 0xFF
        time.sleep(BLOCK_LOOK_S)
