"""The report in a real Chromium: what is drawn is what was logged, every control has its key, nothing hostile runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from reconciler.model.observed import LogWindow
from reconciler.page.content import Page
from reconciler.page.render import html
from reconciler.page.serving import Server, served
from tests.page.campaigns import Told, page_of, story
from tests.page.chromium import Browser, chromium

EVERY_DETAIL = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
SHOWN = "return document.activeElement.outerHTML.slice(0, 200)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.fixture(scope="module")
def world() -> Told:
    return story()


@pytest.fixture(scope="module")
def page(world: Told) -> Page:
    return page_of(world)


@pytest.fixture(scope="module")
def file(page: Page, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report as a file, as a person opens it."""
    return written(page, tmp_path_factory.mktemp("report"))


def written(page: Page, folder: Path) -> str:
    target = folder / "index.html"
    target.write_text(html(page), encoding="utf-8")
    return target.as_uri()


def drawn(browser: Browser, chart: str) -> dict[str, list[list[float | None]]]:
    """Label → its columns (x, then values), of a chart as it stands."""
    script = (
        "const chart = window.report.charts[arguments[0]];"
        "const column = (i) => Array.from(chart.data[i]);"
        "return JSON.stringify(chart.series.map((s, i) => [s.label, column(0), column(i)]))"
    )
    found: dict[str, list[list[float | None]]] = {}
    for label, x, y in json.loads(browser.run(script, chart)):
        found.setdefault(label, [[], []])
        for at, value in zip(x, y, strict=True):
            if value is not None:
                found[label][0].append(at)
                found[label][1].append(value)
    return found


def test_the_charts_have_every_point_at_its_place_with_its_value(browser: Browser, file: str, page: Page) -> None:
    browser.show(file)
    assert page.read is not None
    curves = page.read.curves
    assert [each.get_dom_attribute("data-points") for each in browser.find("#loss")] == [str(curves.shown)]
    way = [(run, point) for run in curves.runs if run.way for point in run.points]
    loss, rate = drawn(browser, "loss"), drawn(browser, "rate")
    assert loss["mean"][0] == [run.begins + point.last * run.tokens_per_iteration for run, point in way]
    assert loss["mean"][1] == pytest.approx([point.mean for _, point in way], rel=1e-6)
    assert rate["logged"][1] == pytest.approx([point.rate for _, point in way], rel=1e-6)
    left = [point.mean for run in curves.runs if not run.way for point in run.points]
    assert loss["mean, strategy left"][1] == pytest.approx(left, rel=1e-6)
    losses = [each for run in curves.runs if run.way for each in run.losses.get("val-D0", ())]
    assert drawn(browser, "validation")["val-D0"][1] == pytest.approx([each.loss for each in losses])


def test_the_file_opens_without_a_word_on_the_console_and_asks_nobody(browser: Browser, file: str) -> None:
    browser.show(file)
    assert browser.console() == []
    assert browser.run("return performance.getEntriesByType('resource').length") == 0


def test_where_points_are_more_than_pixels_the_lowest_and_highest_are_still_drawn(
    browser: Browser, world: Told, tmp_path: Path
) -> None:
    crowded = page_of(crowd(world, 20_000))
    browser.show(written(crowded, tmp_path))
    assert crowded.read is not None
    run = max(crowded.read.curves.runs, key=lambda run: len(run.points))
    assert len(run.points) >= 20_000
    loss = drawn(browser, "loss")
    assert len(loss["mean"][0]) < 4000
    way = [point for run in crowded.read.curves.runs if run.way for point in run.points]
    assert max(filter(None, loss["highest"][1])) == pytest.approx(max(point.high or 0 for point in way))
    assert min(filter(None, loss["lowest"][1])) == pytest.approx(min(point.low or 9 for point in way))
    assert browser.run("return window.report.charts.loss.scales.y.max") > 9.5
    browser.run("document.querySelector('[data-show=trim]').click()")
    assert browser.run("return window.report.charts.loss.scales.y.max") < 7
    # Close up, each point stands for itself again.
    place = run.begins + run.points[9_000].last * run.tokens_per_iteration
    browser.run("window.report.show(arguments[0] - 5 * arguments[1], arguments[0] + 5 * arguments[1])", place,
                run.tokens_per_iteration)  # fmt: skip
    wait_for(browser, f"window.report.charts.loss.data[0].includes({place})")


def crowd(world: Told, points: int) -> Told:
    """The same campaign, its first attempt's log in so many windows of one line; one of them a spike."""
    key, seen = next((key, seen) for key, seen in world.attempts.items() if key[0] == "stage-1")
    (leg,) = seen.legs
    log = leg.logs[0]
    last = log.windows[-1].last
    windows = tuple(
        LogWindow(
            1 + n * last // points,
            1 + n * last // points,
            *((9.5,) * 3 if n == points // 3 else (2 + n / points,) * 3),
            learning_rate=2e-3,
            lines=1,
            missing=0,
        )
        for n in range(points)
    )
    crowded = replace(seen, legs=(replace(leg, logs=(replace(log, windows=windows),)),))
    other = Told(world.desired, list(world.jobs), list(world.receipts), dict(world.attempts))
    other.attempts[key] = crowded
    return other


def wait_for(browser: Browser, condition: str) -> None:
    deadline = time.monotonic() + 60
    while not browser.run(f"return {condition}"):
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)


def test_two_strategies_that_were_left_at_one_place_are_both_seen(browser: Browser, page: Page, tmp_path: Path) -> None:
    assert page.read is not None
    curves = page.read.curves
    (failed,) = [run for run in curves.runs if not run.way]
    (loss,) = failed.losses["val-D0"]
    other = replace(failed, attempt="f" * 12, losses={"val-D0": (replace(loss, loss=2.9),)})
    both = replace(page, read=replace(page.read, curves=replace(curves, lanes=(*curves.lanes, (other,)))))
    browser.show(written(both, tmp_path))
    assert sorted(filter(None, drawn(browser, "validation")["val-D0, strategy left"][1])) == [loss.loss, 2.9]
    told = browser.run("return window.report.words(arguments[0])", loss.tokens)
    assert f"{loss.loss} at iteration" in told and "2.9 at iteration" in told


# --- by keyboard -----------------------------------------------------------------------------------------------------


def test_the_tab_key_comes_to_every_control_and_shows_where_it_is(browser: Browser, file: str) -> None:
    browser.show(file)
    browser.run(EVERY_DETAIL)
    every = "[...document.querySelectorAll('a[href], button, select, summary, [tabindex=\"0\"]')]"
    wanted = browser.run(f"return {every}.length")
    browser.run(f"window.met = new Set(); {every}.forEach((e) => e.addEventListener('focus', () => window.met.add(e)))")
    hidden = []
    for _ in range(wanted + 1):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        style = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
        if style == "none" and browser.run("return document.activeElement !== document.body"):
            hidden.append(browser.run(SHOWN))
    assert hidden == []
    left = browser.run(f"return {every}.filter((e) => !window.met.has(e)).map((e) => e.outerHTML.slice(0, 200))")
    assert left == []


def keys(browser: Browser, *pressed: str) -> None:
    ActionChains(browser.driver).send_keys(*pressed).perform()


def test_a_chart_is_read_moved_and_zoomed_by_keys_alone(browser: Browser, file: str, page: Page) -> None:
    browser.show(file)
    browser.run("document.getElementById('loss').focus()")
    keys(browser, Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    told = browser.find("#readout")[0].text
    assert "stage-1 pretrain loss 4." in told and "LR 0.00" in told and " as declared" in told
    whole = browser.run("return window.report.view()")
    keys(browser, "+", "+")
    near = browser.run("return window.report.view()")
    assert near[1] - near[0] == pytest.approx((whole[1] - whole[0]) / 4)
    ActionChains(browser.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    moved = browser.run("return window.report.view()")
    assert moved[0] > near[0] and moved[1] - moved[0] == pytest.approx(near[1] - near[0])
    keys(browser, "0")
    assert browser.run("return window.report.view()") == whole


def test_switches_take_lines_away_and_bring_them_back(browser: Browser, file: str) -> None:
    browser.show(file)
    lines = set(drawn(browser, "loss")), set(drawn(browser, "validation"))
    for selector, chart, gone in (
        ("[data-show=left]", "loss", {f"{name}, strategy left" for name in ("mean", "lowest", "highest")}),
        ("[data-show=range]", "loss", {name for name in lines[0] if name.startswith(("lowest", "highest"))}),
        ("[data-set='1']", "validation", {"val-D1", "val-D1, strategy left"}),
    ):
        (button,) = browser.find(selector)
        browser.run("arguments[0].focus()", button)
        keys(browser, Keys.SPACE)
        assert button.get_dom_attribute("aria-pressed") == "false"
        assert lines[chart == "validation"] - set(drawn(browser, chart)) == gone
        keys(browser, Keys.SPACE)
        assert set(drawn(browser, chart)) == lines[chart == "validation"]


def test_one_stage_can_be_looked_at_by_itself(browser: Browser, file: str, page: Page) -> None:
    browser.show(file)
    (chooser,) = browser.find("#part")
    chooser.send_keys("stage-3")
    assert page.read is not None
    run = next(run for run in page.read.curves.runs if run.stage == "stage-3" and run.way)
    begins, ends = browser.run("return window.report.view()")
    assert begins < run.begins < run.span[1] <= ends
    assert begins > run.begins - (ends - begins) / 10


# --- for everybody ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_accessibility_checker_has_nothing_against_it(browser: Browser, file: str, width: int, dark: bool) -> None:
    browser.show(file, width=width, dark=dark)
    browser.run(EVERY_DETAIL)
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [360, 820, 1440])
def test_nothing_hangs_over_the_side(browser: Browser, file: str, width: int) -> None:
    browser.show(file, width=width)
    browser.run(EVERY_DETAIL)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return document.getElementById('loss').clientWidth") > 300


# --- hostile input ---------------------------------------------------------------------------------------------------

HOSTILE = (
    "</script><script>window.owned = 1</script>",
    '"><img src=x onerror="window.owned = 1">',
    "<!--<script>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\x1b[31m`<b>`",
    "'-window.owned=1-'",
)


def test_nothing_that_a_cluster_says_becomes_more_than_text(browser: Browser, world: Told, tmp_path: Path) -> None:
    text = " ".join(HOSTILE)
    hostile = Told(world.desired, list(world.jobs), list(world.receipts), dict(world.attempts))
    hostile.jobs = [replace(job, comment=text, exit_status=1 if job.exit_status is not None else None)
                    for job in hostile.jobs]  # fmt: skip
    hostile.receipts = [replace(receipt, applied_by=text, commit=HOSTILE[0]) for receipt in hostile.receipts]
    for key, seen in hostile.attempts.items():
        legs = tuple(
            replace(leg, logs=tuple(replace(log, errors=(text,), exit_reason=text) for log in leg.logs))
            for leg in seen.legs
        )
        verdicts = {
            name: verdict.replace('"message": "', '"message": "' + json.dumps(HOSTILE[0])[1:-1])
            for name, verdict in seen.verdicts.items()
        }
        hostile.attempts[key] = replace(seen, legs=legs, verdicts=verdicts)
    browser.show(written(page_of(hostile), tmp_path))
    browser.run(EVERY_DETAIL)
    browser.run("document.getElementById('loss').focus()")
    keys(browser, Keys.END, Keys.ARROW_LEFT)
    assert browser.console() == []
    assert browser.run("return window.owned === undefined && document.images.length === 0")
    shown = browser.run("return document.body.innerText")
    assert "</script><script>window.owned = 1</script>" in shown and "{{ 7 * 7 }}" in shown
    assert "\u202e" not in shown and "\x1b" not in shown


def test_the_policy_lets_no_other_program_run(browser: Browser, file: str) -> None:
    browser.show(file)
    browser.run(
        "const one = document.createElement('script'); one.textContent = 'window.owned = 1';"
        "document.body.append(one); fetch('http://127.0.0.1:9/').catch(() => { window.refused = 1; });"
    )
    wait_for(browser, "window.refused === 1")
    assert browser.run("return window.owned === undefined")
    told = " ".join(browser.console())
    assert "script-src" in told and "default-src 'none'" in told


# --- served ----------------------------------------------------------------------------------------------------------


class Current:
    """What a server shows."""

    def __init__(self, page: Page) -> None:
        self.now = served(page, 1.0)

    def __call__(self) -> Any:
        return self.now


@pytest.fixture
def server(page: Page) -> Iterator[Server]:
    server = Server(0, Current(page))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_served_page_follows_and_a_reader_stays_where_they_are(browser: Browser, server: Server, page: Page) -> None:
    browser.show(server.address)
    browser.run("document.getElementById('stage-stage-2').open = true; window.first = true")
    browser.run("window.report.show(3e6, 4e6); scrollTo({top: 700, behavior: 'instant'})")
    (button,) = browser.find("[data-do=later]")
    browser.run("arguments[0].focus({preventScroll: true})", button)
    current = server.current
    assert isinstance(current, Current)
    current.now = served(replace(page, headline=replace(page.headline, state="stage-4 is evaluating")), 1.0)
    wait_for(browser, "window.first === undefined && document.body && document.title.includes('is evaluating')")
    wait_for(browser, "window.report !== undefined")
    assert browser.run("return document.getElementById('stage-stage-2').open")
    assert browser.run("return document.activeElement.dataset.do") == "later"
    assert browser.run("return scrollY") == pytest.approx(700, abs=5)
    assert browser.run("return window.report.view()") == pytest.approx([3e6, 4e6])
    current.now = replace(current.now, trouble="cluster: no answer", looked_at="2026-11-27 18:30")
    wait_for(browser, "document.getElementById('news').innerText === 'cluster: no answer'")
    assert browser.find("#looked")[0].text == "2026-11-27 18:30"
    assert browser.console() == []
