"""Whom a forge's pipeline says that it runs for: a claim, which is shown as one and steers nothing."""

from __future__ import annotations

import pytest

from reconciler.record.forge import claimed


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, ""),
        ({"GITHUB_ACTOR": "ada"}, ""),
        ({"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "ada"}, " (for ada by GitHub)"),
        (
            {"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "ada", "GITHUB_TRIGGERING_ACTOR": "grace"},
            " (for grace by GitHub)",
        ),
        ({"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "dependabot[bot]"}, " (for dependabot[bot] by GitHub)"),
        ({"GITLAB_CI": "true", "GITLAB_USER_LOGIN": "ada.l"}, " (for ada.l by GitLab)"),
        ({"GITLAB_CI": "true", "GITLAB_USER_LOGIN": "ada by GitLab) (for root"}, ""),
        ({"GITLAB_CI": "true", "GITLAB_USER_LOGIN": "a\x1b[2J"}, ""),
        ({"GITHUB_ACTIONS": "true", "GITHUB_ACTOR": "x" * 4000}, ""),
    ],
)
def test_a_pipeline_names_whom_it_runs_for(environment: dict[str, str], told: str) -> None:
    assert claimed(environment) == told
