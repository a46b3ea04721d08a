"""The recorded answers of OpenPBS, and what must not matter when ours are held against them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.local.pbs.machine import Answer, Machine

FOLDER = Path(__file__).resolve().parents[2] / "recordings" / "openpbs"


class Recording(NamedTuple):
    name: str
    command: str
    as_root: bool
    answer: Answer


def load(name: str) -> Recording:
    folder = FOLDER / name
    command = (folder / "cmd").read_text()
    return Recording(
        name,
        command.removeprefix("# as root\n"),
        command.startswith("# as root\n"),
        Answer(
            int((folder / "rc").read_text()),
            (folder / "stdout").read_bytes(),
            (folder / "stderr").read_bytes(),
        ),
    )


DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}"
SUBSTITUTIONS = [
    (DATE, "DATE"),
    (r"Job run at \w{3} \w{3} [ \d]\d at \d\d:\d\d on", "Job run at MINUTE on"),
    (r"\b1[78]\d{8}\b", "EPOCH"),  # timestamps
    (r"(held by) \S+ on", r"\1 USER on"),
    (r"(pbs-host)/\d+", r"\1/SLOT"),
    (r"walltime \d+ exceeded", "walltime N exceeded"),
    (r"line 1: +\d+ (Killed|Segm)", r"line 1: PID \1"),
    (r"-a \d{4}\b", "-a HHMM"),
    # What a job used depends on when it was measured; a session is only known once PBS has asked for it.
    (r'"(cpupercent)":\t\d+', r'"\1":\tN'),
    (r'"(cput|mem|vmem)":\t"[\d:]+(?:kb)?"', r'"\1":\tX'),
    (r'("resources_used":\t\{[^}]*"walltime":\t)"[\d:]+"', r"\1X"),
    (r"(resources_used\.\w+ ?= ?)[\d:]+(kb)?", r"\1X"),
    (r'\t+"session_id":\t\d+,\n', ""),
    (r"    session_id = \d+\n", ""),
    (r"\|session_id=\d+", ""),
    (r" \d\d:\d\d:\d\d ([RFE]) ", r" HH:MM:SS \1 "),
    (r" +(?:\d+|--)( +\d+ +\d+ +-- +\S+ [RF]) +\d\d:\d\d", r" SESSION\1 HH:MM"),
    # A running job has been seen before or after its first report.
    (r'(?s)\t\t\t"resources_used":\t\{[^}]*\},\n(\t\t\t"job_state":\t"R")', r"\1"),
    (r'"substate":\t4[12]', '"substate":\t4X'),
    # A queue shows these once it has run a job, or once a manager has set them.
    (r'\t+"resources_assigned":\t\{[^}]*\},\n', ""),
    (r'\t+"kill_delay":\t\d+,\n', ""),
]
RUNNING_ONLY = [(r'\t\t\t"(jobdir|obittime)":\t"[^"]*",\n(?=(?:(?!\n\t\t\}).)*"substate":\t4X)', "")]
# How a deleted job's top process dies is a race in PBS.
DELETED = (r'("substate":\t91,.*?"Exit_status":\t)(?:143|265|271)', r"\1KILLED")


def bare(text: str) -> str:
    """A text without what varies from run to run."""
    pretty = unwrapped(text)
    for pattern, replacement in SUBSTITUTIONS:
        pretty = re.sub(pattern, replacement, pretty)
    for pattern, replacement in RUNNING_ONLY:
        pretty = re.sub(pattern, replacement, pretty, flags=re.DOTALL)
    return re.sub(*DELETED, pretty, flags=re.DOTALL)


def unwrapped(text: str) -> str:
    """The plain form's lines in one piece: where they break depends on how long paths are."""
    return re.sub(r"\n\t", "", text) if text.startswith("Job Id") else text


def ours(machine: Machine, text: str) -> str:
    """What this machine printed, in the names of the one that was recorded."""
    named = unwrapped(text).replace(str(machine.spool.root), "/var/spool/pbs").replace(str(machine.bin), "/opt/pbs/bin")
    named = named.replace(str(machine.home), "/home/alcf").replace(f"{machine.user}@pbs-host", "alcf@pbs-host")
    return re.sub(rf"(?m)^(\d\S* +.*?)\b{re.escape(machine.user)} +", _padded, named)


def _padded(found: re.Match[str]) -> str:
    width = len(found[0]) - len(found[1])
    return found[1] + "alcf".ljust(width)
