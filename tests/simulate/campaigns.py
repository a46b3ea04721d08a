"""The shipped campaigns, as `reconcile simulate` opens them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reconciler.domain.loading import load
from reconciler.planner.desired import Desired
from tests.planner.world import SITE

MANIFESTS = Path(__file__).parents[2] / "manifests"
BESIDE = {"ladder": ["quickstart"], "decay": ["quickstart"]}
"""Campaigns whose cluster and datasets are another's."""


def shipped(campaign: str, edit: Callable[[str], str] = lambda text: text) -> Desired:
    """A campaign as it is in manifests/, after `edit` has been at each file's text."""
    folders = [*BESIDE.get(campaign, []), campaign]
    files = [
        (str(path), path.read_text()) for folder in folders for path in sorted((MANIFESTS / folder).glob("*.yaml"))
    ]
    loaded = load([(name, edit(text).encode()) for name, text in files])
    assert loaded.ok, loaded.problems
    return Desired(loaded.catalog, campaign, "c" * 40, False, SITE)
