"""Scripts of every rung of the two real campaigns, on Aurora and on Polaris, each confirmed by the oracle.

Aurora's are the golden ones of `tests/cluster/test_render.py`. `SNAP_UPDATE=1` rewrites Polaris's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest

from reconciler.domain.loading import load
from reconciler.domain.resolve import Unresolved
from reconciler.domain.trial import variants
from reconciler.launcher.agreement import agrees
from reconciler.launcher.scriptreader import read_script
from reconciler.launcher.traps import judge
from reconciler.model.plan import Action
from reconciler.planner.desired import Desired
from reconciler.planner.sketch import sketch
from tests.cluster.test_render import GOLDEN as AURORA
from tests.cluster.test_render import ROOT, SITE, compared, script_of

POLARIS = Path(__file__).parent.parent / "golden" / "polaris"
CAMPAIGNS = ("auroragpt-v1", "agpt-7b")


def on_polaris(text: str) -> str:
    """A campaign's manifests with Aurora's name, node, file system and paths replaced."""
    text = re.sub(r"\baurora\b", "polaris", text)
    return text.replace("ranks: 12", "ranks: 4").replace("flare", "eagle")


def desired_of(campaign: str, machine: str) -> Desired:
    paths = sorted((ROOT / "manifests" / campaign).glob("*.yaml"))
    texts = {path.name: path.read_text() for path in paths}
    if machine == "polaris":
        texts = {name: on_polaris(text) for name, text in texts.items()}
    loaded = load([(name, text.encode()) for name, text in texts.items()])
    assert loaded.ok, [str(problem) for problem in loaded.problems]
    return Desired(loaded.catalog, campaign, "0" * 40, False, SITE)


def actions() -> Mapping[tuple[str, str], Action]:
    """(machine, file name) → the first and a later job of every leg of every rung."""
    found: dict[tuple[str, str], Action] = {}
    for machine in ("aurora", "polaris"):
        for campaign in CAMPAIGNS:
            desired = desired_of(campaign, machine)
            for stage in desired.stages:
                for strategy in stage.spec.strategies:
                    for leg in range(len(strategy.legs)):
                        for later in (False, True):
                            made = sketch(desired, stage, strategy, leg, later=later)
                            assert not isinstance(made, Unresolved), made
                            form = "later" if later else "first"
                            name = f"{campaign}/{stage.metadata.name}.{strategy.name}.leg-{leg}.{form}.pbs"
                            found[machine, name] = made.action
    return found


ACTIONS = actions()


@pytest.mark.parametrize(("machine", "name"), ACTIONS)
def test_the_golden_script_does_what_its_recipe_declares(machine: str, name: str) -> None:
    action = ACTIONS[machine, name]
    text = (AURORA / name).read_text() if machine == "aurora" else compared(POLARIS / name, script_of(action))
    assert text == script_of(action)
    assert action.trains is not None
    assert agrees(action.trains, text) == ()


@pytest.mark.parametrize(("machine", "name"), ACTIONS)
def test_the_oracle_takes_the_script_for_the_machine_that_it_is_for(machine: str, name: str) -> None:
    settings = judge(read_script(script_of(ACTIONS[machine, name]))).settings
    assert (settings.machine, settings.machine_is_assumed) == (machine, False)
    assert settings.ranks_per_node == {"aurora": 12, "polaris": 4}[machine]


def test_a_rung_that_follows_strategy_4_is_sketched_from_where_that_ends() -> None:
    """The first rung of stage 3 stays at LR max; `if: {stage, used}` says that it was another."""
    script = script_of(ACTIONS["aurora", "auroragpt-v1/stage-4.continue-decay.leg-0.first.pbs"])
    assert "export LR=2e-05\n" in script
    assert "--min-lr=2.0000000000000002e-07 " in script


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_every_variant_of_a_trial_is_rendered_as_it_is_declared(campaign: str) -> None:
    """Golden scripts have the first variant of a trial; the oracle reads all of them."""
    desired, read = desired_of(campaign, "aurora"), 0
    for stage in desired.stages:
        for variant in (each for strategy in stage.spec.strategies for each in variants(strategy)):
            for leg, later in product(range(len(variant.legs)), (False, True)):
                made = sketch(desired, stage, variant, leg, later=later)
                assert not isinstance(made, Unresolved), made
                assert made.action.trains is not None
                assert agrees(made.action.trains, script_of(made.action)) == (), variant.name
                read += 1
    assert read >= 6


def test_no_golden_script_is_left_over() -> None:
    there = {str(path.relative_to(POLARIS)) for path in POLARIS.rglob("*.pbs")}
    assert there == {name for machine, name in ACTIONS if machine == "polaris"}
