"""What holds for every test: in continuous integration nothing is left out, and no test fails for being slow.

Files are handed out to the workers whole (`--dist loadfile`). Those that take longest come first, so that the workers
end together; xdist would begin with the files of most tests, and those of a campaign have few.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

LONGEST_FIRST = ("tests/e2e/", "tests/sim/", "tests/planner/test_totality.py", "tests/local/", "tests/convert/")
"""Folders and files, by the time that they take."""
NOT_MEASURED = (
    *("tests/e2e/", "tests/sim/", "tests/cluster/", "tests/convert/", "tests/local/", "tests/fuzz/", "tests/adopt/"),
    "tests/planner/test_totality.py",
)
"""What goes through every line and looks at few of them, or at other layers: its coverage is slow and tells nothing."""
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

settings.register_profile(
    "untimed",
    settings.get_profile("ci") if IN_CI else settings.get_profile("default"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """The order below holds for xdist too."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; beyond that as they were found. Coverage is that of the tests that look at what they run."""
    items.sort(key=_place)
    for item in items:
        if item.nodeid.startswith(NOT_MEASURED):
            item.add_marker(pytest.mark.no_cover)


def _place(item: pytest.Item) -> int:
    found = (place for place, path in enumerate(LONGEST_FIRST) if item.nodeid.startswith(path))
    return next(found, len(LONGEST_FIRST))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that lacks a system package skips on a person's machine, and says how to get it; in CI it fails."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which is a failure in CI: {report.longreprtext or call.excinfo}"
    return report
