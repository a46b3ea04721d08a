"""`reconcile watch`: a campaign as it goes, in a terminal or line by line. Looks, never acts."""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from types import FrameType
from typing import IO, Final, Protocol

import click
from rich.console import Console

from reconciler import loop
from reconciler.cli.connecting import pace_for
from reconciler.cli.human.watch import EVENTS_KEPT, Trouble, Watched, event_line, lines, trouble_line
from reconciler.cli.opening import Opened, connect, manifests_option, open_campaign
from reconciler.cli.provenance import Provenance
from reconciler.cli.screen import Screen, screen
from reconciler.cluster.pace import DOUBLINGS_MAX
from reconciler.cluster.ports import ClusterError, Transport
from reconciler.cluster.process import SystemClock
from reconciler.planner.events import Event, Seen, events, remembered

CLEAR: Final = "\x1b[2J\x1b[H"
TO_LINE_END: Final = "\x1b[K"
TO_SCREEN_END: Final = "\x1b[J"


class View(Protocol):
    """Shows what is watched, each time that it has changed."""

    def show(self, watched: Watched, new: Sequence[Event]) -> None:
        """`new`: what this look has found; of a first one where each stage is."""


@click.command(short_help="Follow a campaign live: stages, jobs, curves, gates, events.")
@click.argument("campaign", required=False)
@manifests_option
def watch(campaign: str | None, paths: tuple[Path, ...]) -> int:
    """Follow a campaign until Ctrl-C: stages, jobs, loss and learning rate, gates on the way, and what happens.

    The cluster is asked as often as by `apply --until-done`: every `poll`, shared with your other processes. Nothing is
    submitted. A link that is lost is shown, and tried again ever more seldom. Where standard output is no terminal,
    each event is one line.
    """
    opened = open_campaign(paths, campaign)
    link, console = connect(opened), screen()
    if not console.is_terminal or console.is_dumb_terminal:
        return _until_interrupted(opened, link, paths, Lines(console))
    with painting(console) as view:
        return _until_interrupted(opened, link, paths, view)


def _until_interrupted(opened: Opened, link: Transport, paths: tuple[Path, ...], view: View) -> int:
    try:
        _follow(opened, link, paths, view)
    except KeyboardInterrupt:
        click.echo("\nNo longer watched. Jobs on the cluster go on.", err=True)
    return 0


def _follow(opened: Opened, link: Transport, paths: tuple[Path, ...], view: View) -> None:
    """Look after look. What cannot be had leaves the frame as it was, and is told."""
    clock, pace, misses = SystemClock(), pace_for(opened.desired.cluster), 0
    watched: Watched | None = None
    while True:
        poll_s = float(opened.desired.cluster.poll)
        if watched is not None or misses:
            pace.next(poll_s, misses)
        told, now_s = io.StringIO(), clock.now_s()
        try:
            with contextlib.redirect_stderr(told):  # it would stand in the middle of a frame
                opened = open_campaign(paths, opened.desired.campaign)
                look = loop.look(opened.desired, link, by=Provenance(opened.revision.root, paths))
        except SystemExit:
            if watched is None:  # nothing was shown yet, and it would be the same again at once
                click.echo(told.getvalue(), err=True, nl=False)
                raise
            said = _stopped(told.getvalue())
        except ClusterError as error:
            said, misses = str(error), misses + 1
        else:
            misses = 0
            watched, new = following(watched, Seen(look.observed, look.plan), clock.now_s(), poll_s)
            view.show(watched, new)
            continue
        if watched is None:
            click.echo(f"reconcile: {said}", err=True)
            continue
        since_s = watched.trouble.since_s if watched.trouble is not None else now_s
        within_s = poll_s * 2 ** min(misses, DOUBLINGS_MAX)
        watched = replace(watched, trouble=Trouble(since_s, said, within_s))
        view.show(watched, ())


def _stopped(told: str) -> str:
    """Why a command would have stopped here, in its own words."""
    lines = [line for line in told.splitlines() if line.startswith("reconcile: ")]
    return lines[-1].removeprefix("reconcile: ") if lines else "the manifests cannot be used"


def following(watched: Watched | None, seen: Seen, now_s: float, poll_s: float) -> tuple[Watched, tuple[Event, ...]]:
    """What is watched after another look, and what is new. A frame shows itself where each stage is at the first."""
    if watched is None:
        return Watched(seen, seen, now_s, poll_s), events(None, seen)
    known = remembered(watched.known, seen)
    new = events(watched.known, known)
    told = (*watched.events, *((now_s, event) for event in new))[-EVENTS_KEPT:]
    return Watched(seen, known, now_s, poll_s, told), new


class Lines:
    """One line an event: for logs, pipes and continuous integration."""

    def __init__(self, console: Console, zone: tzinfo | None = None) -> None:
        self._console, self._zone = console, zone
        self._trouble = ""

    def show(self, watched: Watched, new: Sequence[Event]) -> None:
        """Print what is new; a lost link once, and that it is back."""
        trouble = watched.trouble.said if watched.trouble is not None else ""
        if watched.trouble is not None and trouble != self._trouble:
            self._print(trouble_line(watched.trouble, self._zone).plain)
        elif self._trouble and not trouble:
            self._print("Looked again.")
        self._trouble = trouble
        day = datetime.fromtimestamp(watched.looked_s, UTC).astimezone(self._zone)
        for event in new:
            self._print(f"{day:%Y-%m-%d %H:%M:%S}  {event_line(event).plain}")

    def _print(self, line: str) -> None:
        # As long as it is: who reads line by line wants one line an event.
        self._console.print(line.replace("\n", " "), soft_wrap=True, markup=False)
        self._console.file.flush()


class Painter:
    """Draws frames in place, on the terminal's own screen. Lines that stay the same are not sent again."""

    def __init__(self, console: Callable[[], Console], out: IO[str], zone: tzinfo | None = None) -> None:
        """`console` gives one of the terminal's size as it is now."""
        self._console, self._out, self._zone = console, out, zone
        self._watched: Watched | None = None
        self._drawn: list[str] = []
        self._drawing = self._again = False

    def show(self, watched: Watched, new: Sequence[Event]) -> None:
        """Draw what has changed."""
        self._watched = watched
        self._draw(whole=False)

    def resized(self) -> None:
        """Draw all of it again: the terminal has moved its lines about. May come in the middle of a drawing."""
        if self._drawing:
            self._again = True
        elif self._watched is not None:
            self._draw(whole=True)

    def _draw(self, *, whole: bool) -> None:
        assert self._watched is not None  # noqa: S101
        self._drawing = True
        try:
            while True:
                self._again = False
                console = self._console()
                frame = lines(self._watched, console, max(3, console.height - 1), self._zone)
                self._out.write(
                    CLEAR + "".join(f"{line}\n" for line in frame) if whole else _changes(self._drawn, frame)
                )
                self._out.flush()
                self._drawn = frame
                if not self._again:
                    return
                whole = True
        finally:
            self._drawing = False


def _changes(drawn: list[str], frame: list[str]) -> str:
    """From the line under the old frame: up to its first, past what is the same, over what is not, and no line more."""
    if drawn == frame:
        return ""
    text = f"\x1b[{len(drawn)}A\r" if drawn else ""
    for place, line in enumerate(frame):
        text += "\n" if place < len(drawn) and drawn[place] == line else f"{line}{TO_LINE_END}\n"
    return text + (TO_SCREEN_END if len(frame) < len(drawn) else "")


@contextlib.contextmanager
def painting(console: Console) -> Iterator[Painter]:
    """A painter that follows the size of the terminal; the last frame stays when it is left."""
    painter = Painter(lambda: Screen(highlight=False), console.file)

    def resized(number: int, frame: FrameType | None) -> None:
        painter.resized()

    before = signal.signal(signal.SIGWINCH, resized)
    try:
        yield painter
    finally:
        signal.signal(signal.SIGWINCH, before)
