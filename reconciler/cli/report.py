"""`reconcile report`: the campaign as one page, written to a file or served on this machine."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from reconciler import loop
from reconciler.cli.connecting import pace_for
from reconciler.cli.newfiles import replace_whole
from reconciler.cli.onrecord import tree_of
from reconciler.cli.opening import Opened, connect, manifests_option, open_campaign
from reconciler.cli.proposing import with_proposals
from reconciler.cli.provenance import Provenance
from reconciler.cli.revisions import look_at
from reconciler.cli.telling import fail
from reconciler.cluster.ports import ClusterError, Transport
from reconciler.model.faults import Fault
from reconciler.model.observed import Observed, Unread
from reconciler.model.problems import harmless
from reconciler.model.quantities import format_bytes
from reconciler.page.content import Page, content_of
from reconciler.page.links import Places, forge_of
from reconciler.page.render import MADE_BY, html
from reconciler.page.serving import Served, Server, served
from reconciler.planner.desired import Desired
from reconciler.record import pages
from reconciler.record.repository import path_within

NAME: Final = "index.html"
ASKED_MAX_S: Final = 5.0
"""How often a browser asks this process for news, which costs the cluster nothing."""


@click.command(short_help="Write the campaign as one page for a browser, or serve it while it runs.")
@click.argument("campaign", required=False)
@manifests_option
@click.option(
    "-o", "--output", "folder", metavar="DIR", default="report", show_default=True, help="Write DIR/index.html.",
    type=click.Path(path_type=Path, file_okay=False),
)  # fmt: skip
@click.option("--at", "revision", metavar="REV", help="By the manifests at this commit and the record; no cluster.")
@click.option("--serve", is_flag=True, help="Show it at an address of this machine, and look again as apply does.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="For --serve.  [default: one that is free]")
def report(
    campaign: str | None, paths: tuple[Path, ...], folder: Path, revision: str | None, serve: bool, port: int
) -> int:
    """Write the campaign as one page: stages, curves, timeline, mixtures, ledger and cost.

    The file needs nothing beside it and no network: open it, send it, or put it on a static host. Works on one look at
    the cluster, as `status` does, and does nothing; with --at no cluster is asked, the record tells.

    With --serve the page is at an address that only this machine reaches, and follows the campaign until Ctrl-C.
    """
    if serve and revision is not None:
        raise click.UsageError("--serve follows the cluster, and --at does not ask it; give one of them")
    if port and not serve:
        raise click.UsageError("--port is for --serve")
    if revision is not None:
        desired, seen = look_at(paths, campaign, revision)
        places = _places(tree_of(paths), desired, seen.observed, None)
        return _write(content_of(desired, seen.observed, seen.plan, places, "the record"), folder)
    opened = open_campaign(paths, campaign)
    link = connect(opened)
    if serve:
        return _serve(opened, link, paths, port)
    return _write(_look(opened, link, paths), folder)


def _look(opened: Opened, link: Transport, paths: tuple[Path, ...]) -> Page:
    seen = loop.look(opened.desired, link, by=Provenance(opened.revision.root, paths))
    places = _places(opened.revision.root, opened.desired, seen.observed, opened)
    return content_of(opened.desired, seen.observed, with_proposals(opened, seen), places, "the cluster")


def _places(root: Path, desired: Desired, observed: Observed, opened: Opened | None) -> Places:
    """How the repository's files and commits are linked to; of an earlier commit nothing is loose."""
    remote, url = pages.remote_url(root)
    receipts = () if isinstance(observed.receipts, Unread) else observed.receipts
    commits = (desired.revision, *(receipt.commit for receipt in reversed(receipts)))
    files = {each.file: path_within(root, each.file) for each in desired.catalog.objects}
    return Places(
        desired.revision,
        forge_of(url),
        pages.shared(root, remote, commits) if remote else frozenset(),
        files if opened is not None else {},
        frozenset(opened.revision.loose) if opened is not None else frozenset(),
    )


# --- as a file -------------------------------------------------------------------------------------------------------


def _write(page: Page, folder: Path) -> int:
    text = html(page).encode()
    target = folder / NAME
    _must_be_ours(target)
    folder.mkdir(parents=True, exist_ok=True)
    replace_whole(target, text)
    click.echo(f"{target}  {format_bytes(len(text))}  {harmless(page.headline.state)}")
    return 0


def _must_be_ours(target: Path) -> None:
    """Only a report is written over."""
    try:
        with target.open("rb") as file:
            ours = MADE_BY.encode() in file.read(4096)
    except FileNotFoundError:
        return
    if not ours:
        fail(
            Fault.NOT_WRITTEN,
            f"{target} is there and is no report; it is left as it is",
            "reconcile report -o ANOTHER",
        )


# --- served ----------------------------------------------------------------------------------------------------------


class _Current:
    """What is served now, told by one thread and read by others."""

    def __init__(self, first: Served) -> None:
        self._now = first

    def __call__(self) -> Served:
        return self._now

    def tell(self, now: Served) -> None:
        """Serve this from now on."""
        self._now = now


def _serve(opened: Opened, link: Transport, paths: tuple[Path, ...], port: int) -> int:
    poll_s = float(opened.desired.cluster.poll)
    refresh_s = min(ASKED_MAX_S, max(1.0, poll_s))
    current = _Current(served(_look(opened, link, paths), refresh_s))
    try:
        server = Server(port, current)
    except OSError as error:
        fail(
            Fault.SYSTEM_REFUSED,
            f"port {port} cannot be had: {error.strerror}",
            "reconcile report --serve      (takes a free one)",
        )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    click.echo(f"{server.address}  {opened.desired.campaign}; Ctrl-C ends it")
    try:
        _follow(opened, link, paths, current, refresh_s)
    except KeyboardInterrupt:
        click.echo("\nThe report is no longer served. Jobs on the cluster go on.", err=True)
    finally:
        server.shutdown()
        server.server_close()
    return 0


def _follow(opened: Opened, link: Transport, paths: tuple[Path, ...], current: _Current, refresh_s: float) -> None:
    """Look again and again, as often as `apply` does. What cannot be had leaves the page as it was, and is told."""
    pace, misses = pace_for(opened.desired.cluster), 0
    while True:
        pace.next(float(opened.desired.cluster.poll), misses)
        try:
            opened = open_campaign(paths, opened.desired.campaign)
            page = _look(opened, link, paths)
        except SystemExit:  # it is told in the terminal
            current.tell(replace(current(), trouble="The manifests have problems; what is shown is as it was."))
        except ClusterError as error:
            misses += 1
            current.tell(replace(current(), trouble=f"{error}; what is shown is as it was."))
        else:
            misses = 0 if page.read is not None else misses + 1
            current.tell(served(page, refresh_s))
