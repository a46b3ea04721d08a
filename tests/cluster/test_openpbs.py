"""OpenPBS as recorded: state letters, exit statuses, refusals, and the whole table as the agent reads it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.cluster import agent_pbs, agent_qstat, openpbs
from reconciler.cluster.answers import jobs
from reconciler.cluster.fields import Fields
from reconciler.local.pbs import show
from reconciler.model.observed import Job, JobState

RECORDINGS = Path(__file__).parent.parent / "recordings/openpbs"
MORE = Path(__file__).parent / "recordings"
"""Recordings of what the embedded PBS leaves out, which no other test needs."""


def recorded(name: str, what: str) -> bytes:
    return ((MORE if (MORE / name).is_dir() else RECORDINGS) / name / what).read_bytes()


def table(name: str) -> dict[str, Job]:
    found = agent_qstat.jobs_in_json(recorded(name, "stdout").decode("utf-8", "replace"), bool)
    records = [agent_qstat.job_record(job_id, job) for job_id, job in found]
    return {job.job_id: job for job in jobs(Fields({"read": records}, "x"))}


def one(name: str) -> Job:
    (job,) = table(name).values()
    return job


@pytest.mark.parametrize(
    ("recording", "state", "live"),
    [
        ("state-Q-can-never-run", JobState.QUEUED, True),
        ("state-H-user-hold", JobState.HELD, True),
        ("state-H-dependency-hold", JobState.HELD, True),
        ("state-W-waiting-until", JobState.WAITING, True),
        ("state-R-running", JobState.RUNNING, True),
        ("state-S-suspended", JobState.HELD, True),
        ("state-E-exiting", JobState.EXITING, True),
        ("array-running-parent", JobState.RUNNING, True),
        ("fin-ok-finished", JobState.FINISHED, False),
    ],
)
def test_recorded_states(recording: str, state: JobState, live: bool) -> None:
    job = one(recording)
    assert (job.state, job.live) == (state, live)


@pytest.mark.parametrize(
    ("recording", "exit_status", "substate"),
    [
        ("fin-ok-finished", 0, 92),
        ("fin-exit3-finished", 3, 93),
        ("fin-walltime-finished", -29, 93),
        ("state-E-exiting", None, 51),
        ("qdel-held-after", None, 91),
    ],
)
def test_an_exit_status_counts_only_when_finished(recording: str, exit_status: int | None, substate: int) -> None:
    job = one(recording)
    assert (job.exit_status, job.substate) == (exit_status, substate)


@pytest.mark.parametrize("letter", ["Z", "", "FF", "f", "é"])
def test_an_unknown_letter_is_alive(letter: str) -> None:
    (job,) = jobs(Fields({"read": [agent_qstat.job_record("1.x", {"job_state": letter})]}, "x"))
    assert (job.state, job.live, job.letter) == (JobState.UNKNOWN, True, letter)


def test_the_agents_idea_of_alive_is_the_models() -> None:
    """It forbids a second job for every letter but F."""
    finished = {letter for letter, state in openpbs.STATES.items() if state is JobState.FINISHED}
    assert finished == {"F"}


def commands(program: str) -> list[str]:
    """Recordings whose last command is this program."""
    names = []
    for folder in sorted([*RECORDINGS.iterdir(), *MORE.iterdir()]):
        if folder.is_dir() and (folder / "cmd").is_file():
            calls = re.findall(r"(?m)(?:^|; |&& |time )(q\w+)\b", (folder / "cmd").read_text().split("<<")[0])
            if calls and calls[-1] == program:
                names.append(folder.name)
    return names


def truth(name: str) -> dict[str, Any]:
    """Job id → attributes, by the standard reader of JSON; none if the answer is something else."""
    try:
        page = json.loads(recorded(name, "stdout").decode("utf-8", "replace"), object_pairs_hook=agent_qstat.merged)
    except ValueError:
        return {}
    return dict(page.get("Jobs", {}))


FULL = [name for name in commands("qstat") if {"-f", "|"} & set(recorded(name, "cmd").decode().split()) == {"-f"}]
TABLES = [name for name in commands("qstat") if truth(name)]


def test_there_are_enough_recordings_to_speak_of_every() -> None:
    assert (len(commands("qsub")), len(commands("qselect")), len(TABLES)) > (150, 15, 180)


@pytest.mark.parametrize("name", TABLES)
def test_every_recorded_table_is_read_in_each_form(name: str) -> None:
    """Job by job as the standard reader has it; by the loose reader; and printed in the plain form."""
    text = recorded(name, "stdout").decode("utf-8", "replace")
    expected = {job_id: agent_qstat.job_record(job_id, job) for job_id, job in truth(name).items()}
    found = {job_id: agent_qstat.job_record(job_id, job) for job_id, job in agent_qstat.jobs_in_json(text, bool)}
    assert found == expected
    for job_id, job in truth(name).items():
        loose = agent_qstat.Loose(json.dumps(job, indent="\t")).members()
        assert agent_qstat.job_record(job_id, loose) == expected[job_id]
        ((_, plain),) = agent_qstat.jobs_in_text(show.text(job_id, lines_of(job)))
        assert agent_qstat.job_record(job_id, plain) == expected[job_id]
    for job_seen in jobs(Fields({"read": list(expected.values())}, "x")):
        assert job_seen.state is not JobState.UNKNOWN or job_seen.letter in "MX"


def lines_of(job: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for name, value in job.items():
        if name == "Variable_List":
            lines.append((name, ",".join(f"{key}={item}" for key, item in value.items())))
        elif isinstance(value, dict):
            lines += [(f"{name}.{key}", str(item)) for key, item in value.items()]
        else:
            lines.append((name, str(value)))
    return lines


@pytest.mark.parametrize("name", [n for n in commands("qstat") if recorded(n, "stdout").startswith(b"Job Id: ")])
def test_every_recorded_plain_page_is_read(name: str) -> None:
    if "dsv" in name:
        return
    text = recorded(name, "stdout").decode()
    found = agent_qstat.jobs_in_text(text)
    assert [job_id for job_id, _ in found] == re.findall(r"(?m)^Job Id: (.*)$", text)
    assert [job["job_state"] for _, job in found] == re.findall(r"(?m)^    job_state = (.*)$", text)
    assert [job.get("comment") for _, job in found if "comment" in job] == [
        value.replace("\n\t", "") for value in re.findall(r"(?ms)^    comment = (.*?)\n(?=    \w|\n)", text)
    ]


@pytest.mark.parametrize("name", FULL)
def test_every_recorded_answer_is_held_against_what_was_asked(name: str) -> None:
    """Each id that was asked for is found, unknown for certain, or left open; nothing else comes of it."""
    words = recorded(name, "cmd").decode().replace("'", "").split()
    ids = [word for word in words if agent_qstat.ANY_ID.fullmatch(word)]
    asked = agent_pbs.Asked(ids)
    text, errors = recorded(name, "stdout").decode("utf-8", "replace"), recorded(name, "stderr").decode()
    read = agent_qstat.jobs_in_json(text, asked.spelling) if "json" in words else agent_qstat.jobs_in_text(text)
    asked.take(read)
    asked.heed(errors, int(recorded(name, "rc")))
    unknown = {job_id for job_id in ids if re.search(rf"Unknown Job Id {re.escape(job_id)}(\.|$)", errors, re.M)}
    finished = {job_id for job_id in ids if re.search(rf"{re.escape(job_id)}\S* Job has finished", errors)}
    printed = {asked.spelling(job_id) for job_id in (*truth(name), *re.findall(r"(?m)^Job Id: (\S+)$", text))}
    if "dsv" not in words:
        assert asked.found.keys() == (printed - {None}) | finished
    assert asked.gone == unknown - asked.found.keys()
    assert all(record["state"] for record in asked.found.values())


@pytest.mark.parametrize("name", commands("qselect"))
def test_every_recorded_list_of_ids_is_read(name: str, tmp_path: Path) -> None:
    """By the real commands: a qselect that answers what was recorded."""
    folder = (MORE if (MORE / name).is_dir() else RECORDINGS) / name
    (tmp_path / "qselect").write_text(
        f"#!/bin/sh\ncat {folder}/stdout; cat {folder}/stderr >&2; exit `cat {folder}/rc`"
    )
    (tmp_path / "qselect").chmod(0o755)
    pbs = agent_pbs.Pbs(10.0)
    pbs.deadline = time.monotonic() + 10
    pbs.environment["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", pbs.environment["PATH"])
        if int(recorded(name, "rc")) != 0:
            with pytest.raises(agent_pbs.Unreadable, match="qselect ended with status"):
                pbs.select(())
        else:
            assert pbs.select(()) == re.findall(r"(?m)^\d.*$", recorded(name, "stdout").decode())


def test_times_are_the_servers_own() -> None:
    job = one("fin-walltime-finished")
    assert job.started_s is not None
    assert job.ended_s is not None
    assert job.ended_s - job.started_s == 6


def test_bytes_that_are_not_utf8_in_a_variable_hide_nothing() -> None:
    (job,) = table("qstat-v-invalid-utf8").values()
    assert job.state is JobState.FINISHED


@pytest.mark.parametrize(
    ("job", "field", "value"),
    [
        ({"Exit_status": True}, "exit", None),
        ({"Exit_status": "0"}, "exit", None),
        ({"Exit_status": 10**30}, "exit", None),
        ({"Job_Name": ["x"]}, "name", ""),
        ({"Variable_List": "CPT_KEY=x"}, "key", None),
        ({"Variable_List": {"CPT_KEY": 7}}, "key", None),
        ({"stime": "yesterday"}, "started", None),
        ({"stime": "Mon Foo 23 23:52:20 2026"}, "started", None),
        ({"comment": "x" * 10_000_000}, "comment", "x" * 200),
    ],
    ids=lambda value: str(value)[:30],
)
def test_odd_values_become_nothing(job: dict[str, Any], field: str, value: object) -> None:
    assert agent_qstat.job_record("1.x", job)[field] == value


@pytest.mark.parametrize(
    ("printed", "job_id"),
    [
        ("12.pbs-host\n", "12.pbs-host"),
        ("12[].pbs-host\n", "12[].pbs-host"),
        ("Welcome 2026.\nproject: 7.5 node-hours left\n1234.aurora-pbs-0001.host\n", "1234.aurora-pbs-0001.host"),
        ("1.a\n2.b\n", "2.b"),
        ("12\n", None),
        ("", None),
        ("job 12.pbs submitted\n", None),
    ],
)
def test_the_id_that_qsub_prints(printed: str, job_id: str | None) -> None:
    assert agent_pbs.job_id_in(printed.encode()) == job_id


@pytest.mark.parametrize("name", commands("qsub"))
def test_every_recorded_submission_gives_its_id_or_none(name: str) -> None:
    printed = recorded(name, "stdout")
    if not printed.strip():
        assert agent_pbs.job_id_in(printed) is None
    else:
        assert agent_pbs.job_id_in(printed) == printed.decode().splitlines()[-1]


def refusals() -> list[tuple[str, int]]:
    found = []
    for folder in sorted([*RECORDINGS.glob("qsub-*"), *MORE.glob("qsub-*")]):
        status = folder / "rc"
        if status.is_file() and int(status.read_text()) != 0:
            found.append((folder.name, int(status.read_text())))
    return found


@pytest.mark.parametrize(("name", "status"), refusals())
def test_every_recorded_refusal_is_permanent_or_passes(name: str, status: int) -> None:
    if name == "qsub-from-deleted-cwd":
        assert status not in openpbs.PERMANENT, "the background qsub was lost: nobody knows what it did"
    else:
        assert (status in openpbs.PERMANENT) is not (status in openpbs.WAIT)


def test_a_server_that_is_down_is_known_by_its_text() -> None:
    errors = recorded("down-qsub", "stderr").decode()
    assert any(text in errors for text in openpbs.WAIT_TEXTS)


def test_the_workspace_tag_is_no_number_to_pbs() -> None:
    """In Variable_List values that look like JSON change type, such as 007 or 1e5."""
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(agent_pbs.workspace_tag("/x"))
