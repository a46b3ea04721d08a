"""`reconcile explain`: every code that this program prints can be asked for."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from reconciler.cli.explain import explain
from reconciler.cli.human.findings import findings
from reconciler.cli.messages import catalogue, known
from reconciler.cli.problems import render
from reconciler.cli.screen import Screen
from reconciler.domain.mixture import MEANINGS as MIXTURE
from reconciler.domain.mixture import MixCode
from reconciler.domain.rules.check import BY_CODE
from reconciler.launcher.codes import MEANINGS as LAUNCHER
from reconciler.model.faults import Fault
from reconciler.model.problems import CATALOGUE, Kind, Problem, Severity, Where
from reconciler.model.reasons import MEANINGS as REASONS
from reconciler.model.reasons import WAYS_ON
from reconciler.model.status import Reason

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(explain, arguments)


def test_without_a_code_all_are_listed() -> None:
    printed = run().output
    for code, entry in catalogue().items():
        name = f"{entry.rule.name} +" if entry.rule is not None else ""
        assert re.search(rf"^  {code} +{entry.kind} +{name}{re.escape(entry.title)} *$", printed, re.M)


@pytest.mark.parametrize("code", [*BY_CODE, *CATALOGUE, *LAUNCHER, *MIXTURE, *Reason, *Fault])
def test_every_code_is_explained_with_what_to_do(code: str) -> None:
    result = run(code)
    assert (result.exit_code, result.output.split()[0]) == (0, str(code))
    assert "What to do  " in result.output
    assert f"More: docs/{catalogue()[code].see}" in result.output


def test_a_rule_is_shown_with_reason_source_and_both_examples() -> None:
    rule, printed = BY_CODE["CPT020"], run("naive-under-strong-shift").output
    for text in (rule.summary, *rule.sources, rule.bad.splitlines()[-1], "waive: [{rule: CPT020, reason: …}]"):
        assert text in printed
    assert " ".join(rule.why.split()) in " ".join(printed.split())


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("CPT20", "CPT020"),
        ("JobLiv", "JobLive"),
        ("not-comitted", "NotCommitted"),
        ("ORA0400", "ORA040"),
        ("ladder-ordr", "ladder-order"),
        ("\x1b[31m", None),
        ("qqqqqqqqqq", None),
    ],
)
def test_an_unknown_code_is_told_with_what_was_probably_meant(asked: str, meant: str | None) -> None:
    result = run(asked)
    assert result.exit_code == 2
    assert (f"Did you mean {meant}?" if meant else "`reconcile explain` lists them all.") in result.output
    assert "\x1b" not in result.output


@pytest.mark.parametrize("asked", ["cpt020", "[CPT020]"])
def test_case_and_the_brackets_of_a_message_do_not_matter(asked: str) -> None:
    assert run(asked).output == run("CPT020").output


def test_no_two_things_have_one_name() -> None:
    names = [rule.name for rule in BY_CODE.values()]
    codes = [*BY_CODE, *CATALOGUE, *LAUNCHER, *MIXTURE, *map(str, Reason), *map(str, Fault)]
    assert len({name.lower() for name in [*names, *codes]}) == len(names) + len(codes) == len(known())


def test_every_reason_has_a_meaning_and_a_way_on() -> None:
    assert set(REASONS) == set(WAYS_ON) == set(Reason)


def test_every_code_of_a_mixture_has_a_meaning() -> None:
    spoken = set(re.findall(r"MIX[0-9]{3}", (ROOT / "reconciler/cli/mix.py").read_text()))
    assert set(MIXTURE) == {code.value for code in MixCode} | spoken


def test_what_is_said_ends_as_a_sentence() -> None:
    for entry in catalogue().values():
        assert not entry.title.endswith("."), entry.code
        assert entry.todo.endswith((".", ":")), entry.code
        assert not entry.meaning or entry.meaning.endswith("."), entry.code


# --- findings, as they are shown

KIND = Kind("Too bold", "It is.", Severity.NOTE)
FOUND = Problem("CPT999", Where("stage.yaml", 2, 3), "of stage one", "9", "1", "Be less so.", rule=KIND)
WAIVED = Problem("CPT999", Where("stage.yaml", 2, 3), "of stage one", "9", "1", "Be less so.", (), KIND, "as agreed")


def test_a_note_and_a_waived_finding_say_what_they_are() -> None:
    texts = {"stage.yaml": "a:\n  b: 9\n"}
    place = "stage.yaml:2:3: CPT999"
    assert render([FOUND], texts).startswith(f"{place} note: Too bold: of stage one\n")
    assert render([WAIVED], texts) == f"{place} waived note: Too bold: of stage one\n    = waived   as agreed"


def test_a_plan_shows_findings_and_the_reason_of_those_that_are_waived() -> None:
    console = Screen(width=100)
    with console.capture() as shown:
        for part in findings([FOUND, WAIVED]):
            console.print(part)
    assert [line.strip() for line in shown.get().splitlines()] == [
        "Against the cookbook",
        "CPT999 note  Too bold: of stage one: 9",
        "stage.yaml:2:3",
        "CPT999 note  Too bold: of stage one: 9",
        "stage.yaml:2:3",
        "waived: as agreed",
        "Why, and what to do: reconcile explain CPT999",
        "",
    ]
    assert list(findings([])) == []


def test_the_command_is_listed_with_the_others() -> None:
    from reconciler.cli.main import reconcile

    assert isinstance(reconcile.get_command(click.Context(reconcile), "explain"), click.Command)
