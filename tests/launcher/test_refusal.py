"""A plan whose scripts would not do what its recipes declare is refused, and `render` says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import loop
from reconciler.cli.render import render
from reconciler.cluster.ports import Transport
from reconciler.cluster.render import templates_of
from reconciler.domain.resolve import Unresolved
from reconciler.model.plan import Action, ActionKind
from reconciler.planner import planner
from reconciler.planner.desired import Desired
from reconciler.planner.sketch import sketch
from tests.planner.world import World, after, quickstart, swapped


def with_launcher(folder: Path, line: str) -> Desired:
    """The quickstart campaign with a template of its own, in which this line takes the place of `unset …`."""
    (folder / "ops").mkdir()
    (folder / "ops/launcher.pbs").write_text(f"cd {{{{ checkout | sh }}}} || exit 72\n{line}\n")
    desired = quickstart()
    return replace(desired, site=replace(desired.site, templates=templates_of(folder, "ops")))


def refused(desired: Desired, action: Action) -> tuple[str, ...]:
    return tuple(told.message for told in loop.disagreements(desired, (action,)))


@pytest.mark.parametrize("done", range(4))
def test_the_scripts_of_every_stage_are_their_recipes(done: int) -> None:
    world = after(done)
    action = world.until(ActionKind.TRAIN)
    assert action.trains is not None
    assert refused(world.desired, action) == ()


@pytest.mark.parametrize(
    ("line", "difference"),
    [
        ("export TRAIN_TOKENS=1000000000", "ORA050 TRAIN_TOKENS=1000000000 wins over TRAIN_ITERS="),
        ("export WORLD_SIZE=64", "ORA054 WORLD_SIZE=64 is exported and wins over the job's size"),
        ("export LR_WARMUP_FRACTION=0.1", "ORA004 LR_WARMUP_FRACTION=0.1 is read by nothing"),
        ("bash train_alcf.sh --skip-train", "ORA002 2 calls of the launcher"),
    ],
)
def test_a_template_that_changes_what_is_trained_is_found(tmp_path: Path, line: str, difference: str) -> None:
    desired = with_launcher(tmp_path, line)
    action = World(desired).the_action()
    found = refused(desired, action)
    assert found[0].startswith(f"would submit {action.key} with a script that is not its recipe: ")
    assert any(difference in text for text in found), found


def test_a_template_that_cannot_be_rendered_refuses_too(tmp_path: Path) -> None:
    desired = with_launcher(tmp_path, "{{ nowhere | sh }}")
    (found,) = refused(desired, World(desired).the_action())
    assert found.endswith("ops/launcher.pbs:2: 'nowhere' is undefined")


def test_the_plan_of_a_look_is_refused_and_nothing_is_acted_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desired = with_launcher(tmp_path, "export TRAIN_TOKENS=1000000000")
    world = World(desired)
    monkeypatch.setattr(loop, "observe", lambda link, request: world.look())
    no_link: Transport = object()  # type: ignore[assignment]  # nothing must be sent
    seen = loop.look(desired, no_link, by=None)
    assert any("ORA050" in told.message for told in seen.plan.refusals)
    assert loop.act(desired, no_link, seen).outcomes == ()
    assert loop.settled(seen)


def test_only_training_jobs_are_read_back() -> None:
    world = after(1)
    done = [action for action in world.plan().actions if action.trains is None]
    assert loop.disagreements(world.desired, done) == ()


def test_what_is_declared_is_not_in_the_digest() -> None:
    """The job says the same; a plan that was saved before stays the same plan."""
    plan = planner.plan(quickstart(), World(quickstart()).look())
    without = replace(plan, actions=tuple(replace(action, trains=None) for action in plan.actions))
    assert plan.digest == without.digest


def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> Result:
    """`reconcile render` of the quickstart campaign under this template, in a repository of its own."""
    desired = with_launcher(tmp_path, change)
    monkeypatch.setattr(loop, "site_of", lambda *_: desired.site)
    return CliRunner().invoke(render, ["quickstart/stage-1", "-f", str(Path("tests/planner/manifests").resolve())])


def test_render_shows_the_script_and_what_is_wrong_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = rendered(tmp_path, monkeypatch, "export TRAIN_TOKENS=1000000000")
    assert result.exit_code == 1
    assert "export TRAIN_TOKENS=1000000000" in result.stdout
    assert "is not its recipe: ORA050 TRAIN_TOKENS=1000000000 wins over TRAIN_ITERS" in result.stderr


# --- any ladder that a manifest can ask for

LAST_STAGE = (
    "    - name: cooldown-mix-a\n      legs:\n        - mixture: {D0: 0.33, D3: 0.33, buffer: 0.34}\n"
    "          lr: {shape: cooldown, decay: 1-sqrt}     # from lrMax to lrFinal over the whole leg\n"
)


def rate(divisor: int) -> str:
    return "lrMax" if divisor == 1 else f"lrMax/{divisor}"


@st.composite
def strategies(draw: st.DrawFn) -> str:
    """One to three legs: each holds the rate, lets it fall further, or rewarms."""
    divisor, legs = 1, []
    for index in range(draw(st.integers(1, 3))):
        shape = draw(st.sampled_from(["constant", "cooldown", "cosine"]))
        policy = f"shape: {shape}"
        if draw(st.integers(0, 3)) == 0:
            divisor = draw(st.sampled_from([1, 2, 7]))
            policy += f", rewarm: true, warmup: {draw(st.sampled_from(['0', '1', '10', '33.3']))}%"
        policy += f", at: {rate(divisor)}"
        if shape != "constant":
            divisor *= draw(st.integers(2, 50))
            policy += f", to: {rate(divisor)}"
        tokens = "" if index == 0 else f"          tokens: {draw(st.integers(20, 150))}k\n"
        legs.append(f"        - mixture: {{D0: 0.5, D3: 0.5}}\n          lr: {{{policy}}}\n{tokens}")
    return "    - name: cooldown-mix-a\n      legs:\n" + "".join(legs)


@settings(max_examples=40)
@given(
    strategy=strategies(),
    shape=st.sampled_from([(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4)]),
    every=st.integers(2, 300),
    walltime=st.sampled_from(["1m", "10m", "1h"]),
)
def test_the_scripts_of_any_ladder_are_its_recipe(
    strategy: str, shape: tuple[int, int], every: int, walltime: str
) -> None:
    nodes, ranks = shape
    edit = swapped(
        (LAST_STAGE, strategy),
        ("node: {ranks: 1}", f"node: {{ranks: {ranks}}}"),
        ("{nodes: 4, walltime: 1m}", f"{{nodes: {nodes}, walltime: {walltime}}}"),
        ("resources: {nodes: 1, walltime: 1m}", f"resources: {{nodes: {4 // ranks}, walltime: 1m}}"),
        ("checkpointEvery: 100 ", f"checkpointEvery: {every} "),
    )
    desired = quickstart(lambda text: edit(text).replace("{nodes: 2, walltime: 1m}", "{nodes: 1, walltime: 1m}"))
    stage = desired.stages[-1]
    for leg in range(len(stage.spec.strategies[0].legs)):
        for later in (False, True):
            made = sketch(desired, stage, stage.spec.strategies[0], leg, later=later)
            assert not isinstance(made, Unresolved)
            assert refused(desired, made.action) == ()
