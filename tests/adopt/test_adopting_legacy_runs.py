"""Runs that somebody made by hand, adopted: the manifests validate, and the first plan has nothing to do."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reconciler.cli.main import reconcile
from reconciler.cluster import adopt_agent
from reconciler.cluster.process import ProcessTransport
from tests.adopt import legacy
from tests.adopt.legacy import Legacy, Site, chosen
from tests.cluster.world import PROGRAM

CLUSTER = """\
apiVersion: cpt/v1
kind: Cluster
metadata: {{name: here}}
spec:
  transport: {{kind: login-node, path: [{root}/bin]}}
  scheduler: {{kind: openpbs, queue: prod, maxWalltime: 6h}}
  node: {{ranks: 1}}
  workspace: {root}/workspace
  launcher: {{kind: megatron-deepspeed, checkout: {root}/launcher, machine: local, startup: 1s}}
  allocation: {{nodeHours: 1000}}
  poll: 1s
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A cluster with a small PBS, and a repository that knows it and nothing else."""
    root, repository = tmp_path / "cluster", tmp_path / "repository"
    for folder in ("spool", "bin", "workspace", "launcher"):
        (root / folder).mkdir(parents=True)
    for program in ("qsub", "qselect", "qstat"):
        path = root / "bin" / program
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {PROGRAM} {root}/spool {program} "$@"\n')
        path.chmod(0o755)
    (repository / "manifests").mkdir(parents=True)
    (repository / "manifests" / "cluster.yaml").write_text(CLUSTER.format(root=root))
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    monkeypatch.chdir(repository)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return Site(root)


def told(*arguments: str) -> Result:
    return CliRunner().invoke(reconcile, list(arguments))


def commit() -> None:
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "adopt"], check=True)


def state_of(folder: Path) -> dict[str, tuple[float, str]]:
    """Every file with when it was changed and what it holds, but for those of PBS."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0] == "spool":
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (os.stat(path).st_mtime, digest)
    return found


def adopt(site: Site, *runs: Legacy, options: tuple[str, ...] = ()) -> Result:
    """Adopt runs that are written already: one by its folder, several by the folder above."""
    path = site.of(runs[0]) if len(runs) == 1 else site.checkpoints
    return told("adopt", str(path), "--cluster", "here", "-o", "manifests/old", *options)


@pytest.mark.parametrize("seed", range(8))
def test_the_first_plan_after_adopting_is_empty(site: Site, seed: int) -> None:
    runs = chosen(seed)
    for run in runs:
        site.write(run)
    before = state_of(site.root)
    done = adopt(site, *runs)
    assert done.exit_code == 0, (runs, done.output)
    validated = told("validate")
    assert validated.exit_code == 0, (runs, validated.output)
    commit()
    planned = told("plan", "old", "--detailed-exitcode")
    assert planned.exit_code == 0, (runs, planned.output)
    assert "Nothing to do: all stages are done." in planned.output, (runs, planned.output)
    assert state_of(site.root) == before, "nothing on the cluster is changed"


def test_the_checkpoints_of_an_adopted_stage_are_those_of_its_folder(site: Site) -> None:
    run = Legacy("base", trained=300)
    site.write(run)
    assert adopt(site, run).exit_code == 0
    commit()
    shown = told("checkpoints", "stage-1", "old")
    assert shown.exit_code == 0, shown.output
    assert str(site.of(run)) in shown.output.replace("\n", "")


def test_every_value_says_where_it_was_found(site: Site) -> None:
    run = Legacy("base", trained=300, style="cosine", decay=400, scheme="new", script=True, job="F")
    site.write(run)
    assert adopt(site, run).exit_code == 0
    model, stage = manifest("model.yaml"), manifest("stages.yaml")
    assert "layers: 2 # from global_step300/mp_rank_00_model_states.pt (args.num_layers)" in model
    assert "vocabulary: 255999 # from global_step300 (universal_checkpoint_info)" in model
    assert "source: random # from the log (output.log): it loads nothing" in stage
    assert "nodes: 2 # from go-base.sh, the call on line 8" in stage
    assert "# its schedule ends at iteration 400: from global_step300 (lr_scheduler.lr_decay_steps)" in stage
    assert "sha256:" in manifest("datasets.yaml")
    assert (
        Path("manifests/old/lists/old-d0.txt").read_text() == (site.root / "launcher" / "lists" / "d0.txt").read_text()
    )


def test_a_name_and_checkpoints_alone_are_enough_and_what_nothing_told_is_marked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The legacy agpt-7B of the cookbook: a folder of the old scheme, universal, without log or script."""
    for name, value in (("LAYERS", 32), ("HIDDEN", 4096), ("SEQ", 4096), ("BATCH", 3072)):
        monkeypatch.setattr(legacy, name, value)
    run = Legacy("7b", trained=158945, scheme="old", forms=("universal",), arguments=False, log=False, ranks=768)
    site.write(run)
    assert run.folder == "ws768_ds_stage1_nl32_hs4096_mb1_seq4096_gb3072_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash"
    done = adopt(site, run)
    assert done.exit_code == 0, done.output
    assert "iteration 158945, 2T tokens, universal" in done.output
    model, stage = manifest("model.yaml"), manifest("stages.yaml")
    assert "global: 3072 # from the folder's name" in model
    assert "heads: 32 # as the launcher has it for AuroraGPT-7B" in model
    assert "ropeTheta: 10000 # the launcher's default before August 2025" in model
    assert "type: Llama2Tokenizer # the launcher's default before August 2025" in model
    assert "dataParallel: 768" in stage
    assert "source: random # TODO: nothing tells what it began from" in stage
    commit()
    assert told("plan", "old", "--detailed-exitcode").exit_code == 0


def test_sources_that_contradict_each_other_are_told_with_both(site: Site) -> None:
    run = replace(Legacy("base", trained=60), scheme="new")
    site.write(run)
    lying = site.of(run).with_name(run.folder.replace("gb16", "gb6144"))
    site.of(run).rename(lying)
    done = told("adopt", str(lying), "--cluster", "here", "-o", "manifests/old")
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    assert "global batch is 16 from global_step60 (args.global_batch_size), but 6144 from the folder's name" in words


def test_a_run_that_goes_on_is_adopted_only_as_it_stood_at_a_named_checkpoint(site: Site) -> None:
    run = Legacy("base", trained=200, job="R")
    site.write(run)
    refused = adopt(site, run)
    assert refused.exit_code == 1
    assert f"job 1.small (R; its Output_Path names {site.of(run)}) is live" in refused.output
    assert "--iteration N" in refused.output
    assert not Path("manifests/old").exists()
    done = adopt(site, run, options=("--iteration", "100"))
    assert done.exit_code == 0, done.output
    assert "the stage stands for the run as it was at 100" in " ".join(done.output.split())
    assert "iteration: 100 " in manifest("stages.yaml")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("login:/flare/runs/base", True),
        ("/flare/runs/base/logs/out.txt", True),
        ("/flare/runs/base2", False),
        ("--save checkpoints/base \\", True),
        ("--save base \\", True),
        ("SAVE=base", True),
        ("base", True),
        ("database", False),
        ("# the base of all, trained on base data", False),
        ("export SAVE=base-2", False),
    ],
)
def test_a_job_is_one_of_the_run_that_it_names_as_a_path_and_not_in_passing(text: str, named: bool) -> None:
    assert adopt_agent.names(text, "/flare/runs/base") is named


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a link to itself"])
@pytest.mark.parametrize("name", ["latest", "output.log", ".env"])
def test_what_is_no_file_where_one_is_looked_for_is_told_by_its_path(site: Site, name: str, what: str) -> None:
    run = Legacy("base", trained=60, log=False)
    site.write(run)
    place = site.of(run) / name
    place.unlink(missing_ok=True)
    make: dict[str, Callable[[Path], None]] = {
        "a folder": Path.mkdir,
        "a pipe": os.mkfifo,
        "a link to itself": lambda path: path.symlink_to(path.name),
    }
    make[what](place)
    done = adopt(site, run)
    assert done.exit_code == (1 if name == "latest" else 0), done.output
    assert str(place) in " ".join(done.output.split())
    assert "Traceback" not in done.output and "line " not in done.output


def test_a_folder_that_cannot_be_written_to_gets_no_part_of_the_manifests(site: Site) -> None:
    run = Legacy("base", trained=60)
    site.write(run)
    Path("manifests/old").mkdir()
    Path("manifests/old/lists").write_text("")  # where the copy of a data list would go
    done = adopt(site, run)
    assert done.exit_code == 1
    assert "cannot be written: " in done.output
    assert [path.name for path in Path("manifests/old").iterdir()] == ["lists"]


def test_what_is_there_is_never_written_over_and_a_dry_run_writes_nothing(site: Site) -> None:
    run = Legacy("base", trained=60)
    site.write(run)
    printed = adopt(site, run, options=("--dry-run",))
    assert printed.exit_code == 0
    assert "kind: Campaign" in printed.output
    assert not Path("manifests/old").exists()
    Path("manifests/old").mkdir()
    Path("manifests/old/model.yaml").write_text("# mine\n")
    refused = adopt(site, run)
    assert refused.exit_code == 1
    assert "manifests/old/model.yaml exists, and is not written over" in refused.output
    assert sorted(path.name for path in Path("manifests/old").iterdir()) == ["model.yaml"]


def test_no_secret_of_the_launchers_environment_leaves_the_cluster(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Legacy("base", trained=60, environment=True, log=False, arguments=False, script=True)
    site.write(run)
    answers: list[bytes] = []
    execute = ProcessTransport.exec

    def kept(link: ProcessTransport, argv: tuple[str, ...], stdin: bytes, timeout_s: float) -> bytes:
        answers.append(execute(link, argv, stdin, timeout_s))
        return answers[-1]

    monkeypatch.setattr(ProcessTransport, "exec", kept)
    assert adopt(site, run).exit_code == 0
    assert b"GLOBAL_BATCH" in answers[0], "the environment was read"
    assert not any(b"not-to-be-told" in answer for answer in answers)


def test_what_a_run_is_called_adds_nothing_to_the_manifests(site: Site) -> None:
    """Names and texts of a shared file system go into comments and values, and out of neither."""
    run = Legacy("base", trained=60, log=False)
    site.write(run)
    log = replace(run, log=True, name="elsewhere")
    site.write(log)
    (output,) = (site.root / "launcher" / "logs" / "elsewhere").rglob("output.log")
    output.rename(site.of(run) / "a\n  suspend: true\n#.log")
    subprocess.run(["rm", "-r", str(site.of(log))], check=True)
    done = adopt(site, run)
    assert done.exit_code == 0, done.output
    text = (Path("manifests/old") / "stages.yaml").read_text()
    assert "# from the log (a   suspend: true #.log)" in text
    assert not any(line.strip() == "suspend: true" for line in text.splitlines())


REFUSED = {
    "nothing is there": ("/nowhere", "/nowhere: there is no such folder"),
    "a file is there": ("{root}/bin/qsub", "/bin/qsub is no folder"),
    "no checkpoint is there": ("{root}/launcher", "holds no checkpoint"),
    "it was made by a campaign": ("{root}/workspace", "lies in the cluster's workspace"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_says_what_is_wrong_and_writes_nothing_when(site: Site, case: str) -> None:
    path, message = REFUSED[case]
    done = told("adopt", path.format(root=site.root), "--cluster", "here", "-o", "manifests/old")
    assert (done.exit_code, Path("manifests/old").exists()) == (1, False)
    assert message in done.output


def test_a_cluster_that_is_not_there_is_told_with_the_one_that_was_meant(site: Site) -> None:
    done = told("adopt", "/x", "--cluster", "her")
    assert done.exit_code == 1
    assert "her is neither a Cluster here nor a file with one. Did you mean here?" in done.output


def test_no_complete_checkpoint_is_no_run(site: Site) -> None:
    run = Legacy("base", trained=60)
    site.write(run)
    for shard in site.of(run).glob("*/bf16_zero_pp_rank_1_*"):
        shard.unlink()
    done = adopt(site, run)
    assert done.exit_code == 1
    assert "no complete checkpoint" in done.output


def manifest(name: str) -> str:
    """With one blank where there are several."""
    return " ".join((Path("manifests/old") / name).read_text().split())
