"""Each rule of the cookbook finds what strays from it, where it does, and nothing in what keeps to it.

The examples are the rules' own, as `reconcile explain` and docs/rules.md show them: parts of manifests, laid over the
campaign in `tests/cases/rules/campaign.yaml`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from reconciler.domain.catalog import Catalog, Object
from reconciler.domain.references import Unread
from reconciler.domain.references import check as references
from reconciler.domain.rules import amounts, check, waiving
from reconciler.domain.rules.check import BY_CODE
from reconciler.domain.rules.rule import Rule
from reconciler.domain.rules.view import LoggedRate
from reconciler.model import source
from reconciler.model.problems import Problem, Severity
from reconciler.model.source import Document
from reconciler.model.validation import manifest_of

ROOT = Path(__file__).parents[2]
BASE_FILE = ROOT / "tests" / "cases" / "rules" / "campaign.yaml"
BASE = source.read("campaign.yaml", BASE_FILE.read_bytes()).documents
EXAMPLE = "example.yaml"


def identity(data: Any) -> tuple[str, str]:
    return data["kind"], data["metadata"]["name"]


def merged(under: Any, over: Any) -> Any:
    """A JSON merge patch: mappings are merged, a null removes, anything else replaces. `gates` take a null as it is."""
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    return {**under, **{key: merged(under.get(key), value) for key, value in over.items()}}


def laid_over(over: Document) -> Document:
    """A base manifest with an example's part over it; places in the example are kept."""
    under = next(document for document in BASE if identity(document.data) == identity(over.data))
    far = {path: (line + 10_000, column) for path, (line, column) in under.keys.items()}
    values = {path: (line + 10_000, column) for path, (line, column) in under.values.items()}
    data = merged(under.data, over.data)
    return Document(EXAMPLE, data, {**far, **over.keys}, {**values, **over.values})


def examined(text: str) -> tuple[Problem, ...]:
    """What the rules say of an example; it must be valid otherwise."""
    read = source.read(EXAMPLE, text.encode())
    assert read.problems == ()
    parts = [document for document in read.documents if "kind" in document.data]  # type: ignore[operator]
    logs = [document.data["logged"] for document in read.documents if "logged" in document.data]  # type: ignore[index,operator]
    given = {identity(document.data): laid_over(document) for document in parts}
    objects = []
    for document in BASE:
        laid = given.get(identity(document.data), document)
        judged = manifest_of(laid)
        assert judged.manifest is not None, judged.problems
        objects.append(Object(judged.manifest, laid))
    catalog = Catalog(objects)
    assert [problem for problem in references(catalog, Unread()) if problem.refuses] == []
    seen = {
        log["stage"]: LoggedRate(log["source"], log["iteration"], float(log["logged"]), float(log["declared"]))
        for log in logs
    }
    return (*check.findings(catalog, "cookbook"), *check.observed(catalog, "cookbook", seen))


def marked(text: str) -> int:
    (line,) = (number for number, line in enumerate(text.splitlines(), 1) if "# <-" in line)
    return line


def told(problems: tuple[Problem, ...]) -> list[str]:
    return [f"{p.code} {p.where.file}:{p.where.line} {p.detail}" for p in problems]


def test_the_campaign_that_examples_are_laid_over_keeps_to_every_rule() -> None:
    assert told(examined("kind: Model\nmetadata: {name: base}\n")) == []


@pytest.mark.parametrize("rule", BY_CODE.values(), ids=BY_CODE)
def test_a_good_example_keeps_to_every_rule(rule: Rule) -> None:
    assert told(tuple(problem for problem in examined(rule.good) if problem.waived is None)) == []


@pytest.mark.parametrize("rule", BY_CODE.values(), ids=BY_CODE)
def test_a_bad_example_strays_from_its_rule_alone_in_the_line_that_is_marked(rule: Rule) -> None:
    (found,) = examined(rule.bad)
    assert (found.code, found.where.file, found.where.line) == (rule.code, EXAMPLE, marked(rule.bad)), found
    assert (found.severity, found.summary, found.waived) == (rule.severity, rule.summary, None)
    assert found.detail and found.fix


def test_a_mark_in_an_example_stands_in_one_line_of_each_bad_one_and_in_no_good_one() -> None:
    assert all(rule.bad.count("# <-") == 1 and "# <-" not in rule.good for rule in BY_CODE.values())


def test_the_catalogue_is_in_order_and_says_why_what_to_do_and_from_where() -> None:
    assert list(BY_CODE) == sorted(BY_CODE)
    for code, rule in BY_CODE.items():
        assert re.fullmatch(r"CPT[0-9]{3}", code) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", rule.name)
        assert rule.summary and not rule.summary.endswith("."), code
        assert rule.why.endswith(".") and rule.todo.endswith("."), code
        assert rule.sources, code
        for text in rule.sources:
            assert re.match(r"cookbook, |arXiv [0-9]{4}\.[0-9]{5}\b|launcher contract, [0-9]|docs/", text), (code, text)


# --- waivers

NAIVE = """
kind: Stage
metadata: {name: stage-3}
spec:
  strategies:
    - name: naive
      waive: STRATEGY
      legs:
        - mixture: {D2: 1}
          lr: {shape: constant}
    - name: mix-a
      legs:
        - mixture: {D0: 0.33, D2: 0.33, buffer: 0.34}
          lr: {shape: constant}
  waive: STAGE
---
kind: Campaign
metadata: {name: cookbook}
spec: {waive: CAMPAIGN}
"""


def waived(*, strategy: str = "", stage: str = "", campaign: str = "") -> list[tuple[str, str | None]]:
    text = NAIVE
    for name, reason in (("STRATEGY", strategy), ("STAGE", stage), ("CAMPAIGN", campaign)):
        text = text.replace(name, f"[{{rule: CPT020, reason: {reason}}}]" if reason else "[]")
    return [(problem.code, problem.waived) for problem in examined(text)]


def test_a_waiver_holds_from_where_it_stands_inwards_and_the_nearest_is_told() -> None:
    assert waived() == [("CPT020", None)]
    assert waived(strategy="a") == [("CPT020", "a")]
    assert waived(stage="b") == [("CPT020", "b")]
    assert waived(campaign="c") == [("CPT020", "c")]
    assert waived(strategy="a", stage="b", campaign="c") == [("CPT020", "a")]


def test_a_waiver_of_another_stage_or_rung_does_not_reach() -> None:
    other = """
        kind: Stage
        metadata: {name: stage-2}
        spec: {waive: [{rule: CPT020, reason: elsewhere}]}
        """
    text = NAIVE.replace("STRATEGY", "[]").replace("STAGE", "[]").replace("CAMPAIGN", "[]")
    found = examined(f"{text}---\n{dedent(other)}")
    assert sorted((problem.code, problem.waived) for problem in found) == [("CPT020", None), ("CPT090", None)]


def test_an_error_that_is_waived_refuses_nothing() -> None:
    text = BY_CODE["CPT006"].bad
    (found,) = examined(text)
    assert found.severity is Severity.ERROR and found.refuses
    (found,) = examined(text.replace("spec:", "spec:\n  waive: [{rule: CPT006, reason: the folder was renamed}]"))
    assert (found.severity, found.waived, found.refuses) == (Severity.ERROR, "the folder was renamed", False)


def test_a_waiver_of_what_only_a_look_finds_is_not_stale() -> None:
    text = BY_CODE["CPT005"].bad.replace("spec:\n", "spec:\n  waive: [{rule: CPT005, reason: by hand}]\n")
    (found,) = examined(text)
    assert (found.code, found.waived) == ("CPT005", "by hand")
    (alone, _) = text.split("---\n")
    assert examined(alone) == ()


def test_an_unknown_rule_is_told_with_what_was_probably_meant() -> None:
    (found,) = examined(waiving.UNKNOWN.bad.replace("CPT120", "CPT092"))
    assert found.fix is not None and re.fullmatch(r"Did you mean CPT[0-9]{3} \([a-z-]+\)\?", found.fix)


# --- where a rule begins and ends


def stage_2(mixture: str, tokens: str = "1T") -> list[str]:
    text = f"""
        kind: Stage
        metadata: {{name: stage-2}}
        spec:
          tokens: {tokens}
          strategies:
            - name: only
              legs:
                - mixture: {mixture}
                  lr: {{shape: constant}}
        """
    return [problem.code for problem in examined(dedent(text)) if problem.where.file == EXAMPLE]


@pytest.mark.parametrize(
    ("replay", "rest", "found"),
    [
        ("0.049", "0.951", ["CPT030"]),
        ("0.05", "0.95", []),
        ("0.10", "0.90", []),
        ("0.11", "0.89", ["CPT031"]),
        ("0.249", "0.751", ["CPT031"]),
        ("0.25", "0.75", ["CPT032"]),
    ],
)
def test_how_much_is_replayed_under_a_weak_shift(replay: str, rest: str, found: list[str]) -> None:
    assert stage_2(f"{{D0: {replay}, D1: {rest}}}", "1.5T") == found


@pytest.mark.parametrize(
    ("tokens", "found"),
    [("899B", ["CPT011"]), ("900B", []), ("4T", []), ("4.001T", ["CPT010"])],
)
def test_how_often_a_dataset_is_seen(tokens: str, found: list[str]) -> None:
    assert stage_2("{D1: 1}", tokens) == found


def test_passes_of_earlier_stages_count() -> None:
    text = dedent("""
        kind: Stage
        metadata: {name: stage-2}
        spec:
          tokens: 4T
          strategies:
            - name: naive
              legs:
                - mixture: {D1: 1}
                  lr: {shape: constant}
        """)
    found = [problem for problem in examined(text) if problem.code == "CPT010"]
    assert [problem.found for problem in found] == [
        "4.3 passes (4 in stage-2, 0.3 here); 300B tokens drawn of 1T",
        "5.02 passes (4 in stage-2, 1.02 here); 1.02T tokens drawn of 1T",
        "4.38 passes (4 in stage-2, 0.3 in stage-3, 0.085 here); 85B tokens drawn of 1T",
        "4.36 passes (4 in stage-2, 0.3 in stage-3, 0.0625 here); 62.5B tokens drawn of 1T",
    ]


@pytest.mark.parametrize(
    ("logged", "step", "found"),
    [
        ("2e-4", 0.0, []),
        ("1.99e-4", 0.0, []),
        ("1.97e-4", 0.0, ["CPT005"]),
        ("1.97e-4", 2e-6, []),
        ("0", 0.0, ["CPT005"]),
    ],
)
def test_a_logged_rate_may_differ_by_its_digits_and_one_step(logged: str, step: float, found: list[str]) -> None:
    judged = [manifest_of(document).manifest for document in BASE]
    catalog = Catalog(Object(manifest, document) for manifest, document in zip(judged, BASE, strict=True) if manifest)
    seen = LoggedRate("stage-1/0123456789ab/leg-0", 476837, float(logged), 2e-4, step)
    assert [problem.code for problem in check.observed(catalog, "cookbook", {"stage-2": seen})] == found


def test_a_small_selection_of_the_buffer_is_a_small_source() -> None:
    text = dedent("""
        kind: Campaign
        metadata: {name: cookbook}
        spec:
          buffer: {select: {D1: {scores: {here: {path: scores/D1.txt}}, cap: CAP}}}
        """)
    (found,) = [problem for problem in examined(text.replace("CAP", "200B")) if problem.where.file == BASE_FILE.name]
    assert (found.code, found.found) == ("CPT010", "5.1 passes; 1.02T tokens drawn of 200B")
    assert examined(text.replace("CAP", "260B")) == ()


def test_a_stage_with_replay_but_never_any_base_data_is_told_once() -> None:
    text = dedent("""
        kind: Stage
        metadata: {name: stage-3}
        spec:
          strategies:
            - name: replay-10
              legs:
                - mixture: {stage-2: 0.1, D2: 0.9}
                  lr: {shape: constant}
            - name: replay-5
              legs:
                - mixture: {stage-2: 0.05, D2: 0.95}
                  lr: {shape: constant}
        """)
    assert told(examined(text)) == ["CPT022 example.yaml:5 no strategy of stage stage-3 draws from D0"]


def test_a_last_stage_that_ends_its_decay_too_high_is_told_where_it_says_so() -> None:
    text = dedent("""
        kind: Stage
        metadata: {name: stage-4}
        spec:
          strategies:
            - name: cooldown-mix-a
              legs:
                - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}
                  lr: {shape: cooldown, to: TO}
            - name: cooldown-mix-b
              legs:
                - mixture: {D0: 0.5, D3: 0.25, buffer: 0.25}
                  lr: {shape: cooldown}
        """)
    assert examined(text.replace("TO", "lrMax/10")) == ()
    (found,) = examined(text.replace("TO", "lrMax/9"))
    assert (found.code, found.where.line, found.found) == ("CPT065", 9, "2.22e-5")


FOLDER = "ws768_ds_stage1_nl12_hs2048_mb1_seq2048_gb1024_sp1_pp1_tp1_bf16_optadamw_lr_lwf_flash"
HYPHENS = "7B-ws768-ds-stage1-nl12-hs2048-mb1-seq2048-gb1024-sp1-pp1-tp1-bf16-optadamw-lr0.0002-lwf0.05_ntok22B_flash"


@pytest.mark.parametrize(
    ("path", "data_parallel", "found"),
    [
        (FOLDER, 768, None),
        (f"{FOLDER}/deeper", 768, None),
        (HYPHENS, 768, None),
        (FOLDER, 192, "data-parallel size 768"),
        (FOLDER.replace("tp1", "tp2"), 384, "tensor-parallel size 2"),
        (FOLDER.replace("bf16", "fp16"), 768, "precision fp16"),
        (HYPHENS.replace("hs2048", "hs4096"), 768, "hidden 4096"),
        ("a/plain/folder", 192, None),
        ("ws768_ds_stage1_nl12", 192, None),
    ],
)
def test_a_folders_name_says_how_a_checkpoint_was_made(path: str, data_parallel: int, found: str | None) -> None:
    text = dedent(f"""
        kind: Stage
        metadata: {{name: stage-1}}
        spec:
          source: {{path: /old/{path}, checkpoint: {{iteration: 4000}}, format: zero,
                   dataParallel: {data_parallel}, rate: 2e-4, trainedOn: [d0]}}
          strategies: [{{name: more, legs: [{{mixture: {{D0: 1}}, lr: {{shape: constant}}}}]}}]
        """)
    assert [(problem.code, problem.found) for problem in examined(text)] == ([("CPT006", found)] if found else [])


@pytest.mark.parametrize(
    "path", ["workspace/cookbook/stage-1/0123456789ab/leg-0", "workspace/unknown/a/b", "elsewhere/pretraining/base-run"]
)
def test_a_source_that_no_other_campaign_here_made_is_compared_with_nothing(path: str) -> None:
    text = BY_CODE["CPT009"].bad.replace("workspace/pretraining/base-run/0123456789ab/leg-0", path)
    assert examined(text) == ()


def test_of_a_long_history_the_first_stages_are_told_and_the_rest_summed() -> None:
    before = [(f"s{number}", Fraction(1, 2)) for number in range(20)]
    told = list(amounts._told([("unseen", Fraction(0)), *before]))
    assert (told[0], told[-1], len(told)) == ("0.5 in s0", "6 in 12 more", amounts.PASSES_TOLD + 1)
