"""What PBS has been seen to answer, and what is made of it. docs/pbs-cases.md lists each case with its test.

The planner's side of these cases is in tests/planner/test_steps.py.
"""

from __future__ import annotations

import ast
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.cluster import agent_pbs, agent_qstat
from reconciler.model.observed import Job, JobState, Unread
from tests.cluster.test_agent_attempts import save
from tests.cluster.test_openpbs import one, recorded
from tests.cluster.world import CAMPAIGN, FOLDER, STAGE, World, train, write

ROOT = Path(__file__).parents[2]
VERDICT = f"{FOLDER}/verdicts/final.json"


def submitted(world: World, *numbers: int, state: str = "R", **job: object) -> None:
    """Jobs in PBS with their journal entries, as applies leave them: one attempt each."""
    journal = world.workspace / ".journal"
    journal.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        key = f"{CAMPAIGN}/{STAGE}/{number:012x}/l0/n0/train"
        about = {"job_state": state, "substate": 42, "queue": "workq", "Variable_List": {"CPT_KEY": key}} | job
        (world.spool / f"{number}.job").write_text(json.dumps(about))
        entry = {"version": 1, "key": key, "state": "done", "job_id": f"{number}.small", "begun": 1.0}
        (journal / (key.replace("/", "+") + ".json")).write_text(json.dumps(entry))


def seen(world: World) -> dict[str, JobState]:
    """Job id → state, of the jobs of one look."""
    jobs = world.observe().jobs
    assert not isinstance(jobs, Unread), jobs
    return {job.job_id: job.state for job in jobs}


def why_unread(world: World) -> str:
    jobs = world.observe().jobs
    assert isinstance(jobs, Unread)
    return jobs.why


R, UNREAD = JobState.RUNNING, JobState.UNREAD
HEADER = '{"timestamp": 1, "pbs_version": "23.06.06"'


# --- jobs that have ended

ENDED = {"stime": "Thu Nov 26 10:00:00 2026", "obittime": "Thu Nov 26 12:00:00 2026", "Exit_status": 0}
NODES = {"Resource_List": {"nodect": 2}}


def test_what_was_spent_is_remembered_when_pbs_has_forgotten_the_job(world: World) -> None:
    submitted(world, 1, state="F", **ENDED, **NODES)
    submitted(world, 2)
    before = world.observe().jobs
    (world.spool / "1.job").unlink()  # the history has ended
    asked = len(world.called())
    after = world.observe().jobs
    assert not isinstance(before, Unread) and not isinstance(after, Unread)
    by_id = {job.job_id: job for job in after}
    assert by_id == {job.job_id: job for job in before}
    spent = by_id["1.small"]
    assert spent.started_s is not None and spent.ended_s is not None
    assert (spent.nodes, spent.ended_s - spent.started_s) == (2, 7200.0)
    assert not any("1.small" in call for call in world.called()[asked:]), "and nobody is asked for it again"


@pytest.mark.parametrize("damage", ["gone", "empty", "another job's", "not ended", "numbers that are none", "deep"])
def test_a_memory_that_is_damaged_is_none_and_pbs_is_asked(world: World, damage: str) -> None:
    submitted(world, 1, state="F", **ENDED)
    before = world.observe().jobs
    (memory,) = (world.workspace / ".journal").glob("*.ended")
    kept = json.loads(memory.read_text())
    texts = {
        "empty": "",
        "another job's": json.dumps(kept | {"id": "9.small"}),
        "not ended": json.dumps(kept | {"state": "R"}),
        "numbers that are none": json.dumps(kept | {"started": "yesterday"}),
        "deep": "[" * 100_000,
    }
    memory.unlink()
    if damage in texts:
        memory.write_text(texts[damage])
    assert world.observe().jobs == before
    assert json.loads(memory.read_text()) == kept


@pytest.mark.parametrize(
    ("state", "about"),
    [
        pytest.param("R", {}, id="it runs"),
        pytest.param("E", {"Exit_status": 0}, id="its output is being copied"),
        pytest.param("Q", {"Exit_status": -20}, id="PBS has queued it again"),
        pytest.param("F", {}, id="PBS does not say when it ended"),
    ],
)
def test_only_a_job_that_is_over_for_certain_is_remembered(world: World, state: str, about: dict[str, object]) -> None:
    submitted(world, 1, state=state, **about)
    world.observe()
    assert not list((world.workspace / ".journal").glob("*.ended"))


# --- answers that say nothing


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("", id="an empty answer"),
        pytest.param("{}", id="no header"),
        pytest.param(HEADER + "}", id="no jobs"),
        pytest.param(HEADER + ', "Jobs": [1]}', id="not a table"),
        pytest.param(HEADER + ', "Jobs": {"1.small": "?"}}', id="not a job"),
        pytest.param(HEADER + ', "Jobs": {"1.small": {"job_state": "F"', id="cut off"),
        pytest.param("[" * 100_000, id="nested too deep"),
        pytest.param(HEADER + ', "Jobs": {"1.small": ' + '{"a":' * 100_000, id="a job nested too deep"),
    ],
)
def test_an_answer_without_the_job_leaves_it_unread_and_its_attempt_alone(world: World, output: str) -> None:
    submitted(world, 1)
    world.control(qstat_output=output, qstat_text="", qstat_status=0)
    assert seen(world) == {"1.small": UNREAD}
    (same, verdict) = world.execute(train(attempt=f"{1:012x}", ended=1), write(VERDICT, "{}"))
    assert (same.kind, world.calls("qsub")) == ("unknown", 0)
    assert "what became of job 1.small could not be read, so nothing was submitted" in same.message
    assert verdict.kind == "done", "a file needs no table"


def test_a_job_that_could_not_be_read_does_not_hold_up_another_attempt(world: World) -> None:
    submitted(world, 1)
    world.control(qstat_output="", qstat_text="", qstat_status=0)
    assert world.execute(train())[0].kind == "done"


@pytest.mark.parametrize(
    "control",
    [
        pytest.param({"qselect_status": 162, "qselect_errors": "Connection refused\n"}, id="qselect"),
        pytest.param(
            {"qstat_status": 255, "qstat_errors": "qstat: cannot connect to server small (errno=15010)\n"}, id="qstat"
        ),
    ],
)
def test_a_server_that_is_down_makes_the_whole_table_unread(world: World, control: dict[str, object]) -> None:
    submitted(world, 1, 2)
    world.control(qstat_output=HEADER + "}", qstat_text="", **control)
    assert re.search("Connection refused|cannot connect", why_unread(world))
    assert world.calls("qstat") <= 1, "a server that is down is not asked again in the same look"
    assert world.execute(train())[0].kind == "unknown"
    assert world.calls("qsub") == 0


def test_a_recorded_server_that_was_down_is_recognised() -> None:
    for name in ("down-qstat-x", "down-qstat"):
        assert any(words in recorded(name, "stderr").decode() for words in agent_pbs.NO_SERVER)
        assert int(recorded(name, "rc")) != 0


# --- answers for some of the ids


def test_a_release_that_prints_only_the_first_of_several_is_asked_for_the_rest_at_once(world: World) -> None:
    submitted(world, *range(1, 41))
    assert seen(world) == {f"{number}.small": R for number in range(1, 41)}
    assert [call.split()[0] for call in world.called()] == ["qselect", "qstat", "qstat"]
    first, rest = (call.split() for call in world.called()[1:])
    assert len(first) - len(rest) == 2 + 1, "-F json, and the one job that was read"


def test_ids_that_were_passed_over_twice_are_asked_for_one_by_one_up_to_a_bound(world: World) -> None:
    """A job missing among many is neither over nor unknown."""
    submitted(world, *range(1, 21))
    whole = HEADER + ', "Jobs": {"7.small": {"job_state": "R"}}}'
    world.control(qstat_output=whole, qstat_text="")
    assert seen(world) == {f"{number}.small": R if number == 7 else UNREAD for number in range(1, 21)}
    assert world.calls("qstat") == 2 + agent_pbs.ONE_BY_ONE_MAX


def test_one_id_missing_among_many_is_found_when_it_is_asked_for_alone(world: World) -> None:
    submitted(world, 1, 2)
    world.control(qstat_text="")
    assert seen(world) == {"1.small": R, "2.small": R}
    assert world.called()[-1] == "qstat -x -f -F json 2.small"


def test_an_id_that_pbs_does_not_know_is_absent_and_the_others_stand(world: World) -> None:
    """Status 153 and a part of the jobs: what was answered counts."""
    submitted(world, 1, 2, 3)
    (world.spool / "2.job").unlink()
    assert seen(world) == {"1.small": R, "3.small": R}


@pytest.mark.parametrize(
    ("name", "found", "gone"),
    [
        ("qstat-known-and-unknown", {"198": "Q"}, {"999999"}),
        ("qstat-unknown-first", {"198": "Q"}, {"999999"}),
        ("qstat-known-finished-unknown-with-x", {"198": "Q"}, {"999999"}),
        ("qstat-known-and-finished-without-x", {"198": "Q", "199": "F"}, set()),
        ("qstat-finished-without-x", {"199": "F"}, set()),
        ("qstat-unknown-and-finished-without-x", {"199": "F"}, {"999999"}),
        ("qstat-unknown-x", {}, {"999999"}),
        ("expiry-qstat-x-after", {}, {"226"}),
        ("history-disabled-live-exit1-afterok-then", {}, {"267"}),
        ("down-qstat-x", {}, set()),
    ],
)
def test_recorded_answers_for_some_of_the_ids(name: str, found: dict[str, str], gone: set[str]) -> None:
    """ "Has finished" is an answer and no error; "unknown" is one too; silence is none."""
    ids = re.findall(r"\d+(?:\.pbs-host)?", recorded(name, "cmd").decode().partition("qstat")[2])
    asked = agent_pbs.Asked(ids)
    asked.take(agent_qstat.jobs_in_json(recorded(name, "stdout").decode(), asked.spelling))
    asked.heed(recorded(name, "stderr").decode(), int(recorded(name, "rc")))
    assert {job_id.partition(".")[0]: job["state"] for job_id, job in asked.found.items()} == found
    assert {job_id.partition(".")[0] for job_id in asked.gone} == gone


# --- broken JSON

MEMBER = '{"timestamp":1,"pbs_version":"x","Jobs":{"1.x":{"job_state":"R",%s,"queue":"q"},"2.x":{"job_state":"Q"}}}'
SURROUNDED = {
    "a banner before it": '*** Welcome {"to": 1} ***\n%s',
    "a banner behind it": "%s\nmail: you have {new} mail\n",
    "carriage returns": "\r\n%s\r\n",
}
WHOLE = '{"timestamp":1,"Jobs":{"1.x":{"job_state":"R","queue":"q"},"2.x":{"job_state":"Q"}}}'
STRUCTURES = {
    "a second table": '{"timestamp":1,"Jobs":{"1.x":{"job_state":"R","queue":"q"}},"Jobs":{"2.x":{"job_state":"Q"}}}',
    "a table in the table": '{"Jobs":{"1.x":{"job_state":"R","queue":"q"},"Jobs":{"2.x":{"job_state":"Q"}}}',
    "no comma between jobs": '{"Jobs":{"1.x":{"job_state":"R","queue":"q"}"2.x":{"job_state":"Q"}}}',
    "a job twice": '{"Jobs":{"1.x":{"job_state":"R","queue":"q"},"1.x":{"job_state":"F"},"2.x":{"job_state":"Q"}}}',
    "no end": '{"Jobs":{"1.x":{"job_state":"R","queue":"q"},"2.x":{"job_state":"Q"}',
}
MEMBERS = {
    "an escape that JSON has not": r'"A":"it\'s"',
    "an escaped comma": r'"A":"a\,b"',
    "a number with zeros in front": '"A":005',
    "a bare word": '"A":R-6.1.2,"B":yes',
    "no value": '"A":,"B":1',
    "a shell function with quotes": '"Variable_List":{"BASH_FUNC_ml%%":"() {  eval "$(lmod "bash")"\n}","B":1}',
    "a bare shell function": '"Variable_List":{"BASH_FUNC_f":() {  echo {a,b} "c"\n},"B":1}',
    "quotes in a comment": '"comment":"held by "alice", today"',
    "a backslash at the end": r'"A":"C:\","B":"1"',
    "control characters": '"A":"a\x01b\nc\td"',
    "a variable named like a job": '"Variable_List":{"2.x":{"job_state":"F"}}',
    "a comma too many": '"A":1,,"B":2',
}
BROKEN = (
    {name: text % WHOLE for name, text in SURROUNDED.items()}
    | STRUCTURES
    | {name: MEMBER % text for name, text in MEMBERS.items()}
)


@pytest.mark.parametrize("name", BROKEN)
def test_json_as_releases_have_broken_it_is_read(name: str) -> None:
    asked = agent_pbs.Asked(["1.x", "2.x"])
    asked.take(agent_qstat.jobs_in_json(BROKEN[name], asked.spelling))
    states = {job_id: (job["state"], job["queue"]) for job_id, job in asked.found.items()}
    assert states == {"1.x": ("R", "q"), "2.x": ("Q", "")}


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ('{"CPT_KEY":"a/b","A":005}', "a/b"),
        ('{"A":"C:\\","CPT_KEY":"a/b","B":005}', "unread"),
        ('{"A":"x\\\\,CPT_KEY=a/b,B=1"}', "a/b"),
        ('{"A":005,"B":"CPT_KEY is not here"}', "unread"),
        ('{"A":5,"B":"CPT_KEY is not here"}', None),
    ],
    ids=["loose", "behind a backslash", "swallowed", "lost", "none"],
)
def test_whose_a_job_is_survives_mangled_variables_or_the_job_is_unread(variables: str, key: str | None) -> None:
    """Else a submission whose answer was lost would not be found, and made again."""
    text = '{"Jobs":{"1.x":{"job_state":"R","Variable_List":' + variables + "}}}"
    found = [agent_qstat.job_record(job_id, job)["key"] for job_id, job in agent_qstat.jobs_in_json(text, bool)]
    assert found == ([] if key == "unread" else [key])


@pytest.mark.parametrize(
    "spoilt",
    [
        '{"job_state":"R"',
        '{"job_state"}',
        "{",
        '{"A":{"B":{"C":1}}',
        '{"A":"x"\n"B":2',
    ],
)
def test_a_job_beyond_repair_blinds_no_other(spoilt: str) -> None:
    asked = agent_pbs.Asked(["1.x", "2.x", "3.x", "4.x"])
    jobs = ('{"job_state":"W"}', spoilt, '{"job_state":"Q"}', '{"job_state":"H"}')
    text = ",".join(f'"{number}.x":{job}' for number, job in enumerate(jobs, 1))
    asked.take(agent_qstat.jobs_in_json('{"Jobs":{' + text + "}}", asked.spelling))
    assert {job_id: job["state"] for job_id, job in asked.found.items()} == {"1.x": "W", "3.x": "Q", "4.x": "H"}


def test_cut_at_any_byte_the_jobs_before_the_cut_are_read_and_nothing_is_made_up() -> None:
    text = recorded("qstat-all-json", "stdout").decode()
    jobs = json.loads(text)["Jobs"]
    states = {job_id: job["job_state"] for job_id, job in jobs.items()}
    for cut in range(0, len(text), 7):
        found = dict(agent_qstat.jobs_in_json(text[:cut], states.__contains__))
        assert {job_id: job["job_state"] for job_id, job in found.items()}.items() <= states.items()
        whole = [job_id for job_id in jobs if text.find("\n\t\t}", text.find(f'"{job_id}"')) + 4 <= cut]
        assert set(whole) <= found.keys() | {list(jobs)[-1]}


def test_the_plain_form_cut_at_any_byte_loses_the_last_job_and_makes_nothing_up() -> None:
    text = recorded("qstat-several-ids-plain-f", "stdout").decode()
    expected = dict(agent_qstat.jobs_in_text(text))
    assert len(expected) == 3
    for cut in range(len(text)):
        for job_id, job in agent_qstat.jobs_in_text(text[:cut]):
            assert job == expected[job_id]


def test_json_that_cannot_be_read_gives_way_to_the_plain_form(world: World) -> None:
    submitted(world, 1, 2)
    world.control(qstat_output='{"timestamp": 1, "Jobs": {"1.small": {"job_state": "R", "A": "no end')
    assert seen(world) == {"1.small": R, "2.small": R}


def test_a_qstat_without_json_gives_way_to_the_plain_form(world: World) -> None:
    submitted(world, 1)
    world.control(qstat_output="qstat: invalid option -- 'F'\n", qstat_errors="usage: qstat [-f]\n")
    assert seen(world) == {"1.small": R}


def test_the_plain_form_with_banners_is_read() -> None:
    text = "Welcome.\nJob Id: 5.x\n" + recorded("qstat-several-ids-plain-f", "stdout").decode() + "Goodbye.\n"
    for ends in ("\n", "\r\n"):
        found = agent_qstat.jobs_in_text(text.replace("\n", ends))
        states = [(job_id, job["job_state"]) for job_id, job in found]
        assert states == [("231.pbs-host", "Q"), ("232.pbs-host", "Q"), ("234.pbs-host", "F")]


def test_the_key_is_read_from_wrapped_variables_of_the_plain_form() -> None:
    key = f"{FOLDER}/l0/n0/train"
    variables = f"PBS_O_HOME=/h,CPT_KE\n\tY={key},\n\tCPT_WORKSPACE=w1"
    text = f"Job Id: 1.x\n    job_state = R\n    Variable_List = {variables}\n\n"
    ((_, job),) = agent_qstat.jobs_in_text(text)
    record = agent_qstat.job_record("1.x", job)
    assert (record["key"], record["workspace"]) == (key, "w1")


# --- ids


@pytest.mark.parametrize(
    ("one_id", "other", "same"),
    [
        ("123.polaris-pbs-01", "123.polaris-pbs-01.hsn.cm.polaris.alcf.anl.gov", True),
        ("123.polaris-pbs-01", "123.polaris-p*", True),
        ("123.polaris-pbs-01", "123.*", True),
        ("123.polaris-pbs-01", "123", True),
        ("123[].aurora", "123[].aurora.host", True),
        ("123[4].aurora", "123[4]", True),
        ("123.polaris-pbs-01", "123.aurora-pbs-0001", False),
        ("123.polaris-pbs-01", "123.aur*", False),
        ("123.polaris-pbs-01", "124.polaris-pbs-01", False),
        ("123.polaris-pbs-01", "12", False),
        ("123[].aurora", "123.aurora", False),
        ("123[4].aurora", "123[5].aurora", False),
        ("rubbish", "rubbish", True),
    ],
)
def test_ids_are_compared_by_number_and_as_much_of_the_server_as_is_there(one_id: str, other: str, same: bool) -> None:
    assert (agent_qstat.same_job(one_id, other), agent_qstat.same_job(other, one_id)) == (same, same)


@pytest.mark.parametrize("printed", ["1", "1.sm*", "1.small.example.org", "1.small"])
def test_a_job_is_known_by_its_journal_entry_however_qstat_spells_its_id(world: World, printed: str) -> None:
    submitted(world, 1)
    table = {"timestamp": 1, "Jobs": {printed: {"job_state": "R"}}}
    world.control(qstat_output=json.dumps(table), qselect_output="1.small.example.org\n")
    assert seen(world) == {"1.small": R}
    assert world.execute(train(attempt=f"{1:012x}", ended=1))[0].kind == "forbidden"


def test_what_is_no_id_in_a_journal_never_reaches_a_command_line(world: World) -> None:
    submitted(world, 1)
    entry = next((world.workspace / ".journal").iterdir())
    entry.write_text(entry.read_text().replace("1.small", "-x; rm"))
    world.control(qselect_output="")
    assert seen(world) == {"-x; rm": UNREAD}
    assert world.calls("qstat") == 0


# --- states


@pytest.mark.parametrize(
    ("name", "stuck"),
    [
        ("start-prologue-exit2-end", "failed starts"),
        ("start-prologue-exit5-end", "failed starts"),
        ("start-hook-execjob_begin-reject-end", "failed starts"),
        ("state-Q-can-never-run", "never runs"),
        ("state-H-user-hold", None),
        ("state-H-dependency-hold", None),
        ("state-Q-queued-stopped-queue", None),
        ("start-hook-runjob-reject-after3s", None),
        ("start-held-by-system-qdel-as-user-after", None),
    ],
)
def test_what_a_recorded_comment_says_of_a_job_that_may_never_run(name: str, stuck: str | None) -> None:
    job = one(name)
    assert job.stuck == stuck
    assert stuck is None or (job.live and job.comment)


@pytest.mark.parametrize(
    "name", ["start-prologue-exit2-end", "qrerun-after", "state-E-after-qdel", "momdown-after-qdel"]
)
def test_a_job_that_pbs_will_run_again_or_has_not_let_go_of_is_alive(name: str) -> None:
    """A negative exit status on a job that is not finished: PBS itself put it back under its id."""
    job = one(name)
    assert (job.live, job.exit_status) == (True, None)


@pytest.mark.parametrize(
    ("name", "exit_status", "substate"),
    [
        ("start-held-by-system-qdel-as-user-after", None, 91),
        ("dep-live-qdel-force-afterok-then", None, 92),
        ("momdown-after-qdel-force", None, 91),
        ("dep-live-qdel-force-parent", 265, 91),
    ],
)
def test_a_recorded_deletion_is_known_by_its_substate_not_its_exit_status(
    name: str, exit_status: int | None, substate: int
) -> None:
    job = one(name)
    assert (job.live, job.exit_status, job.substate) == (False, exit_status, substate)


@pytest.mark.parametrize("moved", [{"queue": "prod-large"}, {"job_state": "M", "queue": "elsewhere"}])
def test_a_job_that_was_moved_is_alive(world: World, moved: dict[str, str]) -> None:
    """ALCF's `prod` routes to queues of other names, so no queue is ever asked for by name."""
    submitted(world, 1, **moved)
    (job,) = jobs_of(world)
    assert (job.live, job.queue) == (True, moved["queue"])
    assert not any("-q" in call.split() for call in world.called())


def jobs_of(world: World) -> tuple[Job, ...]:
    jobs = world.observe().jobs
    assert not isinstance(jobs, Unread), jobs
    return jobs


def test_the_files_are_read_after_the_queue(world: World) -> None:
    """Else a job that ends in between would be over with an old checkpoint."""
    submitted(world, 1, state="F")
    attempt = world.workspace / CAMPAIGN / STAGE / f"{1:012x}"
    attempt.mkdir(parents=True)
    save(world.top / "leg", 60)
    world.control(qstat_runs=f"[ -e {attempt}/leg-0 ] || mv {world.top}/leg {attempt}/leg-0")
    attempts = world.observe().attempts
    assert isinstance(attempts, tuple)
    assert [c.iteration for c in attempts[0].legs[0].checkpoints] == [60]


def test_a_log_of_any_kind_of_job_is_a_trace_that_it_ran(world: World) -> None:
    logs = world.attempt / "jobs"
    logs.mkdir(parents=True)
    for name in ("l0-n0-convert.log", "l1-n12-evaluate-leg-0-1954.log", "l0-n0-train.pbs", "l0-n0-.log", "x.log"):
        (logs / name).touch()
    attempts = world.observe().attempts
    assert isinstance(attempts, tuple)
    assert attempts[0].ran == (f"{FOLDER}/l0/n0/convert", f"{FOLDER}/l1/n12/evaluate/leg-0-1954")


# --- asking no more than is needed


def test_only_own_jobs_are_asked_for_with_three_commands_however_many_there_are(world: World) -> None:
    submitted(world, 1, 2)
    (world.spool / "77.job").write_text('{"job_state": "R", "Variable_List": {}}')
    world.control(qselect_output="")
    assert seen(world) == {"1.small": R, "2.small": R}
    assert not any("77" in call for call in world.called())
    user = agent_pbs.user_name()
    assert world.called()[0] == f"qselect -u {user}", "live jobs alone: nothing is in doubt"


def test_ended_jobs_are_listed_only_while_a_submission_is_in_doubt(world: World) -> None:
    """For each user that such a submission was made by: several people may share a workspace."""
    submitted(world, 1)
    entry = next((world.workspace / ".journal").iterdir())
    entry.write_text(entry.read_text().replace('"done"', '"intent"').replace('"1.small"', 'null, "user": "bob"'))
    assert seen(world) == {"1.small": R}, "it carries its key"
    assert world.called()[0] == f"qselect -x -u {agent_pbs.user_name()},bob"


def test_a_job_that_ended_while_its_submission_was_in_doubt_is_adopted(world: World) -> None:
    world.execute(train())
    entry = next((world.workspace / ".journal").glob("*train.json"))
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"state": "intent", "job_id": None}))
    world.alter("1.small", job_state="F")
    assert [(o.kind, o.job_id) for o in world.execute(train())] == [("adopted", "1.small")]


def test_a_job_that_ended_before_its_journal_was_lost_is_adopted(world: World) -> None:
    """Its script lies there, which says that something was submitted."""
    world.execute(train())
    for path in (world.workspace / ".journal").iterdir():
        path.unlink()
    world.alter("1.small", job_state="F")
    assert [(o.kind, o.job_id) for o in world.execute(train())] == [("adopted", "1.small")]


def test_a_look_submits_nothing_and_writes_nothing_but_its_cache_of_logs(world: World) -> None:
    world.execute(train())
    (world.attempt / "jobs/l0-n0-train.log").write_text("iteration\n")
    before = {path: path.stat().st_mtime_ns for path in world.workspace.rglob("*") if path.is_file()}
    world.observe()
    after = {path: path.stat().st_mtime_ns for path in world.workspace.rglob("*") if path.is_file()}
    assert [path.name for path in after.keys() - before.keys()] == ["l0-n0-train.log.numbers.json"]
    assert before.items() <= after.items()
    assert world.calls("qsub") == 1


def test_more_ids_than_any_look_asks_for_are_refused(world: World) -> None:
    world.control(qselect_output="".join(f"{number}.small\n" for number in range(agent_pbs.IDS_MAX + 1)))
    assert "2001 jobs" in why_unread(world)
    assert world.calls("qstat") == 0


def test_an_answer_without_end_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "qselect").write_text("#!/bin/sh\nexec yes 1.small\n")
    (tmp_path / "qselect").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(agent_pbs, "ANSWER_OF_PBS_BYTES_MAX", 1_000_000)
    began = time.monotonic()
    with pytest.raises(agent_pbs.Unreadable, match="more than 1000000 bytes"):
        agent_pbs.Pbs(60.0).table()
    assert time.monotonic() - began < 30


def test_a_job_that_nobody_can_place_makes_the_whole_table_unread() -> None:
    """Not in the journal, and not to be read: it may be one of ours whose journal entry was lost."""
    unread: dict[str, Any] = dict(agent_qstat.job_record("9.x", {}), unread="no answer")
    assert agent_pbs.ours([unread], "w1", {"9.x": "a/b/c"})[0]["key"] == "a/b/c"
    with pytest.raises(agent_pbs.Unreadable, match=r"job 9\.x may be one of ours"):
        agent_pbs.ours([unread], "w1", {"8.x": "a/b/c"})


# --- the list of cases

ROW = re.compile(r"(?m)^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$")
TEST = re.compile(r"`((?:tests/)?[\w/]+\.py)::(test_\w+)`")


def test_every_known_case_is_listed_with_a_test_that_exists_or_the_reason_for_none() -> None:
    page = (ROOT / "docs/pbs-cases.md").read_text()
    rows = ROW.findall(page)
    assert [int(number) for number, *_ in rows] == list(range(1, 48))
    for number, _, done, tests in rows:
        assert done.strip()
        named = TEST.findall(tests)
        assert named or tests.startswith("none: "), f"case {number} names no test and no reason"
        for file, function in named:
            assert function in functions_of(ROOT / "tests" / file), f"case {number}: no {function} in {file}"


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
