"""A real bash with a launcher that only notes what it was given, beside what the reader says of the same text."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.launcher.callwords import Call
from reconciler.launcher.expansion import Unknown
from reconciler.launcher.scriptreader import NoCall, Unreadable, read_script

LAUNCHER = """\
#!/bin/bash
printf '%s\\0' "$#" "$@" >>"$CALLS_MADE"
env -0 >>"$CALLS_MADE"
printf 'END\\0' >>"$CALLS_MADE"
"""
BASH_S_OWN = {"PWD", "OLDPWD", "SHLVL", "_", "PATH", "CALLS_MADE"}


@dataclass(frozen=True)
class Given:
    """What the launcher was given in one call."""

    environment: Mapping[str, str]
    arguments: tuple[str, ...]


def run(text: str) -> list[Given]:
    """Every call of the launcher that bash makes of `text`, with an empty environment, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "train_alcf.sh").write_text(LAUNCHER)
        (place / "train_alcf.sh").chmod(0o755)
        (place / "script").write_text(text, newline="")
        environment = {"PATH": "/usr/bin:/bin", "CALLS_MADE": str(place / "made")}
        subprocess.run(
            ["/bin/bash", "script"],
            cwd=folder,
            env=environment,
            capture_output=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        made = place / "made"
        return _calls(made.read_bytes().decode().split("\0")) if made.exists() else []


def _calls(items: list[str]) -> list[Given]:
    found = []
    while items and items[0]:
        count = int(items[0])
        end = items.index("END", 1 + count)
        pairs = (item.partition("=") for item in items[1 + count : end])
        environment = {
            name: value for name, _, value in pairs if name not in BASH_S_OWN and not name.startswith("BASH_FUNC_")
        }
        found.append(Given(environment, tuple(items[1 : 1 + count])))
        items = items[end + 1 :]
    return found


def read(text: str) -> tuple[Call, ...]:
    """The calls that the reader sees; none where it gives up."""
    try:
        return read_script(text).calls
    except (NoCall, Unreadable):
        return ()


def wrong(call: Call, given: Given) -> list[str]:
    """What the reader says it knows of a call and bash did otherwise."""
    found = [
        f"{name}={value!r} is said, bash gave {given.environment.get(name)!r}"
        for name, value in call.environment.items()
        if given.environment.get(name) != value
    ]
    unsaid = set(given.environment) - set(call.environment) - set(call.unknown)
    found += [f"bash gave {name}={given.environment[name]!r}, of which nothing is said" for name in sorted(unsaid)]
    if any(isinstance(word, Unknown) for word in call.words):
        known = iter(given.arguments)
        missing = [word for word in call.arguments if word not in known]
        return found + [f"argument {word!r} is said, bash gave {given.arguments}" for word in missing]
    if call.arguments != given.arguments:
        found.append(f"arguments {call.arguments} are said, bash gave {given.arguments}")
    return found
