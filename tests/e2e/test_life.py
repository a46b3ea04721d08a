"""The whole life of a change, for real: pull request, review, merge, training, a failed gate, a proposal, done.

And then, from a fresh clone and without the cluster: what made this checkpoint?
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.sshd import Sshd
from tests.e2e.campaign import TOKENS_PER_ITERATION, Repository, make

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STAGES = f"""\
apiVersion: cpt/v1
kind: Stage
metadata: {{name: base}}
spec:
  campaign: quickstart
  dataset: prose
  tokens: {60 * TOKENS_PER_ITERATION}
  source: random
  strategies:
    - name: pretrain
      legs: [{{mixture: {{D0: 1}}, lr: {{shape: constant, warmup: 10%}}}}]
  resources: {{nodes: 1, walltime: 5m}}
---
apiVersion: cpt/v1
kind: Stage
metadata: {{name: code}}
spec:
  suspend: true
  campaign: quickstart
  dataset: code
  shift: strong
  tokens: {24 * TOKENS_PER_ITERATION}
  source: {{stage: base, checkpoint: pre-cooldown}}
  strategies:
    - name: little-replay
      legs: [{{mixture: {{D0: 0.30, D2: 0.70}}, lr: {{shape: constant}}}}]
    - name: more-replay
      legs: [{{mixture: {{D0: 0.60, D2: 0.40}}, lr: {{shape: constant}}}}]
  resources: {{nodes: 1, walltime: 5m}}
"""
CAMPAIGN = (
    ("stages: [stage-1, stage-2, stage-3, stage-4]", "stages: [base, code]\n  authority: {reviewed: main}"),
    ("onFailedGate: advance", "onFailedGate: propose"),
    ("strong: {warn: 0.15, fail: 0.30}", "strong: {warn: 0.10, fail: 0.20}"),
)
CHANGE = (("  suspend: true\n", ""), ("{D0: 0.30, D2: 0.70}", "{D0: 0.02, D2: 0.98}"))
WRITE = """import pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / f"{len(list(folder.iterdir())):02}").write_bytes(sys.stdin.buffer.read())"""
GO_ON = ("apply", "quickstart", "--unchanged", "--until-done", "--yes")
"""What a schedule runs."""


@dataclass(frozen=True)
class Team:
    """People and runners who share a bare repository behind a real sshd, and a cluster."""

    hub: str
    folder: Path
    ada: Repository

    @property
    def cluster(self) -> Path:
        return self.ada.root / ".local/quickstart"

    def clone(self, name: str, branch: str = "main") -> Repository:
        """Somebody's clone, or a runner's."""
        Repository(self.folder).git("clone", "-q", "--branch", branch, self.hub, name)
        return Repository(self.folder / name)

    def checked(self, pull_request: str, branch: str) -> tuple[str, Path]:
        """What the checks of a pull request leave: the comment, and the plan that it shows. They ask no cluster."""
        runner = self.clone(f"checks-of-{pull_request}", branch)
        words = ("plan", "quickstart", "--at", "HEAD", "--base", "origin/main", "--format", "markdown")
        return runner.run(*words, "-o", "next.plan"), runner.root / "next.plan"

    def merge(self, pull_request: str, branch: str) -> Repository:
        """A reviewer's button; and the runner that a merge wakes."""
        reviewer = self.clone(f"review-of-{pull_request}")
        reviewer.git("merge", "-q", "--no-ff", "-m", f"Merge {branch}", f"origin/{branch}")
        reviewer.git("push", "-q", "origin", "main")
        return self.clone(f"runner-after-{pull_request}")

    def told(self) -> list[dict[str, Any]]:
        """Every notice that the team has got, in turn."""
        return [json.loads(file.read_text()) for file in sorted((self.folder / "told").iterdir())]


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """Two stages, of which the second is suspended; only what was on the remote's `main` is applied."""
    ada = make(tmp_path / "ada")
    cluster, manifests = ada.root / ".local/quickstart", ada.root / "manifests"
    here, anywhere = "{kind: local, root: .local/quickstart}", f"login-node, root: {cluster}, path: [{cluster}/bin]"
    ada.edit("cluster.yaml", here, f"{{kind: {anywhere}}}")
    (manifests / "stages.yaml").write_text(STAGES)
    for before, after in CAMPAIGN:
        ada.edit("campaign.yaml", before, after)
    model = re.sub(r"\n *- \{name: val-D1.*", "", (manifests / "model.yaml").read_text())
    (manifests / "model.yaml").write_text(model.replace("checkpointEvery: 7", "checkpointEvery: 100"))
    ada.git("commit", "-qam", "Prose, then code")
    ada.git("clone", "-q", "--bare", ".", str(tmp_path / "hub.git"))
    (tmp_path / "told").mkdir()
    monkeypatch.setenv("RECONCILE_NOTIFY_WITH", shlex.join([sys.executable, "-c", WRITE, str(tmp_path / "told")]))
    with Sshd(tmp_path / "sshd") as server:
        monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -F {server.config}")
        ada.git("remote", "add", "origin", f"login:{tmp_path}/hub.git")
        yield Team(f"login:{tmp_path}/hub.git", tmp_path, ada)


def test_a_change_lives_from_its_pull_request_to_a_checkpoint_that_the_record_alone_explains(team: Team) -> None:
    # Ada trains the first stage by hand. The second is suspended: somebody is to look at its weights first.
    team.ada.run("apply", "--until-done", "--yes", status=1)

    # Bo thinks that hardly any replay will do, and asks for it.
    bo = team.clone("bo")
    bo.git("checkout", "-q", "-b", "less-replay")
    for before, after in CHANGE:
        bo.edit("stages.yaml", before, after)
    bo.git("commit", "-qam", "Code with hardly any replay")
    bo.git("push", "-q", "origin", "less-replay")

    # The comment says what that means. Nobody applies it before it is merged, not even Bo.
    comment, plan = team.checked("less-replay", "less-replay")
    for told in ("-   weights  ██████░", "+            ███████████████████░ D2 0.98", "! suspend: True → False"):
        assert told in comment
    assert "**new** `CPT030` warning: Less than 5 % replay" in comment
    assert "a commit that main was at" in bo.run("apply", "--yes", status=1)

    # Merged, exactly that plan is carried out, and a schedule goes on with it. The model forgets prose.
    runner = team.merge("less-replay", "less-replay")
    runner.run("apply", str(plan), "--yes")
    assert "little-replay failed: val-D0 +" in runner.run(*GO_ON, status=1)

    # What the ladder has for that is proposed, with the evidence. Somebody agrees, and it holds.
    (branch,) = re.findall(r"refs/heads/(reconcile/propose/\S+)", runner.git("ls-remote", "origin"))
    assert "✗ forgetting: val-D0 +" in runner.git("log", "-1", "--format=%B", branch)
    comment, plan = team.checked("the-proposal", branch)
    assert "! ladder: little-replay > more-replay → more-replay > little-replay" in comment
    runner = team.merge("the-proposal", branch)
    runner.run("apply", str(plan), "--yes")
    assert "All 2 stages of quickstart are done." in runner.run(*GO_ON)

    # Four machines have applied. The team was told everything once.
    notices = team.told()
    assert [(told["stage"], told["kind"], told["state"], told["resolved"]) for told in notices] == [
        ("base", "done", "success", False),
        ("code", "hold", "pending", False),  # suspended
        ("code", "hold", "pending", True),
        ("code", "hold", "failure", False),  # by its gate
        ("code", "hold", "pending", True),
        ("code", "done", "success", False),
    ]
    assert branch in notices[3]["wayOn"]

    # A year later the cluster is gone. What made this checkpoint?
    attempt = notices[-1]["attempt"]
    script = (team.cluster / f"workspace/quickstart/code/{attempt}/jobs/l0-n0-train.pbs").read_text()
    lists = {(team.cluster / f"data/{symbol}.txt").read_text() for symbol in ("D0", "D2")}
    shutil.rmtree(team.cluster)
    reader = team.clone("a-year-later")
    shown = reader.run("show", attempt)
    assert re.search(r"weights +0\.6 D0 \+ 0\.4 D2", shown)
    assert all(reader.git("show", f"origin/reconcile/record:lists/{sha256(text)}.txt") == text for text in lists)
    assert re.search(r"LR +constant at 0\.002", shown)
    assert re.search(r"base +[0-9a-f]{12}/leg-0, 60 iterations", shown)
    assert re.search(rf"planned at {runner.git('rev-parse', 'HEAD')[:9]} by .*: Merge {branch}", shown)
    assert re.search(r"reconcile +\d+\.\d+\.\d+, templates [0-9a-f]{16}", shown)
    assert f"the manifests at {runner.git('rev-parse', 'HEAD')[:9]} come to the recipe {attempt}" in shown
    assert "✓ and to 2 scripts, byte for byte" in shown
    assert re.search(rf"l0-n0-train +{sha256(script)[:12]} ", shown)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
