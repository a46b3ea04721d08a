"""A real campaign in a throwaway git repository: the quickstart's stages with budgets of seconds, or a shipped walk."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

MANIFESTS = Path(__file__).parent.parent.parent / "manifests"
TOKENS_PER_ITERATION = 16 * 128
BUDGETS = {"stage-1": 120, "stage-2": 30, "stage-3": 30, "stage-4": 30}
"""Iterations; stage 1 is long enough for its walltime to end before it."""


@dataclass(frozen=True)
class Repository:
    """A git repository with one campaign, and the cluster that belongs to it."""

    root: Path

    @property
    def workspace(self) -> Path:
        return self.root / ".local" / "quickstart" / "workspace"

    @property
    def spool_bin(self) -> Path:
        return self.root / ".local" / "quickstart" / "bin"

    def command(self, *arguments: str) -> list[str]:
        """The argument vector of `reconcile ...`."""
        return [sys.executable, "-m", "reconciler.cli.main", *arguments]

    def run(self, *arguments: str, status: int | None = 0, timeout_s: float = 300) -> str:
        """Run `reconcile ...` here and return both outputs; fails on another exit status."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.root, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        told = done.stdout + done.stderr
        assert status is None or done.returncode == status, f"exit {done.returncode}:\n{told}"
        assert "Traceback" not in told, told
        return told

    def git(self, *arguments: str) -> str:
        """Run git here."""
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        done = subprocess.run(["git", *identity, *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout

    def edit(self, file: str, before: str, after: str) -> None:
        """Replace the first occurrence of `before` in a manifest; it must be there."""
        path = self.root / "manifests" / file
        text = path.read_text()
        assert before in text, f"{before!r} is not in {file}"
        path.write_text(text.replace(before, after, 1))

    def status(self) -> dict[str, dict[str, Any]]:
        """Stage → its status, from `reconcile status --json`."""
        told = subprocess.run(
            self.command("status", "--json"), cwd=self.root, capture_output=True, text=True, check=True
        )
        body = json.loads(told.stdout)
        return {stage["stage"]: stage for stage in body["stages"]}

    def jobs(self) -> dict[str, dict[str, Any]]:
        """The whole job table, history included."""
        done = subprocess.run(
            [self.spool_bin / "qstat", "-x", "-f", "-F", "json"], capture_output=True, text=True, check=True
        )
        found: dict[str, dict[str, Any]] = json.loads(done.stdout).get("Jobs", {})
        return found

    def walked(self) -> list[list[str]]:
        """[stage, strategy, kind] of every job in the order of their submission; jobs of one leg, one after the other,
        are one."""
        keys = [key.split("/") for key in self.submitted()]
        recipe = {key[2]: self.workspace / key[0] / key[1] / key[2] / "recipe.json" for key in keys}
        strategy = {attempt: json.loads(path.read_text())["strategy"] for attempt, path in recipe.items()}
        return [each for (*each, _), _ in groupby((key[1], strategy[key[2]], key[5], key[3]) for key in keys)]

    def simulated(self, *assumed: str) -> list[list[str]]:
        """The same of what `reconcile simulate` says would be submitted."""
        done = subprocess.run(
            self.command("simulate", "--json", *assumed), cwd=self.root, capture_output=True, text=True, check=True
        )
        steps = [step for step in json.loads(done.stdout)["steps"] if step["kind"] != "judge"]
        keyed = ((s["stage"], s["strategy"], s["kind"], s["key"].split("/")[3]) for s in steps)
        return [each for (*each, _), _ in groupby(keyed)]

    def submitted(self) -> list[str]:
        """The action key of every job that was ever submitted."""
        return [job["Variable_List"]["CPT_KEY"] for job in self.jobs().values()]


def make(root: Path, scale: str = "tiny", campaign: str = "quickstart") -> Repository:
    """The repository, committed, with its cluster built; `tiny` cuts the quickstart's budgets to seconds.

    Another campaign than the quickstart takes its data and cluster from it.
    """
    root.mkdir(parents=True)
    repository = Repository(root)
    shutil.copytree(MANIFESTS / campaign, root / "manifests")
    for shared in ("cluster.yaml", "datasets.yaml"):
        shutil.copy(MANIFESTS / "quickstart" / shared, root / "manifests" / shared)
    _beside_another(root / "manifests" / "cluster.yaml")
    (root / ".gitignore").write_text("/.local/\n")
    if scale == "tiny":
        _cut_down(root / "manifests")
    repository.git("init", "-q", "-b", "main")
    repository.git("add", ".")
    repository.git("commit", "-q", "-m", "A campaign of seconds")
    repository.run("local", "--scale", scale)
    return repository


def committed(root: Path) -> Repository:
    """The quickstart where a clone has it, at its own scale and committed; its cluster is not built yet."""
    root.mkdir(parents=True)
    repository = Repository(root)
    shutil.copytree(MANIFESTS / "quickstart", root / "manifests/quickstart")
    _beside_another(root / "manifests/quickstart/cluster.yaml")
    (root / ".gitignore").write_text("/.local/\n")
    repository.git("init", "-q", "-b", "main")
    repository.git("add", ".")
    repository.git("commit", "-q", "-m", "The quickstart")
    return repository


def _beside_another(cluster: Path) -> None:
    """Two campaigns share two cores: a job computes on one, since two threads that wait for each other spin, and looks
    are made half as often. The losses are the same to the last logged digit.
    """
    text = cluster.read_text()
    for shipped, here in (('OMP_NUM_THREADS: "2"', 'OMP_NUM_THREADS: "1"'), ("poll: 0.5s", "poll: 1s")):
        assert shipped in text
        text = text.replace(shipped, here)
    cluster.write_text(text)


def _cut_down(manifests: Path) -> None:
    stages, model = manifests / "stages.yaml", manifests / "model.yaml"
    documents = stages.read_text().split("\n---\n")
    stages.write_text("\n---\n".join(_small(document) for document in documents))
    text = re.sub(r"checkpointEvery: \d+", "checkpointEvery: 7", model.read_text())
    # Each set is a process of seconds in every evaluation.
    model.write_text(re.sub(r"\n *- \{name: val-D[23].*", "", text))


def _small(document: str) -> str:
    found = re.search(r"name: (stage-\d)", document)
    assert found is not None
    tokens = BUDGETS[found[1]] * TOKENS_PER_ITERATION - 1
    document = re.sub(r"\n  tokens: \S+", f"\n  tokens: {tokens}", document, count=1)
    walltime = "13s" if found[1] == "stage-1" else "1m"
    return re.sub(r"walltime: \S+}", f"walltime: {walltime}}}", document)
