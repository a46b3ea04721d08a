"""What `reconcile doctor` finds out on a cluster, in one process there. It judges nothing; it answers with facts.

Sent behind the agent's source and doctor_agent_data.py and run in one namespace with them, so that what is tried is the
code that an apply relies on: how it writes, links and locks files, how it reads the job table. Python 3.6, standard
library only. Whatever it writes lies in one folder of its own, which it removes.
"""

import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

MYPY = False
if MYPY:
    from typing import Any, Optional

    from reconciler.cluster.agent import framed, part, read_request
    from reconciler.cluster.agent_disk import Disk, Refused, disk_trouble, lock_file, read_whole, write_whole
    from reconciler.cluster.agent_lock import Lock, lock_seen
    from reconciler.cluster.agent_pbs import Pbs, user_name
    from reconciler.cluster.agent_qstat import merged
    from reconciler.cluster.doctor_agent_data import TEXT_MAX, Data, list_facts

    Json = dict[str, Any]

QUEUES_MAX = 1000
OPTIONAL = ("hard link", "flock")
"""What the agent can do without, if the file system has it not at all."""
LACKING = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.ENOLCK)


def run(argv: "list[str]", timeout_s: float, stdin: bytes = b"", **more: "Any") -> "tuple[int | None, bytes, bytes]":
    """(status, output, errors) of a command; None for one that did not end in time or could not be started."""
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **more,
        )
    except OSError as error:
        return None, b"", str(error).encode("utf-8", "replace")
    try:
        output, errors = child.communicate(stdin, timeout=timeout_s)
        return child.returncode, output, errors
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # what has left its session may hold the pipes open
            child.communicate(timeout=2.0)
        return None, b"", "no answer within {:.0f} s".format(timeout_s).encode("ascii")


def short(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()[-TEXT_MAX:]


# --- PBS --------------------------------------------------------------------------------------------------------------


def pbs_facts(timeout_s: float) -> "Json":
    pbs = Pbs(timeout_s)
    path = pbs.environment["PATH"]

    def table() -> "Json":
        began = time.monotonic()
        jobs = pbs.table((), (user_name(),))
        # The server writes these: one that lies ahead of our clock tells that the two differ.
        stamps = [job[name] for job in jobs for name in ("modified", "started", "obit") if job[name] is not None]
        return {
            "jobs": len(jobs),
            "unread": sum(bool(job["unread"]) for job in jobs),
            "seconds": time.monotonic() - began,
            "ahead": max(stamps or [0.0]) - time.time(),
        }

    def described(what: str, member: str) -> "Json":
        status, output, errors = run(["qstat", what, "-f", "-F", "json"], timeout_s, env=pbs.environment, cwd="/")
        if status != 0:
            raise Refused("qstat {} ended with status {}: {}".format(what, status, short(errors) or "no message"))
        try:
            found = json.loads(output.decode("utf-8", "replace"), object_pairs_hook=merged)[member]
            return {str(name): dict(found[name]) for name in list(found)[:QUEUES_MAX]}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Refused("qstat {} did not answer with JSON that has a {}".format(what, member)) from None

    commands = {name: shutil.which(name, path=path) or "" for name in ("qsub", "qstat", "qselect")}
    if not all(commands.values()):
        return {"commands": commands}
    return {
        "commands": commands,
        "table": part(table),
        "server": part(lambda: described("-B", "Server")),
        "queues": part(lambda: described("-Q", "Queue")),
    }


# --- The workspace ----------------------------------------------------------------------------------------------------


def workspace_facts(root: str, nonce: str) -> "Json":
    disk = Disk(root)
    there = not disk.missing()
    base = disk.root if there else os.path.dirname(disk.root)
    room = os.statvfs(base)
    probe = Probe(os.path.join(base, ".reconcile-doctor-" + nonce[:12]))
    try:
        steps = probe.steps()
    finally:
        shutil.rmtree(probe.folder, ignore_errors=True)
    return {
        "there": there,
        "base": base,
        "steps": steps,
        "file_clock": probe.file_clock,
        "left": os.path.lexists(probe.folder),
        "free": room.f_bavail * room.f_frsize,
        "files_free": room.f_favail if room.f_files else -1,
        "mount": mount_of(base),
        "quotas": quotas(base),
        "lock": part(lambda: lock_seen(Lock(disk, time.time))),
    }


class Probe:
    """A folder of its own, in which everything is tried that the agent relies on."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.file = os.path.join(folder, "file")
        self.file_clock = 0.0

    def steps(self) -> "list[Json]":
        done: "list[Json]" = []
        for name, work in (
            ("mkdir", self.mkdir),
            ("write and fsync", self.write),
            ("rename over", self.rename),
            ("hard link", self.link),
            ("flock", self.lock),
        ):
            lacking = False
            try:
                why = work()
            except (OSError, Refused) as error:
                why = disk_trouble(error) if isinstance(error, OSError) else str(error)
                lacking = name in OPTIONAL and isinstance(error, OSError) and error.errno in LACKING
                if lacking:
                    why = "the file system has none"
            done.append({"name": name, "why": why, "lacking": lacking})
            if why and name not in OPTIONAL:
                break
        return done

    def mkdir(self) -> str:
        os.mkdir(self.folder)
        try:
            os.mkdir(self.folder)
        except FileExistsError:
            return ""
        return "the same folder could be made twice"

    def write(self) -> str:
        write_whole(self.file, b"first")
        self.file_clock = os.stat(self.file).st_mtime - time.time()
        return "" if read_whole(self.file, 100) == b"first" else "it does not read back as it was written"

    def rename(self) -> str:
        write_whole(self.file, b"second")
        if read_whole(self.file, 100) != b"second" or os.listdir(self.folder) != ["file"]:
            return "the new file did not take the place of the old one"
        return ""

    def link(self) -> str:
        os.link(self.file, self.file + ".link")
        try:
            os.link(self.file, self.file + ".link")
        except FileExistsError:
            return ""
        return "a name that was taken could be linked to again"

    def lock(self) -> str:
        first = lock_file(self.file)
        if first is None:
            return "a file that nobody has locked counts as locked"
        second = lock_file(self.file)
        os.close(first)
        if second is None:
            return ""
        os.close(second)
        return "a lock that is held could be taken a second time"


def mount_of(path: str) -> "Json":
    """The file system that a path lies on, as the kernel lists it."""
    best = {"point": "", "type": "", "options": ""}
    try:
        with open("/proc/mounts", errors="replace") as mounts:
            for line in mounts:
                fields = line.split()
                if len(fields) < 4:
                    continue
                point = fields[1].replace("\\040", " ")
                inside = path == point or path.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best["point"]):
                    best = {"point": point, "type": fields[2], "options": fields[3][:TEXT_MAX]}
    except OSError:
        pass
    return best


QUOTA = re.compile(r"\s(\d+)\*?\s+(\d+)\s+(\d+)\s+\S+\s+(\d+)\*?\s+(\d+)\s+(\d+)\s")


def quotas(path: str) -> "list[Json]":
    """Limits that Lustre has for the user and for the folder's project; those without a limit are left out."""
    lfs = shutil.which("lfs")
    if lfs is None:
        return []
    asked = [("user", ["-u", str(os.getuid())])]
    status, output, _ = run([lfs, "project", "-d", path], 10.0)
    project = re.match(r"\s*(\d+)\s", output.decode("utf-8", "replace"))
    if status == 0 and project and project.group(1) != "0":
        asked.append(("project", ["-p", project.group(1)]))
    found = []
    for who, option in asked:
        status, output, _ = run([lfs, "quota", "-q", *option, path], 10.0)
        numbers = QUOTA.search(" " + output.decode("utf-8", "replace").replace("\n", " ") + " ")
        if status != 0 or numbers is None:
            continue
        used, soft, hard, files, files_soft, files_hard = (int(number) for number in numbers.groups())
        if soft or hard or files_soft or files_hard:
            found.append(
                {
                    "who": f"{who} {option[1]}",
                    "bytes": used * 1024,
                    "bytes_limit": (soft or hard) * 1024,
                    "files": files,
                    "files_limit": files_soft or files_hard,
                }
            )
    return found


# --- The launcher -----------------------------------------------------------------------------------------------------


def launcher_facts(checkout: str, files: "list[str]") -> "Json":
    if not os.path.isdir(checkout):
        return {"there": False}
    wanting = [name for name in files if not os.access(os.path.join(checkout, name), os.R_OK)]
    status, output, _ = run(["git", "-C", checkout, "rev-parse", "--short=12", "HEAD"], 10.0)
    commit = short(output) if status == 0 and os.path.exists(os.path.join(checkout, ".git")) else ""
    return {"there": True, "wanting": wanting, "writable": os.access(checkout, os.W_OK | os.X_OK), "commit": commit}


PYTHON = """\
import importlib.util, sys
print(sys.version.split()[0])
print(" ".join(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))
"""


def environment_facts(setup: str, modules: "list[str]", nonce: str, timeout_s: float) -> "Json":
    """What a job script's shell has once the machine's lines have run in it."""
    # Given as an argument: lines that read standard input must find it empty, not the rest of the script.
    script = "{}\nprintf '\\n%s\\n' {}\ncommand -v python3\npython3 -c {} {}\n".format(
        setup, nonce, shlex.quote(PYTHON), " ".join(modules)
    )
    began = time.monotonic()
    status, output, errors = run(["bash", "-l", "-c", script], timeout_s, cwd="/")
    _, mark, rest = output.decode("utf-8", "replace").rpartition(f"\n{nonce}\n")
    lines = rest.split("\n") if mark else []
    return {
        "status": -1 if status is None else status,
        "python": lines[0][:TEXT_MAX] if lines else "",
        "version": lines[1][:TEXT_MAX] if len(lines) > 2 else "",
        "wanting": lines[2].split()[:20] if len(lines) > 2 else [],
        "errors": short(errors),
        "seconds": time.monotonic() - began,
    }


def source_facts(path: str, iteration: "Optional[int]", universal: bool) -> "Json":
    suffix = "_universal" if universal else ""
    named = "global_step{}{}".format(iteration, suffix)
    if iteration is None:
        whose = re.compile(r"global_step[0-9]+" + suffix)
        named = next((name for name in sorted(os.listdir(path)) if whose.fullmatch(name)), named)
    folder = os.path.join(path, named)
    pointer = os.path.join(path, "latest" + suffix)
    pointed = (read_whole(pointer, 200, follow=True) or b"") if os.path.lexists(pointer) else b""
    return {"folder": os.path.isdir(folder) and bool(os.listdir(folder)), "pointer": short(pointed)}


# --- All of it --------------------------------------------------------------------------------------------------------


def facts(request: "Json", nonce: str) -> "Json":
    began, now = time.monotonic(), time.time()
    found = {
        "now": now,
        "host": os.uname().nodename,
        "python": "{}.{}.{}".format(*sys.version_info[:3]),
        "executable": sys.executable or "",
        "pbs": pbs_facts(request["pbs_timeout_s"]),
        "workspace": part(lambda: workspace_facts(request["workspace"], nonce)),
        "launcher": launcher_facts(request["checkout"], request["files"]),
        "environment": environment_facts(request["setup"], request["modules"], nonce, request["environment_timeout_s"]),
    }
    data = Data(request["checkout"], request["data_timeout_s"])
    found["lists"] = {path: list_facts(data, path) for path in request["lists"]}
    found["sources"] = {
        stage: part(lambda wanted=wanted: source_facts(*wanted))  # type: ignore[misc]
        for stage, wanted in request["sources"].items()
    }
    found["seconds"] = time.monotonic() - began
    return found


def examine() -> None:
    nonce, request = read_request(sys.stdin.buffer)
    payload = json.dumps({"answer": facts(request, nonce)}).encode("ascii")
    sys.stdout.buffer.write(framed(payload, nonce))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    examine()
