"""Which recordings are replayed is written down, and the layout of every recorded page is ours byte for byte."""

from __future__ import annotations

import json
import re

import pytest

from reconciler.local.pbs import show, variables
from tests.local.pbs import recordings
from tests.local.pbs.machine import Machine
from tests.local.pbs.scenarios import replayed

# Compared by a test of their own rather than in a scenario.
APART = {"env-job-files"}
INDEX = (recordings.FOLDER / "INDEX").read_text().split()
UNCOVERED = dict(line.split("\t") for line in (recordings.FOLDER / "UNCOVERED").read_text().splitlines())
FOLDERS = sorted(path.name for path in recordings.FOLDER.iterdir() if path.is_dir())


def test_each_recording_is_replayed_or_has_a_reason_not_to_be() -> None:
    covered = replayed() | APART
    assert covered | UNCOVERED.keys() == set(INDEX)
    assert not covered & UNCOVERED.keys()
    assert all(reason.strip() for reason in UNCOVERED.values())


def test_no_recording_lies_around_unused() -> None:
    assert set(FOLDERS) == replayed() | APART


def pages(start: str) -> list[str]:
    return [name for name in FOLDERS if recordings.load(name).answer.stdout.startswith(start.encode())]


def test_json_pages_are_laid_out_as_recorded() -> None:
    names = pages('{\n\t"timestamp"')
    assert len(names) > 150
    for name in names:
        text = recordings.load(name).answer.text
        if name in ("qstat-v-long-value-20k", "qstat-v-typed-lookalikes"):
            continue  # one is filtered text, the other's numbers do not survive Python's reader
        read = json.loads(text, object_pairs_hook=lambda pairs: pairs or show.Raw("{}"), parse_float=show.Raw)
        assert show.json_page(read) == text, name


def test_plain_pages_break_their_lines_as_recorded() -> None:
    names = pages("Job Id: ")
    checked = 0
    for name in names:
        if "dsv" in name:
            continue
        for page in re.split(r"(?m)^(?=Job Id: )", recordings.load(name).answer.text)[1:]:
            heading, *lines = re.split(r"\n    (?=[\w.]+ = )", page.rstrip("\n") + "\n")
            pairs = [line.removesuffix("\n").replace("\n\t", "").partition(" = ") for line in lines]
            rows = [(attribute, value) for attribute, _, value in pairs]
            assert show.text(heading.removeprefix("Job Id: "), rows) == page.rstrip("\n") + "\n\n", name
            checked += 1
    assert checked > 5


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("007", "7"),
        ("1e5", "100000"),
        ("1.50", "1.5"),
        ("-0", "-0"),
        ("1e999", "null"),
        ("12345678901234567890", "1.2345678901234567e+19"),
        ("true", "true"),
        ("[1]", "[1]"),
        ("[1", '"[1"'),
        ("0x10", '"0x10"'),
        ("1.2.3", '"1.2.3"'),
        ("-", '"-"'),
        ("", '""'),
        ("a" * 70, '"' + "a" * 70 + '"'),
        ("NaN", '"NaN"'),
    ],
)
def test_values_that_look_like_json_become_it(value: str, printed: str) -> None:
    assert show.json_page([("k", show.typed(value))]) == '{\n\t"k":\t' + printed + "\n}\n"


def test_a_trailing_backslash_swallows_the_next_variable_as_in_pbs() -> None:
    listed = variables.encoded([("A", "x\\"), ("B", "1")])
    assert variables.split(listed) == ["A=x\\,B=1"]


def test_a_job_sees_the_variables_that_were_recorded(pbs: Machine) -> None:
    """`env-job-files`: the names and values of the environment, without what this machine's shell and limits add."""
    recorded = recordings.load("env-job-files").answer.text
    script = "#PBS -N envjob -A acct -q debug -l select=1:ncpus=1 -v MYVAR=1\nenv\necho ---; pwd; umask\n"
    job_id = pbs.qsub(script)
    pbs.wait(job_id)
    text = (pbs.work / f"envjob.o{job_id.split('.')[0]}").read_text()
    ours = dict(line.split("=", 1) for line in text.split("---")[0].splitlines())
    theirs = dict(line.rstrip("$").split("=", 1) for line in recorded.split("---")[0].splitlines()[1:])
    for name in ("MANPATH", "PBS_MOMPORT"):  # from the site's profile; there is no port to talk to
        del theirs[name]
    assert sorted(ours) == sorted(theirs)
    varying = {"PBS_JOBCOOKIE", "PBS_JOBID", "PBS_NODEFILE", "TMPDIR", "LOGNAME", "USER", "PATH"}
    for name in theirs.keys() - varying:
        assert recordings.ours(pbs, ours[name]) == theirs[name], name
    assert recordings.ours(pbs, text.split("---\n")[1]) == "/home/alcf\n0077\n"
