"""OpenPBS as recorded: state letters, exit statuses, refusals, and the whole table as the agent reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.cluster import agent, openpbs
from reconciler.cluster.answers import jobs
from reconciler.cluster.fields import Fields
from reconciler.model.observed import Job, JobState

RECORDINGS = Path(__file__).parent.parent / "recordings/openpbs"
MORE = Path(__file__).parent / "recordings"
"""Recordings of what the embedded PBS leaves out, which no other test needs."""


def recorded(name: str, what: str) -> bytes:
    return ((MORE if (MORE / name).is_dir() else RECORDINGS) / name / what).read_bytes()


def table(name: str) -> dict[str, Job]:
    found = agent.parse_jobs(recorded(name, "stdout"))
    return {job.job_id: job for job in jobs(Fields({"read": found}, "x"))}


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
    (job,) = jobs(Fields({"read": [agent.job_record("1.x", {"job_state": letter})]}, "x"))
    assert (job.state, job.live, job.letter) == (JobState.UNKNOWN, True, letter)


def test_the_agents_idea_of_alive_is_the_models() -> None:
    """It forbids a second job for every letter but F."""
    finished = {letter for letter, state in openpbs.STATES.items() if state is JobState.FINISHED}
    assert finished == {"F"}


def every_table() -> list[str]:
    names = []
    for folder in sorted([*RECORDINGS.iterdir(), *MORE.iterdir()]):
        text = folder / "stdout"
        if text.is_file() and text.read_bytes().lstrip().startswith(b"{"):
            names.append(folder.name)
    return names


@pytest.mark.parametrize("name", every_table())
def test_every_recorded_json_is_read_or_called_unreadable(name: str) -> None:
    data = recorded(name, "stdout")
    try:
        found = agent.parse_jobs(data)
    except agent.Unreadable:
        assert name in {"qstat-v-long-value-20k"} or b'"Jobs"' not in data or b'"array_' in data
        return
    for job in jobs(Fields({"read": found}, "x")):
        assert job.state is not JobState.UNKNOWN or job.letter in "MX"


def test_times_are_the_servers_own() -> None:
    job = one("fin-walltime-finished")
    assert job.started_s is not None
    assert job.ended_s is not None
    assert job.ended_s - job.started_s == 6


def test_jobs_printed_twice_are_put_together() -> None:
    """Some releases print a second "Jobs" member; an ordinary reader silently drops the first."""
    text = b'{"timestamp":1,"Jobs":{"1.x":{"job_state":"R"}},"Jobs":{"2.x":{"job_state":"Q"}}}'
    assert [job["id"] for job in agent.parse_jobs(text)] == ["1.x", "2.x"]


def test_bytes_that_are_not_utf8_in_somebodys_variables_hide_nothing() -> None:
    text = b'{"timestamp":1,"Jobs":{"1.x":{"job_state":"R","comment":"\xff","Variable_List":{"CPT_KEY":"k"}}}}'
    assert agent.parse_jobs(text)[0]["key"] == "k"


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
    assert agent.job_record("1.x", job)[field] == value


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
    assert agent.job_id_in(printed.encode()) == job_id


def refusals() -> list[tuple[str, int]]:
    found = []
    for folder in sorted(RECORDINGS.glob("qsub-*")):
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


def test_short_and_long_ids_are_one_job() -> None:
    assert agent.short_id("12.pbs-host") == agent.short_id("12.pbs-host.example.org")
    assert agent.short_id("12.pbs-host") != agent.short_id("120.pbs-host")
    assert agent.short_id("12[].pbs-host") != agent.short_id("12.pbs-host")


def test_the_workspace_tag_is_no_number_to_pbs() -> None:
    """In Variable_List values that look like JSON change type, such as 007 or 1e5."""
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(agent.workspace_tag("/x"))
