"""qstat's tables: jobs, jobs in the alternative form, queues, the server. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from reconciler.local.pbs.config import Server
from reconciler.local.pbs.job import Job

BLANK = " -- "


def jobs(found: Iterable[Job]) -> list[str]:
    """The default table."""
    lines = [
        "Job id            Name             User              Time Use S Queue",
        "----------------  ---------------- ----------------  -------- - -----",
    ]
    for job in found:
        used = job.used.get("cput", "0")
        names = f"{cut(job.id, 17):<17} {cut(job.name, 16):<16} {cut(job.user, 16):<16}"
        lines.append(f"{names}  {used:>8} {job.state} {cut(job.queue, 16):<16}")
    return lines


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "*"


def alternative(found: Iterable[Job], server: str, *, wide: bool, nodes: bool, comment: bool, line: bool) -> list[str]:
    """The table of -a, -u, -n, -s, -H …: `nodes` and `comment` follow each job, on its line with `line`."""
    widths = (30, 15, 15, 15, 8, 4, 5) if wide else (15, 8, 8, 10, 6, 3, 3)
    names = ("Job ID", "Username", "Queue", "Jobname", "SessID", "NDS", "TSK")
    indent = sum(widths) + len(widths)
    lines = ["", f"{server}: ", " " * indent + "Req'd  Req'd   Elap"]
    titles = " ".join(f"{name:<{width}}" for name, width in zip(names, widths, strict=True))
    lines.append(f"{titles} Memory Time  S Time")
    lines.append(" ".join("-" * width for width in widths) + " ------ ----- - -----")
    for job in found:
        row = _alternative_row(job, widths)
        more = [job.attributes.get("exec_host", "")] if nodes else []
        more += [job.attributes["comment"]] if comment and "comment" in job.attributes else []
        if line and more:
            row += " " + " ".join(more)
        lines.append(row)
        lines += [f"   {text}" for text in more if text and not line]
    return lines


def _alternative_row(job: Job, widths: tuple[int, ...]) -> str:
    wanted = job.resources
    left = [cut(job.id, widths[0]), cut(job.user, widths[1]), cut(job.queue, widths[2]), cut(job.name, widths[3])]
    right = [job.attributes.get("session_id", BLANK), wanted["nodect"], wanted["ncpus"]]
    cells = [f"{text:<{width}}" for text, width in zip(left, widths[:4], strict=True)]
    cells += [f"{text:>{width}}" for text, width in zip(right, widths[4:], strict=True)]
    asked = wanted["walltime"].rpartition(":")[0] if "walltime" in wanted else BLANK
    spent = job.used["walltime"].rpartition(":")[0] if "walltime" in job.used else BLANK
    return " ".join([*cells, f"{wanted.get('mem', BLANK):>6}", f"{asked:>5}", job.state, f"{spent:>5}"])


def counts(found: Iterable[Job]) -> Counter[str]:
    return Counter(job.state for job in found)


def state_count(count: Counter[str]) -> str:
    names = {"Transit": "T", "Queued": "Q", "Held": "H", "Waiting": "W", "Running": "R", "Exiting": "E", "Begun": "B"}
    return "".join(f"{name}:{count[letter]} " for name, letter in names.items())


def queues(server: Server, live: list[Job], names: list[str]) -> list[str]:
    lines = [
        "Queue              Max   Tot Ena Str   Que   Run   Hld   Wat   Trn   Ext Type",
        "---------------- ----- ----- --- --- ----- ----- ----- ----- ----- ----- ----",
    ]
    for queue in server.queues:
        if names and queue.name not in names:
            continue
        count = counts(job for job in live if job.queue == queue.name)
        flags = " ".join(f"{'yes' if flag else 'no':>3}" for flag in (queue.enabled, queue.started))
        numbers = " ".join(f"{count[letter]:>5}" for letter in "QRHWTE")
        kind = "Rou*" if queue.route_to else "Exe*"
        lines.append(f"{cut(queue.name, 16):<16} {0:>5} {count.total():>5} {flags} {numbers} {kind}")
    return lines


def servers(server: Server, live: list[Job], ended: int) -> list[str]:
    count = counts(live)
    numbers = " ".join(f"{count[letter]:>5}" for letter in "QRHWTE")
    return [
        "Server             Max   Tot   Que   Run   Hld   Wat   Trn   Ext Status",
        "---------------- ----- ----- ----- ----- ----- ----- ----- ----- -----------",
        f"{cut(server.name, 16):<16} {0:>5} {count.total() + ended:>5} {numbers} {'Active':<10}",
    ]
