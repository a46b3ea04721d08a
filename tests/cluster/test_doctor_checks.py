"""What the doctor makes of facts: each case is a well cluster with one fact changed, and the line that comes of it."""

from __future__ import annotations

import ast
import copy
import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler import loop
from reconciler.cluster import doctor, doctor_checks
from reconciler.cluster.doctor_need import JobNeed, ListNeed, Need, SourceNeed, need_of
from reconciler.cluster.doctor_report import Check, Status
from reconciler.cluster.fields import Fields, Malformed
from reconciler.cluster.observe import agent_source
from reconciler.domain.cost import parameters
from reconciler.record import files

OK, WARNING, FAILED, UNREAD = Status
GB = 10**9
NOW = 1_800_000_000.0
NEED = Need(
    reach="ssh -- login",
    master=False,
    make="",
    again="",
    queue="prod",
    max_walltime_s=6 * 3600,
    jobs=(JobNeed("c/one", "prod", 8, 3 * 3600),),
    workspace="/lus/cpt",
    checkout="/lus/mds",
    files=("train_alcf.sh",),
    setup="# the modules\nmodule load frameworks",
    modules=("torch", "deepspeed"),
    lists={"/lus/D0.txt": ListNeed("D0", None, 256_000), "/lus/D1.txt": ListNeed("D1", None, 256_000)},
    sources={"c/one": SourceNeed("/lus/source", 7, False)},
    checkpoint_bytes=100 * GB,
)
LIST = {"rows": 2, "looked": 2, "count": 0, "problems": [], "sha256": "ab", "tokens": 9, "types": {"int32": 2}}
WELL: dict[str, Any] = {
    "now": NOW,
    "seconds": 5.0,
    "host": "login-3",
    "python": "3.6.15",
    "executable": "/usr/bin/python3",
    "pbs": {
        "commands": {"qsub": "/opt/pbs/bin/qsub", "qstat": "/opt/pbs/bin/qstat", "qselect": "/opt/pbs/bin/qselect"},
        "server": {"read": {"pbs-0": {"pbs_version": "23.06", "scheduling": "True", "job_history_enable": "True"}}},
        "table": {"read": {"jobs": 3, "unread": 0, "seconds": 0.4, "ahead": -60.0}},
        "queues": {
            "read": {
                "prod": {"enabled": "True", "started": "True", "route_destinations": "small,large"},
                "small": {"enabled": "True", "resources_max": {"nodect": 4, "walltime": "06:00:00"}},
                "large": {"enabled": "True", "resources_min": {"nodect": 5}, "resources_max": {"walltime": "12:00:00"}},
            }
        },
    },
    "workspace": {
        "read": {
            "there": True,
            "base": "/lus/cpt",
            "steps": [{"name": name, "why": "", "lacking": False} for name in ("mkdir", "rename over", "flock")],
            "file_clock": -0.1,
            "left": False,
            "free": 5000 * GB,
            "files_free": 10**9,
            "mount": {"type": "lustre", "point": "/lus", "options": "rw,flock"},
            "quotas": [],
            "lock": {"read": None},
        }
    },
    "launcher": {"there": True, "wanting": [], "writable": True, "commit": "0123456789ab"},
    "environment": {
        "status": 0,
        "python": "/soft/bin/python3",
        "version": "3.12.1",
        "wanting": [],
        "errors": "",
        "seconds": 4.0,
    },
    "lists": {"/lus/D0.txt": {"read": LIST}, "/lus/D1.txt": {"read": LIST}},
    "sources": {"c/one": {"read": {"folder": True, "pointer": "global_step7"}}},
}


def judged(
    facts: dict[str, Any], need: Need = NEED, sent_s: float = NOW - 1, received_s: float = NOW + 6
) -> list[Check]:
    return list(doctor_checks.judge(Fields(facts, "facts"), need, 5.0, sent_s, received_s))


def changed(place: str, value: object) -> dict[str, Any]:
    """The well cluster's facts with one of them replaced, or left out for `...`; each word leads into an object."""
    facts = copy.deepcopy(WELL)
    *outer, last = place.split()
    inner = facts
    for name in outer:
        inner = inner[name]
    inner[last] = value
    if value is ...:
        del inner[last]
    return facts


def test_a_well_cluster_passes_every_check_in_the_order_that_is_promised() -> None:
    checks = judged(WELL)
    assert [(check.name, check.status) for check in checks] == [(name, OK) for name in doctor_checks.names(NEED)]


QUOTA = {"who": "project 7", "bytes": 0, "bytes_limit": 0, "files": 0, "files_limit": 0}
LOCK = {"nonce": "n-1", "holder": "ada@desk:1", "host": "login-1"}
SERVER, QUEUES, SPACE = "pbs server read pbs-0", "pbs queues read", "workspace read"

CASES: list[tuple[str, object, str]] = [
    ("pbs commands qsub", "", "failed pbs commands: qsub not found on the PATH of a shell that is no login shell"),
    ("pbs server", {"unread": "no answer"}, "failed pbs server: no answer"),
    ("pbs server read", {}, "failed pbs server: qstat -B names no server"),
    (f"{SERVER} scheduling", "False", "warning pbs server: pbs-0 is not scheduling: jobs will wait"),
    (f"{SERVER} job_history_enable", ..., "warning pbs server: pbs-0 keeps no job history: how a job ended"),
    ("pbs table", {"unread": "cut off"}, "failed job table: cut off"),
    ("pbs table read seconds", 11.0, "warning job table: 3 jobs of yours, ended ones included, read in 11.0 s"),
    ("pbs table read unread", 1, "warning job table: 3 jobs of yours, ended ones included, read in 0.4 s; 1 of them"),
    ("pbs queues", {"unread": "cut off"}, "failed queue prod: cut off"),
    (f"{QUEUES} prod", ..., "failed queue prod: there is no such queue; there is small, large"),
    (f"{QUEUES} prod enabled", "False", "failed queue prod: takes no jobs (enabled = False)"),
    (f"{QUEUES} prod started", "False", "warning queue prod: takes jobs and starts none (started = False)"),
    (f"{QUEUES} prod resources_max", {"nodect": 7}, "failed queue prod: c/one asks for 8 node(s); the most is 7"),
    (f"{QUEUES} prod resources_min", {"nodect": 9}, "failed queue prod: c/one asks for 8 node(s); the least is 9"),
    (f"{QUEUES} prod resources_max", {"walltime": "2:00:00"}, "failed queue prod: c/one asks for 03:00:00; the most"),
    (f"{QUEUES} prod resources_max", {"walltime": 7200}, "failed queue prod: c/one asks for 03:00:00; the most is 02:"),
    (f"{QUEUES} prod resources_max", {"walltime": "4:00:00"}, "warning queue prod: maxWalltime says 06:00:00; the"),
    (f"{QUEUES} large enabled", "False", "failed queue prod: c/one asks for what no queue that it hands on to"),
    (f"{QUEUES} large", ..., "ok queue prod: takes the jobs of 1 stage"),
    ("now", NOW - 62, "warning clocks: the login node's clock and this machine's differ by 1m 1s"),
    ("now", NOW + 62, "warning clocks: the login node's clock and this machine's differ by 1m 1s"),
    ("now", NOW - 3601, "failed clocks: the login node's clock and this machine's differ by 1h"),
    (f"{SPACE} file_clock", -120.0, "warning clocks: the login node's clock and the file system's differ by 2m"),
    ("pbs table read ahead", 1000.0, "failed clocks: the login node's clock and the PBS server's differ by 16m 40s"),
    ("workspace", {"unread": "/lus/cpt is not there"}, "failed workspace: /lus/cpt is not there"),
    (
        f"{SPACE} steps",
        [{"name": "mkdir", "why": "denied", "lacking": False}],
        "failed workspace: /lus/cpt: mkdir: denied",
    ),
    (f"{SPACE} steps", [{"name": "flock", "why": "none", "lacking": True}], "warning workspace: /lus/cpt: flock: none"),
    (f"{SPACE} left", True, "warning workspace: a probe could not be removed from /lus/cpt"),
    (
        f"{SPACE} mount options",
        "rw,localflock",
        "warning workspace: /lus is mounted with localflock: what one login node",
    ),
    (
        f"{SPACE} there",
        False,
        "ok workspace: /lus/cpt, in which cpt will be made (lustre): mkdir, rename over, flock work",
    ),
    (
        f"{SPACE} free",
        50 * GB,
        "failed space: the file system leaves 50.0 GB, room for 0 checkpoints of about 100.0 GB",
    ),
    (
        f"{SPACE} free",
        900 * GB,
        "warning space: the file system leaves 900.0 GB, room for 9 checkpoints of about 100.0 GB",
    ),
    (f"{SPACE} files_free", 12, "failed space: the file system has room for 12 more files"),
    (
        f"{SPACE} quotas",
        [QUOTA | {"bytes": 1990 * GB, "bytes_limit": 2000 * GB}],
        "failed space: the quota of project 7 leaves 10.0 GB",
    ),
    (
        f"{SPACE} quotas",
        [QUOTA | {"files": 999_000, "files_limit": 1_000_000}],
        "failed space: the quota of project 7 has room for 1000 more files",
    ),
    (f"{SPACE} lock", {"read": LOCK | {"age": 5.0}}, "ok lock: ada@desk:1 on login-1 has been applying for 5s"),
    (f"{SPACE} lock", {"read": LOCK | {"age": 7200.0}}, "warning lock: ada@desk:1 on login-1 has been applying for 2h"),
    ("launcher", {"there": False}, "failed launcher: there is no folder /lus/mds"),
    ("launcher wanting", ["train_alcf.sh"], "failed launcher: /lus/mds has no readable train_alcf.sh"),
    ("launcher writable", False, "failed launcher: /lus/mds is not writable"),
    ("launcher commit", "", "ok launcher: /lus/mds"),
    ("environment wanting", ["deepspeed"], "failed environment: /soft/bin/python3 (3.12.1) has no deepspeed"),
    (
        "environment python",
        "",
        "failed environment: no python3 after a job script's first lines, which ended with status 0",
    ),
    ("environment", WELL["environment"] | {"status": -1, "python": ""}, "failed environment: no python3 after a job"),
    (
        "environment errors",
        "old",
        "warning environment: jobs get /soft/bin/python3 (3.12.1) with torch and deepspeed, after",
    ),
    ("lists /lus/D0.txt", {"unread": "there is no such file"}, "failed data D0: /lus/D0.txt: there is no such file"),
    (
        "lists /lus/D0.txt",
        {"read": LIST | {"looked": 1}},
        "warning data D0: /lus/D0.txt: there was time for 1 of 2 rows",
    ),
    (
        "lists /lus/D0.txt",
        {"read": LIST | {"types": {"uint16": 2}}},
        "warning data D0: /lus/D0.txt: tokens are uint16; a v",
    ),
    (
        "lists /lus/D0.txt",
        {"read": LIST | {"types": {"uint16": 2}}},
        "failed token types: the data is of several types",
    ),
    (
        "sources c/one read folder",
        False,
        "failed source of c/one: /lus/source has no global_step7, or nothing is in it",
    ),
    ("sources c/one read pointer", "", "failed source of c/one: /lus/source has no latest, without which the launcher"),
]


@pytest.mark.parametrize(("place", "value", "line"), CASES, ids=[f"{line[:60]}" for *_, line in CASES])
def test_one_fact_makes_one_line(place: str, value: object, line: str) -> None:
    facts = changed(place, value)
    told = {f"{check.status} {check.name}: {check.message}": check for check in judged(facts)}
    found = [check for text, check in told.items() if text.startswith(line)]
    assert found, "\n".join(told)
    assert found[0].status is OK or found[0].fix, "what is not well says what to do"


def test_clocks_are_not_blamed_for_a_slow_link() -> None:
    """The look began there at some moment between sending and answering, whatever the link and the look took."""
    clocks = {check.name: check for check in judged(WELL, sent_s=NOW - 300, received_s=NOW + 305)}["clocks"]
    assert clocks.status is OK


def test_checks_made_before_an_answer_turns_out_to_be_odd_stand() -> None:
    made: list[str] = []
    with pytest.raises(Malformed, match=r"launcher\.there is neither true nor false"):
        for check in doctor_checks.judge(
            Fields(changed("launcher there", "yes"), "facts"), NEED, 5.0, NOW - 1, NOW + 6
        ):
            made.append(check.name)
    assert made[-1] == "lock"


def test_commands_to_paste_run_there_and_survive_any_name() -> None:
    need = dataclasses.replace(NEED, checkout="/lus/it's mine")
    check = {check.name: check for check in judged(changed("launcher", {"there": False}), need)}["launcher"]
    command = check.fix.splitlines()[1].strip()
    assert command.startswith("ssh -- login '")
    assert "/lus/it" in command
    here = dataclasses.replace(need, reach="")
    check = {check.name: check for check in judged(changed("launcher", {"there": False}), here)}["launcher"]
    assert "    git clone https://github.com/argonne-lcf/Megatron-DeepSpeed " in check.fix


@pytest.mark.parametrize(
    ("setup", "fix"),
    [
        (
            "# why\nmodule load a || exit 72\n\nexport B=c",
            "bash -lc 'module load a || exit 72; export B=c; python3 -c ",
        ),
        ("if true; then\n  module load a\nfi", "`bash -l`"),
        ("module load \\\n  a", "`bash -l`"),
    ],
    ids=["plain lines on one", "a compound command", "a line that goes on"],
)
def test_the_environments_lines_are_shown_as_a_command_where_they_can_be_put_on_one_line(setup: str, fix: str) -> None:
    need = dataclasses.replace(NEED, setup=setup, reach="")
    facts = changed("environment wanting", ["torch"])
    check = {check.name: check for check in judged(facts, need)}["environment"]
    assert fix in check.fix
    assert ("bash -lc" in check.fix) == fix.startswith("bash -lc")


# --- What the manifests need ------------------------------------------------------------------------------------------

MANIFESTS = Path(__file__).parents[2] / "manifests"


def test_the_need_holds_every_stage_list_and_validation_list_of_the_campaigns_there() -> None:
    catalog = files.load([MANIFESTS / "quickstart"]).catalog
    need = need_of(catalog, "local", loop.site_of(catalog.cluster("local").spec, Path("/repo")))
    assert [job.stage for job in need.jobs] == [f"quickstart/stage-{number}" for number in (1, 2, 3, 4)]
    assert {job.queue for job in need.jobs} == {"workq"}
    held_out = [f"val-D{number}" for number in range(4)]
    names = ["D0 (prose)", "D1 (docs)", "D2 (code)", "D3 (reasoning)", *held_out]
    assert [wanted.name for wanted in need.lists.values()] == names
    assert next(iter(need.lists)) == "/repo/.local/quickstart/data/D0.txt"
    assert need.setup.splitlines()[-1] == "export OMP_NUM_THREADS=2"
    assert need.reach == ""


def test_a_far_cluster_is_reached_as_its_manifest_says() -> None:
    catalog = files.load([MANIFESTS / "auroragpt-v1"]).catalog
    (name,) = catalog.clusters
    need = need_of(catalog, name, loop.site_of(catalog.cluster(name).spec, Path("/repo")))
    assert need.there("qstat -B") == "ssh -- aurora 'qstat -B'"
    assert "module load frameworks" in need.setup
    assert need.modules == ("torch", "deepspeed")


def test_parameters_of_llama_2_7b_are_those_that_are_published() -> None:
    """6,738,415,616: the sum over its published weights."""
    catalog = files.load([MANIFESTS / "quickstart"]).catalog
    sizes = {"layers": 32, "hidden": 4096, "heads": 32, "kv_heads": 32, "ffn_hidden": 11008, "vocabulary": 32000}
    assert parameters(catalog.model_of("quickstart").spec.architecture.model_copy(update=sizes)) == 6_738_415_616


# --- What is sent -----------------------------------------------------------------------------------------------------


def test_what_is_sent_is_python_3_6_of_the_standard_library_and_starts_once() -> None:
    tree = ast.parse(doctor.source(), feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= sys.stdlib_module_names
    starts = [line for line in doctor.source().decode().splitlines() if line.startswith("if __name__ == ")]
    assert starts == ['if __name__ == "__main__":']
    late = {"capture_output", "text", "missing_ok", "dirs_exist_ok"}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not late & {keyword.arg for call in calls for keyword in call.keywords}
    assert not re.search(r"\.remove(pre|suf)fix\(", doctor.source().decode())


def test_no_name_of_the_doctor_hides_one_of_the_agent() -> None:
    """They run in one namespace, and the doctor tries the agent's own code."""

    def defined(source: bytes) -> set[str]:
        names = set()
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            if isinstance(node, ast.Assign):
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        return names

    own = doctor.source()[doctor.source().index(b'"""The doctor\'s look at token files') :]
    assert defined(own) & defined(agent_source()) == {"MYPY"}
