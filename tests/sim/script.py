"""A rendered job script → what it would do. A small reader of its own: only the forms that the templates have."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from functools import lru_cache


@dataclass(frozen=True)
class Call:
    """One call of the launcher."""

    environment: dict[str, str]
    arguments: tuple[str, ...]
    output: str = ""
    moved_to: str = ""

    def flag(self, name: str) -> str:
        found = [text.partition("=")[2] for text in self.arguments if text.startswith(f"{name}=")]
        return found[-1] if found else ""


@dataclass
class Script:
    """A job."""

    attempt: str = ""
    guarded: bool = False
    looks_for_writers: bool = False
    marked: bool = False
    """It notes under which key it runs, and ends if another job has."""
    ordered: bool = False
    """It ends if a later job of its kind has begun."""
    calls: list[Call] = field(default_factory=list)
    convert: tuple[str, str] | None = None
    strategy: str = ""
    commit: str = ""
    name: str = ""
    queue: str = ""
    log: str = ""
    nodes: int = 0
    walltime_s: int = 0
    rerunnable: bool = True


@lru_cache(maxsize=2000)
def read(text: str) -> Script:
    """Everything that the script says."""
    found = Script(guarded="flock --nonblock 9" in text, looks_for_writers='for writer in "$attempt"/writers/*' in text)
    found.marked = 'echo "$job" >"$mark"' in text and 'if [ "$began" != "$job" ]' in text
    found.ordered = '[ "$counted" -gt "$number" ]' in text
    exported: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        head = re.match(r"# Campaign .*, strategy (\S+)", line)
        found.strategy = head[1] if head else found.strategy
        commit = re.match(r"# Manifests at commit (\S+)", line)
        found.commit = commit[1] if commit else found.commit
        if line.startswith("#PBS "):
            directive(found, line.split(None, 2)[1:])
        elif line.startswith(("attempt=", "export ", "env ", "bash train_alcf.sh", "mv ", "python3 ")):
            command(found, exported, shlex.split(line))
    return found


def directive(found: Script, words: list[str]) -> None:
    option, value = words
    if option == "-l" and value.startswith("select="):
        found.nodes = int(value.removeprefix("select="))
    elif option == "-l" and value.startswith("walltime="):
        hours, minutes, seconds = (int(part) for part in value.removeprefix("walltime=").split(":"))
        found.walltime_s = (hours * 60 + minutes) * 60 + seconds
    elif option == "-r":
        found.rerunnable = value == "y"
    elif option in ("-N", "-q", "-o"):
        setattr(found, {"-N": "name", "-q": "queue", "-o": "log"}[option], value)


def command(found: Script, exported: dict[str, str], words: list[str]) -> None:
    if words[0].startswith("attempt="):
        found.attempt = words[0].removeprefix("attempt=")
    elif words[0] == "export":
        name, is_set, value = words[-1].partition("=")
        if is_set:
            exported[name] = value
    elif words[0] == "mv":
        found.calls[-1] = Call(found.calls[-1].environment, found.calls[-1].arguments, words[1], words[2])
    elif words[0] == "python3":
        found.convert = (words[2], words[3])
    else:
        at = words.index("train_alcf.sh")
        own = dict(word.split("=", 1) for word in words[1 : at - 1]) if words[0] == "env" else {}
        arguments = tuple(word for word in words[at + 1 :] if not re.match(r"\d?>", word))
        found.calls += each_set(Call(exported | own, arguments))


def each_set(call: Call) -> list[Call]:
    """`--set LIST ITERS LOG`: one start of the local trainer is as many evaluations, each with a log of its own."""
    words = call.arguments
    if "--set" not in words:
        return [call]
    first = words.index("--set")
    assert len(words[first:]) % 4 == 0 and set(words[first::4]) == {"--set"}, words
    sets = zip(words[first + 1 :: 4], words[first + 2 :: 4], words[first + 3 :: 4], strict=True)
    return [
        Call(call.environment | {"DATA_FILE_LIST": data, "EVAL_ITERS": count}, words[:first], f"{log}.part", log)
        for data, count, log in sets
    ]
