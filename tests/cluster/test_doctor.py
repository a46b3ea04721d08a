"""The doctor against real parts: the embedded PBS, real files, a real sshd. Each thing that can fail is made to fail.

Where several failures do not touch each other, one look finds all of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reconciler import loop
from reconciler.cluster import doctor
from reconciler.cluster.doctor_need import JobNeed, ListNeed, Need, SourceNeed, need_of
from reconciler.cluster.doctor_report import Check, Status
from reconciler.cluster.ports import ClusterError, Transport
from reconciler.cluster.process import ProcessTransport, SystemClock
from reconciler.cluster.ssh import Asked, SshTransport, Way
from reconciler.cluster.sshmaster import MasterTransport
from reconciler.local import indexed, machine
from reconciler.local.pbs import Queue, Vnode, install
from reconciler.record import files
from tests.cluster.sshd import Sshd, free_port, make_key

OK, WARNING, FAILED, UNREAD = Status
MANIFESTS = Path(__file__).parents[2] / "manifests" / "quickstart"
VOCABULARY = 256


@dataclasses.dataclass(frozen=True)
class Place:
    """The quickstart's cluster, and what its manifests need of it."""

    root: Path
    need: Need

    @property
    def link(self) -> ProcessTransport:
        return ProcessTransport((str(self.root / "bin"),))

    def needing(self, **other: object) -> Need:
        """The manifests' need, with something else in it; no data, which takes time to look at."""
        return dataclasses.replace(self.need, **({"lists": {}} | other))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    repository = tmp_path_factory.mktemp("repository")
    catalog = files.load([MANIFESTS]).catalog
    site = loop.site_of(catalog.cluster("local").spec, repository)
    machine.build(Path(site.root), scale="tiny")
    queues = [
        Queue("workq"),
        Queue("short", max_walltime=60),
        Queue("closed", enabled=False),
        Queue("stopped", started=False),
        Queue("routing", route_to="short"),
    ]
    install(Path(site.root, "bin"), Path(site.root, "spool"), nodes=[Vnode("local-0", 1)], queues=queues)
    return Place(Path(site.root), need_of(catalog, "local", site))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login shell without anybody's rc files."""
    (tmp_path / "nobody").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))


def look(link: Transport, need: Need) -> dict[str, Check]:
    """Every check by name, as the command makes them: the link is opened first, if it has to be."""
    try:
        if isinstance(link, SshTransport | MasterTransport):
            link.open()
        checks = doctor.examine(link, "login", need, SystemClock())
    except ClusterError as error:
        checks = doctor.not_opened(error, need)
    assert [check.name for check in checks] == list(doctor.names(need)), "every check is told of, once and in order"
    return {check.name: check for check in checks}


def bad(checks: dict[str, Check]) -> dict[str, Status]:
    return {name: check.status for name, check in checks.items() if check.status is not OK}


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if "spool" not in path.parts)


# --- All well ---------------------------------------------------------------------------------------------------------


def test_a_cluster_with_all_that_the_manifests_need_passes_and_is_left_as_it_was(place: Place) -> None:
    before = listing(place.root)
    checks = look(place.link, place.need)
    assert bad(checks) == {}
    after = listing(place.root)
    # The workspace's own time changed: a folder was made in it and removed.
    assert [each for each in after if each not in before] == [
        (str(place.root / "workspace"), (place.root / "workspace").stat().st_mtime_ns)
    ]
    assert "data D0 (prose)" in checks
    assert "data val-D3" in checks
    assert checks["queue workq"].message == "takes the jobs of 4 stages"


def test_a_workspace_that_is_not_there_yet_is_tried_in_the_folder_it_will_be_made_in(place: Place) -> None:
    checks = look(place.link, place.needing(workspace=f"{place.root}/later"))
    assert bad(checks) == {}
    assert "in which later will be made" in checks["workspace"].message
    assert not (place.root / "later").exists()


# --- PBS --------------------------------------------------------------------------------------------------------------

DAY = 86_400


def test_every_queue_that_a_stage_names_is_held_against_what_the_stage_asks(place: Place) -> None:
    jobs = [
        JobNeed("c/short-enough", "short", 1, 60),
        JobNeed("c/too-long", "short", 1, 61),
        JobNeed("c/closed", "closed", 1, 60),
        JobNeed("c/stopped", "stopped", 1, 60),
        JobNeed("c/routed", "routing", 1, DAY),
        JobNeed("c/nowhere", "gone", 1, 60),
    ]
    checks = look(place.link, place.needing(jobs=tuple(jobs)))
    told = {name: (check.status, check.message) for name, check in checks.items() if name.startswith("queue")}
    assert told == {
        "queue workq": (OK, "takes the jobs of 0 stages"),
        "queue short": (FAILED, "c/too-long asks for 00:01:01; the most is 00:01:00"),
        "queue closed": (FAILED, "takes no jobs (enabled = False)"),
        "queue stopped": (WARNING, "takes jobs and starts none (started = False)"),
        "queue routing": (
            FAILED,
            "c/routed asks for what no queue that it hands on to takes (short: 24:00:00; the most is 00:01:00)",
        ),
        "queue gone": (FAILED, "there is no such queue; there is workq, short, closed, stopped, routing"),
    }


def test_a_limit_in_the_manifest_beyond_the_queues_own_is_a_warning(place: Place) -> None:
    checks = look(place.link, place.needing(queue="short", max_walltime_s=3600, jobs=()))
    assert bad(checks) == {"queue short": WARNING}
    assert checks["queue short"].message == "maxWalltime says 01:00:00; the most is 00:01:00"


def test_a_server_that_does_not_answer_fails_what_depends_on_it_and_nothing_else(place: Place, tmp_path: Path) -> None:
    for name in ("qsub", "qstat", "qselect"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'cannot connect to server x (errno=111)' >&2; exit 111\n")
        (tmp_path / name).chmod(0o755)
    checks = look(ProcessTransport((str(tmp_path),)), place.needing())
    assert bad(checks) == dict.fromkeys(("pbs server", "job table", "queue workq"), FAILED)
    assert "cannot connect to server x" in checks["pbs server"].message


# --- Workspace --------------------------------------------------------------------------------------------------------


def test_a_workspace_that_cannot_be_written_says_what_failed_and_shows_how_to_look(place: Place) -> None:
    """In /proc nobody can make a folder, whoever runs the tests."""
    checks = look(place.link, place.needing(workspace="/proc"))
    assert checks["workspace"].status is FAILED
    assert "mkdir: /proc/.reconcile-doctor-" in checks["workspace"].message
    assert "ls -ld /proc" in checks["workspace"].fix


@pytest.mark.parametrize("workspace", ["gone/workspace", "a-file/workspace"], ids=["parent missing", "below a file"])
def test_a_workspace_that_could_not_be_made_fails_and_what_needs_it_is_not_looked_at(
    place: Place, tmp_path: Path, workspace: str
) -> None:
    (tmp_path / "a-file").write_text("")
    checks = look(place.link, place.needing(workspace=str(tmp_path / workspace)))
    assert bad(checks) == {"workspace": FAILED, "space": UNREAD, "lock": UNREAD}
    assert "neither is the folder above it" in checks["workspace"].message


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with no byte left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "doctor", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        with open(disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_fails_where_it_is_written_and_the_probe_is_removed_all_the_same(
    place: Place, full_disk: Path
) -> None:
    checks = look(place.link, place.needing(workspace=str(full_disk)))
    assert bad(checks) == {"workspace": FAILED, "space": FAILED}
    assert "write and fsync: " in checks["workspace"].message
    assert "the disk is full" in checks["workspace"].message
    assert "the file system leaves 0 bytes" in checks["space"].message
    assert os.listdir(full_disk) == ["filler"]


def test_a_quota_that_is_used_up_fails_space(place: Place, tmp_path: Path) -> None:
    """`lfs` prints what lfs-quota(1) shows for `-q`: kilobytes used, soft and hard limit, grace; the same of files."""
    (tmp_path / "lfs").write_text(
        '#!/bin/sh\ncase "$*" in\n'
        "project*) echo '  4711 P /lus/cpt' ;;\n"
        "*' -p 4711 '*) echo '  /lus/cpt'; echo '   5000000*  5000000 6000000 6d23h 12 0 0 -' ;;\n"
        "*) echo '  /lus/cpt 10 0 0 - 12 0 0 -' ;;\nesac\n"
    )
    (tmp_path / "lfs").chmod(0o755)
    checks = look(ProcessTransport((*place.link.path, str(tmp_path))), place.needing())
    assert bad(checks) == {"space": FAILED}
    assert checks["space"].message.startswith("the quota of project 4711 leaves 0 bytes")


# --- Launcher ---------------------------------------------------------------------------------------------------------


def test_a_checkout_that_is_missing_or_not_whole_says_so(place: Place) -> None:
    gone = look(place.link, place.needing(checkout="/no/such/checkout", setup="", modules=()))["launcher"]
    assert (gone.status, gone.message) == (FAILED, "there is no folder /no/such/checkout")
    partly = look(place.link, place.needing(files=("train_alcf.sh", "ALCF/helpers.sh")))["launcher"]
    assert (partly.status, partly.message) == (FAILED, f"{place.need.checkout} has no readable ALCF/helpers.sh")


def bare_python(folder: Path) -> Path:
    """A folder with a `python3` that has nothing but the standard library."""
    folder.mkdir()
    program = folder / "python3"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("setup", "status", "message"),
    [
        pytest.param("export PATH={bare}:$PATH", FAILED, "has no torch, numpy", id="a Python without torch"),
        pytest.param("export PATH=/nowhere", FAILED, "no python3 after a job script's first lines", id="no Python"),
        pytest.param("module load frameworks || exit 72", FAILED, "ended with status 72: ", id="a module that fails"),
        pytest.param("cat", OK, "with torch and numpy", id="lines that read standard input"),
        pytest.param("echo careful >&2", WARNING, "with messages: careful", id="lines that complain"),
    ],
)
def test_the_environment_is_what_a_job_scripts_lines_make_it(
    place: Place, tmp_path: Path, setup: str, status: Status, message: str
) -> None:
    lines = f"{place.need.setup}\n{setup.format(bare=bare_python(tmp_path / 'bare'))}"
    check = look(place.link, place.needing(setup=lines))["environment"]
    assert (check.status, message in check.message) == (status, True), check


def test_an_environment_that_takes_for_ever_is_given_up_and_the_rest_is_looked_at(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ENVIRONMENT_TIMEOUT_S", 0.5)
    checks = look(place.link, place.needing(setup="sleep 60"))
    assert bad(checks) == {"environment": FAILED}
    assert "which did not end in time: no answer within" in checks["environment"].message


# --- Data -------------------------------------------------------------------------------------------------------------


def pair(folder: Path, name: str, kind: type[np.generic] = np.uint16) -> Path:
    prefix = folder / name
    indexed.write(prefix, [[1, 2, 3], [4, 5]], kind)
    return prefix


def listed(folder: Path, name: str, *prefixes: Path | str) -> str:
    path = folder / f"{name}.txt"
    path.write_text("".join(f"0.5 {prefix} corpus\n" for prefix in prefixes))
    return str(path)


def test_every_way_in_which_data_can_be_wrong_is_told_apart(place: Place, tmp_path: Path) -> None:
    good = pair(tmp_path, "good")
    for name in ("no-bin", "no-idx", "cut", "legacy", "other", "short-bin"):
        pair(tmp_path, name)
    (tmp_path / "no-bin.bin").unlink()
    (tmp_path / "no-idx.idx").unlink()
    index = (tmp_path / "cut.idx").read_bytes()
    (tmp_path / "cut.idx").write_bytes(index[:-8])
    (tmp_path / "legacy.idx").write_bytes(b"TNTIDX\x00\x00" + index)
    (tmp_path / "other.idx").write_bytes(b"something else")
    (tmp_path / "short-bin.bin").write_bytes(b"\x01\x00")
    (tmp_path / "odd.txt").write_text(f"# a comment\n0.5 {good} corpus\nweight-only\n0.5 a\0b corpus\n")
    expected = {
        listed(tmp_path, "good", good, f"{good}.bin"): (OK, "2 pairs, 10 tokens of uint16"),
        listed(tmp_path, "no-bin", good, tmp_path / "no-bin"): (FAILED, "line 2: {}/no-bin.bin: there is no such file"),
        listed(tmp_path, "no-idx", tmp_path / "no-idx"): (FAILED, "line 1: {}/no-idx.idx: there is no such file"),
        listed(tmp_path, "cut", tmp_path / "cut"): (FAILED, "cut.idx has 74 bytes, its head asks for 82"),
        listed(tmp_path, "legacy", tmp_path / "legacy"): (FAILED, "legacy.idx is in the legacy format (TNTIDX)"),
        listed(tmp_path, "other", tmp_path / "other"): (FAILED, "other.idx is no Megatron index"),
        listed(tmp_path, "short-bin", tmp_path / "short-bin"): (FAILED, "has 2 bytes, its index asks for 10"),
        listed(tmp_path, "empty"): (FAILED, "is empty"),
        str(tmp_path / "gone.txt"): (FAILED, "there is no such file"),
        str(tmp_path / "odd.txt"): (
            FAILED,
            "line 3: it has 1 fields; a line is: weight prefix corpus (and 1 more line",
        ),
    }
    needs = {path: ListNeed(Path(path).stem, None, VOCABULARY) for path in expected}
    checks = look(place.link, place.needing(lists=needs))
    for path, (status, message) in expected.items():
        check = checks[f"data {Path(path).stem}"]
        assert check.status is status, check
        assert message.format(tmp_path) in check.message, check
    assert checks["token types"].message == "all data is uint16"


def test_data_of_two_token_types_fails_even_though_each_file_is_whole(place: Place, tmp_path: Path) -> None:
    narrow = listed(tmp_path, "narrow", pair(tmp_path, "a"))
    wide = listed(tmp_path, "wide", pair(tmp_path, "b", np.int32))
    needs = {path: ListNeed(Path(path).stem, None, VOCABULARY) for path in (narrow, wide)}
    checks = look(place.link, place.needing(lists=needs))
    assert bad(checks) == {"data wide": WARNING, "token types": FAILED}
    assert checks["token types"].message == "the data is of several types: int32: wide; uint16: narrow"


def test_a_list_that_is_not_the_pinned_one_shows_both_digests(place: Place, tmp_path: Path) -> None:
    path = listed(tmp_path, "D0", pair(tmp_path, "a"))
    pinned = hashlib.sha256(b"another list").hexdigest()
    checks = look(place.link, place.needing(lists={path: ListNeed("D0", pinned, VOCABULARY)}))
    assert checks["data D0"].status is FAILED
    found = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert checks["data D0"].message == f"{path} has SHA-256 {found}, the manifest pins {pinned}"


def test_a_checkpoint_made_elsewhere_must_be_there_and_be_the_one_that_is_loaded(place: Place, tmp_path: Path) -> None:
    for folder, pointer, names in (
        ("zero", "latest", "global_step7"),
        ("universal", "latest_universal", "global_step7_universal"),
        ("ahead", "latest_universal", "global_step9_universal"),
    ):
        suffix = "_universal" if "universal" in pointer else ""
        (tmp_path / folder / f"global_step7{suffix}" / "zero").mkdir(parents=True)
        (tmp_path / folder / pointer).write_text(f"{names}\n")
    (tmp_path / "no-pointer" / "global_step7" / "zero").mkdir(parents=True)
    expected = {
        "zero": (SourceNeed(str(tmp_path / "zero"), 7, False), OK, "iteration 7"),
        "universal": (SourceNeed(str(tmp_path / "universal"), 7, True), OK, "iteration 7"),
        "ahead": (SourceNeed(str(tmp_path / "ahead"), 7, True), FAILED, "names global_step9_universal"),
        "no-pointer": (SourceNeed(str(tmp_path / "no-pointer"), 7, False), FAILED, "has no latest"),
        "other-step": (SourceNeed(str(tmp_path / "zero"), 8, False), FAILED, "has no global_step8"),
        "gone": (SourceNeed(str(tmp_path / "gone"), 7, False), FAILED, "has no global_step7"),
    }
    checks = look(place.link, place.needing(sources={stage: need for stage, (need, _, _) in expected.items()}))
    for stage, (_, status, message) in expected.items():
        check = checks[f"source of {stage}"]
        assert (check.status, message in check.message) == (status, True), check


# --- The link ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def far(place: Place) -> Need:
    """The same cluster, reached as `login`."""
    return place.needing(reach="ssh -- login", make="", again="")


def over(config: Path, place: Place | None, *hosts: str) -> SshTransport:
    path = (f"{place.root}/bin",) if place else ()
    return SshTransport(Way(tuple(Asked(host) for host in hosts or ("login",)), path, config))


def test_over_ssh_all_is_found_in_one_command_over_one_connection(sshd: Sshd, place: Place, far: Need) -> None:
    connections, commands = sshd.logged("Connection from"), sshd.logged("Starting session: command")
    with over(sshd.config, place) as link:
        checks = look(link, dataclasses.replace(far, lists=place.need.lists))
    assert bad(checks) == {}
    assert [checks[name].message for name in ("reachable", "host key", "login")] == [
        "login answers",
        "it is the one on file",
        "login lets us in",
    ]
    assert sshd.logged("Connection from") == connections + 1
    assert sshd.logged("Starting session: command") == commands + 1


def test_what_an_rc_file_prints_is_passed_over_and_told(sshd: Sshd, place: Place, far: Need) -> None:
    rc = sshd.home / ".bashrc"
    rc.write_text("echo '* Maintenance on Monday *'\n")
    try:
        with over(sshd.config, place) as link:
            checks = look(link, far)
    finally:
        rc.unlink()
    assert bad(checks) == {}
    assert "which an rc file prints, are passed over: * Maintenance on Monday *" in checks["answer"].message


@pytest.mark.parametrize(
    ("rc", "check", "message", "fix"),
    [
        pytest.param(
            "echo bye; exit 0", "answer", "no answer in the 4 bytes that came back: bye", "echo done", id="ends"
        ),
        pytest.param("read -r line", "answer", "python3 ended with status 1 on login: ", "echo done", id="reads"),
        pytest.param("PATH=/nowhere", "python", "python3", "python3 --version", id="hides python3"),
    ],
)
def test_an_rc_file_that_gets_in_the_way_fails_one_check_and_the_others_are_not_looked_at(
    sshd: Sshd, far: Need, rc: str, check: str, message: str, fix: str
) -> None:
    (sshd.home / ".bashrc").write_text(f"{rc}\n")
    try:
        with over(sshd.config, None) as link:
            checks = look(link, far)
    finally:
        (sshd.home / ".bashrc").unlink()
    assert checks[check].status is FAILED
    assert message in checks[check].message
    assert f"ssh -- login '{fix}'" in checks[check].fix
    assert checks["workspace"].status is UNREAD
    assert checks["workspace"].message == f"because of: {check}"


def test_pbs_not_on_the_path_says_how_to_put_it_there_and_the_rest_is_looked_at(
    sshd: Sshd, place: Place, far: Need
) -> None:
    with over(sshd.config, None) as link:
        checks = look(link, far)
    assert bad(checks) == {"pbs commands": FAILED} | dict.fromkeys(("pbs server", "job table", "queue workq"), UNREAD)
    assert (
        "qsub, qstat, qselect not found on the PATH of a shell that is no login shell" in checks["pbs commands"].message
    )
    assert "path: [/opt/pbs/bin]" in checks["pbs commands"].fix


def test_an_unknown_host_key_shows_its_fingerprint_and_the_command(tmp_path: Path, far: Need) -> None:
    with Sshd(tmp_path / "sshd") as server:
        server.known_hosts.write_text("")
        with over(server.config, None) as link:
            checks = look(link, far)
    assert checks["reachable"].status is OK
    assert checks["host key"].status is FAILED
    assert "SHA256:" in checks["host key"].message
    assert "-- login true" in checks["host key"].fix
    assert {check.status for name, check in checks.items() if name not in ("reachable", "host key")} == {UNREAD}


def test_a_host_that_does_not_let_us_in_is_a_login_that_failed(sshd: Sshd, tmp_path: Path, far: Need) -> None:
    with over(sshd.configure(key=make_key(tmp_path / "wrong"), name="wrong"), None) as link:
        checks = look(link, far)
    assert [checks[name].status for name in ("reachable", "host key", "login", "answer")] == [OK, OK, FAILED, UNREAD]
    assert "wrong was not accepted" in checks["login"].message


def test_a_host_that_does_not_answer_is_not_reachable(sshd: Sshd, far: Need) -> None:
    with over(sshd.configure(port=free_port(), name="down"), None) as link:
        checks = look(link, far)
    assert checks["reachable"].status is FAILED
    assert {check.status for name, check in checks.items() if name != "reachable"} == {UNREAD}
    assert "ssh -- login" in checks["reachable"].fix


def test_a_login_node_in_the_place_of_the_first_is_a_warning(sshd: Sshd, place: Place, far: Need) -> None:
    config = sshd.configure(name="two")
    text = config.read_text()
    config.write_text(text.replace(str(sshd.port), str(free_port())) + text.replace("Host login", "Host other"))
    with over(config, place, "login", "other") as link:
        checks = look(link, far)
    assert bad(checks) == {"reachable": WARNING}
    assert checks["reachable"].message == "login does not answer; other does"


def test_a_master_that_is_gone_says_how_to_open_one(sshd: Sshd, tmp_path: Path, far: Need) -> None:
    config = sshd.configure(extra=f"  ControlPath {tmp_path}/none\n", name="master")
    need = dataclasses.replace(far, master=True)
    checks = look(MasterTransport(Way((Asked("login"),), config=config)), need)
    assert checks["master"].status is FAILED
    assert "ControlMaster=yes" in checks["master"].fix
    assert {check.status for name, check in checks.items() if name != "master"} == {UNREAD}


def test_no_answer_in_time_says_what_may_hang(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.5)
    checks = look(place.link, place.needing(setup="sleep 3"))
    assert checks["answer"].status is FAILED
    assert f"ls {place.need.workspace} {place.need.checkout}; qstat -B" in checks["answer"].fix
    assert checks["workspace"].status is UNREAD


def test_no_python3_on_this_machine_fails_python(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    checks = look(ProcessTransport(()), place.needing())
    assert checks["python"].status is FAILED
    assert "python3 could not be started" in checks["python"].message
