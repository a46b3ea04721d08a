"""What jobs get and what becomes of them, where the recordings cannot show it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.local.pbs import Queue, Vnode, install, processes
from tests.local.pbs.machine import QUEUES, Machine


def number(job_id: str) -> str:
    return job_id.split(".")[0]


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, dict[str, str]]]:
    """Jobs that run into their walltime, all at once, as each takes seconds to do so."""
    machine = Machine(tmp_path_factory.mktemp("walltime"))
    slow = Queue("slow", kill_delay_s=8)
    machine.configure(queues=[*QUEUES, slow])
    descendants = "echo start; echo $$ > leader; setsid sleep 300 & echo $! > away; sleep 300\n"
    one = ("-l", "walltime=1")
    ids = {
        "descendants": machine.qsub(descendants, *one, "-N", "wall", "-j", "oe"),
        "ignoring": machine.qsub("trap '' TERM; while :; do sleep 0.1; done\n", *one),
        "saving": machine.qsub("trap 'sleep 0.5; >saved; exit 0' TERM; sleep 60 & wait\n", *one, "-q", "slow"),
        "shortened": machine.qsub("sleep 100\n", "-l", "walltime=100"),
    }
    machine.supervisor(ids["shortened"])
    assert machine.sh(f"qalter -l walltime=1 {ids['shortened']}").rc == 0
    yield machine, ids
    machine.close()


Limited = tuple[Machine, dict[str, str]]


def test_walltime_ends_a_job_and_its_descendants(limited: Limited) -> None:
    pbs, ids = limited
    pbs.wait(ids["descendants"])
    found = pbs.job(ids["descendants"])
    assert (found["substate"], found["Exit_status"]) == (93, -29)
    assert found["comment"].endswith("and exceeded resource walltime")
    for name in ("leader", "away"):
        left = processes.look(int((pbs.home / name).read_text()))
        assert left is None or left.zombie


def test_output_joined_at_the_walltime_has_the_message(limited: Limited) -> None:
    pbs, ids = limited
    pbs.wait(ids["descendants"])
    lines = (pbs.work / f"wall.o{number(ids['descendants'])}").read_text().splitlines()
    assert lines[:2] == ["start", "=>> PBS: job killed: walltime 2 exceeded limit 1"]
    assert not (pbs.work / f"wall.e{number(ids['descendants'])}").exists()


def test_a_job_that_ignores_term_is_killed_after_kill_delay(limited: Limited) -> None:
    pbs, ids = limited
    found = pbs.wait(ids["ignoring"])
    assert found.exit_status == -29
    # The limit is passed at 2 s, KILL follows a second later.
    assert 2 <= int(found.attributes["obittime"]) - int(found.attributes["stime"]) < 10


def test_a_job_may_save_between_term_and_kill(limited: Limited) -> None:
    pbs, ids = limited
    assert pbs.wait(ids["saving"]).exit_status == -29
    assert (pbs.home / "saved").exists()


def test_a_shortened_walltime_counts_for_a_running_job(limited: Limited) -> None:
    pbs, ids = limited
    assert pbs.wait(ids["shortened"]).exit_status == -29


def test_resources_bound_how_many_jobs_run(pbs: Machine) -> None:
    pbs.configure(nodes=[Vnode("n1", 2), Vnode("n2", 2)])
    script = "echo + >> ~/log; sleep 0.3; echo - >> ~/log\n"
    ids = [pbs.qsub(script, "-l", "select=1:ncpus=2") for _ in range(6)]
    for job_id in ids:
        pbs.wait(job_id)
    running = peak = 0
    for line in (pbs.home / "log").read_text().split():
        running += 1 if line == "+" else -1
        peak = max(peak, running)
    assert (running, peak) == (0, 2)


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        pytest.param("-l select=2:ncpus=2", "n1 n2", id="free takes the next node when one is full"),
        pytest.param("-l select=2:ncpus=1", "n1 n1", id="free packs a node first"),
        pytest.param("-l select=2:ncpus=1 -l place=scatter", "n1 n2", id="scatter takes a node a chunk"),
        pytest.param("-l select=2:ncpus=1:mpiprocs=2 -l place=scatter", "n1 n1 n2 n2", id="a line a process"),
        pytest.param("-l select=1:ncpus=1:vnode=n2", "n2", id="a chunk may name its node"),
    ],
)
def test_the_node_file_lists_where_the_job_runs(pbs: Machine, options: str, hosts: str) -> None:
    pbs.configure(nodes=[Vnode("n1", 2), Vnode("n2", 2)])
    job_id = pbs.qsub("cat $PBS_NODEFILE\n", "-N", "where", *options.split())
    pbs.wait(job_id)
    assert (pbs.work / f"where.o{number(job_id)}").read_text().split() == hosts.split()


@pytest.mark.parametrize("how", ["config", "place"])
def test_a_job_may_have_its_nodes_alone(pbs: Machine, how: str) -> None:
    pbs.configure(nodes=[Vnode("n1", 4)], exclusive=how == "config")
    place = ["-l", "place=free:excl"] if how == "place" else []
    first = pbs.qsub("sleep 60\n", "-l", "select=1:ncpus=1", *place)
    second = pbs.qsub("true\n", "-l", "select=1:ncpus=1")
    assert pbs.job(second)["comment"] == "Not Running: Not enough free nodes available"
    assert pbs.sh("pbsnodes -a -F json").text.count('"job-exclusive"') == 1
    pbs.sh(f"qdel -W force {first}")
    pbs.wait(second)


def test_a_freed_node_goes_to_the_next_job_without_any_command(pbs: Machine) -> None:
    first = pbs.qsub("sleep 0.5\n", "-l", "select=1:ncpus=8")
    second = pbs.qsub("true\n", "-l", "select=1:ncpus=8")
    third = pbs.qsub("true\n", "-W", f"depend=afterok:{second}")
    for job_id in (first, second, third):
        assert pbs.wait(job_id).exit_status == 0


def test_dependents_of_a_job_deleted_in_the_queue_stay_held(pbs: Machine) -> None:
    parent = pbs.qsub("true\n", "-q", "idle")
    kids = [pbs.qsub("true\n", "-W", f"depend={kind}:{parent}") for kind in ("afterok", "afternotok", "afterany")]
    pbs.sh(f"qdel {parent}; qdel -x {parent}; qstat")
    assert [pbs.job(kid)["job_state"] for kid in kids] == ["H", "H", "H"]


def test_a_dependency_may_be_on_several_jobs_of_several_kinds(pbs: Machine) -> None:
    good, bad = pbs.qsub("sleep 0.3\n"), pbs.qsub("sleep 0.3; exit 1\n")
    kid = pbs.qsub("true\n", "-W", f"depend=afterok:{good},afternotok:{bad},afterany:{good}:{bad}")
    assert pbs.wait(kid).exit_status == 0


def test_output_that_cannot_be_delivered_is_kept(pbs: Machine) -> None:
    job_id = pbs.qsub("echo precious\n", "-o", "/no/such/dir/x.o", "-e", "otherhost:/tmp/x.e")
    pbs.wait(job_id)
    assert pbs.job(job_id)["Stageout_status"] == 0
    assert (pbs.spool.undelivered / f"{job_id}.OU").read_text() == "precious\n"
    assert (pbs.spool.undelivered / f"{job_id}.ER").exists()


def test_k_d_writes_output_where_it_belongs_while_the_job_runs(pbs: Machine) -> None:
    job_id = pbs.qsub("echo early; until [ -e ~/go ]; do sleep 0.02; done\n", "-k", "doe", "-j", "oe", "-o", "now.log")
    pbs.supervisor(job_id)
    deadline = time.monotonic() + 10
    while (pbs.work / "now.log").read_text() != "early\n":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (pbs.home / "go").touch()
    assert pbs.wait(job_id).exit_status == 0


def test_a_missing_home_directory_is_exit_status_minus_2(pbs: Machine) -> None:
    done = pbs.sh("echo true | qsub -o nohome.o -e nohome.e", HOME="/no/such/home")
    pbs.wait(done.text.strip())
    assert pbs.job(done.text.strip())["Exit_status"] == -2
    assert (pbs.work / "nohome.e").read_text() == "Could not chdir to home directory\n"


def test_site_variables_reach_the_job_and_v_wins_over_them(pbs: Machine) -> None:
    pbs.configure(environment={"SITE": "site", "BOTH": "site"})
    job_id = pbs.qsub("echo $SITE $BOTH $PBS_JOBCOOKIE\n", "-N", "env", "-v", "BOTH=mine,PBS_JOBCOOKIE=forged")
    pbs.wait(job_id)
    site, both, cookie = (pbs.work / f"env.o{number(job_id)}").read_text().split()
    assert (site, both) == ("site", "mine")
    assert cookie != "forged"


def test_a_job_may_submit_the_next_one(pbs: Machine) -> None:
    job_id = pbs.qsub("cd $PBS_O_WORKDIR; echo 'sleep 0.5; echo second > second' | qsub\n")
    pbs.wait(job_id)
    second = next(key for key in pbs.jobs() if key != job_id)
    pbs.wait(second)
    assert (pbs.home / "second").read_text() == "second\n"


def test_a_waiting_job_is_queued_when_its_time_has_come(pbs: Machine) -> None:
    job_id = pbs.sh("echo true | qsub -a $(date -d '+2 seconds' +%H%M.%S)").text.strip()
    assert pbs.job(job_id)["job_state"] == "W"
    time.sleep(2.1)
    pbs.sh("qstat")
    pbs.wait(job_id)


def test_history_expires_by_itself_and_qdel_x_forgets_at_once(pbs: Machine) -> None:
    pbs.configure(history_duration_s=5)
    old = pbs.qsub("true\n")
    pbs.wait(old)
    pbs.sh("qstat")
    pbs.age(10)
    kept = pbs.qsub("sleep 60\n")
    assert list(pbs.jobs()) == [kept]
    pbs.sh(f"qdel -x {kept}")
    deadline = time.monotonic() + 10
    while pbs.jobs():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_qstat_over_many_ended_jobs_is_quick(pbs: Machine) -> None:
    job_id = pbs.qsub("true\n")
    job = pbs.wait(job_id)
    pbs.sh("qstat")
    for seq in range(1000, 1200):
        job.seq = seq
        pbs.spool.retire(job, keep=True)
    spent = []
    for _ in range(5):
        began = time.monotonic()
        assert pbs.sh("qstat -x -f -F json").text.count('"job_state"') == 201
        spent.append(time.monotonic() - began)
    assert min(spent) < 0.5  # a loaded machine's bound; the aim on a quiet one is 0.15 s


def test_selection_by_name_finds_live_and_ended_jobs(pbs: Machine) -> None:
    ended, other = pbs.qsub("true\n", "-N", "token"), pbs.qsub("true\n", "-N", "other")
    live = pbs.qsub("true\n", "-N", "token", "-q", "idle")
    pbs.wait(ended)
    pbs.wait(other)
    assert pbs.sh("qselect -x -N token").text.split() == [ended, live]
    assert pbs.sh("qselect -N token").text.split() == [live]
    assert pbs.sh("qselect -H").text.split() == [ended, other]
    assert pbs.sh("qselect -q idle").text.split() == [live]
    assert pbs.sh("qselect -q nosuch").rc == 170


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("qsub -J 0-3 </dev/null", "qsub: -J (a job array) is not supported by the embedded PBS\n"),
        ("qsub -V </dev/null", "qsub: -V (use -v NAME,…) is not supported by the embedded PBS\n"),
        ("qsub -W sandbox=PRIVATE </dev/null", "qsub: -W sandbox is not supported by the embedded PBS\n"),
        ("qsub -W depend=beforeok:1 </dev/null", "qsub: depend=beforeok is not supported by the embedded PBS\n"),
        ("qstat -T", "qstat: -T is not supported by the embedded PBS\n"),
        ("qselect -l ncpus=1", "qselect: -l is not supported by the embedded PBS\n"),
    ],
)
def test_what_is_left_out_is_refused_plainly(pbs: Machine, command: str, said: str) -> None:
    got = pbs.sh(command)
    assert (got.rc, got.text, got.complaint) == (2, "", said)


@pytest.mark.parametrize(
    ("script", "name"),
    [
        pytest.param("#!/bin/bash\n#PBS -N first\n#PBS -N second\ntrue\n", "first", id="the first directive wins"),
        pytest.param("# remark\n\n  #PBS -N indented\ntrue\n", "indented", id="indented, after remarks and blanks"),
        pytest.param("true\n#PBS -N late\n", "STDIN", id="after the first command it is a remark"),
        pytest.param("#PBS -N 'quoted'\n", "quoted", id="quotes vanish"),
    ],
)
def test_directives(pbs: Machine, script: str, name: str) -> None:
    assert pbs.job(pbs.qsub(script, "-q", "idle"))["Job_Name"] == name


def test_the_command_line_wins_over_directives(pbs: Machine) -> None:
    script = "#PBS -N inside -l walltime=5:00 -l select=3:ncpus=1\n#PBS -v A=1\n"
    found = pbs.job(pbs.qsub(script, "-q", "idle", "-N", "outside", "-l", "walltime=7:00"))
    assert (found["Job_Name"], found["Variable_List"]["A"]) == ("outside", 1)
    assert (found["Resource_List"]["walltime"], found["Resource_List"]["nodect"]) == ("00:07:00", 3)


def test_a_directive_with_words_left_over_is_refused(pbs: Machine) -> None:
    got = pbs.sh("printf '#PBS -N x # why\\n' | qsub")
    assert (got.rc, got.complaint) == (2, "qsub: directive error: -N x # why\n")


def test_paths_with_blanks_and_quotes_do_no_harm(tmp_path: Path) -> None:
    place = tmp_path / 'it\'s a "place" $HOME'
    install(place / "bin", place / "spool", nodes=[Vnode("n", 1)])
    machine = Machine(place / "work")
    machine.environment["PATH"] = f"{place / 'bin'}:/usr/bin:/bin"
    machine.spool.root = place / "spool"
    try:
        done = machine.sh("qsub -o out -e err <<'EOF'\necho ran\nEOF")
        assert done.text == "1.pbs-local\n", done
        deadline = time.monotonic() + 20
        while machine.sh("qstat -x -f -F json").text.count('"job_state":\t"F"') != 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert ((machine.work / "out").read_text(), (machine.work / "err").read_text()) == ("ran\n", "")
    finally:
        machine.close()


@pytest.mark.parametrize("name", ["", "1st", "a b", "a/b", "a'b", "ü"])
def test_names_that_pbs_could_not_carry_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        install(tmp_path / "bin", tmp_path / "spool", queues=[Queue(name)])


def test_installing_again_keeps_the_jobs(pbs: Machine) -> None:
    job_id = pbs.qsub("true\n", "-q", "idle")
    pbs.configure()
    assert list(pbs.jobs()) == [job_id]


def test_the_spool_is_its_owners_alone(pbs: Machine) -> None:
    pbs.qsub("true\n", "-v", "SECRET=1", "-q", "idle")
    assert pbs.spool.root.stat().st_mode & 0o77 == 0
    assert all(os.stat(path).st_mode & 0o77 == 0 for path in pbs.spool.jobs.iterdir())
