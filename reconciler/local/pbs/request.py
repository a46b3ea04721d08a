"""qsub's options, from the command line and from directives, as one request. Pure."""

from __future__ import annotations

import re
import time

from reconciler.local.pbs import depend, options, resources
from reconciler.local.pbs.refusals import PBSE_UNDEFINED_ATTRIBUTE, Refusal, Usage, unsupported

LETTERS = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:Xz"
NAME_MAX = 230
UNSUPPORTED = {"c": "-c", "C": "-C", "J": "-J (a job array)", "u": "-u", "V": "-V (use -v NAME,…)", "X": "-X"}
KNOWN_ATTRIBUTES = ("sandbox", "stagein", "stageout", "group_list", "run_count", "release_nodes_on_stageout", "pwd")
PLAIN = {"A": "Account_Name", "m": "Mail_Points", "M": "Mail_Users", "P": "project", "S": "Shell_Path_List"}


class Request:
    """What was asked for. The command line is read before the directives and wins over them."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.given: set[str] = set()
        self.attributes: dict[str, str] = {}
        self.resources: list[tuple[str, str]] = []
        self.depend: list[tuple[str, list[str]]] = []
        self.variables = ""
        self.queue: str | None = None
        self.paths: dict[str, str] = {}
        self.hold = False
        self.block = False
        self.quiet = False
        self.interactive = False
        self.not_before: int | None = None

    def take(self, argv: list[str], now: float) -> list[str]:
        """Read one command line; returns its operands.

        Options that an earlier line gave are left alone, but resources add up name by name.

        Raises:
            Usage: an option or a value that makes no sense.
            Refusal: what this subset leaves out.
        """
        found, operands = options.parsed(argv, LETTERS, "qsub")
        taken = set()
        line_resources: dict[str, str] = {}
        for letter, value in found:
            if letter in self.given and letter not in "lW":
                continue
            taken.add(letter)
            if letter == "l":
                line_resources.update(resources.split_list(value))
            else:
                self._one(letter, value, now)
        already = {name for name, _ in self.resources}
        self.resources.extend((name, value) for name, value in line_resources.items() if name not in already)
        self.given |= taken
        return operands

    def _one(self, letter: str, value: str, now: float) -> None:
        if letter == "J":
            _check_range(value)
        if letter in UNSUPPORTED:
            raise unsupported(UNSUPPORTED[letter])
        flags = {"h": "hold", "z": "quiet", "I": "interactive"}
        if letter in flags:
            setattr(self, flags[letter], True)
        elif letter in "oe":
            self.paths[letter] = checked("o" if letter == "o" else "e", r"[ -~]+", value)
        elif letter == "W":
            self._more(value)
        elif letter == "v":
            self.variables = value
        elif letter == "q":
            self.queue = checked("q", r"[A-Za-z][\w.-]*(@[\w.-]+)?|@[\w.-]+", value)
        elif letter == "a":
            self.not_before = moment(value, now)
        elif letter != "f":
            self.attributes.update(attribute(letter, value))

    def _more(self, text: str) -> None:
        """`-W name=value,name=value`; the value of depend may hold commas."""
        for name, value in named_values(text):
            if f"W{name}" in self.given:
                continue
            if name == "depend":
                self.depend = depend.parsed(value, self.server)
            elif name == "umask":
                self.attributes["umask"] = checked("W", r"0*[0-7]{1,3}", value)
            elif name == "block":
                self.block = checked("W", r"true|false|TRUE|FALSE|True|False", value).lower() == "true"
            elif name in KNOWN_ATTRIBUTES:
                raise unsupported(f"-W {name}")
            else:
                raise Refusal(f"Error ({PBSE_UNDEFINED_ATTRIBUTE}) submitting job", PBSE_UNDEFINED_ATTRIBUTE)
            self.given.add(f"W{name}")


def _check_range(value: str) -> None:
    found = re.fullmatch(r"(\d{1,9})-(\d{1,9})(:\d{1,9})?(%\d{1,9})?", value)
    if not found or int(found[1]) >= int(found[2]):
        raise Usage("illegal -J value")


def named_values(text: str) -> list[tuple[str, str]]:
    """`depend=afterok:1,afterany:2,umask=022` → pairs: a term without "=" belongs to the one before it."""
    pairs: list[tuple[str, str]] = []
    for term in text.split(","):
        name, equals, value = term.partition("=")
        if equals:
            pairs.append((name.strip(), value))
        elif pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{term}")
        else:
            raise Usage("illegal -W value")
    return pairs


def attribute(letter: str, value: str) -> dict[str, str]:
    """The attribute that a simple option sets, checked. Also qalter's."""
    if letter in PLAIN:
        patterns = {"m": r"n|[abej]+", "S": r"/[ -~]*", "M": r"[ -~]+", "P": r"[ -~]+", "A": r".*"}
        return {PLAIN[letter]: checked(letter, patterns[letter], value)}
    if letter == "N":
        return {"Job_Name": job_name(value)}
    if letter == "j":
        return {"Join_Path": checked("j", r"oe|eo|n", value)}
    if letter == "k":
        return {"Keep_Files": checked("k", r"n|(?=.*[oe])[doe]{1,3}", value)}
    if letter == "R":
        return {"Remove_Files": checked("R", r"[oe]{1,2}", value)}
    if letter == "r":
        return {"Rerunable": {"y": "True", "n": "False"}[checked("r", r"[yn]", value)]}
    if letter == "p" and -1024 <= int(checked("p", r"[+-]?\d{1,4}", value)) <= 1023:
        return {"Priority": str(int(value))}
    raise Usage(f"illegal -{letter} value")


def job_name(value: str) -> str:
    if len(value) > NAME_MAX:
        raise Refusal("Job name is too long ", 2)
    return checked("N", r"[A-Za-z0-9_.+-]+", value)


def checked(letter: str, pattern: str, value: str) -> str:
    if not re.fullmatch(pattern, value, re.DOTALL):
        raise Usage(f"illegal -{letter} value")
    return value


def moment(text: str, now: float) -> int:
    """`-a [[[[CC]YY]MM]DD]hhmm[.SS]`, local time → epoch seconds; without a date, the next such time."""
    found = re.fullmatch(r"(?:(?:(?:(\d{2})?(\d{2}))?(\d{2}))?(\d{2}))?(\d{2})(\d{2})(?:\.(\d{2}))?", text)
    if not found:
        raise Usage("illegal -a value")
    century, year, month, day, hour, minute, second = found.groups()
    today = time.localtime(now)
    full_year = int((century or str(today.tm_year)[:2]) + year) if year else today.tm_year
    date = [full_year, int(month or today.tm_mon), int(day or today.tm_mday)]
    clock = (int(hour), int(minute), int(second or 0))
    if not (1 <= date[1] <= 12 and 1 <= date[2] <= 31 and clock < (24, 0, 0) and clock[1] < 60 and clock[2] < 60):
        raise Usage("illegal -a value")
    smallest = 2 if day is None else 1 if month is None else 0
    while True:
        found_time = int(time.mktime((date[0], date[1], date[2], *clock, 0, 0, -1)))
        if found_time > now or year is not None:
            return found_time
        date[smallest] += 1  # mktime carries a 32nd day over into the next month
