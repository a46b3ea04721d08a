"""Names lead somewhere, stages are in order, data is there when it is used; and the catalog answers what is asked.

The messages are pinned by the file cases of `tests/cases/validate`; here is what the planner relies on, and that no
content makes loading fail.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from reconciler.domain.loading import Loaded, load
from reconciler.model.problems import Where
from reconciler.record import files

ROOT = Path(__file__).parents[2]
CAMPAIGN = ROOT / "tests" / "cases" / "validate" / "campaign"
TEXTS = {file.name: file.read_text(encoding="utf-8") for file in sorted(CAMPAIGN.glob("*.yaml"))}


def changed(**edits: tuple[str, str]) -> Loaded:
    """The small valid campaign, with one text replaced in each file named (without its suffix)."""
    texts = dict(TEXTS)
    for name, (old, new) in edits.items():
        assert old in texts[f"{name}.yaml"]
        texts[f"{name}.yaml"] = texts[f"{name}.yaml"].replace(old, new, 1)
    return load((name, text.encode()) for name, text in texts.items())


def codes(loaded: Loaded) -> list[str]:
    """Without what the cookbook's rules find, which have tests of their own."""
    return [problem.code for problem in loaded.problems if problem.rule is None]


COMMITTED = files.load([ROOT / "manifests"])


def test_the_committed_manifests_hold_together() -> None:
    """Where they stray from the cookbook, they say why."""
    assert [problem for problem in COMMITTED.problems if problem.waived is None] == []
    assert COMMITTED.ok
    assert COMMITTED.catalog.campaigns == ("agpt-7b", "auroragpt-v1", "decay", "ladder", "quickstart")


def test_stages_come_in_the_campaigns_order() -> None:
    catalog = COMMITTED.catalog
    names = [stage.metadata.name for stage in catalog.stages("auroragpt-v1")]
    assert names == ["stage-1", "stage-2", "stage-3", "stage-4"]
    assert [catalog.index("auroragpt-v1", name) for name in names] == [0, 1, 2, 3]
    assert sum(stage.spec.tokens for stage in catalog.stages("auroragpt-v1")) == 8 * 10**12


def test_relations_are_followed() -> None:
    catalog = COMMITTED.catalog
    assert catalog.campaign("auroragpt-v1").spec.on_failed_gate == "propose"
    assert catalog.model_of("auroragpt-v1").metadata.name == "auroragpt-2b"
    assert catalog.cluster_of("auroragpt-v1").spec.node.ranks == 12
    stage = catalog.stage("auroragpt-v1", "stage-2")
    assert catalog.dataset_of(stage).spec.symbol == "D1"
    assert catalog.dataset("olmo-mix").spec.tokens == 4 * 10**12
    assert list(catalog.datasets("auroragpt-v1")) == ["D0", "D1", "D2", "D3"]
    assert catalog.dataset_by_symbol("auroragpt-v1", "D3").metadata.name == "reasoning-traces"


@pytest.mark.parametrize(
    ("stage", "introduced", "buffer"),
    [
        ("stage-1", ("D0",), ()),
        ("stage-2", ("D0", "D1"), ()),
        ("stage-3", ("D0", "D1", "D2"), ("D1",)),
        ("stage-4", ("D0", "D1", "D2", "D3"), ("D1", "D2")),
    ],
)
def test_data_joins_the_buffer_after_its_stage(
    stage: str, introduced: tuple[str, ...], buffer: tuple[str, ...]
) -> None:
    assert COMMITTED.catalog.introduced("auroragpt-v1", stage) == introduced
    assert COMMITTED.catalog.buffer_at("auroragpt-v1", stage) == buffer


def test_what_an_external_checkpoint_was_trained_on_may_be_replayed() -> None:
    catalog = COMMITTED.catalog
    assert catalog.introduced("agpt-7b", "papers") == ("D0", "D1")
    assert catalog.dataset_by_symbol("agpt-7b", "D0").metadata.name == "dolma"
    assert catalog.buffer_at("agpt-7b", "papers") == ()


def test_places_are_found_through_the_catalog() -> None:
    loaded = changed()
    stage = loaded.catalog.stage("small", "two")
    path = ("spec", "strategies", 1, "legs", 0, "mixture", "D0")
    assert loaded.catalog.where(stage, *path) == Where("two.yaml", 16, 25, path)
    assert loaded.catalog.where(stage, *path, key=True) == Where("two.yaml", 16, 21, path)
    (item,) = [item for item in loaded.catalog.objects if item.manifest is stage]
    assert item.file == "two.yaml"


def test_what_is_not_there_raises_key_error() -> None:
    catalog = COMMITTED.catalog
    for look in (
        lambda: catalog.campaign("x"),
        lambda: catalog.dataset("x"),
        lambda: catalog.stage("quickstart", "x"),
        lambda: catalog.stage("x", "x"),
        lambda: catalog.index("quickstart", "x"),
        lambda: catalog.model_of("x"),
        lambda: catalog.dataset_by_symbol("quickstart", "D9"),
    ):
        with pytest.raises(KeyError):
            look()


def test_the_order_of_files_does_not_matter() -> None:
    content = [(name, text.encode()) for name, text in TEXTS.items()]
    for order in itertools.islice(itertools.permutations(content), 0, 5040, 313):
        loaded = load(order)
        assert loaded.problems == ()
        assert [stage.metadata.name for stage in loaded.catalog.stages("small")] == ["one", "two", "three"]


def test_stages_of_two_campaigns_may_share_a_name() -> None:
    names = [item.manifest.metadata.name for item in COMMITTED.catalog.objects if item.manifest.kind == "Stage"]
    assert names.count("stage-1") == 2


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        pytest.param("D1: 0.95", "D1: 0.95", [], id="exactly one"),
        pytest.param("D1: 0.95", "D1: 0.94999999999999999999999999999999999", ["M047"], id="a hair less"),
        pytest.param("D1: 0.95", "D1: 0.95, one: 1e-60", ["M047"], id="more than decimals would keep"),
        pytest.param("D1: 0.95", "D1: 9.5e-1", [], id="another spelling"),
        pytest.param("D1: 0.95", "D1: 0.95, one: 0", [], id="a term of weight zero"),
    ],
)
def test_weights_sum_to_exactly_one(old: str, new: str, found: list[str]) -> None:
    assert codes(changed(two=(old, new))) == found


@pytest.mark.parametrize(
    ("walltime", "found"),
    [("1h", []), ("60m", []), ("60m0.001s", ["M054"]), ('"00:59:59"', []), ('"01:00:01"', ["M054"])],
)
def test_the_queues_limit_is_inclusive(walltime: str, found: list[str]) -> None:
    assert codes(changed(two=("walltime: 1m", f"walltime: {walltime}"))) == found


@pytest.mark.parametrize(
    ("tokens", "found"), [("1.499999M", []), ("1.5M", ["M048"]), ("1500001", ["M048"]), ("2048", [])]
)
def test_a_leg_must_leave_something_for_the_open_one(tokens: str, found: list[str]) -> None:
    assert codes(changed(three=("tokens: 1M", f"tokens: {tokens}"))) == found


@pytest.mark.parametrize(("second", "found"), [("500k", []), ("500001", ["M048"]), ("499999", ["M048"])])
def test_declared_legs_fill_the_stage_exactly(second: str, found: list[str]) -> None:
    lr = "lr: {shape: cooldown}"
    assert codes(changed(three=(lr, f"{lr}\n          tokens: {second}"))) == found


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        pytest.param("shape: constant", "shape: cooldown", [], id="constant then cooldown from LR max"),
        pytest.param("shape: cooldown, to: lrMax/5", "shape: constant, at: lrMax/5", [], id="cooldown, then stay"),
        pytest.param("shape: cooldown, to: 4e-4", "shape: constant, at: lrMax/5", [], id="the same number"),
        pytest.param("shape: cooldown, to: lrMax/5", "shape: constant", ["M056"], id="back up undeclared"),
        pytest.param("shape: cooldown, to: lrMax/5", "shape: constant, rewarm: true", [], id="back up declared"),
        pytest.param("shape: cosine, to: lrFinal", "shape: constant, at: lrFinal", [], id="cosine to the end"),
        pytest.param("shape: constant, to: lrMax/5", "shape: cooldown", ["M072"], id="a constant leg does not fall"),
        pytest.param("shape: cooldown, to: lrMax/5", "shape: continue", [], id="two legs of one decay"),
        pytest.param("shape: constant", "shape: continue", ["M074"], id="no decay to go on with"),
        pytest.param("shape: cooldown, over: 9M", "shape: constant, at: lrMax/5", [], id="where it stands is open"),
        pytest.param("shape: cosine, at: lrSource", "shape: constant, at: lrFinal", [], id="from where the source is"),
        pytest.param("shape: cosine, at: lrSource/2", "shape: constant, at: lrFinal", ["M056"], id="from half of it"),
        pytest.param("shape: constant, at: 1e-3", "shape: cooldown, at: 1e-3", ["M056"], id="not LR max at first"),
    ],
)
def test_legs_continue_each_others_learning_rate(first: str, second: str, found: list[str]) -> None:
    texts = dict(TEXTS)
    texts["three.yaml"] = texts["three.yaml"].replace("shape: constant", first).replace("{shape: cooldown}", "{%s}")
    texts["three.yaml"] = texts["three.yaml"].replace("%s", second)
    assert codes(load((name, text.encode()) for name, text in texts.items())) == found


def test_a_broken_object_hides_only_itself() -> None:
    loaded = changed(datasets=("tokens: 2M", "tokens: 2 MB"), two=("D1: 0.95", "D1: 0.9"))
    assert codes(loaded) == ["M026", "M047"]
    assert not loaded.ok


def test_a_file_that_is_no_yaml_hides_only_what_it_may_hold() -> None:
    loaded = changed(datasets=("symbol: D0", "symbol: [D0"), two=("dataset: docs", "dataset: dogs"))
    assert codes(loaded) == ["M010", "M041"]


def test_a_warning_alone_is_no_error() -> None:
    loaded = changed(campaign=("max: 2e-3", "max: 0.2"))
    assert codes(loaded) == ["M061"]
    assert loaded.ok


def test_rules_of_the_cookbook_are_looked_at_where_nothing_else_is_wrong() -> None:
    naive = ("shift: weak", "shift: strong")
    strays = changed(three=naive)
    assert [problem.code for problem in strays.problems] == ["CPT040"]
    assert strays.ok
    assert codes(changed(three=naive, two=("D1: 0.95", "D1: 0.9"))) == ["M047"]


def test_a_rule_that_is_an_error_refuses_and_what_is_waived_stays_visible() -> None:
    rung = "- name: replay\n      legs:\n        - mixture: {D0: 0.05, D1: 0.95}"
    again = (
        "- name: replay\n      waive: [{rule: CPT041, reason: to be changed}]\n      legs:\n        - mixture: {D1: 1}"
    )
    for new, code, reason, ok in (
        (again, "CPT041", "to be changed", True),
        (again.replace("CPT041", "CPT411").replace("D1: 1", "D0: 0.1, D1: 0.9"), "CPT091", None, False),
    ):
        loaded = changed(two=(rung, new))
        assert [(problem.code, problem.waived) for problem in loaded.problems] == [(code, reason)]
        assert loaded.ok is ok


def test_objects_alone_are_not_checked_for_order() -> None:
    loaded = load([("datasets.yaml", TEXTS["datasets.yaml"].encode())])
    assert loaded.ok and loaded.catalog.campaigns == ()


def test_problems_met_before_are_told_with_the_others() -> None:
    _, met = files.read([ROOT / "nowhere"])
    assert codes(load([("a.yaml", b"x: 1")], met)) == ["M001", "M018"]


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=100), max_size=3))
def test_no_content_makes_loading_fail(contents: list[bytes]) -> None:
    loaded = load((f"{number}.yaml", content) for number, content in enumerate(contents))
    assert loaded.ok == (not contents)


WORDS = sorted({word for text in TEXTS.values() for word in text.replace(",", " ").replace("}", " ").split()})


@settings(max_examples=250)
@given(st.lists(st.tuples(st.sampled_from(sorted(TEXTS)), st.integers(0, 60), st.sampled_from(WORDS)), max_size=4))
def test_no_exchange_of_words_makes_loading_fail(edits: list[tuple[str, int, str]]) -> None:
    """Words of one place in another: names, symbols, kinds and numbers where they do not belong."""
    texts = dict(TEXTS)
    for name, number, word in edits:
        parts = texts[name].split(" ")
        place = number % len(parts)
        texts[name] = " ".join([*parts[:place], word, *parts[place + 1 :]])
    loaded = load((name, text.encode()) for name, text in texts.items())
    if loaded.ok:
        for campaign in loaded.catalog.campaigns:
            loaded.catalog.model_of(campaign), loaded.catalog.cluster_of(campaign)
            for stage in loaded.catalog.stages(campaign):
                symbols = loaded.catalog.introduced(campaign, stage.metadata.name)
                assert all(loaded.catalog.dataset_by_symbol(campaign, symbol) for symbol in symbols)


Steps = tuple[str | int, ...]
PLAIN = YAML(typ="safe", pure=True)
DOCUMENTS = [(name, document) for name, text in TEXTS.items() for document in PLAIN.load_all(text)]


def places(value: object, at: Steps = ()) -> Iterator[Steps]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inside in items:
        yield (*at, step)
        yield from places(inside, (*at, step))


def damaged(number: int, at: Steps) -> Loaded:
    """The small valid campaign, one document a file, with what no field takes at one place."""
    documents = copy.deepcopy([document for _, document in DOCUMENTS])
    inside: Any = documents[number]
    for step in at[:-1]:
        inside = inside[step]
    inside[at[-1]] = [[[]]]
    return load((f"{n}.yaml", json.dumps(document).encode()) for n, document in enumerate(documents))


@pytest.mark.parametrize(
    "number", range(len(DOCUMENTS)), ids=[f"{d['kind']} {d['metadata']['name']}" for _, d in DOCUMENTS]
)
def test_one_fault_anywhere_is_one_problem_at_its_place(number: int) -> None:
    """The rest is checked further without it, and nothing that builds on it is reported."""
    for at in places(DOCUMENTS[number][1]):
        (problem,) = damaged(number, at).problems
        assert (problem.where.file, problem.where.path[: len(at)]) == (f"{number}.yaml", at)
