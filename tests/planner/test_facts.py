"""The record and the cluster tell one story: what a look found goes to files and comes back as the same look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.observed import CheckpointSeen, FolderAbsent, FolderSeen, Inside, ListSeen, Receipt, Unread
from reconciler.model.plan import ActionKind
from reconciler.planner import facts
from reconciler.planner.planner import plan
from reconciler.planner.recalled import Recalled, places, recall
from reconciler.planner.timeline import timeline
from tests.planner.test_trial import trial, tried
from tests.planner.world import FORGOT_D0, NOW_S, World, after, log_of, quickstart

PLACE = facts.place_of("quickstart", "laptop", "/w")


def record_of(world: World) -> dict[str, str]:
    return facts.facts(world.desired, world.look(), PLACE)


def recalled(files: dict[str, str]) -> Recalled:
    texts = {path: text.encode() for path, text in files.items()}
    (place,) = places(list(texts))
    return recall(place, {path: text for path, text in texts.items() if path.startswith(f"{place}/")})


def lists(world: World) -> dict[str, ListSeen]:
    return {path: seen for path, seen in world.look().lists.items() if isinstance(seen, ListSeen)}


def fell_back() -> World:
    world = after(2)
    world.finish_stage(FORGOT_D0)
    world.finish_stage({"val-D0": 2.1, "val-D1": 2.5, "val-D2": 3.0, "val-D3": 3.5})
    return world


def killed_twice() -> World:
    world = World(quickstart())
    for iteration in (100, 200):
        world.trained(world.the_action(), iteration)
    return world


def unanswered() -> World:
    """A qsub left no answer, and its job has trained all the same."""
    world = World(quickstart())
    world.trained(world.the_action(), 100)
    world.receipts[-1] = replace(world.receipts[-1], done=False, job_id=None)
    return world


WORLDS: list[Callable[[], World]] = [
    unanswered,
    lambda: after(1),
    lambda: after(4),
    fell_back,
    killed_twice,
    lambda: tried(trial()),
]


@pytest.mark.parametrize("make", WORLDS)
def test_the_record_of_what_is_over_plans_as_the_cluster_does(make: Callable[[], World]) -> None:
    world = make()
    found = recalled(record_of(world))
    assert found.unreadable == ()
    again = found.observed(lists(world))
    ours, theirs = plan(world.desired, again), world.plan()
    assert [replace(s, node_hours=0, conditions=()) for s in ours.stages] == [
        replace(s, node_hours=0, conditions=()) for s in theirs.stages
    ]
    assert [str(action.key) for action in ours.actions] == [str(action.key) for action in theirs.actions]


@pytest.mark.parametrize("make", WORLDS)
def test_whoever_saw_the_same_writes_the_same(make: Callable[[], World]) -> None:
    world = make()
    assert record_of(world) == record_of(world)
    later = replace(world.look(), now_s=NOW_S + 5)
    assert facts.facts(world.desired, later, PLACE) == record_of(world)


def test_what_goes_on_is_not_written() -> None:
    world = after(1)
    action = world.until(ActionKind.TRAIN)
    world.submit(action)
    before = record_of(world)
    world.leg(action, logs=(log_of(action, 40, 2.0, saved=()),))
    assert record_of(world) == before
    folder = f"{PLACE}/{facts.action_folder(action.key)}"
    assert f"{folder}/receipt.json" in before
    assert f"{folder}/ended.json" not in before
    found = recalled(before)
    (job,) = [job for job in found.observed({}).jobs if job.live]  # type: ignore[union-attr]
    assert job.key == str(action.key)


@pytest.mark.parametrize("table", ["jobs", "attempts", "receipts"])
def test_of_what_could_not_be_read_nothing_is_said(table: str) -> None:
    world = after(2)
    whole = record_of(world)
    part = facts.facts(world.desired, replace(world.look(), **{table: Unread("timed out")}), PLACE)  # type: ignore[arg-type]
    assert part.items() <= whole.items()
    assert not any(path.endswith(("ended.json", "log.json")) for path in part)


def test_a_log_is_written_once_it_is_over_and_again_while_it_may_grow() -> None:
    world = after(1)
    (path,) = (path for path in record_of(world) if path.endswith("train/log.json"))
    known = facts.facts(world.desired, world.look(), PLACE, {path})
    assert path in known
    late = replace(world.look(), now_s=NOW_S + 2 * facts.LATE_S)
    assert path not in facts.facts(world.desired, late, PLACE, {path})


def test_the_origin_of_a_job_holds_what_its_script_was_made_from() -> None:
    world = World(quickstart())
    action = world.the_action()
    manifests, templates = {"manifests/.odd name.yaml": "kind: Stage\n"}, {"train.pbs": "#!/bin/bash\n"}
    applied = facts.Applied("c" * 40, False, "Ada <a@b>", "1 +0000", "Plan", manifests, templates, "1.0")
    seen = {
        path: replace(found, sha256=hashlib.sha256(found.text.encode()).hexdigest())
        for path, found in lists(world).items()
    }
    there = {"/elsewhere": FolderSeen((CheckpointSeen(7, True, inside=Inside(rate=2e-3)),), latest=7)}
    look = replace(world.look(), lists=seen, folders={**there, "/nowhere": FolderAbsent()})
    files = facts.origins(world.desired, applied, look, PLACE, {action.key: ("1.srv", "#!/bin/sh\n")})
    folder = f"{PLACE}/{facts.action_folder(action.key)}"
    assert files[f"{folder}/script.pbs"] == "#!/bin/sh\n"
    about = json.loads(files[f"{folder}/origin.json"])
    assert files[f"manifests/{about['manifests']}/manifests/%2Eodd%20name.yaml"] == "kind: Stage\n"
    assert {f"lists/{sha}.txt" for sha in about["lists"].values()} <= files.keys()
    assert recalled(files).observed({}).folders == there
    (done,) = recalled(files).done  # the journal has not been looked at since, and the job is known all the same
    assert (done.receipt.job_id, done.origin is not None and done.origin.author) == ("1.srv", "Ada <a@b>")


def test_what_needs_no_job_is_told_without_one() -> None:
    world = after(1)
    (train,) = (r.key for r in world.receipts if r.key.endswith("/train"))
    world.receipts.append(
        Receipt(train.replace("/train", "/prune/leg-0.5"), NOW_S, True, None, None, "ada@laptop:1", "c")
    )
    (story,) = timeline(recalled(record_of(world)), {}).stories
    assert [(event.what, event.job) for event in story.events][-1] == ("prune", "")


def test_a_script_that_is_not_on_record_is_asked_for() -> None:
    world = after(1)
    files = record_of(world)
    wanted = facts.scripts_wanted(files, world.desired, PLACE)
    (train,) = (path for path in wanted if path.endswith("l0-n0-train.pbs"))
    assert train.startswith("/w/quickstart/stage-1/")
    files[wanted[train]] = "#!/bin/sh\n"
    assert train not in facts.scripts_wanted(files, world.desired, PLACE)
    assert not any("judge" in path for path in wanted)


def test_a_job_whose_qsub_left_no_answer_is_on_record_with_its_log_and_its_end() -> None:
    (done,) = recalled(record_of(unanswered())).done
    assert (done.receipt.done, done.receipt.job_id) == (False, None)
    assert done.log is not None and done.ended is not None


def test_a_log_is_on_record_where_the_entry_of_its_job_was_lost() -> None:
    world = unanswered()
    found = recalled(record_of(replace(world, receipts=[])))
    assert (found.done, found.unreadable) == ((), ())
    assert [log.key for seen in found.attempts for leg in seen.legs for log in leg.logs] == [world.jobs[0].key]


# --- two texts of one fact


RECEIPT = b'{"done": true, "written_s": 2}'
SHORT_LOG = b'{"last": [], "saved": [], "finished_rc": null}'
LONG_LOG = SHORT_LOG.replace(b'"last": []', b'"last": [{"iteration": 7}]')
NUMBERS = st.none() | st.integers() | st.floats() | st.just(10**400) | st.booleans()
GROWING = st.fixed_dictionaries(
    {"done": st.booleans(), "written_s": NUMBERS, "finished_rc": NUMBERS, "saved": st.just([])},
    optional={
        "job_id": NUMBERS,
        "failed": NUMBERS,
        "last": st.lists(st.fixed_dictionaries({"iteration": NUMBERS}), max_size=1),
    },
).map(lambda body: json.dumps(body).encode())
"""Receipts and logs with whatever numbers."""
CASES = [
    ("log.json", SHORT_LOG, LONG_LOG),
    ("receipt.json", b'{"done": false, "written_s": 9}', RECEIPT),
    ("ended.json", b'{"state": "finished", "exit_status": null}', b'{"state": "finished", "exit_status": 0}'),
    ("ended.json", b"\xff not JSON", b'{"state": "finished"}'),
    # Refused, and submitted under the same key by a clock that tells an earlier time.
    ("receipt.json", b'{"done": true, "job_id": null, "written_s": 9}', RECEIPT.replace(b"{", b'{"job_id": "7.s", ')),
]


@pytest.mark.parametrize(("name", "less", "more"), CASES)
def test_what_grows_is_taken_where_it_says_more(name: str, less: bytes, more: bytes) -> None:
    path = f"{PLACE}/s/{'a' * 12}/actions/l0-n0-train/{name}"
    assert facts.chosen(path, less, more) == facts.chosen(path, more, less) == more


@pytest.mark.parametrize("place", ["recipe.json", "verdicts/final.json", "external/final.json"])
@pytest.mark.parametrize("damaged", [b"", b"{half a", b'["list"]'])
def test_what_is_damaged_takes_the_place_of_nothing(place: str, damaged: bytes) -> None:
    files = {path: text.encode() for path, text in record_of(after(1)).items()}
    whole = next((text for path, text in files.items() if path.endswith(f"/{place}")), b'{"results": {}}')
    path = f"{PLACE}/s/{'a' * 12}/{place}"
    assert facts.chosen(path, whole, damaged) == facts.chosen(path, damaged, whole) == whole
    assert facts.chosen(path, damaged, whole + b"\n") == whole + b"\n", "the newest of two that are whole"


@given(
    st.sampled_from(["log.json", "ended.json", "receipt.json", "recipe.json", "verdicts/final.json"]),
    *[st.binary(max_size=40) | GROWING] * 3,
)
def test_of_whatever_texts_one_stays(name: str, one: bytes, two: bytes, three: bytes) -> None:
    def kept(a: bytes, b: bytes) -> bytes:
        return facts.chosen(name, *sorted((a, b)))

    assert kept(one, two) == kept(two, one)
    assert kept(kept(one, two), three) == kept(one, kept(two, three))


def test_where_record_and_cluster_disagree_the_cluster_is_taken_and_it_is_said() -> None:
    world = after(1)
    files = record_of(world)
    path = next(path for path in files if "/verdicts/" in path)
    there = {path: b"{}\n"}
    (told,) = facts.disagreements(there, files, PLACE)
    assert "the verdict on the cluster is another than the one that is on record" in str(told)
    assert facts.chosen(path, b"{}\n", files[path].encode()) == files[path].encode()


def test_an_attempt_that_the_cluster_has_no_more_is_said_to_be_gone() -> None:
    world = after(1)
    files = record_of(world)
    (attempt,) = world.attempts
    world.attempts.clear()
    (told,) = facts.gone(files, world.look(), PLACE)
    assert told.path == f"{attempt[0]}/{attempt[1]}"


# --- a stranger's record


DONE = (after(1), record_of(after(1)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"key": 5}',
        '{"a":' * 5000,
        '{"key": "' + "x" * 2_000_000 + '"}',
        "\ud800",
        "NaN",
        '{"done": "yes"}',
    ],
)
@pytest.mark.parametrize("name", ["receipt.json", "ended.json", "origin.json", "log.json"])
def test_whatever_lies_there_is_read_or_left_out(name: str, text: str) -> None:
    world, files = DONE
    folder = next(path for path in files if path.endswith("train/receipt.json")).rsplit("/", 1)[0]
    texts = {path: value.encode() for path, value in files.items()} | {
        f"{folder}/{name}": text.encode("utf-8", "replace")
    }
    found = recall(PLACE, {path: value for path, value in texts.items() if path.startswith(PLACE)})
    assert found.unreadable
    plan(world.desired, found.observed(lists(world)))


def test_a_fact_in_the_place_of_another_is_not_taken_for_it() -> None:
    world = after(2)
    files = record_of(world)
    one, two = [path for path in files if path.endswith("train/receipt.json")][:2]
    found = recalled(files | {one: files[two]})
    assert len(found.unreadable) == 1
    assert len([done for done in found.done if str(done.key) == json.loads(files[two])["key"]]) == 1
