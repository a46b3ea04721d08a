"""What `apply` puts on record, pass by pass: in a real repository, from a campaign that falls back once."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import loop
from reconciler.model.faults import Fault
from reconciler.model.observed import Unread
from reconciler.record.branch import REF, Branch
from reconciler.record.recorder import Recorder
from tests.record.campaign import PLACE, Cluster, live, planned, recording
from tests.record.repositories import bare, clone, git, on


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cluster]:
    """A repository in which three stages are on record, and their cluster."""
    root = planned(tmp_path_factory.mktemp("told") / "repository")
    cluster = Cluster.of(root)
    live(root, cluster)
    return root, cluster


def again(root: Path, cluster: Cluster, passes: int = 3) -> loop.Recording:
    """Passes that do nothing but look, by somebody whose clone is at `root`."""
    kept = recording(root, cluster.world.desired)
    for _ in range(passes):
        loop.record(cluster.world.desired, loop.Pass(cluster.look(kept.wanted(cluster.world.desired)), ()), kept)
    return kept


def test_every_job_verdict_and_checkpoint_is_on_record(told: tuple[Path, Cluster]) -> None:
    root, cluster = told
    files = on(root)
    for receipt in cluster.world.receipts:
        assert sum(receipt.key in text for path, text in files.items() if path.endswith("receipt.json")) == 1
    scripts = {text for path, text in files.items() if path.endswith("script.pbs")}
    assert scripts == set(cluster.scripts.values())
    assert sum("/verdicts/final.json" in path for path in files) == 3
    assert sum("/step-" in path for path in files) == 3
    assert {path.split("/")[0] for path in files} == {"README.md", "campaigns", "lists", "manifests", "templates"}


def test_a_pass_in_which_nothing_happened_writes_nothing(told: tuple[Path, Cluster]) -> None:
    root, cluster = told
    before = git(root, "rev-parse", REF)
    again(root, cluster)
    assert git(root, "rev-parse", REF) == before


def test_a_record_that_is_lost_is_made_again_from_the_cluster(told: tuple[Path, Cluster], tmp_path: Path) -> None:
    root, cluster = told
    other = clone(tmp_path / "other", str(root))
    git(other, "remote", "remove", "origin")
    again(other, cluster)
    assert on(other) == on(root)


def test_two_that_saw_the_same_write_the_same(told: tuple[Path, Cluster], tmp_path: Path) -> None:
    root, cluster = told
    trees = set()
    for name in ("one", "two"):
        other = clone(tmp_path / name, str(root))
        git(other, "remote", "remove", "origin")
        again(other, cluster)
        trees.add(git(other, "rev-parse", f"{REF}^{{tree}}"))
    assert len(trees) == 1


def test_a_fresh_clone_takes_up_the_record_that_is_there(told: tuple[Path, Cluster], tmp_path: Path) -> None:
    root, cluster = told
    hub = bare(tmp_path / "hub.git", root)
    runner = clone(tmp_path / "runner", f"file://{hub}", "--depth", "1", "--single-branch", "--branch", "main")
    again(runner, cluster, passes=1)
    assert git(runner, "rev-parse", REF) == git(root, "rev-parse", REF)


def test_the_cluster_wins_where_the_record_has_another_verdict(told: tuple[Path, Cluster], tmp_path: Path) -> None:
    root, cluster = told
    other = clone(tmp_path / "other", str(root))
    again(other, cluster, passes=1)
    path = next(path for path in on(other) if "/verdicts/" in path)
    Branch(other).put({path: b"{}\n"}, lambda path, there, new: new, str)
    kept = recording(other, cluster.world.desired)
    (said,) = loop.record(cluster.world.desired, loop.Pass(cluster.look(), ()), kept).told
    assert said.code is Fault.RECORD_DIFFERS
    assert said.message.startswith("record and cluster disagree: ")
    assert "the verdict on the cluster is another" in said.message
    assert on(other)[path] == on(root)[path]


def test_an_attempt_that_is_not_on_the_cluster_any_more_stays_on_record_and_is_told(
    told: tuple[Path, Cluster], tmp_path: Path
) -> None:
    root, cluster = told
    other = clone(tmp_path / "other", str(root))
    again(other, cluster, passes=1)
    look = cluster.look()
    assert not isinstance(look.observed.attempts, Unread)
    less = replace(look, observed=replace(look.observed, attempts=look.observed.attempts[1:]))
    kept = recording(other, cluster.world.desired)
    (said,) = loop.record(cluster.world.desired, loop.Pass(less, ()), kept).told
    assert "its folder is not on the cluster any more" in said.message
    assert on(other) == on(root)


def test_one_odd_file_keeps_no_other_from_the_record(told: tuple[Path, Cluster], tmp_path: Path) -> None:
    root, cluster = told
    other = clone(tmp_path / "other", str(root))
    git(other, "remote", "remove", "origin")
    look = cluster.look()
    assert not isinstance(look.observed.attempts, Unread)
    odd = {"final": "\ud800", "x" * 119: "y" * 9_000_000}
    attempts = tuple(replace(seen, verdicts=odd) for seen in look.observed.attempts)
    kept = recording(other, cluster.world.desired)
    loop.record(
        cluster.world.desired, loop.Pass(replace(look, observed=replace(look.observed, attempts=attempts)), ()), kept
    )
    assert {path for path in on(other) if "/verdicts/" not in path} < set(on(root))
    assert sum("/verdicts/" in path for path in on(other)) == 3


def test_two_that_apply_at_once_from_two_clones_lose_nothing(told: tuple[Path, Cluster], tmp_path: Path) -> None:
    root, _ = told
    hub = bare(tmp_path / "hub.git", root)
    git(hub, "update-ref", "-d", REF)
    roots = [clone(tmp_path / name, str(hub)) for name in ("one", "two")]
    failed: list[BaseException] = []
    # Each looks at a cluster of its own, and they stand for one: neither may see more of it than the other has.
    step = threading.Barrier(len(roots), timeout=60)

    def work(clone_of_it: Path) -> None:
        try:
            live(clone_of_it, Cluster.of(clone_of_it), before_each_record=step.wait)
        except BaseException as error:
            failed.append(error)
            step.abort()

    threads = [threading.Thread(target=work, args=(each,)) for each in roots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert on(hub) == on(root)


def test_a_remote_that_is_down_stops_no_pass_and_is_asked_less_and_less(
    told: tuple[Path, Cluster], tmp_path: Path
) -> None:
    root, cluster = told
    hub = bare(tmp_path / "hub.git", root)
    git(hub, "update-ref", "-d", REF)
    other = clone(tmp_path / "other", str(hub))
    kept = recording(other, cluster.world.desired)
    git(other, "remote", "set-url", "origin", "/nowhere")
    one = loop.Pass(cluster.look(), ())
    said = loop.record(cluster.world.desired, one, kept).told
    (first,) = said
    assert first.code is Fault.RECORD_NOT_KEPT
    assert "could not be pushed to origin" in first.message
    assert f"git push origin {REF}" in first.message
    two = loop.Pass(cluster.look(kept.wanted(cluster.world.desired)), ())
    assert loop.record(cluster.world.desired, two, kept).told == ()  # half a minute has not passed
    assert isinstance(kept.recorder, Recorder)
    assert len(kept.recorder.close()) == 1  # and once more at the end
    assert PLACE in "".join(on(other))


def test_what_cannot_be_written_stops_no_pass(told: tuple[Path, Cluster], tmp_path: Path) -> None:
    root, cluster = told
    other = clone(tmp_path / "other", str(root))
    git(other, "remote", "remove", "origin")
    kept = recording(other, cluster.world.desired)
    (other / ".git/refs/heads/reconcile").write_text("in the way")
    (said,) = loop.record(cluster.world.desired, loop.Pass(cluster.look(), ()), kept).told
    assert "could not be put on record" in said.message
