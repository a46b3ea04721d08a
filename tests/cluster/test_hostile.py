"""Hostile text: in manifests and job values it is refused or handed on as it is; from the cluster it stays text.

What "as it is" means is settled by a real bash that runs the rendered script: the launcher notes what it was given, and
no text may make the file `pwned`.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reconciler.cli import machine
from reconciler.cli.human import plan as plan_view
from reconciler.cli.human import status as status_view
from reconciler.cli.human.live import LiveView, PlainView
from reconciler.cli.screen import Screen
from reconciler.cli.telling import fail
from reconciler.cluster.batch import Outcome, OutcomeKind
from reconciler.cluster.render import VALUE_BYTES_MAX, render
from reconciler.domain.loading import load
from reconciler.domain.resolve import Unresolved
from reconciler.loop import Look, Pass
from reconciler.model import source
from reconciler.model.faults import Fault
from reconciler.model.manifests import StageManifest
from reconciler.model.message import Message
from reconciler.model.observed import Job, LockSeen, Unread
from reconciler.model.plan import Change, JobRequest
from reconciler.model.problems import harmless
from reconciler.model.status import Condition, Phase, RungStatus
from reconciler.model.templates import Unrenderable
from reconciler.model.validation import manifest_of
from reconciler.planner.desired import Desired
from reconciler.planner.sketch import sketch
from tests.cluster.node import Node
from tests.cluster.test_render import SITE
from tests.cluster.world import ATTEMPT, CAMPAIGN, STAGE, World, train
from tests.planner import world as planned

MANIFESTS = Path(__file__).parent.parent.parent / "manifests"
TEXTS = [
    "'; touch pwned; '",
    '"; touch pwned; "',
    "$(touch pwned)",
    "`touch pwned`",
    "${IFS}touch${IFS}pwned",
    "a\ntouch pwned",
    "a\rtouch pwned",
    "a\n#PBS -l select=999",
    "a\x00b",
    "a\x1b[2Jb",
    "--checkpoint-activations",
    "-rf",
    "a b  c",
    " ",
    "a; touch pwned",
    "a && touch pwned",
    "a | tee pwned",
    "a > pwned",
    "back\\slash\\",
    "ünï — 漢字",
    "\u2028touch pwned",
    "\u202egnp.dwnp",
    "~/x $HOME *",
    "../../../etc/passwd",
    "a/../../b",
    "!!",
    "#",
    "",
    "=",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 3000,
]


def controls(text: str) -> bool:
    return any(ord(character) < 32 or ord(character) == 127 for character in text)


# --- job values


def too_long(text: str) -> bool:
    """For the name of a file."""
    return len(os.fsencode(text)) > 200


def log_name(text: str) -> str:
    return f"val{'' if too_long(text) else text.replace('/', '%')}"


def everywhere(node: Node, template: str, text: str) -> JobRequest:
    """A job that holds the text wherever text goes: folders that are named so are there."""
    long = too_long(text)
    checkout = node.top / "launchers" / ("" if long else text.lstrip("/"))
    attempt = node.top / "attempts" / ("" if long else text.lstrip("/"))
    if not controls(text):
        node.furnish(checkout)
        attempt.mkdir(parents=True, exist_ok=True)
    environment = {"LR": text, "SAVE": text}
    launch: dict[str, object] = {"environment": environment, "arguments": [text, "--end"]}
    if template == "evaluate":
        environment |= {"DATA_FILE_LIST": text, "EVAL_ITERS": "2"}
        launch["log"] = f"{node.top}/log/{log_name(text)}"
    # The guard names a file after the key, which is therefore as short as a real one.
    values = dict.fromkeys(("tool", "source", "target"), text) | {"key": f"demo/{'' if long else text}"}
    job = node.job(template, **values, checkout=str(checkout), attempt_folder=str(attempt), launches=[launch])
    return replace(job, header=dict.fromkeys(job.header, text))


def arrives_or_is_refused(node: Node, template: str, text: str) -> None:
    (node.top / "log").mkdir(exist_ok=True)
    job = everywhere(node, template, text)
    try:
        status, log = node.run(job)
    except Unrenderable as refused:
        assert controls(text), f"only control characters are refused, not {text!r}"
        assert "control character" in str(refused)
        return
    assert not controls(text)
    (call,) = node.calls()
    wanted = {
        "train": ("train_alcf.sh", text, "--end"),
        "evaluate": ("train_alcf.sh", text, "--end", "--set", text, "2", f"{node.top}/log/{log_name(text)}"),
        "convert": ("python3", text, text, text, "--for-data-parallel", "2"),
    }[template]
    assert (call.arguments, status) == (wanted, 0), log
    assert call.folder == os.path.realpath(str(job.values["checkout"]))
    if template != "convert":
        assert (call.environment["LR"], call.environment["SAVE"]) == (text, text)
    made = [path for path in node.top.rglob("*") if path.is_file() and path.name == "pwned"]
    assert made == []


@pytest.mark.parametrize("template", ["train", "evaluate", "convert"])
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:30]))
def test_a_job_s_value_is_refused_or_arrives_as_it_is(tmp_path: Path, template: str, text: str) -> None:
    arrives_or_is_refused(Node(tmp_path).build(), template, text)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8"), max_size=30))
@example("\x7f")
def test_any_text_is_refused_or_arrives_as_it_is(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    arrives_or_is_refused(Node(tmp_path_factory.mktemp("node")).build(), "train", text)


@pytest.mark.parametrize("size", [VALUE_BYTES_MAX, VALUE_BYTES_MAX + 1, 10_000_000])
def test_a_value_as_long_as_the_kernel_takes_arrives_and_a_longer_one_is_refused(tmp_path: Path, size: int) -> None:
    node = Node(tmp_path).build()
    text = "x" * size
    job = node.job(launches=[{"environment": {"LR": text}, "arguments": [text]}])
    if size > VALUE_BYTES_MAX:
        with pytest.raises(Unrenderable, match=r"a value of \d+ bytes cannot be handed to a program"):
            render(job, "/w/log")
        return
    assert node.run(job)[0] == 0
    (call,) = node.calls()
    assert (call.arguments[1], call.environment["LR"]) == (text, text)


@pytest.mark.parametrize("place", ["name", "queue", "account", "filesystems", "log", "header"])
@pytest.mark.parametrize("text", ["a\n#PBS -l select=999", "a\x00b", "a\r\nb", "a\tb"], ids=repr)
def test_no_value_adds_a_directive(tmp_path: Path, place: str, text: str) -> None:
    job, log = Node(tmp_path).job(), "/w/log"
    match place:
        case "name":
            job = replace(job, name=text)
        case "queue":
            job = replace(job, queue=text)
        case "account":
            job = replace(job, account=text)
        case "filesystems":
            job = replace(job, filesystems=(text,))
        case "log":
            log = text
        case _:
            job = replace(job, header=dict(job.header) | {"campaign": text})
    with pytest.raises(Unrenderable, match="control character"):
        render(job, log)


@pytest.mark.parametrize("name", ["lr", "LR=1; x", "A B", "", "1A", "A\n", "Ä", "LR$(x)", "-n"])
def test_a_variable_s_name_is_one(tmp_path: Path, name: str) -> None:
    job = Node(tmp_path).job(launches=[{"environment": {name: "1"}, "arguments": []}])
    with pytest.raises(Unrenderable, match="not the name of an environment variable"):
        render(job, "/w/log")


# --- manifests


def documents() -> list[dict[str, Any]]:
    """Every object of the shipped campaigns, as data."""
    found = []
    for path in sorted(MANIFESTS.glob("*/*.yaml")):
        found += [document.data for document in source.read(path.name, path.read_bytes()).documents]
    return [data for data in found if isinstance(data, dict)]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a scalar stands; of a list only the first entry, since the others have its shape."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    if not isinstance(value, (dict, list)):
        yield path
    for key, item in items:
        yield from leaves(item, (*path, key))


def with_leaf(data: dict[str, Any], path: tuple[Any, ...], text: str, *, key: bool) -> dict[str, Any]:
    """The object with a text instead of one scalar, or (`key`) instead of the key that it stands under."""
    changed = copy.deepcopy(data)
    at: Any = changed
    for part in path[:-1]:
        at = at[part]
    if key:
        at[text] = at.pop(path[-1])
    else:
        at[path[-1]] = text
    return changed


def as_file(*objects: dict[str, Any]) -> bytes:
    """JSON is YAML; the escapes in it say every character."""
    return "\n---\n".join(json.dumps(data, default=str) for data in objects).encode()


def accepted(data: dict[str, Any]) -> bool:
    read = source.read("x.yaml", as_file(data))
    return not read.problems and all(manifest_of(document)[0] is not None for document in read.documents)


FIELDS = {
    (data["kind"], re.sub(r"\b\d+\b", "0", ".".join(map(str, path)))): (data, path)
    for data in documents()
    for path in leaves(data)
}
FREE_TEXT = {("Dataset", "spec.origin")}
"""For people: shown, never part of a job."""
PLACES = re.compile(r"(path|root|checkout|workspace|templates)(\.0)?$")
"""Fields that hold a path."""
INERT = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./:=,@%+-]*")
"""What no shell acts on, even where the launcher evaluates its command line a second time, and no program's option."""


@pytest.mark.parametrize("where", FIELDS, ids=lambda where: f"{where[0]}.{where[1]}")
def test_what_passes_validation_is_inert(where: tuple[str, str]) -> None:
    data, path = FIELDS[where]
    passed = {text for text in TEXTS if accepted(with_leaf(data, path, text, key=False))}
    if where in FREE_TEXT:
        assert not any(controls(text) for text in passed)
        return
    assert {text for text in passed if not INERT.fullmatch(text)} == set()
    if PLACES.search(where[1]):
        assert passed == set(), "a path does not climb"
    if isinstance(path[-1], str):
        assert {text for text in TEXTS if accepted(with_leaf(data, path, text, key=True))} == set()


def is_prose(text: str) -> bool:
    """Whether a field for people takes it: in one line, and read in one direction."""
    return not controls(text) and re.search("[\u2028-\u202e\u2066-\u2069]", text) is None and len(text) < 2000


@pytest.mark.parametrize("text", [text for text in TEXTS if is_prose(text)], ids=repr)
def test_free_text_reaches_no_script(text: str) -> None:
    files = [path.read_text() for path in sorted((MANIFESTS / "quickstart").glob("*.yaml"))]
    hostile = [re.sub(r"(?m)^( *origin:).*$", lambda found: f"{found[1]} {json.dumps(text)}", each) for each in files]
    assert hostile != files
    assert scripts(hostile) == scripts(files)


def scripts(texts: list[str]) -> list[str]:
    loaded = load([(f"{number}.yaml", text.encode()) for number, text in enumerate(texts)])
    assert loaded.ok, [str(problem) for problem in loaded.problems]
    desired = Desired(loaded.catalog, "quickstart", "0" * 40, False, SITE)
    return [script for stage in desired.stages for script in scripts_of(desired, stage)]


def scripts_of(desired: Desired, stage: StageManifest) -> Iterator[str]:
    for strategy in stage.spec.strategies:
        for leg in range(len(strategy.legs)):
            made = sketch(desired, stage, strategy, leg, later=False)
            assert not isinstance(made, Unresolved)
            assert made.action.job is not None
            yield render(made.action.job, "/w/log")


def test_a_manifest_of_10_mb_is_refused_unread() -> None:
    data = with_leaf(
        next(d for d in documents() if d["kind"] == "Cluster"), ("spec", "workspace"), "x" * 10**7, key=False
    )
    (problem,) = source.read("x.yaml", as_file(data)).problems
    assert problem.code == "M002"


# --- answers of a cluster

NASTY = [
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "a\r\nb",
    "\u202egnp",
    "\u2028",
    "\x00",
    "'; touch pwned; '",
    "\ud83d\ude00 ok",
]


def queued(world: World, **attributes: object) -> str:
    """A job of ours with such attributes; returns its id."""
    world.execute(train())
    (job_id,) = world.jobs()
    world.alter(job_id, **attributes)
    return job_id


def the_job(world: World) -> Job:
    jobs = world.observe().jobs
    assert not isinstance(jobs, Unread), jobs
    (job,) = jobs
    return job


TOLD = ("comment", "Job_Name", "queue", "job_state", "stime")
"""What the job table tells of a job."""


@pytest.mark.parametrize("text", NASTY, ids=repr)
def test_a_job_s_texts_come_without_anything_that_a_terminal_obeys(world: World, text: str) -> None:
    job_id = queued(world, **dict.fromkeys(TOLD, text))
    job = the_job(world)
    assert job.job_id == job_id
    assert all(shown.isprintable() for shown in (job.name, job.comment, job.queue, job.letter))


@pytest.mark.parametrize("attributes", [TOLD, ("Variable_List",)], ids=["told", "variables"])
@pytest.mark.parametrize(
    "value", ["x" * 10_000_000, ["x"], {"x": {"y": 1}}, 10**400, None, True], ids=lambda value: repr(value)[:20]
)
def test_one_odd_or_huge_field_does_not_blind_the_look(
    world: World, attributes: tuple[str, ...], value: object
) -> None:
    job_id = queued(world, **dict.fromkeys(attributes, value))
    job = the_job(world)  # by the journal, where its variables are lost
    assert job.job_id == job_id
    assert max(len(text) for text in (job.name, job.comment, job.queue, job.letter)) <= 500


@pytest.mark.parametrize(
    "key", ["x" * 10_000_000, "$(touch pwned)", "../../x", "\x1b[2J", f"{CAMPAIGN}/../{ATTEMPT}/l0/n0/train"]
)
def test_a_key_that_is_none_of_ours_is_nobody_s_job(world: World, key: str) -> None:
    queued(world, Variable_List={"CPT_KEY": key})
    found = world.observe()
    assert isinstance(found.jobs, tuple)
    assert not any(path.name == "pwned" for path in world.top.rglob("*"))


ODD_NAMES = ["a\nb", "\x1b[2J", "-rf", "$(touch pwned)", "ünï", "x" * 200, "...", "0123456789AB"]


@pytest.mark.parametrize(
    "place",
    [
        "",
        STAGE,
        *(f"{STAGE}/{ATTEMPT}/{name}".rstrip("/") for name in ("", "jobs", "verdicts", "external", "evaluations")),
    ],
)
def test_odd_names_in_the_workspace_are_passed_over(world: World, place: str) -> None:
    for name in ODD_NAMES:
        folder = world.workspace / CAMPAIGN / place / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    world.attempt.mkdir(parents=True, exist_ok=True)
    (world.attempt / "recipe.json").write_text("{}")
    found = world.observe().attempts
    assert isinstance(found, tuple)
    assert {(a.stage, a.attempt, a.recipe, a.unread) for a in found} == {(STAGE, ATTEMPT, "{}", "")}


@pytest.mark.parametrize(
    "link",
    [
        "", STAGE, f"{STAGE}/{ATTEMPT}", *(f"{STAGE}/{ATTEMPT}/{name}" for name in (
            "recipe.json", "leg-0", "leg-0/global_step5", "leg-0/global_step5/mp_rank_00_model_states.pt",
            "leg-0-source", "jobs", "jobs/l0-n0-train.log", "evaluations", "evaluations/leg-0-5",
            "evaluations/leg-0-5/val.log", "verdicts", "verdicts/final.json", "external", "external/mmlu.json",
        ))
    ],
)  # fmt: skip
def test_nothing_is_read_through_a_link_that_leads_out(world: World, link: str) -> None:
    outside = world.top / "outside"
    theirs(outside)
    path = world.workspace / CAMPAIGN / link
    path.parent.mkdir(parents=True)
    if link.startswith(f"{STAGE}/{ATTEMPT}/"):
        (world.attempt / "recipe.json").unlink(missing_ok=True)
        inside = outside / STAGE / ATTEMPT / link.removeprefix(f"{STAGE}/{ATTEMPT}/")
        path.symlink_to(inside)
    else:
        path.symlink_to(outside / link)
    assert "sesame" not in repr(world.observe())


def theirs(top: Path) -> None:
    """What looks like a campaign, outside of the workspace, full of a secret."""
    attempt = top / STAGE / ATTEMPT
    for folder in ("leg-0/global_step5", "leg-0-source", "jobs", "evaluations/leg-0-5", "verdicts", "external"):
        (attempt / folder).mkdir(parents=True)
    for file in ("recipe.json", "verdicts/final.json", "external/mmlu.json", "leg-0/latest"):
        (attempt / file).write_text("sesame")
    (attempt / "leg-0/global_step5/mp_rank_00_model_states.pt").write_text("sesame")
    (attempt / "jobs/l0-n0-train.log").write_text("Traceback (most recent call last):\nsesame: OutOfMemoryError\n")
    (attempt / "evaluations/leg-0-5/val.log").write_text("sesame")


# --- what reaches a terminal

ESCAPE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r"


@pytest.mark.parametrize("text", ["plain", "two\nlines", "ünï — 漢字 ✗ ▸"])
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert harmless(text) == text


CODES = {"outcome", "forecasts", "key"}
"""Fields that are looked up in a table of ours, or come from the manifests as checked."""


def spoiled(value: Any) -> Any:
    """The value with an escape sequence in every text, as if the cluster had said all of it."""
    if type(value) is str:
        return value + ESCAPE
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(spoiled(each) for each in value)
    if isinstance(value, Mapping):
        return {spoiled(key): spoiled(each) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        own = {each.name: getattr(value, each.name) for each in fields(value) if each.name not in CODES}
        return replace(value, **{name: spoiled(each) for name, each in own.items()})
    return value


def spoiled_pass() -> Pass:
    """A pass with everything that views show: rungs, conditions, changes, refusals, a lock, outcomes."""
    grown = planned.after(1)
    action = grown.the_action()
    grown.submit(action)
    plan = grown.plan()
    status = replace(plan.stages[1], conditions=(Condition("Ready", "False", "JobHeld", "held"),))
    held = replace(status, stage="held", phase=Phase.HELD, rungs=(RungStatus("naive", "a", "failed", "no"),))
    plan = replace(
        plan,
        actions=(action,),
        stages=(*plan.stages, status, held),
        changes=(Change("stage-1", "path", "before", "after", True), Change("(campaign)", "p", "b", "a", False)),
        refusals=(Message(Fault.UNSOUND_PLAN, "refused"),),
    )
    observed = replace(grown.look(), lock=LockSeen("nonce", "holder", "host", 3.0))
    outcomes = (Outcome(str(action.key), OutcomeKind.REFUSED, "1.here", "told"), Outcome("key", OutcomeKind.DONE))
    return Pass(Look(spoiled(observed), spoiled(plan)), spoiled(outcomes), spoiled("unknown"))


def shown(*parts: Any, views: Sequence[type[PlainView | LiveView]] = (), terminal: bool) -> str:
    """What a terminal or a pipe gets, less the colours and cursor movements that are rich's own."""
    file = io.StringIO()
    console = Screen(file=file, force_terminal=terminal, color_system="standard" if terminal else None, width=200)
    for part in parts:
        console.print(part)
    for view in views:
        with view(console) as live:
            live.show(spoiled_pass())
    return re.sub(r"\x1b\[[0-9;]*[mAK]|\x1b\[2K|\x1b\[\?25[lh]|\r(?=\x1b|\n)", "", file.getvalue())


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("view", ["plan", "status", "conditions", "closing", "outcome", "plain", "live"])
def test_no_view_lets_a_control_character_through(view: str, terminal: bool) -> None:
    done = spoiled_pass()
    plan, observed = done.look.plan, done.look.observed
    match view:
        case "plan":
            text = shown(plan_view.render(plan), plan_view.summary(plan), terminal=terminal)
        case "status" | "conditions":
            text = shown(status_view.render(plan, observed, 200, conditions=view == "conditions"), terminal=terminal)
        case "closing":
            text = shown(status_view.closing(plan, spoiled("/w"), 3.0, (spoiled("wait"),)), terminal=terminal)
        case "outcome":
            text = shown(*map(plan_view.outcome, done.outcomes), terminal=terminal)
        case _:
            text = shown(views=[PlainView if view == "plain" else LiveView], terminal=terminal)
    assert "\ufffd" in text, "the spoilt texts are shown"
    assert {c for c in text if not c.isprintable()} <= {"\n"}


def test_the_json_views_escape_every_control_character() -> None:
    plan = spoiled_pass().look.plan
    text = machine.plan_json(plan, {"x": ESCAPE}) + machine.status_json(plan)
    assert {c for c in text if not 32 <= ord(c) < 127} == {"\n"}


def test_an_error_message_of_a_cluster_is_shown_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail(Fault.UNREACHABLE, f"qstat says {ESCAPE}", f"ssh -- {ESCAPE}\n    reconcile status")
    told = capsys.readouterr().err
    assert {c for c in told if not c.isprintable()} == {"\n"}
