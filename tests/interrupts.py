"""Ctrl-C for programs that a test starts."""

from __future__ import annotations

import signal


def heard() -> None:
    """For `preexec_fn`: a test run in the background hands on an ignored SIGINT, by which no program would end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
