"""The buffer as declared: its weights and selections, from the manifest to the list that is trained on."""

from __future__ import annotations

from fractions import Fraction

import pytest

from reconciler.domain import buffer
from reconciler.model.datalist import content_digest
from reconciler.model.listreader import ParsedList, parse_list
from reconciler.model.observed import ListAbsent, ListSeen, Unread
from reconciler.model.plan import Action, ActionKind
from reconciler.model.recipe import LegRecipe, Recipe, read_recipe
from reconciler.model.status import Phase, Reason
from reconciler.planner.desired import Desired
from reconciler.planner.lists import read_lists
from tests.planner.world import World, after, quickstart, swapped

COMPOSITION = "composition: by-tokens        # share of each done dataset in B; also: equal"
DECLARED = (COMPOSITION, "composition: declared\n    weights: {D1: 0.1, D2: 0.3}")
SELECT = "composition: equal\n    select:\n      D1: {%s}"
SHARDS = (COMPOSITION, SELECT % "shards: [data/D1-b]")
SCORED = (COMPOSITION, SELECT % "scores: {local: {path: data/D1.scores}}, order: lowest, cap: 0.5M")
SCORES = ListSeen("0.9 400000 /data/D1-a\n0.1 600000 /data/D1-b\n", "sha of scores")
BOTH = ("{D0: 0.33, D3: 0.33, buffer: 0.34}", "{D1: 0.2, D3: 0.4, buffer: 0.4}")


def at_stage_4(*edits: tuple[str, str], scores: ListSeen | ListAbsent | Unread | None = None) -> World:
    world = after(0, quickstart(swapped(*edits)))
    if scores is not None:
        world.lists["/r/data/D1.scores"] = scores
    for _ in range(3):
        world.finish_stage({"val-D0": 2.0, "val-D1": 2.5, "val-D2": 3.0, "val-D3": 3.5})
    return world


def leg_of(action: Action) -> LegRecipe:
    recipe = read_recipe(next(f.text for f in action.files if f.path.endswith("/recipe.json")))
    assert isinstance(recipe, Recipe)
    (leg,) = recipe.legs
    return leg


def rows_of(action: Action) -> dict[str, tuple[str, Fraction]]:
    """Prefix → (corpus, share), of the list that a job trains on."""
    parsed = parse_list(next(f.text for f in action.files if "/lists/" in f.path))
    assert isinstance(parsed, ParsedList)
    data = parsed.data
    return dict(zip(data.prefixes, zip(data.corpora, data.shares, strict=True), strict=True))


def test_the_buffer_is_drawn_from_as_its_weights_say() -> None:
    leg = leg_of(at_stage_4(DECLARED).until(ActionKind.TRAIN))
    assert dict(leg.mixture) == {"D0": "33/100", "D3": "33/100", "D1": "17/200", "D2": "51/200"}


def test_a_selection_is_a_source_beside_the_dataset_itself() -> None:
    world = at_stage_4(SHARDS, BOTH)
    action = world.until(ActionKind.TRAIN)
    leg = leg_of(action)
    assert dict(leg.mixture) == {"D1": "1/5", "D3": "2/5", "D1-buffer": "1/5", "D2": "1/5"}
    assert leg.lists["D1"] != leg.lists["D1-buffer"]
    part = parse_list("1 /elsewhere/D1-b more\n")
    assert isinstance(part, ParsedList)
    assert leg.lists["D1-buffer"] == content_digest(part.data)
    rows = rows_of(action)
    assert rows["/data/D1-a"] == ("D1.text", Fraction("0.15"))
    # One row for the file that both take: a quarter of D1's fifth, and all of the selection's.
    assert rows["/data/D1-b"] == ("D1+D1-buffer.more", Fraction("0.25"))
    assert sum(share for _, share in rows.values()) == 1


def test_files_are_taken_by_score_and_sized_by_the_score_file() -> None:
    world = at_stage_4(SCORED, scores=SCORES)
    action = world.until(ActionKind.TRAIN)
    rows = rows_of(action)
    assert rows["/data/D1-b"][0] == "D1-buffer.more"
    assert "/data/D1-a" not in rows
    assert read_lists(world.desired, world.look()).parts == {"D1-buffer": 600_000}
    forecast = world.plan().forecasts[3]
    assert forecast.legs[0].epochs["D1-buffer"] == pytest.approx(0.17 * 500_000 / 600_000)


def test_by_tokens_counts_what_the_buffer_takes() -> None:
    by_tokens = (SCORED[0], SCORED[1].replace("equal", "by-tokens"))
    leg = leg_of(at_stage_4(by_tokens, scores=SCORES).until(ActionKind.TRAIN))
    assert Fraction(leg.mixture["D1-buffer"]) / Fraction(leg.mixture["D2"]) == Fraction(600_000, 1_500_000)


def test_other_scores_are_another_recipe_only_if_other_files_are_taken() -> None:
    attempts = {}
    for text in ("0.9 400000 /data/D1-a\n0.2 600000 /data/D1-b\n", "0.1 400000 /data/D1-a\n0.2 600000 /data/D1-b\n"):
        world = at_stage_4(SCORED, scores=ListSeen(text, "sha"))
        attempts[text[:3]] = world.until(ActionKind.TRAIN).key.attempt
    assert attempts["0.9"] == at_stage_4(SCORED, scores=SCORES).until(ActionKind.TRAIN).key.attempt
    assert attempts["0.1"] != attempts["0.9"]


@pytest.mark.parametrize(
    ("scores", "phase", "reason", "told"),
    [
        pytest.param(Unread("timed out"), Phase.WAITING, Reason.LIST_UNREAD,
                     "the score file of D1 could not be read: timed out", id="unread"),
        pytest.param(ListAbsent(), Phase.HELD, Reason.LIST_MISSING,
                     "the cluster has no score file of D1 at /r/data/D1.scores", id="absent"),
        pytest.param(ListSeen("0.9 4 /data/D1-a\nx 6 /data/D1-b\n", ""), Phase.HELD, Reason.LIST_BAD,
                     "/r/data/D1.scores:2: score 'x' is not a number", id="a bad line"),
        pytest.param(ListSeen("0.9 4 /data/D1-a\n", ""), Phase.HELD, Reason.LIST_BAD,
                     "the buffer's selection of D1: the scores are not for the files of its list: 1 of its 2 files",
                     id="a file without a score"),
    ],
)  # fmt: skip
def test_scores_that_cannot_be_used_stop_the_stages_that_may_draw_from_them(
    scores: ListSeen | ListAbsent | Unread, phase: Phase, reason: Reason, told: str
) -> None:
    world = World(quickstart(swapped(SCORED)))
    world.lists["/r/data/D1.scores"] = scores
    for _ in range(2):
        world.finish_stage({"val-D0": 2.0, "val-D1": 2.5, "val-D2": 3.0, "val-D3": 3.5})
    status = world.status("stage-3")
    assert (status.phase, status.reason) == (phase, reason)
    assert told in status.message
    assert world.plan().actions == ()


def test_pinned_scores_must_have_their_pinned_bytes() -> None:
    pinned = (SCORED[0], SCORED[1].replace("data/D1.scores}", f"data/D1.scores, sha256: {'a' * 64}}}"))
    desired = quickstart(swapped(pinned))
    world = World(desired)
    world.lists["/r/data/D1.scores"] = SCORES
    trouble = read_lists(desired, world.look()).troubles[buffer.part("D1")]
    assert (trouble.reason, "the manifest pins aaa" in trouble.message) == (Reason.LIST_CHANGED, True)


def test_a_dataset_in_trouble_is_its_selection_s_trouble() -> None:
    desired: Desired = quickstart(swapped(SHARDS))
    world = World(desired)
    world.lists["/r/data/D1.txt"] = Unread("timed out")
    troubles = read_lists(desired, world.look()).troubles
    assert troubles["D1-buffer"] == troubles["D1"]


def test_score_files_are_asked_for_with_the_lists() -> None:
    desired = quickstart(swapped(SCORED))
    assert "/r/data/D1.scores" in desired.asked_lists()
    assert set(desired.asked_lists()) > {*desired.list_paths().values(), *desired.validation_paths().values()}
