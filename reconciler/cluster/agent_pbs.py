"""The agent's dealings with PBS: which jobs there are, as far as they are ours, and qsub.

Only own jobs are asked for: an unfiltered `qstat -f` is megabytes on a big site, and gets people banned. One look is
one `qselect` (ids of this user's jobs), then `qstat` with those ids and the journal's. What comes back is held against
what was asked, id by id:

- *found*: a whole record of the job could be read, from JSON or, failing that, from the plain form;
- *gone*: PBS said that it does not know this id. That is an answer: absent from the table;
- anything else is *unread*. Such a job stays in the table and says so; it counts as alive.
"""

import hashlib
import os
import pwd
import re
import select
import subprocess
import time

MYPY = False
if MYPY:
    from typing import Any, Dict, Iterable, List, Optional, Sequence, Set, Tuple

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_disk import fresh_file, sync_folder
    from reconciler.cluster.agent_qstat import ANY_ID, id_parts, job_record, jobs_in_json, jobs_in_text, same_job

JOB_ID = re.compile(r"\d+(\[\d*\])?\.[\w.-]+")
"""An id as qsub and qselect print it, alone on its line."""
USER = re.compile(r"[A-Za-z0-9_][\w.-]{0,63}")
PBS_FOLDERS = ("/opt/pbs/bin", "/usr/pbs/bin")
ANSWER_OF_PBS_BYTES_MAX = 64 * 1024 * 1024
IDS_MAX = 2000
IDS_PER_CALL = 200
ONE_BY_ONE_MAX = 8
"""How many ids that were passed over twice are asked for alone in one look; the rest is unread until the next."""
NO_HISTORY = "not configured to maintain job history"
NO_SERVER = ("cannot connect to server", "Connection refused", "Unknown Host")
JSON_FORM, TEXT_FORM = ("-F", "json"), ()


class Unreadable(Exception):
    """The job table could not be read; nothing may be concluded from it."""


# --- Commands ---------------------------------------------------------------------------------------------------------


class Pbs:
    """qselect, qstat and qsub, found on PATH or where PBS is usually installed."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        path = os.environ.get("PATH", os.defpath)
        self.environment = dict(os.environ, PATH=os.pathsep.join((path, *PBS_FOLDERS)))
        self.deadline = 0.0
        self.history = True

    def table(self, ids: "Iterable[str]" = (), past: "Iterable[str]" = (), own: "Iterable[str]" = ()) -> "List[Json]":
        """The jobs of these ids, and the live jobs of this user. With `past`, ended ones too, and those of the users
        it names. Records carry an id as it is spelled in `ids`; an id that is not among them is unknown to PBS.

        Unreadable if that cannot be told: no server, no time left, too many jobs, or, with `past`, a list without a job
        of `own` (those of `ids` that such a list must have) that the server knows all the same.
        """
        self.deadline = time.monotonic() + self.timeout_s
        self.history = True
        asked = Asked(ids)
        listed = Asked(self.select(past))
        for job_id in listed.ids:
            asked.add(job_id)
        if len(asked.ids) > IDS_MAX:
            raise Unreadable("qselect lists {} jobs, more than {}".format(len(asked.ids), IDS_MAX))
        only_first = False
        for start in range(0, len(asked.ids), IDS_PER_CALL):
            ids = asked.ids[start : start + IDS_PER_CALL]
            if not only_first:
                self.ask(asked, ids, JSON_FORM)
                # OpenPBS 23.06 prints the first of several ids and drops the others without a word.
                only_first = len(ids) > 1 and sum(job_id in asked.found for job_id in ids) == 1
            self.ask(asked, asked.left(ids), TEXT_FORM)
        for job_id in asked.left(asked.ids)[:ONE_BY_ONE_MAX]:
            self.ask(asked, [job_id], JSON_FORM)
        for job_id in own if past else ():
            state = asked.found[job_id]["state"] if job_id in asked.found else ""
            if state not in ("", "M") and (state != "F" or self.history) and listed.spelling(job_id) is None:
                # A server that recovers can list nothing, with status 0. What else it leaves out cannot be told.
                raise Unreadable("qselect does not list job {}, which qstat has: its list is not whole".format(job_id))
        return asked.records()

    def select(self, past: "Iterable[str]") -> "List[str]":
        """Ids of this user's live jobs; with `past`, of these users' ended ones too."""
        users = [user_name()]
        if not users[0]:
            raise Unreadable("user id {} has no name here, so its jobs cannot be listed".format(os.geteuid()))
        users += [user for user in past if user not in users and USER.fullmatch(user)]
        history = ["-x"] if past and self.history else []
        status, output, errors = self.run(["qselect", *history, "-u", ",".join(users)])
        if history and NO_HISTORY in errors:
            self.history = False
            return self.select(past)
        if status != 0:
            raise Unreadable("qselect ended with status {}: {}".format(status, last_line(errors)))
        lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines()]
        return [line for line in lines if JOB_ID.fullmatch(line)]

    def ask(self, asked: "Asked", ids: "Sequence[str]", form: "Tuple[str, ...]") -> None:
        """One qstat for these ids; what it answers is kept in `asked`. Unreadable if there is no server."""
        if not ids:
            return
        history = ["-x"] if self.history else []
        status, output, errors = self.run(["qstat", *history, "-f", *form, *ids])
        if history and NO_HISTORY in errors:
            self.history = False
            self.ask(asked, ids, form)
            return
        text = output.decode("utf-8", "replace")  # bytes that are not UTF-8 in a variable come out raw
        jobs = jobs_in_json(text, asked.spelling) if form == JSON_FORM else jobs_in_text(text)
        if status != 0 and not jobs and any(words in errors for words in NO_SERVER):
            raise Unreadable("qstat ended with status {}: {}".format(status, last_line(errors)))
        asked.take(jobs)
        asked.heed(errors, status)

    def run(self, argv: "List[str]") -> "Tuple[int, bytes, str]":
        """Status, output and errors of a command that only looks; Unreadable if it does not end in time."""
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environment,
            )
        except OSError as error:
            raise Unreadable("{} could not be started: {}".format(argv[0], error.strerror)) from None
        try:
            output, errors = collect(argv[0], child, self.deadline)
            return child.wait(), output, errors.decode("utf-8", "replace")
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
            for pipe in filter(None, (child.stdout, child.stderr)):
                pipe.close()

    def submit(
        self, argv: "List[str]", folder: str, out: str, err: str, flight: "Optional[int]", timeout_s: float
    ) -> "Optional[int]":
        """qsub's status, None if it has not answered in time (it is left to finish). Its output goes to files, so
        that it outlives this process; so does its hold on `flight`, which says that it is still running."""
        with os.fdopen(fresh_file(out), "wb") as output, os.fdopen(fresh_file(err), "wb") as errors:
            sync_folder(os.path.dirname(out))  # without its file a qsub counts as never started
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=folder,
                env=self.environment,
                pass_fds=() if flight is None else (flight,),
                start_new_session=True,
            )
        try:
            return child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None


def user_name() -> str:
    """This user as PBS knows it: its commands take the name of the user id, whatever the environment says. "" if it
    has none here."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def collect(name: str, child: "subprocess.Popen[bytes]", deadline: float) -> "Tuple[bytes, bytes]":
    """Standard output and error until both end; Unreadable past the deadline or the bound."""
    assert child.stdout is not None and child.stderr is not None  # noqa: S101
    pieces = {child.stdout: bytearray(), child.stderr: bytearray()}
    pending = list(pieces)
    while pending:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unreadable("{} did not answer in time".format(name))
        for pipe in select.select(pending, [], [], left)[0]:
            data = os.read(pipe.fileno(), 65536)
            pieces[pipe] += data
            if not data:
                pending.remove(pipe)
            if len(pieces[pipe]) > ANSWER_OF_PBS_BYTES_MAX:
                raise Unreadable("{}'s answer has more than {} bytes".format(name, ANSWER_OF_PBS_BYTES_MAX))
    return bytes(pieces[child.stdout]), bytes(pieces[child.stderr])


def last_line(errors: str) -> str:
    """What a command complained about, in its last words."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1][-300:] if lines else "no message"


def job_id_in(printed: bytes) -> "Optional[str]":
    """The last line that is a job id: wrappers and banners print others before it."""
    lines = [line.strip() for line in printed.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if JOB_ID.fullmatch(line)), None)


# --- Asked and answered -----------------------------------------------------------------------------------------------

UNKNOWN_ID = re.compile(r"Unknown Job Id:?\s+(\S+)", re.IGNORECASE)
HAS_FINISHED = re.compile(r"(\d\S*) Job has finished", re.IGNORECASE)


class Asked:
    """The ids of one look, and what PBS has said to each."""

    def __init__(self, ids: "Iterable[str]") -> None:
        self.ids = []  # type: List[str]
        self.by_number = {}  # type: Dict[str, List[str]]
        self.found = {}  # type: Dict[str, Json]
        self.gone: "Set[str]" = set()
        self.odd = []  # type: List[str]
        self.complaint = ""
        for job_id in ids:
            self.add(job_id)

    def add(self, job_id: str) -> None:
        """One more to ask for, unless it is there already in another spelling."""
        if ANY_ID.fullmatch(job_id) is None:
            self.odd.append(job_id)  # not an id: it must not reach a command line
        elif self.spelling(job_id) is None:
            self.ids.append(job_id)
            self.by_number.setdefault(id_parts(job_id)[0], []).append(job_id)

    def spelling(self, job_id: str) -> "Optional[str]":
        """How the job that PBS calls `job_id` was asked for; None if it was not."""
        for own in self.by_number.get(id_parts(job_id)[0], ()):
            if same_job(own, job_id):
                return own
        return None

    def take(self, jobs: "List[Tuple[str, Json]]") -> None:
        for job_id, job in jobs:
            own = self.spelling(job_id)
            if own is not None and own not in self.found:
                self.found[own] = job_record(own, job)

    def heed(self, errors: str, status: int) -> None:
        """Complaints that are answers: an id that PBS does not know, and one that it only shows with -x."""
        for pattern in (UNKNOWN_ID, HAS_FINISHED) if status != 0 else ():
            for found in pattern.finditer(errors):
                own = self.spelling(found.group(1))
                if own is None or own in self.found:
                    continue
                if pattern is UNKNOWN_ID:
                    self.gone.add(own)
                else:
                    self.found[own] = job_record(own, {"job_state": "F"})
        self.complaint = last_line(errors) if errors.strip() else self.complaint

    def left(self, ids: "Sequence[str]") -> "List[str]":
        """Those of `ids` that have no answer yet."""
        return [job_id for job_id in ids if job_id not in self.found and job_id not in self.gone]

    def records(self) -> "List[Json]":
        """One for each id but those that PBS does not know."""
        why = "qstat has no readable answer for it" + (" ({})".format(self.complaint) if self.complaint else "")
        unread = {job_id: dict(job_record(job_id, {}), unread=why) for job_id in self.left(self.ids)}
        odd = [dict(job_record(job_id, {}), unread="it is not a job id") for job_id in self.odd]
        return [self.found.get(job_id) or unread[job_id] for job_id in self.ids if job_id not in self.gone] + odd


# --- Ours -------------------------------------------------------------------------------------------------------------


def workspace_tag(root: str) -> str:
    """Tells jobs of another workspace with the same campaign apart. The letter keeps PBS from reading a number."""
    return "w" + hashlib.sha256(root.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def ours(jobs: "List[Json]", tag: str, journalled: "Dict[str, str]") -> "List[Json]":
    """The jobs that carry a key of this workspace, or whose id the journal has (id → key).

    The key a job carries goes first, since a server that was set up anew gives old ids again; the journal's stands in
    where a mangled variable list lost it. Unreadable if a job could not be read that may or may not be ours.
    """
    found = []
    for job in jobs:
        key = journalled.get(job["id"])
        if job["key"] is None and key is not None:
            found.append(dict(job, key=key))
        elif job["unread"]:
            raise Unreadable("job {} may be one of ours, and {}".format(job["id"], job["unread"]))
        elif job["key"] is not None and job["workspace"] in (None, tag):
            found.append(job)
    return found
