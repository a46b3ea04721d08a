"""How the agent reads what qstat prints. Pure: text in, records out.

Sent in front of `agent_pbs.py` and run in one namespace with it: Python 3.6, standard library only.
"""

import json
import re
import time

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    Json = Dict[str, Any]

# --- Ids --------------------------------------------------------------------------------------------------------------

ANY_ID = re.compile(r"(\d+(?:\[\d*\])?)(?:\.([\w.*-]*))?")
"""An id in any spelling that is met: number, array brackets, and as much of the server's name as was printed."""


def id_parts(job_id: str) -> "Tuple[str, str]":
    """Number with brackets, and the server as far as it was printed."""
    found = ANY_ID.fullmatch(job_id)
    return (found.group(1), found.group(2) or "") if found else (job_id, "")


def same_job(one: str, other: str) -> bool:
    """Whether two spellings may be of one job: the same number, and servers that do not differ.

    `123`, `123.polaris`, `123.polaris.al*` and `123.polaris.alcf.anl.gov` are one; a `*` stands where qstat cut.
    """
    (number, server), (number_2, server_2) = id_parts(one), id_parts(other)
    if number != number_2:
        return False
    for cut, whole in ((server, server_2), (server_2, server)):
        if cut.endswith("*"):
            known = cut.rstrip("*")
            return whole.startswith(known) or known.startswith(whole)
    return not server or not server_2 or server.split(".")[0] == server_2.split(".")[0]


# --- Reading answers --------------------------------------------------------------------------------------------------

JOB_MEMBER = re.compile(r'"(\d+(?:\[\d*\])?(?:\.[\w.*-]*)?)"\s*:\s*(?=\{)')
TEXT_JOB = re.compile(r"(?m)^Job Id:[ \t]*(\S+)[ \t]*$")
TEXT_ATTRIBUTE = re.compile(r"(?m)^    ([A-Za-z][\w.-]*) = (.*)$")
TEXT_NUMBERS = ("substate", "Exit_status", "history_timestamp")


def jobs_in_json(text: str, asked: "Callable[[str], object]") -> "List[Tuple[str, Json]]":
    """(id, attributes) of every job that was asked for and can be read, whatever surrounds it.

    Each job is read by itself. So a banner, a second "Jobs", a missing brace or a cut end spoils none but its own.
    """
    places = [found for found in JOB_MEMBER.finditer(text) if asked(found.group(1))]
    jobs, end = [], 0
    for number, place in enumerate(places):
        if place.start() < end:
            continue  # inside a job that was read: the value of a variable
        behind = places[number + 1].start() if number + 1 < len(places) else len(text)
        try:
            job, reached = DECODER.raw_decode(text, place.end())
        except (ValueError, RecursionError):
            try:
                job, reached = Loose(text[place.end() : behind]).members(), end
                if "CPT_KEY" in text[place.end() : behind] and job_record("", job)["key"] is None:
                    continue  # it is one of ours, and whose has been lost: the plain form may tell
            except (ValueError, RecursionError):
                continue
        if "job_state" in job and not any(ANY_ID.fullmatch(name) and asked(name) for name in job):
            jobs.append((place.group(1), job))
            end = reached
        # Else its end is missing, and the jobs behind it were taken for its members.
    return jobs


def merged(pairs: "List[Tuple[str, Any]]") -> "Json":
    """An object whose members may be named twice; an ordinary reader would silently drop the first."""
    result = {}  # type: Json
    for name, value in pairs:
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name].update(value)
        else:
            result[name] = value
    return result


DECODER = json.JSONDecoder(object_pairs_hook=merged, strict=False)  # not strict: raw control characters pass


ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Loose:
    """One job of JSON as PBS releases have been seen to break it. ValueError where that is not enough.

    Escapes that JSON has not (`\\'`, `\\,`), quotes that were not escaped, bare words (`005`, shell functions).
    """

    # A quote ends a value if the next member or the end of the object follows; any other stands inside it.
    BEHIND = r'\s*(?:,\s*"|\}\s*(?:[,}]|$))'
    STRING = re.compile(r'"((?:\\.|[^"\\]|"(?!' + BEHIND + r'))*)"(?=' + BEHIND + ")", re.DOTALL)
    NAME = re.compile(r'[\s,]*"((?:\\.|[^"\\])*)"\s*:\s*', re.DOTALL)
    CLOSE = re.compile(r"[\s,]*\}")
    TURN = re.compile(r'[{}]|,\s*"[^"\n]*"\s*:')
    ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def members(self) -> "Json":
        self.at += 1
        pairs = []  # type: List[Tuple[str, Any]]
        while True:
            close = self.CLOSE.match(self.text, self.at)
            if close is not None:
                self.at = close.end()
                return merged(pairs)
            name = self.NAME.match(self.text, self.at)
            if name is None:
                raise ValueError("no member's name at {}".format(self.at))
            self.at = name.end()
            pairs.append((name.group(1), self.value()))

    def value(self) -> "Any":
        if self.text.startswith("{", self.at):
            return self.members()
        found = self.STRING.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
            return self.ESCAPE.sub(self.unescaped, found.group(1))
        return self.bare()

    def unescaped(self, found: "Any") -> str:
        word = found.group(1)  # type: str
        return chr(int(word[1:], 16)) if len(word) > 1 else ESCAPED.get(word, word)

    def bare(self) -> "Any":
        """Everything up to the next member or the end of the object; braces inside are in pairs."""
        depth = 0
        for turn in self.TURN.finditer(self.text, self.at):
            if turn.group() == "{":
                depth += 1
            elif turn.group() == "}" and depth:
                depth -= 1
            elif not depth:
                word = self.text[self.at : turn.start()].strip()
                self.at = turn.start()
                return int(word) if re.fullmatch(r"-?\d{1,15}", word) else word
        raise ValueError("a value does not end")


def jobs_in_text(text: str) -> "List[Tuple[str, Json]]":
    """(id, attributes) of every whole job in `qstat -f`'s plain form. A blank line ends each; one without was cut."""
    parts = TEXT_JOB.split(text.replace("\r\n", "\n"))
    jobs = []
    for job_id, block in zip(parts[1::2], parts[2::2]):
        job = {}  # type: Json
        for name, value in TEXT_ATTRIBUTE.findall(block.replace("\n\t", "")):
            job.setdefault(name, value)
        if "\n\n" not in block or "job_state" not in job:
            continue
        for name in TEXT_NUMBERS:
            if re.fullmatch(r"-?\d{1,15}", job.get(name, "")):
                job[name] = int(job[name])
        job["Variable_List"] = {"": "," + job.get("Variable_List", "")}  # ours are found in it
        jobs.append((job_id, job))
    return jobs


# --- Records ----------------------------------------------------------------------------------------------------------


def job_record(job_id: str, job: "Json") -> "Json":
    """What is told of a job, from its attributes in whatever form they were read."""
    variables = job.get("Variable_List")
    variables = variables if isinstance(variables, dict) else {}
    return {
        "id": str(job_id)[:200],
        "unread": "",
        "name": text_of(job.get("Job_Name")),
        "state": text_of(job.get("job_state"))[:8],
        "substate": number_of(job.get("substate")),
        "exit": number_of(job.get("Exit_status")),
        "comment": text_of(job.get("comment")),
        "queue": text_of(job.get("queue")),
        "key": own_variable(variables, "CPT_KEY"),
        "workspace": own_variable(variables, "CPT_WORKSPACE"),
        "nodes": nodes_of(job),
        "queued": epoch_of(job.get("qtime")),
        "started": epoch_of(job.get("stime")),
        "obit": epoch_of(job.get("obittime")),
        "modified": epoch_of(job.get("mtime")),
        "history": number_of(job.get("history_timestamp")),
    }


def nodes_of(job: "Json") -> "Optional[int]":
    """How many nodes were asked for: PBS counts them itself."""
    resources = job.get("Resource_List")
    nodes = resources.get("nodect") if isinstance(resources, dict) else job.get("Resource_List.nodect")
    return number_of(int(nodes) if isinstance(nodes, str) and re.fullmatch(r"\d{1,9}", nodes) else nodes)


def usable_record(value: object) -> bool:
    """Whether a file of an earlier time holds a whole record of a job that has ended."""
    blank = job_record("", {})
    if not isinstance(value, dict) or set(value) != set(blank) or value["state"] != "F":
        return False
    texts = all(isinstance(value[name], str) for name in blank if isinstance(blank[name], str))
    owned = isinstance(value["key"], str) and value["workspace"] in (None, tag_of(value["workspace"]))
    short = all(len(text) <= 500 for text in value.values() if isinstance(text, str))
    counts = all(value[name] is None or number_of(value[name]) is not None for name in ("substate", "exit", "nodes"))
    times = ("queued", "started", "obit", "modified", "history")
    return texts and owned and short and counts and all(value[name] == moment_of(value[name]) for name in times)


def own_variable(variables: "Json", name: str) -> "Optional[str]":
    """A variable of ours, also where the one before it swallowed it: PBS does that to a value that ends in a backslash
    or holds a double quote."""
    if name in variables:
        return tag_of(variables[name])
    inside = (re.search("," + name + "=([^,]*)", text) for text in variables.values() if isinstance(text, str))
    return next((tag_of(found.group(1)) for found in inside if found is not None), None)


def tag_of(value: object) -> "Optional[str]":
    """A variable as the agent sets it; a longer one is somebody else's, whatever its name."""
    return value if isinstance(value, str) and len(value) <= 500 else None


def text_of(value: object) -> str:
    return value[:200] if isinstance(value, str) else ""


def number_of(value: object) -> "Optional[int]":
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 else None


def moment_of(value: object) -> "Optional[float]":
    """Seconds since the epoch; None for what is no such number, as a file may hold that others can write to."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < 1 << 53 else None


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DATE = re.compile(r"\w{3} (\w{3}) +(\d{1,2}) (\d{2}):(\d{2}):(\d{2}) (\d{4})")


def epoch_of(value: object) -> "Optional[float]":
    """PBS prints dates without a zone, in the server's: taken as this machine's. (strptime costs 10 ms to import.)"""
    found = DATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or found.group(1) not in MONTHS:
        return None
    day, hour, minute, second, year = (int(found.group(n)) for n in (2, 3, 4, 5, 6))
    try:
        return time.mktime((year, MONTHS.index(found.group(1)) + 1, day, hour, minute, second, 0, 0, -1))
    except (ValueError, OverflowError):
        return None
