"""The main job over a real sshd: the link is cut at random, two reconcilers apply at once, and nothing differs.

And on a login node, without a link.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from reconciler.cli.connecting import CONFIG_VARIABLE
from tests.cluster.sshd import Sshd
from tests.cluster.sshproxy import Proxy
from tests.e2e.campaign import TOKENS_PER_ITERATION, Repository, make
from tests.e2e.test_campaign import assert_no_iteration_trained_twice, final_state, keys_without_segments

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

SEED = 20260102
FAULTS_S = 15.0
"""How long the link misbehaves at least; from then on everything must come to its end."""
CONNECTIONS_MIN = 8
STAGES = ("stage-1", "stage-2")
"""Enough for evaluations, verdicts, and a source taken from another stage."""
ITERATIONS = {"stage-1": 21, "stage-2": 14}


def far_away(root: Path) -> Repository:
    """A campaign whose cluster is the same machine, reached as `login` over SSH."""
    repository = make(root)
    cluster = repository.root / ".local" / "quickstart"
    repository.edit(
        "cluster.yaml",
        "{kind: local, root: .local/quickstart}",
        f"{{kind: ssh, host: login, root: {cluster}, path: [{cluster}/bin]}}",
    )
    shorten(repository.root / "manifests")
    repository.git("commit", "-q", "-a", "-m", "The cluster is far away")
    return repository


def shorten(manifests: Path) -> None:
    """The first stages alone, a few iterations of each, one validation set: a job is then little but its start."""
    campaign, model, stages = (manifests / f"{name}.yaml" for name in ("campaign", "model", "stages"))
    campaign.write_text(re.sub(r"stages: \[.*?\]", f"stages: [{', '.join(STAGES)}]", campaign.read_text()))
    model.write_text(re.sub(r"(?m)^.*name: val-D[123].*\n", "", model.read_text()))
    documents = stages.read_text().split("\n---\n")[: len(STAGES)]
    for number, (document, iterations) in enumerate(zip(documents, ITERATIONS.values(), strict=True)):
        tokens = iterations * TOKENS_PER_ITERATION - 1
        short = re.sub(r"\n  tokens: \S+", f"\n  tokens: {tokens}", document, count=1)
        documents[number] = re.sub(r"resources: .*", "resources: {nodes: 1, walltime: 1m}", short)
    stages.write_text("\n---\n".join(documents))


def disturb(proxy: Proxy, dice: random.Random) -> None:
    """One fault after another: cut now, cut or swallow after some bytes, swallow for a while, turn away.

    For `FAULTS_S`, and on a slow machine until they have met `CONNECTIONS_MIN` connections.
    """
    begun = time.monotonic()
    while (lasted := time.monotonic() - begun) < 4 * FAULTS_S:
        if lasted > FAULTS_S and proxy.connections >= CONNECTIONS_MIN:
            break
        time.sleep(dice.uniform(0.05, 0.8))
        match dice.randrange(5):
            case 0:
                proxy.cut()
            case 1 | 2:
                # An agent and its request are some 80 kB up; an answer is a few kB down.
                proxy.arm("up", dice.randrange(100_000))
                proxy.arm("down", dice.randrange(12_000))
                time.sleep(dice.uniform(0.1, 0.8))
            case 3:
                proxy.swallow()
                time.sleep(dice.uniform(0.1, 1.0))
            case _:
                proxy.accepting = False
                proxy.cut()
                time.sleep(dice.uniform(0.1, 0.5))
        proxy.accepting = True
        proxy.heal()
        proxy.cut()


def apply_until_done(repository: Repository, config: Path, told: list[str]) -> None:
    """What a person or a runner does: run it again when it says that the cluster could not be reached."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        done = subprocess.run(
            repository.command("apply", "--until-done", "--yes"),
            cwd=repository.root,
            env=environment(repository, config),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        told.append(done.stdout + done.stderr)
        if done.returncode == 0:
            return


def environment(repository: Repository, config: Path) -> dict[str, str]:
    """Of one person, who shares nothing with the person of the other repository."""
    return os.environ | {CONFIG_VARIABLE: str(config), "XDG_STATE_HOME": str(repository.root / ".local" / "state")}


def test_cut_at_random_with_two_reconcilers_a_campaign_over_ssh_ends_in_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm, rough = far_away(tmp_path / "calm"), far_away(tmp_path / "rough")
    with Sshd(tmp_path / "sshd") as quiet, Sshd(tmp_path / "sshd-rough") as sshd, Proxy(sshd.port) as proxy:
        sshd.know(proxy.port)
        through = sshd.configure(port=proxy.port, name="rough")
        undisturbed: list[str] = []
        told: list[str] = []
        threads = [
            threading.Thread(target=apply_until_done, args=each)
            for each in ((calm, quiet.config, undisturbed), (rough, through, told), (rough, through, told))
        ]
        for thread in threads:
            thread.start()
        disturb(proxy, random.Random(SEED))
        for thread in threads:
            thread.join()

        assert len(undisturbed) == 1, undisturbed
        assert quiet.logged("Connection from") == 1, "one connection serves every pass of one apply"
        assert not [text for text in told if "Traceback" in text]
        assert proxy.connections >= CONNECTIONS_MIN, "the link was hardly disturbed"
        monkeypatch.setenv(CONFIG_VARIABLE, str(quiet.config))
        expected = final_state(calm)
        monkeypatch.setenv(CONFIG_VARIABLE, str(through))
        assert final_state(rough) == expected
        assert [phase for phase, *_ in expected.values()] == ["Done"] * len(STAGES)
    keys = rough.submitted()
    assert len(keys) == len(set(keys)), "a key was submitted twice"
    assert keys_without_segments(keys) == keys_without_segments(calm.submitted())
    assert_no_iteration_trained_twice(rough)


def test_on_a_login_node_the_commands_on_its_own_path_are_used_and_no_connection_is_made(tmp_path: Path) -> None:
    repository = make(tmp_path / "repository")
    cluster = repository.root / ".local" / "quickstart"
    repository.edit(
        "cluster.yaml",
        "{kind: local, root: .local/quickstart}",
        f"{{kind: login-node, root: {cluster}, path: [{cluster}/bin]}}",
    )
    shorten(repository.root / "manifests")
    repository.git("commit", "-q", "-a", "-m", "Applied from a login node")
    repository.run("apply", "--until-done", "--yes", timeout_s=500)
    assert [stage["phase"] for stage in repository.status().values()] == ["Done"] * len(STAGES)
