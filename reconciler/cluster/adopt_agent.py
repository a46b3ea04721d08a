"""What `reconcile adopt` finds out about runs that were made by hand: checkpoints, logs, scripts, PBS's memory of jobs.

Sent behind the agent's source and doctor_agent_data.py, in one namespace with them; Python 3.6, standard library only.
It only reads. Of an environment, a log or a checkpoint only what is asked for by name leaves the cluster: the launcher
writes its whole environment, secrets included, beside its checkpoints.
"""

import json
import os
import re
import sys
import time

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

    from reconciler.cluster.agent import framed, lists, read_request
    from reconciler.cluster.agent_checkpoints import FOLDER_ENTRIES_MAX, MODEL_FILE, STEP, UNIVERSAL, file_sizes
    from reconciler.cluster.agent_disk import MESSAGE_CHARS_MAX, Refused, disk_trouble, is_folder, ordinary, read_whole
    from reconciler.cluster.agent_folders import FOLDERS_S_MAX, Folder
    from reconciler.cluster.agent_inside import mapping, number
    from reconciler.cluster.agent_numbers import ANSI, Numbers
    from reconciler.cluster.agent_pbs import IDS_PER_CALL, Pbs, Unreadable, last_line, user_name
    from reconciler.cluster.agent_pickle import Named, Odd, unpickled
    from reconciler.cluster.agent_qstat import epoch_of, jobs_in_json, jobs_in_text, nodes_of, number_of, text_of
    from reconciler.cluster.doctor_agent_data import Data

    Json = Dict[str, Any]

RUNS_MAX = 32
LOGS_MAX = 64
SCRIPTS_MAX = 64
JOBS_MAX = 64
SCRIPT_BYTES_MAX = 256 * 1024
LOG_PIECE_BYTES = 4 * 1024 * 1024
"""So much is read of a log's beginning, and as much of its end."""
PATH_CHARS_MAX = 1000
SCRIPT = re.compile(r"[A-Za-z0-9_.-]{1,200}\.(?:sh|pbs|bash|qsub)")
ARGUMENT = re.compile(rb"(?:^|\s)([a-z][a-z0-9_]{1,60}) \.{2,} ([^\n]{1,1000})")
LOADED_FROM = re.compile(rb"successfully loaded checkpoint from (\S{1,1000}) at iteration\s+(\d{1,12})")
TARGET = re.compile(rb"iteration=\s*\d{1,12}/\s*(\d{1,12}) \|[^\n]{0,400}?\| global_batch_size=\s*(\d{1,9}) \|")
VARIABLE = re.compile(r"""(?:export\s+)?([A-Z][A-Z0-9_]{1,60})=(["']?)(.*?)\2\s*""")


def survey(request: "Json") -> "Json":
    """Every run at or right under a folder, and what tells of it."""
    top = os.path.realpath(request["path"])
    try:
        folders = run_folders(top)
    except FileNotFoundError:
        raise Refused("{}: there is no such folder".format(top)) from None
    except NotADirectoryError:
        raise Refused("{} is no folder".format(top)) from None
    jobs, why = own_jobs(Pbs(request["pbs_timeout_s"]), folders) if folders else ([], "")
    of_jobs = [job.pop("script") for job in jobs]
    return {
        "path": top,
        "runs": [Legacy(folder, request["names"]).look(request["iteration"], request["logs"]) for folder in folders],
        "scripts": launch_scripts(folders, request["scripts"], of_jobs),
        "jobs": jobs,
        "jobs_unread": why,
        "now": time.time(),
        "host": os.uname().nodename,
    }


def data_lists(request: "Json") -> "Json":
    """The texts of data lists, and the tokens that their files hold; null where one of those cannot be read in time."""
    data = Data(request["checkout"], request["data_timeout_s"])
    held = {}  # type: Json
    for path in request["lists"]:
        try:
            found = data.look(path)
            held[path] = found["tokens"] if found["looked"] == found["rows"] and not found["count"] else None
        except (Refused, OSError):
            held[path] = None
    return {"lists": lists(request["lists"]), "tokens": held}


def run_folders(top: str) -> "List[str]":
    """The folder itself if it holds checkpoints, else those right under it that do. OSError if it is not there."""
    if holds_checkpoints(top):
        return [top]
    under = sorted(name for name in entries(top) if not name.startswith("."))
    found = [os.path.join(top, name) for name in under if is_folder(os.path.join(top, name))]
    return [folder for folder in found if readable(folder) and holds_checkpoints(folder)][:RUNS_MAX]


def readable(folder: str) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)


def entries(folder: str) -> "List[str]":
    names = os.listdir(folder)
    if len(names) > FOLDER_ENTRIES_MAX:
        raise Refused("{} holds more than {} entries".format(folder, FOLDER_ENTRIES_MAX))
    return names


def holds_checkpoints(folder: str) -> bool:
    return any(STEP.fullmatch(name) or UNIVERSAL.fullmatch(name) for name in entries(folder))


class Legacy:
    """One folder that a launcher saved into."""

    def __init__(self, folder: str, names: "Json") -> None:
        self.folder = folder
        self.arguments, self.variables = set(names["arguments"]), set(names["variables"])

    def look(self, iteration: "Optional[int]", logs: "List[str]") -> "Json":
        """Everything that tells of the run. What could not be read says why and hides nothing else."""
        seen = dict(self.saves(iteration), folder=self.folder, unread=[], logs=[], environment={})
        for path in logs or self.log_files():
            if len(seen["logs"]) < LOGS_MAX:
                self.take(seen, path, lambda: seen["logs"].append(self.log(path)))  # noqa: B023  # called at once
        self.take(seen, ".env", lambda: seen["environment"].update(self.environment()))
        return seen

    @staticmethod
    def take(seen: "Json", what: str, read: "Callable[[], Any]") -> None:
        try:
            read()
        except FileNotFoundError:
            if what.startswith("/"):
                seen["unread"].append("{}: there is no such file".format(what)[:MESSAGE_CHARS_MAX])
        except (Odd, Refused) as error:
            seen["unread"].append(str(error)[:MESSAGE_CHARS_MAX])
        except OSError as error:
            seen["unread"].append(disk_trouble(error)[:MESSAGE_CHARS_MAX])

    # --- checkpoints

    def saves(self, iteration: "Optional[int]") -> "Json":
        """Its checkpoints, the one that is asked for or the newest looked into, and the launcher's arguments inside."""
        wish = {"property": "newest" if iteration is None else "iteration", "number": iteration or 0}
        wanted = [dict(wish, universal=False), dict(wish, universal=True)]
        seen = Folder(self.folder, time.monotonic() + FOLDERS_S_MAX).look(wanted)
        opened = [entry for entry in seen["checkpoints"] if entry["inside"] is not None and not entry["why"]]
        return {"saves": {"read": seen}, "inside": self.inside(opened[-1]) if opened else None}

    def inside(self, entry: "Json") -> "Json":
        """The arguments that a checkpoint was saved with. It was looked into before, and was sound."""
        name = "global_step{}{}".format(entry["iteration"], "_universal" if entry["universal"] else "")
        folder = os.path.join(self.folder, name)
        model = next(name for name in sorted(file_sizes(folder)) if MODEL_FILE.fullmatch(name))
        arguments = unpickled(os.path.join(folder, model)).get("args")
        arguments = mapping(arguments.state if isinstance(arguments, Named) else None)
        told = {name: said(arguments[name]) for name in sorted(self.arguments & set(arguments))}
        return {"file": "{}/{}".format(name, model), "arguments": told}

    # --- logs and environment

    def log_files(self) -> "List[str]":
        """Logs beside the checkpoints, and where the launcher puts them: logs/NAME/START/output.log of its folder."""
        found = [os.path.join(self.folder, name) for name in entries(self.folder) if name.endswith(".log")]
        above, name = os.path.split(self.folder)
        for base in (above, os.path.dirname(above)):
            starts = os.path.join(base, "logs", name)
            if is_folder(starts) and readable(starts):
                outputs = [os.path.join(starts, start, "output.log") for start in entries(starts)]
                found += [path for path in outputs if os.path.exists(path)]
        return sorted(found)[:LOGS_MAX]

    def log(self, path: str) -> "Json":
        """Beginning and end of one log, as numbers and the arguments that are asked for."""
        with ordinary(path, follow=True) as file:
            about = os.fstat(file.fileno())
            size = about.st_size
            head = file.read(LOG_PIECE_BYTES)
            file.seek(max(file.tell(), size - LOG_PIECE_BYTES))
            tail = file.read(LOG_PIECE_BYTES)
        if len(head) + len(tail) < size:  # what is left out in the middle may have cut two lines
            head, tail = head.rpartition(b"\n")[0] + b"\n", tail.partition(b"\n")[2]
        text = ANSI.sub(b"", head + tail).replace(b"\r", b"\n")
        numbers = Numbers(1)
        numbers.take(text)
        told = numbers.answer(path)
        arguments = {}  # type: Json
        for found in ARGUMENT.finditer(text):
            name = found.group(1).decode("ascii")
            if name in self.arguments:
                arguments.setdefault(name, said(found.group(2).decode("utf-8", "replace").strip()))
        loaded = LOADED_FROM.search(text)
        lines = list(TARGET.finditer(text))
        return {
            "path": path,
            "arguments": arguments,
            "loaded_from": loaded.group(1).decode("utf-8", "replace") if loaded else None,
            "loaded": int(loaded.group(2)) if loaded else None,
            "random": told["random"],
            "first": told["first"][0][0] if told["first"] else None,
            "last": told["last"][-1][0] if told["last"] else None,
            "rate": told["last"][-1][2] if told["last"] else None,
            "target": int(lines[-1].group(1)) if lines else None,
            "batch": int(lines[-1].group(2)) if lines else None,
            "changed": about.st_mtime,
        }

    def environment(self) -> "Json":
        """What `.env` beside the checkpoints says, of the variables that are asked for."""
        data = read_whole(os.path.join(self.folder, ".env"), SCRIPT_BYTES_MAX)
        found = {}  # type: Json
        for line in (data or b"").decode("utf-8", "replace").splitlines():
            variable = VARIABLE.fullmatch(line.strip())
            if variable and variable.group(1) in self.variables:
                found[variable.group(1)] = said(variable.group(3))
        return {name: value for name, value in found.items() if value is not None}


def said(value: "Any") -> "Any":
    """A switch, a number or a text as it is, also a path; None for anything else."""
    if isinstance(value, str):
        return value if value.isprintable() and len(value) <= PATH_CHARS_MAX else None
    return value if isinstance(value, bool) or number(value) is not None else None


# --- launch scripts and jobs


def launch_scripts(folders: "List[str]", given: "List[str]", of_jobs: "List[str]") -> "List[Json]":
    """Scripts that were named, else those of the runs' jobs and those near by that name one of the runs."""
    paths = list(given)
    if not given:
        near = {up for folder in folders for up in (folder, os.path.dirname(folder), above_checkpoints(folder))}
        paths = [path for path in of_jobs if path]
        for folder in sorted(near):
            if is_folder(folder) and readable(folder):
                paths += [os.path.join(folder, name) for name in sorted(entries(folder)) if SCRIPT.fullmatch(name)]
    words = {word for folder in folders for word in (folder, os.path.basename(folder)) if len(word) >= 4}
    found = []  # type: List[Json]
    for path in list(dict.fromkeys(paths))[: 16 * SCRIPTS_MAX]:
        if len(found) < SCRIPTS_MAX:
            text, why = script_text(path)
            if path in given or (text is not None and any(word in text for word in words)):
                found.append({"path": path, "text": text, "unread": why})
    return found


def above_checkpoints(folder: str) -> str:
    return os.path.dirname(os.path.dirname(folder))


def script_text(path: str) -> "Tuple[Optional[str], str]":
    try:
        data = read_whole(path, SCRIPT_BYTES_MAX, follow=True)
        if data is None:
            return None, "{} is longer than {} bytes".format(path, SCRIPT_BYTES_MAX)
        return data.decode("utf-8"), ""
    except (OSError, Refused, UnicodeDecodeError) as error:
        return None, (disk_trouble(error) if isinstance(error, OSError) else str(error))[:MESSAGE_CHARS_MAX]


def own_jobs(pbs: "Pbs", folders: "List[str]") -> "Tuple[List[Json], str]":
    """This user's jobs, past ones too, that name one of the folders; and why that cannot be told, if it cannot."""
    try:
        pbs.deadline = time.monotonic() + pbs.timeout_s
        ids = pbs.select([user_name()])
        found = []  # type: List[Json]
        for start in range(0, len(ids), IDS_PER_CALL):
            for job_id, job in attributes(pbs, ids[start : start + IDS_PER_CALL]):
                record = legacy_job(job_id, job, folders)
                if record is not None:
                    found.append(record)
        return sorted(found, key=lambda job: job["started"] or 0.0)[-JOBS_MAX:], ""
    except (Unreadable, Refused) as error:
        return [], "{}".format(error)[:MESSAGE_CHARS_MAX]


def attributes(pbs: "Pbs", ids: "List[str]") -> "List[Tuple[str, Json]]":
    """All attributes of these jobs, from JSON and, for those that it leaves out, from the plain form."""
    history = ["-x"] if pbs.history else []
    found = {}  # type: Dict[str, Json]
    for form, read in ((["-F", "json"], lambda text: jobs_in_json(text, set(ids).__contains__)), ([], jobs_in_text)):
        left = [job_id for job_id in ids if job_id not in found]
        if left:
            status, output, errors = pbs.run(["qstat", *history, "-f", *form, *left])
            found.update(read(output.decode("utf-8", "replace")))
            if status != 0 and not found:
                raise Refused("qstat ended with status {}: {}".format(status, last_line(errors)))
    return list(found.items())


def legacy_job(job_id: str, job: "Json", folders: "List[str]") -> "Optional[Json]":
    """A job that names a run in an attribute, a variable or its script; None for any other."""
    texts = {name: value for name, value in flat_texts(job)}
    workdir = texts.get("Variable_List.PBS_O_WORKDIR") or variable_in(texts, "PBS_O_WORKDIR")
    submitted = (texts.get("Submit_arguments") or texts.get("Job_Name") or "").split()
    script = os.path.join(workdir, submitted[-1]) if workdir and submitted else ""
    text = script_text(script)[0] if script and os.path.isfile(script) else None
    for folder in folders:
        named = next((name for name, value in sorted(texts.items()) if names(value, folder)), "")
        if not named and text is not None and names(text, folder):
            named = os.path.basename(script)
        if named:
            resources = job.get("Resource_List")
            walltime = resources.get("walltime") if isinstance(resources, dict) else job.get("Resource_List.walltime")
            return {
                "id": str(job_id)[:200],
                "run": folder,
                "named_by": named[:200],
                "name": text_of(job.get("Job_Name")),
                "state": text_of(job.get("job_state"))[:8],
                "queue": text_of(job.get("queue")),
                "nodes": nodes_of(job),
                "walltime": text_of(walltime),
                "exit": number_of(job.get("Exit_status")),
                "started": epoch_of(job.get("stime")),
                "script": script if text is not None else "",
            }
    return None


def names(text: str, folder: str) -> bool:
    """Whether a text names a folder: by its path, or by its last part alone where a path or a value is written. Many
    runs are called `base`: neither `database`, nor `base2`, nor the word in a sentence is that one."""
    path, last = re.escape(folder), re.escape(os.path.basename(folder))
    last = r"|(?:^|[/=\"']|--[\w-]+\s+){}".format(last) if len(os.path.basename(folder)) >= 4 else ""
    return re.search(r"(?:{}{})(?![\w-])".format(path, last), text) is not None


def flat_texts(job: "Json", before: str = "") -> "Iterable[Tuple[str, str]]":
    for name, value in job.items():
        path = "{}.{}".format(before, name) if before else str(name)
        if isinstance(value, dict):
            for pair in flat_texts(value, path):
                yield pair
        elif isinstance(value, str):
            yield path, value


def variable_in(texts: "Dict[str, str]", name: str) -> str:
    """A variable of the plain form, where all of them are one text."""
    found = re.search(r"(?:^|,)" + name + r"=([^,]*)", texts.get("Variable_List.", ""))
    return found.group(1) if found else ""


def adopt() -> None:
    nonce, request = read_request(sys.stdin.buffer)
    answer = {}  # type: Json
    try:
        answer = {"answer": survey(request) if request["operation"] == "survey" else data_lists(request)}
    except Refused as refused:
        answer = {"failed": "{}".format(refused)[:MESSAGE_CHARS_MAX]}
    except OSError as error:
        answer = {"failed": disk_trouble(error)[:MESSAGE_CHARS_MAX]}
    payload = json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")
    sys.stdout.buffer.write(framed(payload, nonce))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    adopt()
