"""What docs/threat-model.md claims, tried: as a stranger with a pull request, as another user, as the cluster.

Where a claim has had a test elsewhere, the page names that one; the last test here holds page and tests together.
"""

from __future__ import annotations

import ast
import contextlib
import json
import math
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from reconciler.cli import machine
from reconciler.cli.machine import NotAPlan, saved_plan
from reconciler.cli.plan import _save as save_plan
from reconciler.cli.problems import render as shown
from reconciler.cli.validate import validate
from reconciler.cluster import agent_lock
from reconciler.cluster.agent_qstat import job_record
from reconciler.cluster.doctor_agent_data import BadPair, Data
from reconciler.cluster.pace import SharedPace, file_for
from reconciler.cluster.ports import Unreachable
from reconciler.cluster.process import SystemClock
from reconciler.cluster.render import render, templates_of
from reconciler.cluster.ssh import Refused
from reconciler.cluster.sshconfig import Asked, parse
from reconciler.convert import pickles
from reconciler.convert.torchfile import Archive
from reconciler.domain.loading import load
from reconciler.local import indexed
from reconciler.local.indexed import IndexedDataset, NotIndexed
from reconciler.model.observed import Unread
from reconciler.model.problems import Problem, Where
from reconciler.model.templates import Unrenderable
from reconciler.planner.desired import Desired
from reconciler.planner.why import why
from reconciler.record.repository import revision_of
from tests.cluster.node import Node
from tests.cluster.test_ssh_login import AskingHost, through
from tests.cluster.world import CAMPAIGN, World, train, write
from tests.e2e import campaign
from tests.fuzz.targets_files import HOSTILE, archive_of
from tests.planner import world as planned
from tests.planner.test_trial import GOOD, tried

ROOT = Path(__file__).parent.parent


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path).build()


LOOKING = (["validate"], ["plan"], ["status"], ["render", "quickstart/stage-1"])
LOOKS = f"""
import importlib, os, sys
from reconciler.cli.main import COMMANDS, main

for name, *_ in {LOOKING}:
    importlib.import_module(COMMANDS[name][0])
for arguments in {LOOKING}:
    if not os.fork():
        sys.argv = ["reconcile", *arguments]
        sys.exit(main())
    os.wait()
"""
"""Each command in a process of its own; what they import is imported once, which takes as long as they do."""


# --- a stranger's pull request


class Checkout:
    """A git working tree of the quickstart, as a stranger's pull request leaves it on a reviewer's machine."""

    def __init__(self, top: Path) -> None:
        self.root, self.canary = top / "checkout", top / "ran"
        shutil.copytree(ROOT / "manifests/quickstart", self.root / "manifests")
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
        done = subprocess.run(["git", *identity, *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout

    def commit(self) -> None:
        self.git("add", "-fA")
        self.git("commit", "-qm", "a pull request")

    def write(self, path: str, text: str, *, program: bool = False) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if program:
            file.chmod(0o755)

    @property
    def bait(self) -> str:
        """A command line that leaves a trace."""
        return f"touch {self.canary}; false"

    def look(self, folder: str = ".", **environment: str) -> str:
        """Every command that only looks, run in a folder of it; what they said."""
        done = subprocess.run(
            [sys.executable, "-c", LOOKS],
            cwd=self.root / folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=480,
            check=True,
        )
        told = done.stdout + done.stderr
        assert "Traceback" not in told, told
        return told


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("worktree", [".", "../manifests", "..", "manifests"])
@pytest.mark.parametrize("folder", [".", "manifests"])
def test_a_folder_that_looks_like_a_repository_is_none(checkout: Checkout, worktree: str, folder: str) -> None:
    """git takes a folder with HEAD, objects and refs for a bare repository, and runs what its `config` says."""
    checkout.write("manifests/HEAD", "ref: refs/heads/main\n")
    checkout.write("manifests/objects/x", "")
    checkout.write("manifests/refs/heads/x", "")
    checkout.write(
        "manifests/config",
        f'[core]\nrepositoryformatversion=0\nbare=false\nworktree={worktree}\nfsmonitor="{checkout.bait}"\n',
    )
    checkout.commit()
    assert "no local cluster" in checkout.look(folder)
    assert not checkout.canary.exists()
    assert revision_of([checkout.root / "manifests"]).commit == checkout.git("rev-parse", "HEAD").strip()


REASONS = {
    "a control sequence": "\x9b31m",
    "an escape": "\x1b[2J",
    "text turned around": "\u202egnp.exe",
    "an isolate": "\u2066late",
    "another line": "\u2028CPT020 is fine",
    "another row": "fine\n0 problems",
}


@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
def test_a_reason_to_stray_cannot_steer_the_terminal(checkout: Checkout, reason: str) -> None:
    """A waiver's reason is prose by whoever sent it, and stands in every view and in the JSON of a review's tools."""
    stages = checkout.root / "manifests/stages.yaml"
    waived = json.dumps(reason)  # YAML reads JSON's escapes as what they stand for
    text, times = re.subn(r"(rule: CPT020, reason: )[^}]+", lambda found: found.group(1) + waived, stages.read_text())
    assert times == 1
    stages.write_text(text)
    for options in ([], ["--json"]):
        done = CliRunner().invoke(validate, [*options, str(checkout.root / "manifests")])
        assert (done.exit_code, "M026" in done.output) == (1, True)
        assert done.output.replace("\n", "").isprintable()
    problem = Problem("M047", Where("stages.yaml", 1, 1), reason, reason, reason, reason, waived=reason)
    assert shown([problem, replace(problem, waived=None)], {}).replace("\n", "").isprintable()


TWELVE = range(1, 13)
MATRIX = ", ".join(f"m{i}: {{D0: 0.{i:02}, D2: 0.{100 - i}}}" for i in TWELVE)
MUCH = {
    "a matrix of 1728 variants": (
        f"trial: {{tokens: 100k, compare: [val-D0], matrix: {{mixture: {{{MATRIX}}}, divisor: {list(TWELVE)}, "
        f"rate: [{', '.join(f'lrMax/{i}' for i in TWELVE)}]}}}}",
        "{shape: cooldown, rewarm: true, warmup: 1%}",
        "1728 variants",
    ),
    "a divisor of nine digits": (
        "trial: {tokens: 100k, compare: [val-D0], matrix: {divisor: [1000000000, 999999999]}}",
        "{shape: cosine}",
        None,
    ),
    "a rate of 1e-300": ("source: {stage: stage-2}", "{shape: cooldown, decay: exponential, to: 1e-300}", None),
    "a rate of 1e300": ("source: {stage: stage-2}", "{shape: cooldown, to: 1e300}", "M026"),
    "a quoted exponent": ("source: {stage: stage-2}", '{shape: constant, at: "1e-999999999"}', "M026"),
    "a batch of 1e300": ("batch: {times: 1e300, rate: linear}", "{shape: constant}", "M026"),
    "a decay of 1e16 tokens": ("source: {stage: stage-2}", "{shape: cosine, over: 9999T}", None),
}


@pytest.mark.parametrize("case", MUCH)
def test_no_number_in_a_manifest_is_worked_on_for_long(case: str) -> None:
    more, policy, told = MUCH[case]
    naive = "        - mixture: {D2: 1}\n          lr: {shape: constant}\n"
    edit = planned.swapped((naive, f"        - mixture: {{D2: 1}}\n          lr: {policy}\n      {more}\n"))
    began = time.monotonic()
    loaded = load([(path.name, edit(path.read_text()).encode()) for path in planned.MANIFESTS.glob("*.yaml")])
    assert (told is None) is loaded.ok
    assert told is None or told in shown(loaded.problems, loaded.texts)
    if loaded.ok:
        desired = Desired(loaded.catalog, "quickstart", "c" * 40, False, planned.SITE)
        assert len(planned.World(desired).plan().stages) == 4
    assert time.monotonic() - began < 20


def test_a_long_ladder_of_trials_is_checked_in_seconds() -> None:
    """What a rung costs must not grow with the number of rungs: 200 of them, each a trial of 12 mixtures."""
    naive = "    - name: naive\n      legs:\n        - mixture: {D2: 1}\n          lr: {shape: constant}\n"
    trial = f"      trial: {{tokens: 100k, compare: [val-D0], matrix: {{mixture: {{{MATRIX}}}}}}}\n"
    ladder = "".join(naive.replace("naive", f"r{rung}") + trial for rung in range(200))
    edit = planned.swapped((naive, ladder))
    began = time.monotonic()
    loaded = load([(path.name, edit(path.read_text()).encode()) for path in planned.MANIFESTS.glob("*.yaml")])
    assert loaded.ok
    desired = Desired(loaded.catalog, "quickstart", "c" * 40, False, planned.SITE)
    assert len(planned.World(desired).plan().stages) == 4
    assert time.monotonic() - began < 20


def own_configuration(checkout: Checkout, attack: str) -> None:
    """A repository that somebody sent whole, with a `.git` of theirs."""
    config = checkout.root / ".git/config"
    match attack:
        case "fsmonitor":
            added = f'[core]\nfsmonitor = "{checkout.bait}"\n'
        case "hook":
            checkout.write(".git/hooks/post-index-change", f"#!/bin/sh\n{checkout.bait}\n", program=True)
            added = ""
        case "hooks elsewhere":
            checkout.write("h/post-index-change", f"#!/bin/sh\n{checkout.bait}\n", program=True)
            added = "[core]\nhooksPath = h\n"
        case "filter" | "filter with an odd name" | "filter of an included file":
            name = "x=y.clean" if attack.endswith("name") else "x"
            checkout.write(".gitattributes", f"*.yaml filter={name}\n")
            added = f'[filter "{name}"]\nclean = "{checkout.bait}"\nprocess = "{checkout.bait}"\nrequired\n'
            if attack.endswith("file"):
                checkout.write(".git/more", added)
                added = "[include]\npath = more\n"
        case _:
            objects = sorted((checkout.root / ".git/objects").glob("??/*"))
            head = checkout.git("rev-parse", "HEAD:manifests").strip()
            next(path for path in objects if path.parent.name + path.name == head).unlink()
            added = (
                '[extensions]\npartialClone = origin\n[remote "origin"]\n'
                f'url = "ext::sh -c \'{checkout.bait}\'"\npromisor = true\n[protocol "ext"]\nallow = always\n'
            )
            config.write_text(config.read_text().replace("repositoryformatversion = 0", "repositoryformatversion = 1"))
    with config.open("a") as file:
        file.write(added)


@pytest.mark.parametrize(
    "attack",
    [
        "fsmonitor",
        "hook",
        "hooks elsewhere",
        "filter",
        "filter with an odd name",
        "filter of an included file",
        "fetch",
    ],
)
def test_a_repository_s_own_configuration_runs_nothing(checkout: Checkout, attack: str) -> None:
    checkout.commit()
    own_configuration(checkout, attack)
    for path in checkout.root.glob("manifests/*.yaml"):
        path.write_text(path.read_text() + "# edited\n")
        os.utime(path, (1, 1))
    checkout.look()
    assert not checkout.canary.exists()


def test_the_attacks_by_configuration_work_on_plain_git(checkout: Checkout) -> None:
    """The test above could not fail if git never ran these."""
    checkout.commit()
    own_configuration(checkout, "fsmonitor")
    subprocess.run(["git", "status"], cwd=checkout.root, capture_output=True, check=False)
    assert checkout.canary.exists()


def test_a_git_that_cannot_be_told_to_run_nothing_is_not_asked(checkout: Checkout, tmp_path: Path) -> None:
    """Before 2.31 git does not read settings from the environment."""
    checkout.commit()
    own_configuration(checkout, "filter")
    old = tmp_path / "bin"
    old.mkdir()
    (old / "git").write_text(f'#!/bin/sh\nunset GIT_CONFIG_COUNT\nexec {shutil.which("git")} "$@"\n')
    (old / "git").chmod(0o755)
    assert "git 2.31 or newer is needed" in checkout.look(PATH=f"{old}:{os.environ['PATH']}")
    assert not checkout.canary.exists()


@pytest.mark.parametrize("way", ["folder", "ignored folder", "link", "the whole tree"])
def test_a_cluster_s_programs_that_came_with_git_are_not_run(checkout: Checkout, way: str) -> None:
    """The local transport runs `ROOT/bin/qsub` and whatever python3 lies beside it."""
    root = {"folder": "c", "ignored folder": ".local/quickstart", "link": "l", "the whole tree": "."}[way]
    for program in ("qsub", "qstat", "qselect", "python3"):
        real = "c" if way == "link" else root
        checkout.write(f"{real}/bin/{program}", f"#!/bin/sh\n{checkout.bait}\n", program=True)
    if way == "link":
        (checkout.root / "l").symlink_to("c")
    manifest = checkout.root / "manifests/cluster.yaml"
    manifest.write_text(manifest.read_text().replace("root: .local/quickstart", f"root: {root}"))
    checkout.commit()
    told = checkout.look()
    assert "whose files are in git" in told or "M0" in told, told
    assert not checkout.canary.exists()


def test_a_login_node_s_programs_that_came_with_git_are_not_run(checkout: Checkout) -> None:
    for program in ("qsub", "qstat", "qselect", "python3"):
        checkout.write(f"tools/{program}", f"#!/bin/sh\n{checkout.bait}\n", program=True)
    manifest = checkout.root / "manifests/cluster.yaml"
    text = re.sub(
        r"transport: \{.*?\}",
        f"transport: {{kind: login-node, path: [{checkout.root}/tools], root: /w}}",
        manifest.read_text(),
    )
    manifest.write_text(text)
    checkout.commit()
    assert "whose files are in git" in checkout.look(XDG_STATE_HOME=str(checkout.root.parent / "state"))
    assert not checkout.canary.exists()


@pytest.mark.parametrize("link", ["manifests", "manifests/more", "manifests/more.yaml", "manifests/quick.yaml"])
def test_no_link_in_a_pull_request_shows_a_file_of_the_reviewer(checkout: Checkout, tmp_path: Path, link: str) -> None:
    secret = tmp_path / "secrets"
    secret.mkdir()
    (secret / "kube.yaml").write_text("apiVersion: cpt/v1\nkind: Stage\ntoken: sesame\n")
    path = checkout.root / link
    if link == "manifests":
        shutil.rmtree(path)
    path.symlink_to(secret / "kube.yaml" if link.endswith(".yaml") else secret)
    checkout.commit()
    assert "sesame" not in checkout.look()
    done = subprocess.run(
        [sys.executable, "-m", "reconciler.cli.main", "validate", link],
        cwd=checkout.root, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "sesame" not in done.stdout + done.stderr


def test_looking_needs_no_home_and_no_secret(checkout: Checkout) -> None:
    """`look` gives the commands PATH and nothing else of this environment, and a home that does not exist."""
    checkout.commit()
    told = checkout.look()
    assert "manifests valid" in told
    assert "no local cluster" in told, "plan gets as far as the cluster"


def test_a_manifest_that_git_ignores_or_a_submodule_holds_is_loose(checkout: Checkout) -> None:
    """What ran must be in the commit that is recorded for it."""
    checkout.commit()
    checkout.write(".git/info/exclude", "more.yaml\n*.swp\n")
    shutil.copy(checkout.root / "manifests/model.yaml", checkout.root / "manifests/more.yaml")
    checkout.write("manifests/.x.swp", "")
    assert revision_of([checkout.root / "manifests"]).loose == ("manifests/more.yaml",)
    (checkout.root / "manifests/more.yaml").unlink()
    commit = checkout.git("rev-parse", "HEAD").strip()
    checkout.git("update-index", "--add", "--cacheinfo", f"160000,{commit},manifests/sub")
    checkout.git("commit", "-qm", "a submodule")
    assert revision_of([checkout.root / "manifests"]).loose == ("manifests/sub",)


@pytest.mark.parametrize("told", ["--assume-unchanged", "--skip-worktree"])
def test_a_manifest_that_git_was_told_not_to_look_at_is_loose_once_it_is_edited(checkout: Checkout, told: str) -> None:
    checkout.commit()
    file = checkout.root / "manifests/model.yaml"
    checkout.git("update-index", told, "manifests/model.yaml")
    assert revision_of([checkout.root / "manifests"]).loose == ()
    file.write_text(file.read_text() + "# edited\n")
    assert checkout.git("status", "--porcelain") == ""
    assert revision_of([checkout.root / "manifests"]).loose == ("manifests/model.yaml",)
    file.unlink()
    assert revision_of([checkout.root / "manifests"]).loose == ()


def test_a_manifest_that_keeps_its_size_and_time_is_loose_once_it_is_edited(checkout: Checkout) -> None:
    checkout.commit()
    checkout.git("config", "core.trustctime", "false")
    checkout.git("config", "core.checkStat", "minimal")
    file = checkout.root / "manifests/model.yaml"
    os.utime(file, (1_000_000_000, 1_000_000_000))
    checkout.git("update-index", "--refresh")
    time.sleep(1.1)  # git keeps whole seconds
    file.write_text(file.read_text().replace("seed: 1234", "seed: 4321"))
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert checkout.git("status", "--porcelain") == ""
    assert revision_of([checkout.root / "manifests"]).loose == ("manifests/model.yaml",)


@pytest.mark.parametrize(
    "text", ["{{ 9 ** 9 ** 9 ** 9 }}", "{{ ('x' * 10000000000) | sh }}", "{% set a = 'x' * 10 ** 12 %}"]
)
def test_a_template_cannot_compute_for_ever(tmp_path: Path, text: str) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/header.pbs").write_text(text)
    began = time.monotonic()
    with pytest.raises(Unrenderable, match="a template computes with"):
        render(Node(tmp_path).job(), "/w/log", templates_of(tmp_path, "own"))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "", "{}", "null", '{"format_version": 1e999}'])
def test_a_file_that_is_no_plan_is_told_to_be_none(text: str) -> None:
    with pytest.raises(NotAPlan):
        saved_plan(text)


# --- another user of the shared filesystem


def temporary_names(world: World) -> list[Path]:
    """Names that the agent writes under before it renames: known beforehand."""
    journal = world.workspace / ".journal"
    name = str(train().key).replace("/", "+")
    folder = world.attempt
    return [
        journal / f".{name}.json.new", journal / f"{name}.out", journal / f"{name}.err", folder / ".recipe.json.new",
        folder / "jobs" / ".l0-n0-train.pbs.new", world.workspace / CAMPAIGN / ".applied.json.new",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_nothing_is_written_through_what_somebody_put_there(world: World, kind: str) -> None:
    victim = world.top / "precious"
    victim.write_text("mine")
    for path in temporary_names(world):
        path.parent.mkdir(parents=True, exist_ok=True)
        match kind:
            case "link":
                path.symlink_to(victim)
            case "hard link":
                os.link(victim, path)
            case _:
                os.mkfifo(path)
    outcomes = world.execute(train(), applied="{}")
    assert [outcome.kind for outcome in outcomes] == ["done"], outcomes
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("place", [".journal", CAMPAIGN, "x"])
def test_a_folder_that_leads_out_is_not_written_into(world: World, place: str) -> None:
    outside = world.top / "outside"
    outside.mkdir()
    world.workspace.mkdir()
    (world.workspace / place).symlink_to(outside)
    with contextlib.suppress(Exception):
        world.execute(write(f"{place}/file" if place == "x" else f"{CAMPAIGN}/a/file", "text"), applied="{}")
    assert list(outside.iterdir()) == []


def test_a_saved_plan_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "precious"
    victim.write_text("mine")
    (tmp_path / ".x.plan.partial").symlink_to(victim)
    save_plan(tmp_path / "x.plan", "{}")
    assert (victim.read_text(), (tmp_path / "x.plan").read_text()) == ("mine", "{}")


def test_a_pipe_in_the_place_of_a_token_index_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"xx")
    os.mkfifo(tmp_path / "a.idx")
    with pytest.raises(BadPair, match="no Megatron index"):
        Data("/", 5.0).pair(str(tmp_path / "a"))


def test_a_token_index_cannot_point_past_its_tokens_by_an_overflow(tmp_path: Path) -> None:
    indexed.write(tmp_path / "a", [[1, 2], [3]])
    data = bytearray((tmp_path / "a.idx").read_bytes())
    at = indexed.HEADER.size + 4 * 2
    data[at : at + 8] = (2**63 - 2).to_bytes(8, "little")
    (tmp_path / "a.idx").write_bytes(data)
    with pytest.raises(NotIndexed, match="points past the end"):
        IndexedDataset(tmp_path / "a")


HOSTILE_NUMBERS = ["NaN", "1e999", "-1e999", "1" * 400, "true", "[]", "null", '"x"', "9007199254740993"]


@pytest.mark.parametrize("number", HOSTILE_NUMBERS, ids=lambda number: number[:9])
@pytest.mark.parametrize("file", ["lock", "entry", "ended", "numbers"])
def test_one_odd_file_does_not_blind_the_look(world: World, file: str, number: str) -> None:
    world.execute(train())
    (job_id,) = world.jobs()
    key = str(train().key)
    name = key.replace("/", "+")
    log = world.attempt / "jobs/l0-n0-train.log"
    log.write_text("iteration=\n")
    before = world.observe()
    if (file, number) == ("ended", "null"):
        return  # a whole record: whoever can write there can say that a job has ended, and a live one is listed anyway
    path, field = {
        "lock": (world.workspace / ".lock", "begun"),
        "entry": (world.workspace / f".journal/{name}.json", "begun|ended"),
        "ended": (world.workspace / f".journal/{name}.ended", "substate"),
        "numbers": (log.with_name(log.name + ".numbers.json"), "loaded"),
    }[file]
    lock = {name: "x" for name in ("nonce", "holder", "host", "boot", "pids", "start")} | {"pid": 10**30, "begun": 0}
    ended = job_record(job_id, {}) | {"state": "F", "key": key, "unread": "", "substate": 92}
    text = path.read_text() if path.exists() else json.dumps({"lock": lock, "ended": ended}[file])
    path.write_text(re.sub(rf'"({field})": [^,}}]+', rf'"\1": {number}', text))
    seen = world.observe()
    parts = (seen.jobs, seen.receipts, seen.attempts)
    assert not [part for part in parts if isinstance(part, Unread)]
    assert seen.jobs == before.jobs


def test_a_lock_with_an_impossible_process_is_held_not_a_crash(world: World) -> None:
    here = agent_lock.identity()
    assert not agent_lock.is_stale(dict(here, pid=10**30, start="1"))
    assert not agent_lock.is_stale(dict(here, pid=0, start="1"))


# --- private, or the team's


def modes(*tops: Path) -> Iterator[tuple[Path, int]]:
    for top in tops:
        for path in (top, *top.rglob("*")):
            if not path.is_symlink():
                yield path, stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("mask", "folders", "files"),
    [
        pytest.param(0o077, 0o700, 0o600, id="a person alone"),
        pytest.param(0o022, 0o755, 0o644, id="others may look"),
        pytest.param(0o002, 0o775, 0o664, id="a team writes"),
    ],
)
def test_in_a_workspace_the_umask_says_who_may_what(world: World, mask: int, folders: int, files: int) -> None:
    with umask(mask):
        world.execute(train(), applied="{}")
        world.observe()
    made = dict(modes(world.workspace))
    assert {mode for path, mode in made.items() if path.is_dir()} == {folders}
    assert {mode for path, mode in made.items() if path.is_file()} == {files}


def test_what_is_kept_of_a_person_is_that_person_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with umask(0o000):
        SharedPace(file_for("login", None, None), SystemClock()).now(0.0)
    folder = tmp_path / "reconcile"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {mode for path, mode in modes(folder) if path.is_file()} == {0o600}


def test_only_the_served_report_makes_a_socket() -> None:
    """All else connects to ssh's and to an agent's, and listens nowhere."""
    listening = re.compile(r"\.(bind|listen)\(|create_server|socketserver|http\.server")
    listens = [path for path in (ROOT / "reconciler").rglob("*.py") if listening.search(path.read_text())]
    assert listens == [ROOT / "reconciler/page/serving.py"]


# --- answers, texts and pickles


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 1e308], ids=str)
def test_a_loss_that_is_no_number_is_none_in_what_programs_read(loss: float) -> None:
    tried_so = tried(lean=GOOD | {"val-D0": loss, "val-D2": 1e308}, even=GOOD)
    plan, look = tried_so.plan(), tried_so.look()
    chain = why(tried_so.desired, look, plan, tried_so.desired.stages[2])
    for text in (machine.plan_json(plan, {}), machine.status_json(plan), machine.why_json(chain)):
        json.loads(text, parse_constant=pytest.fail)
    assert saved_plan(machine.plan_json(plan, {}))[0] == "quickstart"


@pytest.mark.parametrize(
    "line",
    ["port x", "port " + "9" * 5000, 'userknownhostsfile "a', "identityfile ~nobody-by-this-name/x", "proxyjump [[["],
)
def test_an_odd_ssh_configuration_is_a_message(line: str) -> None:
    with contextlib.suppress(Unreachable):
        assert parse(f"hostname h\n{line}\n", Asked("polaris")).hostname == "h"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_read_as_data_or_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Every way that a pickle has to name code, and every way to make a reader work for ever."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shard.pt"
    path.write_bytes(archive_of(HOSTILE[name]))
    began = time.monotonic()
    with contextlib.suppress(pickles.Refused):
        Archive(path).load()
    assert time.monotonic() - began < 10
    assert sorted(each.name for each in tmp_path.iterdir()) == ["shard.pt"]


def test_the_hostile_pickles_run_code_in_an_ordinary_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above could not fail if they were no pickles."""
    for name in ("global", "stack-global", "inst", "obj"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        pickle.loads(HOSTILE[name])
        assert (tmp_path / name / "pwned").exists()


# --- secrets

SECRETS = {
    name: f"canary-{name.lower()}-5b1d0e"
    for name in (
        *("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY"),
        *("SSH_PASSWORD", "PBS_AUTH_TOKEN"),
    )
}


@pytest.mark.e2e
def test_no_secret_of_the_environment_is_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real plan and a real apply on the embedded cluster, until the first job has ended."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    repository = campaign.make(tmp_path / "repo")
    told = repository.run("plan", "-o", "plan.json", "--scripts")
    told += repository.run("apply", "plan.json")
    deadline = time.monotonic() + 240
    while not any(job["job_state"] == "F" for job in repository.jobs().values()):
        assert time.monotonic() < deadline, "the job did not end"
        time.sleep(0.5)
    told += repository.run("status", status=None) + repository.run("status", "--json", status=None)
    found = [name for name, value in SECRETS.items() if value in told]
    read = 0
    for path in repository.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            read += 1
            found += [f"{name} in {path}" for name, value in SECRETS.items() if value.encode() in content]
    assert found == []
    assert read > 50, "the workspace and the spool were looked at"


def test_what_a_person_types_at_a_prompt_is_in_no_message_and_no_traceback(tmp_path: Path) -> None:
    secret = "canary-passcode-7731"
    with (
        AskingHost(tmp_path) as host,
        through(host.config, ask=lambda text, shown: secret) as link,
        pytest.raises(Refused) as refused,
    ):
        link.open()
    assert host.rules.answers == [secret], "it was sent, once"
    error = refused.value
    shown = "".join(traceback.format_exception(error)) + error.message + error.fix + repr(link) + repr(vars(link))
    assert secret not in shown


# --- the page


CLAIM = re.compile(r"(?m)^- (cannot|can) (.+(?:\n  .+)*)")
TEST = re.compile(r"`((?:tests/)?[\w/]+\.py)::(test_\w+)`")


def test_every_claim_of_the_threat_model_names_a_test_that_exists() -> None:
    page = (ROOT / "docs/threat-model.md").read_text()
    claims = [text for kind, text in CLAIM.findall(page) if kind == "cannot"]
    assert len(claims) > 25
    for claim in claims:
        named = TEST.findall(claim)
        assert named, f"no test is named: {claim}"
        for file, function in named:
            assert function in functions_of(ROOT / "tests" / file), f"no {function} in {file}"


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
