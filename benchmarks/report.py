"""The report in a real Chromium: loading and panning 200,000 points, beside the same page with a hundredth of them.

Needs Debian's chromium and chromium-driver. Times are the browser's own; a frame takes at least 16.7 ms.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import pytest

from reconciler.page.content import Page
from reconciler.page.curves import Point, Run
from reconciler.page.render import html
from tests.page.campaigns import page_of, story, wavy
from tests.page.chromium import Browser, chromium

POINTS = 200_000
STEPS = 60
LOADED = "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
PAN = """
const done = arguments[arguments.length - 1];
const times = [];
const [from, to] = window.report.view(), width = (to - from) * arguments[0];
let last = 0, n = 0;
function step(now) { // the page draws in the frame that follows a move
  if (last) times.push((now - last) / 2);
  last = now;
  if (n++ >= STEPS) { done(times); return; }
  const at = from + ((to - from - width) * n) / STEPS;
  window.report.show(at, at + width);
  requestAnimationFrame(() => requestAnimationFrame(step));
}
requestAnimationFrame(step);
""".replace("STEPS", str(STEPS))


def crowded(page: Page, points: int) -> Page:
    """The page with so many points, the same number in each attempt that the campaign went on with."""
    assert page.read is not None
    curves = page.read.curves
    way = sum(run.way for run in curves.runs)

    def with_points(run: Run) -> Run:
        if not run.way:
            return run
        n = points // way
        total = run.span[1] - run.begins
        made = tuple(
            Point(at, at, loss := 2 + 3 / (1 + at / n * 9) + 0.1 * wavy(at), loss - 0.05, loss + 0.05, 2e-3, 1)
            for at in range(1, n + 1)
        )
        return replace(run, points=made, tokens_per_iteration=max(1, total // n))

    lanes = tuple(tuple(map(with_points, lane)) for lane in curves.lanes)
    return replace(page, read=replace(page.read, curves=replace(curves, lanes=lanes, logged=points, shown=points)))


def measured(browser: Browser, page: Page, folder: Path) -> tuple[int, float, list[float]]:
    """(bytes, ms to load, ms of each frame while it pans, over nearly everything and over a tenth)."""
    file = folder / "index.html"
    file.write_text(html(page), encoding="utf-8")
    loads = []
    for _ in range(3):
        browser.show(file.as_uri(), width=1440)
        loads.append(browser.run(LOADED))
    times: list[float] = []
    for share in (0.9, 0.1):
        browser.run("document.querySelector('[data-do=all]').click()")
        times += browser.driver.execute_async_script(PAN, share)
    return file.stat().st_size, sorted(loads)[1], times


def main() -> None:
    """Both pages, in turn."""
    page = page_of(story())
    with tempfile.TemporaryDirectory() as folder, chromium(Path(folder) / "profile") as browser:
        found = {n: measured(browser, crowded(page, n), Path(folder)) for n in (POINTS // 100, POINTS)}
    for points, (size, load, times) in found.items():
        times.sort()
        middle, late = times[len(times) // 2], times[int(len(times) * 0.95)]
        print(f"{points:>9,} points: {size / 1e6:.2f} MB, loaded in {load:.0f} ms; a frame of a pan {middle:.1f} ms, "
              f"95 % below {late:.1f} ms")  # fmt: skip
    few, many = (found[n] for n in (POINTS // 100, POINTS))
    print(f"a hundred times the points: {many[1] / few[1]:.2f} × the time to load, "
          f"{sum(many[2]) / sum(few[2]):.2f} × the time to pan")  # fmt: skip
    assert many[1] < 2000, "200,000 points do not load in 2 s"


if __name__ == "__main__":
    try:
        main()
    except pytest.skip.Exception as missing:
        print(missing)
