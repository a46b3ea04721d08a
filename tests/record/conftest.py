"""Whoever applies, in a home of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.record.keys import Person


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    for name in ("GIT_CONFIG_GLOBAL", "GNUPGHOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    return Person(home)
