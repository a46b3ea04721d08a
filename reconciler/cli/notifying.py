"""Notices while a campaign is applied: what a look tells of is given to a command or a webhook, each thing once.

Nothing here stops a pass: what could not be told is said, and told at a later look.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from reconciler import loop
from reconciler.cli.keeping import place, shared
from reconciler.cli.opening import Opened
from reconciler.cli.proposing import with_proposals, words_given
from reconciler.cli.telling import Once, fail
from reconciler.cluster.process import SystemClock
from reconciler.model.faults import Fault
from reconciler.model.message import coded
from reconciler.model.notice import Notice, document, fields, for_chat
from reconciler.planner import drift
from reconciler.planner.facts import Apart
from reconciler.planner.notices import Seen, notices
from reconciler.planner.telling import Due, Mark, both, claimed, due, read_mark, settled, started
from reconciler.record import command, webhook
from reconciler.record.git import GitFailed
from reconciler.record.marks import At, Marks, NotShared
from reconciler.record.repository import path_within

CLOCK: Final = SystemClock()
COMMAND_TIMEOUT_S: Final = 60.0
AGAIN_S: Final = 30.0
"""After a channel did not take a notice; doubled each time."""
AGAIN_S_MAX: Final = 900.0
RACES_MAX: Final = 8
URL_VARIABLE: Final = "RECONCILE_NOTIFY_URL"

notify_with_option = click.option(
    "--notify-with",
    metavar="COMMAND",
    envvar="RECONCILE_NOTIFY_WITH",
    help="Told of holds, failed gates, finished stages and drift: JSON on its standard input, {state}, {context}, … in "
    "its words.",
)
notify_url_option = click.option(
    "--notify-url",
    metavar="URL",
    envvar=URL_VARIABLE,
    help=f"The same, posted as JSON. If the address is a secret: {URL_VARIABLE}.",
)
"""Whose command and address these are must be whoever applies: nothing in a repository can set them."""


class NotTold(Exception):
    """A channel did not take a notice."""


@dataclass
class Channel:
    """One way to tell people."""

    name: str
    """As it is called in refs."""
    shown: str
    tell: Callable[[Notice, str], None]
    """Raises NotTold."""
    quiet_until_s: float = 0.0
    pause_s: float = AGAIN_S


class Notifying:
    """Follows the looks of one `apply`."""

    def __init__(
        self,
        opened: Opened,
        notify_with: str | None,
        notify_url: str | None,
        *,
        unchanged: bool = False,
        now_s: Callable[[], float] = CLOCK.now_s,
    ) -> None:
        """Made before the first look, which is then known to be newer than what was told; `unchanged` says that only
        what was applied goes on."""
        self._unchanged = unchanged
        os.environ.pop(URL_VARIABLE, None)  # nothing that is run from here has a use for it
        self._opened, self._desired = opened, opened.desired
        self._channels = _channels(opened, notify_with, notify_url)
        self._now_s = now_s
        # Runners may have one host name and one process number: no two share what is drawn.
        self._by = f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}-{secrets.token_hex(4)}"
        self._once = Once()
        self._marks: Marks | None = None
        if self._channels:
            try:
                self._marks = Marks(opened.revision.root, mark_name(opened), shared=shared(opened.desired))
                self._marks.ask()
            except (GitFailed, NotShared) as failed:
                self._once.say(f"{failed}; notices may be told by others too")

    def follow(self, seen: loop.Look, apart: Sequence[Apart] = ()) -> None:
        """Tell what a look and its record ask for."""
        if self._marks is None:
            return
        made = with_proposals(self._opened, seen)
        why = drift.not_applied(self._desired, seen.observed)
        unapplied = why if self._unchanged or not why else None  # else it is being applied
        look = Seen(self._desired, seen.observed, made, tuple(apart), unapplied, self._unchanged)
        for channel in self._channels:
            if self._now_s() < channel.quiet_until_s:
                continue
            try:
                self._follow(self._marks, channel, look)
            except (GitFailed, OSError) as failed:
                self._warn(f"notices cannot be kept account of: {failed}")

    def _follow(self, marks: Marks, channel: Channel, seen: Seen) -> None:
        at, newest = marks.read(channel.name), True
        for _ in range(RACES_MAX):
            before = _mark(at)
            mark, dues = self._dues(seen, before, at.commit, newest=newest)
            if mark is None or (not dues and before is not None):
                return
            moved = self._move(marks, channel, at, claimed(mark, dues, self._by, self._now_s()), _message(dues))
            if moved is not None:
                self._tell(marks, channel, moved, dues)
                return
            with contextlib.suppress(NotShared):
                marks.ask()
            at, newest = marks.read(channel.name), False

    def _dues(
        self, seen: Seen, before: Mark | None, commit: str, *, newest: bool
    ) -> tuple[Mark | None, tuple[Due, ...]]:
        """The mark to go on from and what is to be told; no mark for a look that tells nothing."""
        found = notices(seen, before.told if before is not None else ())
        if found is None:
            return None, ()
        mark = started(seen, found, before, newest=newest)
        return mark, due(seen, found, mark, before=commit, by=self._by, now_s=self._now_s(), newest=newest)

    def _tell(self, marks: Marks, channel: Channel, at: At, dues: Sequence[Due]) -> None:
        """Give what was claimed to the channel, and put down what came of it."""
        sent: list[Due] = []
        try:
            for each in dues:
                channel.tell(each.notice, each.name)
                sent.append(each)
                channel.pause_s = AGAIN_S
                self._once.say(f"told by {channel.shown}: {each.notice.description}")
        except NotTold as not_told:
            self._warn(f"{channel.shown} did not take a notice: {not_told}. It is told again at a later look")
            channel.quiet_until_s = self._now_s() + channel.pause_s
            channel.pause_s = min(AGAIN_S_MAX, channel.pause_s * 2)
        finally:  # also where a person stops the program meanwhile
            if dues:
                self._settle(marks, channel, at, sent, dues[len(sent) :])

    def _settle(self, marks: Marks, channel: Channel, at: At, sent: Sequence[Due], unsent: Sequence[Due]) -> None:
        for _ in range(RACES_MAX):
            mark = settled(_mark(at) or Mark(), sent, unsent)
            if self._move(marks, channel, at, mark, "Told" if sent else "Not told") is not None:
                return
            with contextlib.suppress(NotShared):
                marks.ask()
            at = marks.read(channel.name)

    def _move(self, marks: Marks, channel: Channel, at: At, mark: Mark, message: str) -> At | None:
        try:
            return marks.move(channel.name, at, mark.to_file(), message)
        except NotShared as not_shared:
            self._warn(f"{not_shared}. Others may tell the same again")
            return marks.read(channel.name)

    def _warn(self, told: str) -> None:
        self._once.say(coded(told, Fault.NOT_TOLD))


def mark_name(opened: Opened) -> str:
    """What the marks of a campaign in one workspace are kept under: a name that git takes, whatever the campaign's."""
    of = place(opened.desired)
    return f"{opened.desired.campaign.replace('.', '-')}-{hashlib.sha256(of.encode()).hexdigest()[:12]}"


def _mark(at: At) -> Mark | None:
    """What has been told, as far as is known here."""
    known = [mark for mark in map(read_mark, at.texts) if mark is not None]
    return both(known[0], known[-1]) if known else None


def _message(dues: Sequence[Due]) -> str:
    """Of the commit that claims these."""
    lines = "\n".join(f"{each.name} {each.claimed_as}" for each in dues)
    return f"About to tell\n\n{lines}" if dues else "From here on notices are told"


def _channels(opened: Opened, notify_with: str | None, notify_url: str | None) -> list[Channel]:
    words = words_given(notify_with, "--notify-with (RECONCILE_NOTIFY_WITH)")
    channels = []
    if words:
        channels.append(Channel("command", Path(words[0]).name, lambda notice, name: _run(opened, words, notice, name)))
    if notify_url:
        try:
            url = webhook.checked(notify_url)
        except ValueError as error:
            fail(Fault.WRONG_USAGE, f"--notify-url ({URL_VARIABLE}) cannot be used: {error}")
        channels.append(Channel("webhook", "the webhook", lambda notice, name: _post(opened, url, notice, name)))
    return channels


def _run(opened: Opened, words: Sequence[str], notice: Notice, name: str) -> None:
    notice = _placed(opened, notice)
    told = fields(notice, name)
    environment = {f"RECONCILE_NOTICE_{field.upper()}": value for field, value in told.items()}
    body = document(notice, name, notice.text)
    try:
        command.run(
            command.filled(words, told),
            opened.revision.root,
            COMMAND_TIMEOUT_S,
            stdin=body,
            environment=environment,
        )
    except command.CommandFailed as failed:
        raise NotTold(str(failed)) from failed


def _post(opened: Opened, url: str, notice: Notice, name: str) -> None:
    notice = _placed(opened, notice)
    try:
        webhook.post(url, document(notice, name, for_chat(notice.text)), name)
    except webhook.NotPosted as failed:
        raise NotTold(str(failed)) from failed


def _placed(opened: Opened, notice: Notice) -> Notice:
    """With the manifest's path as it is in the repository."""
    file, _, line = notice.manifest.rpartition(":")
    return replace(notice, manifest=f"{path_within(opened.revision.root, file)}:{line}" if file else "")
