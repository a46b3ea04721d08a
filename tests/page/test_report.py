"""What the report says, and the command that writes it: without a browser."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import threading
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.model.observed import Job, JobState, LogWindow, Observed, TrainLog, Unread
from reconciler.model.plan import ActionKind
from reconciler.model.problems import Where
from reconciler.page.chartdata import _column, embedded
from reconciler.page.content import content_of
from reconciler.page.curves import Point, thin
from reconciler.page.links import Link, Places, forge_of
from reconciler.page.render import html
from reconciler.page.serving import Server, served
from reconciler.page.timeline import JOBS_TOLD
from reconciler.planner.desired import Desired
from reconciler.planner.planner import plan
from reconciler.record.pages import remote_url, shared
from tests.page.campaigns import GITHUB, Told, auroragpt, page_of, story, wavy
from tests.planner.test_totality import looks
from tests.planner.world import NOW_S, World, iterations_of, quickstart, rate
from tests.record.campaign import Cluster, live, planned
from tests.record.repositories import clone, git
from tests.record.test_history import reconcile

ROOT = Path(__file__).parents[2]
VENDORED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""As `npm pack uplot@1.6.32` has them in dist/."""
COMMIT = "c" * 40


@pytest.fixture(scope="module")
def world() -> Told:
    return story()


def test_vendored_files_are_as_their_makers_released_them() -> None:
    folder = ROOT / "reconciler" / "page" / "vendor" / "uplot"
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in VENDORED}
    assert found == VENDORED


# --- what it says ----------------------------------------------------------------------------------------------------


def test_a_running_campaign_says_where_it_is_and_what_comes_next(world: Told) -> None:
    page = page_of(world)
    assert page.headline.tone == "busy"
    assert page.headline.state == "stage-4 trains with cooldown-mix-a"
    assert "it passes by itself" in page.headline.next_step
    tiles = {tile.name: tile.value for tile in page.tiles}
    assert tiles["Stages done"] == "3 of 4"
    assert [stage.open for stage in page.stages] == [False, False, False, True]


def test_what_could_not_be_read_is_told_first_and_nothing_is_made_of_it() -> None:
    world = World(quickstart())
    observed = world.look()
    unread = replace(observed, jobs=Unread("qstat: no answer"))
    page = content_of(world.desired, unread, plan(world.desired, unread), Places(COMMIT), "the cluster")
    assert page.headline.tone == "warn" and "qstat: no answer" in page.headline.because
    assert page.read is None and page.tiles == () and page.stages[0].share is None
    assert "qstat: no answer" in html(page)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(looks())
def test_every_look_has_a_page(case: tuple[Desired, Observed]) -> None:
    """Evidence lost, doubled and garbled, as the planner is given it."""
    desired, observed = case
    text = html(content_of(desired, observed, plan(desired, observed), Places(desired.revision), "the cluster"))
    held = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert held is not None and set(json.loads(held[1])) == {"refresh", "lanes", "planned", "sets"}


def test_an_attempt_begins_where_its_source_stands(world: Told) -> None:
    page = page_of(world)
    assert page.read is not None
    runs = {(run.stage, run.strategy): run for run in page.read.curves.runs}
    first, second = runs["stage-1", "pretrain"], runs["stage-2", "naive"]
    failed, passed = runs["stage-3", "naive"], runs["stage-3", "replay-30"]
    assert first.begins == 0 and second.begins == first.span[1]
    assert failed.begins == passed.begins == second.span[1]
    assert (failed.way, passed.way) == (False, True)
    assert [mark.kind for mark in failed.marks] == ["stage", "checkpoint", "fail"]
    assert [each.loss for each in passed.losses["val-D0"]] == [2.41]


def test_a_rate_that_is_not_the_declared_one_is_told_as_such(world: Told) -> None:
    as_declared = page_of(world)
    assert as_declared.read is not None and [run.strays for run in as_declared.read.curves.runs] == [()] * 5
    other = Told(quickstart())
    action = other.until(ActionKind.TRAIN)
    rates = {at: rate(action, at) for at in range(900, 911)} | {905: 1e-3}
    windows = tuple(LogWindow(at, at, 2.0, 2.0, 2.0, found, 1, 0) for at, found in rates.items())
    other.leg(action, logs=(TrainLog(str(action.key), windows=windows),))
    page = page_of(other)
    assert page.read is not None
    (run,) = page.read.curves.runs
    assert run.strays == ((5, 2e-3),)


def test_a_set_fails_above_its_loss_at_the_source_and_what_the_gate_allows(world: Told) -> None:
    page = page_of(world)
    assert page.read is not None
    bounds = {(run.stage, run.strategy): run.bounds for run in page.read.curves.runs}
    strong = 0.30
    assert bounds["stage-1", "pretrain"] == {}
    for judged in ("naive", "replay-30"):
        assert bounds["stage-3", judged] == pytest.approx({"val-D0": 2.33 + strong, "val-D1": 2.52 + strong})
    running = {"val-D0": 2.41 + strong, "val-D1": 2.55 + strong, "val-D2": 2.21 + strong}
    assert bounds["stage-4", "cooldown-mix-a"] == pytest.approx(running)


def test_what_was_trained_again_is_shown_as_it_went_the_second_time() -> None:
    world = Told(quickstart())
    action = world.until(ActionKind.TRAIN)
    key = str(action.key)
    lost = TrainLog(key, windows=tuple(window(at, 9.0) for at in range(1, 101)))
    again = TrainLog(key.replace("/n0/", "/n1/"), windows=tuple(window(at, 3.0) for at in range(51, 121)))
    world.leg(action, logs=(lost, again))
    page = page_of(world)
    assert page.read is not None
    (run,) = page.read.curves.runs
    assert [(point.last, point.mean) for point in run.points] == [
        *((at, 9.0) for at in range(1, 51)),
        *((at, 3.0) for at in range(51, 121)),
    ]


def window(at: int, loss: float) -> LogWindow:
    return LogWindow(at, at, loss, loss, loss, 2e-3, 1, 0)


def test_every_stage_leads_to_its_line_and_commit(world: Told) -> None:
    page = page_of(world, places=Places(COMMIT, GITHUB, frozenset({COMMIT}), {"stages.yaml": "manifests/stages.yaml"}))
    text = (Path(__file__).parents[1] / "planner" / "manifests" / "stages.yaml").read_text().splitlines()
    for stage in page.stages:
        found = re.fullmatch(
            rf"https://github.com/example/cpt/blob/{COMMIT}/manifests/stages\.yaml#L(\d+)", stage.place.url
        )
        assert found is not None
        near = text[int(found[1]) - 1 : int(found[1]) + 6]
        assert any(f"name: {stage.status.stage}" in line for line in near), near


@pytest.mark.parametrize(
    ("remote", "base"),
    [
        ("git@github.com:argonne-lcf/cpt.git", "https://github.com/argonne-lcf/cpt"),
        ("https://ada:secret@gitlab.example.org/team/sub/cpt.git", "https://gitlab.example.org/team/sub/cpt"),
        ("ssh://git@codeberg.org:22/ada/cpt", "https://codeberg.org/ada/cpt"),
        ("https://bitbucket.org/ada/cpt/", "https://bitbucket.org/ada/cpt"),
        ("/srv/git/cpt.git", None),
        ("https://example.org/ada/cpt", None),
        ("https://github.com/ada/<script>", None),
        ('https://github.com/ada/"onclick=x', None),
        ("javascript:alert(1)//github.com/a/b", None),
        ("", None),
    ],
)
def test_a_remote_is_linked_to_where_its_forge_is_known(remote: str, base: str | None) -> None:
    forge = forge_of(remote)
    assert (forge.base if forge is not None else None) == base


def test_what_is_not_on_the_forge_is_named_and_not_linked() -> None:
    where = Where("stages.yaml", 12)
    assert Places(COMMIT, GITHUB).of_line(where) == Link("stages.yaml:12 @ ccccccccc")
    assert Places(COMMIT, GITHUB).of_commit(COMMIT + "+") == Link("ccccccccc+")
    loose = Places(COMMIT, GITHUB, frozenset({COMMIT}), loose=frozenset({"stages.yaml"}))
    assert loose.of_line(where) == Link("stages.yaml:12, not as committed")


def test_jobs_that_would_lie_over_each_other_are_drawn_as_one_and_the_last_are_told() -> None:
    world = Told(quickstart())
    action = world.until(ActionKind.TRAIN)
    key = str(action.key)
    begins = [NOW_S - 86400 * 400 + n * 21_600 for n in range(1500)]
    world.jobs = [
        Job(f"{n}.here", "", JobState.FINISHED, "F", key.replace("/n0/", f"/n{n}/"), exit_status=0, queued_s=at,
            started_s=at + 600, ended_s=at + 21_000)
        for n, at in enumerate(begins)
    ]  # fmt: skip
    page = page_of(world)
    assert page.read is not None and page.read.timeline is not None
    (row,) = page.read.timeline.rows
    assert page.read.timeline.jobs == 1500 and len(row.bars) < 400 and len(row.jobs) == JOBS_TOLD
    assert row.bars[0].what.startswith("1500 jobs, train leg 0, job 1 to train leg 0, job 1500")
    assert "The last 200 of 1,500 jobs" in html(page)


# --- how much of it --------------------------------------------------------------------------------------------------

losses = st.one_of(st.none(), st.floats(0.1, 20))


@given(st.lists(losses, min_size=1, max_size=300), st.integers(1, 100))
def test_thinning_keeps_the_extremes_the_last_and_the_count_of_lines(means: list[float | None], most: int) -> None:
    points = [Point(at, at, mean, mean, mean, 1e-3, 1) for at, mean in enumerate(means)]
    kept = thin(points, most)
    assert len(kept) <= max(most, 2) + 1
    assert kept[-1] == points[-1]
    assert sum(point.lines for point in kept) == len(points)
    some = [mean for mean in means if mean is not None]
    assert min((p.low for p in kept if p.low is not None), default=None) == min(some, default=None)
    assert max((p.high for p in kept if p.high is not None), default=None) == max(some, default=None)


def test_a_page_of_months_of_jobs_stays_below_two_megabytes() -> None:
    """AuroraGPT V1, its first stage in 1,200 jobs that each bring all the windows that a look may."""
    world = Told(auroragpt())
    action = world.until(ActionKind.TRAIN)
    iterations, key = iterations_of(action), str(action.key)
    starts = range(1, iterations - 64, iterations // 1200)
    world.trained(action, iterations)
    world.leg(
        action,
        logs=tuple(
            TrainLog(key.replace("/n0/", f"/n{n}/"), windows=tuple(window(at + k, 2 + wavy(at + k)) for k in range(64)))
            for n, at in enumerate(starts)
        ),
    )
    page = page_of(world)
    assert page.read is not None and page.read.curves.logged > 76_000 and 30_000 < page.read.curves.shown <= 40_000
    text = html(page)
    assert len(text.encode()) < 2_000_000
    assert "put together from" in text


# --- as data ---------------------------------------------------------------------------------------------------------


@given(st.text())
def test_no_text_ends_the_element_that_holds_the_data(text: str) -> None:
    told = embedded({"text": text})
    assert not set("<>&\u2028\u2029") & set(told)
    assert json.loads(told) == {"text": text}


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True)))
def test_a_column_is_read_back_and_holds_no_infinity(values: list[float]) -> None:
    back = array("f", base64.b64decode(_column("f", values)))
    assert len(back) == len(values)
    assert all(abs(value) < 3.5e38 or value != value for value in back)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of a repository in which three stages are on record."""
    root = planned(tmp_path_factory.mktemp("kept") / "repository")
    live(root, Cluster.of(root))
    return clone(tmp_path_factory.mktemp("later") / "clone", str(root))


def test_a_clone_is_enough_for_a_report_without_a_cluster(later: Path) -> None:
    told = reconcile(later, "report", "--at", "HEAD")
    assert told.startswith("report/index.html  ")
    text = (later / "report" / "index.html").read_text()
    assert "By the record" in text and "replay-30" in text
    commit = git(later, "rev-parse", "HEAD").strip()
    assert f"manifests/stages.yaml:1 @ {commit[:9]}" in text or f"@ {commit[:9]}" in text


def test_only_what_the_remote_has_is_linked_to(later: Path) -> None:
    commit = git(later, "rev-parse", "HEAD").strip()
    git(later, "commit", "-q", "--allow-empty", "-m", "Not pushed yet")
    own = git(later, "rev-parse", "HEAD").strip()
    git(later, "reset", "-q", "--hard", commit)
    assert remote_url(later)[0] == "origin"
    assert shared(later, "origin", (commit, own, "f" * 40, "--help", "")) == {commit}


def test_only_a_report_is_written_over(later: Path) -> None:
    folder = later / "site"
    folder.mkdir()
    (folder / "index.html").write_text("<h1>Ours</h1>")
    told = reconcile(later, "report", "--at", "HEAD", "-o", "site", status=1)
    assert "is no report; it is left as it is" in told
    assert (folder / "index.html").read_text() == "<h1>Ours</h1>"
    reconcile(later, "report", "--at", "HEAD", "-o", "other")
    reconcile(later, "report", "--at", "HEAD", "-o", "other")
    assert [path.name for path in (later / "other").iterdir()] == ["index.html"]


def test_what_does_not_go_together_is_refused(later: Path) -> None:
    assert "give one of them" in reconcile(later, "report", "--at", "HEAD", "--serve", status=2)
    assert "--port is for --serve" in reconcile(later, "report", "--port", "80", status=2)


# --- served ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(world: Told) -> Iterator[Server]:
    now = served(page_of(world), 1.0)
    server = Server(0, lambda: now)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def asked(server: Server, path: str, method: str = "GET", host: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host if host is not None else f"localhost:{server.server_port}")
    connection.endheaders()
    return connection.getresponse()


def test_the_page_and_whether_there_is_news_are_all_that_is_served(server: Server) -> None:
    home = f"/{server.secret}/"
    paths = ("", "news", "index.html", "../", "news/..")
    assert [asked(server, home + path).status for path in paths] == [200, 200, 404, 404, 404]
    assert asked(server, home, "HEAD").read() == b""
    assert asked(server, home, "POST").status == 501
    assert asked(server, home).headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("path", ["/", "/news", "/x/", "//", "/report/news"])
def test_who_was_not_told_the_address_does_not_find_it(server: Server, path: str) -> None:
    assert asked(server, path).status == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:PORT", "127.0.0.1", "localhost.evil.example:PORT", ""])
def test_a_name_that_was_made_to_lead_here_is_refused(server: Server, host: str) -> None:
    answer = asked(server, f"/{server.secret}/", host=host.replace("PORT", str(server.server_port)))
    assert answer.status == 421
    assert b"stage-1" not in answer.read()


def test_only_this_machine_is_answered(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
