"""The agent: looks at one cluster, or carries out one batch on it, in one process.

Sent over standard input, behind the other `agent_*.py` (`observe.AGENT_FILES`) and in one namespace with them, to
whatever `python3` a login node has (3.6 and newer); nothing of it imports anything but the standard library or installs
anything. It answers with numbers, not texts, between marks (see `frames`).

Its effects go through four small classes: `Disk` (files of one workspace), `Pbs` (qselect, qstat, qsub), `Journal` (one
entry per action key) and `Lock`. What keeps an effect from happening twice:

1. The journal entry of a key is written before its qsub (the intent) and after it (the result), each whole or not at
   all. A key with a result returns it; nothing is done again.
2. An intent without a result is healed under the lock: if its qsub may still be running, nothing is done; else the
   job table, read after that was ruled out and long enough after for a routing queue to let go of a job, either has a
   job that carries the key (adopted) or proves there is none.
3. Under the lock the table is read again before anything is submitted: one live job per attempt. What cannot be read
   stops the submission.
"""

import hashlib
import json
import os
import re
import sys
import time

MYPY = False
if MYPY:
    from typing import Any, BinaryIO, Callable, Dict, List, Tuple

    Json = Dict[str, Any]

if __name__ != "__main__":  # sent to a cluster, all are one program
    from reconciler.cluster.agent_attempts import Attempts
    from reconciler.cluster.agent_disk import MESSAGE_CHARS_MAX, Disk, Refused, disk_trouble, read_text, read_whole
    from reconciler.cluster.agent_folders import folders_seen
    from reconciler.cluster.agent_journal import Journal, known_jobs, receipt_of, users_in_doubt
    from reconciler.cluster.agent_lock import APPLIED_BYTES_MAX, Held, Lock, lock_seen, unlock
    from reconciler.cluster.agent_logs import foreign_log
    from reconciler.cluster.agent_pbs import Pbs, Unreadable, workspace_tag
    from reconciler.cluster.agent_work import execute

LIST_BYTES_MAX = 8 * 1024 * 1024
LISTS_BYTES_MAX = 32 * 1024 * 1024
REQUEST_BYTES_MAX = 256 * 1024 * 1024
ANSWER_BYTES_MAX = 64 * 1024 * 1024


def observe(request: "Json", clock: "Callable[[], float]") -> "Json":
    """One look. Every part is {"read": …} or {"unread": why}.

    The order matters: the journal before the job table, since a job that is submitted in between would be in the one
    and not the other, which is how an ended job looks; the table before the files, since what a job that has ended
    wrote is then there.
    """
    disk = Disk(request["workspace"])
    journal, campaign = Journal(disk), request["campaign"]
    entries = []  # type: List[Json]
    receipts = part(lambda: entries.extend([] if disk.missing() else journal.entries(campaign)))
    if "read" in receipts:
        receipts = {"read": [receipt_of(entry) for entry in entries]}
    pbs, tag = Pbs(request["pbs_timeout_s"]), workspace_tag(disk.root)
    jobs = part(lambda: known_jobs(journal, pbs, entries, users_in_doubt(entries), tag))
    attempts = Attempts(disk, campaign, request["windows"], request["inside"])
    applied = os.path.join(disk.root, campaign, "applied.json")
    seen = {
        "receipts": receipts,
        "jobs": jobs,
        "attempts": part(lambda: [] if disk.missing() else attempts.look()),
        "applied": part(lambda: read_text(applied, APPLIED_BYTES_MAX)),
        "lock": part(lambda: lock_seen(Lock(disk, clock))),
        "lists": lists(request["lists"]),
        "folders": folders_seen(request["folders"]),
        "logs": foreign_logs(request["logs"], request["windows"]),
        "now": clock(),
        "host": os.uname().nodename,
    }
    seen["bytes_read"] = attempts.bytes_read
    return seen


def part(read: "Callable[[], Any]") -> "Json":
    try:
        return {"read": read()}
    except (Refused, Unreadable) as error:
        return {"unread": str(error)[:MESSAGE_CHARS_MAX]}
    except OSError as error:
        return {"unread": disk_trouble(error)}


def lists(paths: "List[str]") -> "Json":
    """Data lists by absolute path, wherever they lie: {"text", "sha256"}, {"absent": true} or {"unread": why}."""
    found = {}  # type: Json
    left = LISTS_BYTES_MAX
    for path in paths:
        try:
            if not path.startswith("/"):
                raise Refused("not an absolute path: {!r}".format(path[:200]))
            data = read_whole(path, min(LIST_BYTES_MAX, left), follow=True)
            if data is None:
                raise Refused("{} is longer than {} bytes".format(path, min(LIST_BYTES_MAX, left)))
            left -= len(data)
            found[path] = {"text": data.decode("utf-8"), "sha256": hashlib.sha256(data).hexdigest()}
        except (FileNotFoundError, NotADirectoryError):
            found[path] = {"absent": True}
        except UnicodeDecodeError:
            found[path] = {"unread": "{} is not UTF-8".format(path)}
        except Refused as refused:
            found[path] = {"unread": str(refused)}
        except (OSError, ValueError) as error:
            found[path] = {"unread": disk_trouble(error) if isinstance(error, OSError) else str(error)}
    return found


def foreign_logs(paths: "List[str]", windows: int) -> "Json":
    """Ends of logs that no job of ours wrote, by absolute path: {"read": …}, null for none, or {"unread": why}."""
    found = {}  # type: Json
    for path in paths:
        found[path] = part(lambda: foreign_log(path, windows))  # noqa: B023
    return found


def read_request(stream: "BinaryIO") -> "Tuple[str, Json]":
    """Nonce and request; Refused unless all of it arrived: half a batch is not carried out."""
    head = re.fullmatch(rb"cpt-request ([0-9a-f]{1,64}) (\d{1,9}) ([0-9a-f]{64})\n", stream.readline(256))
    if head is None:
        raise SystemExit(71)
    size = int(head.group(2))
    body = stream.read(size) if size <= REQUEST_BYTES_MAX else b""
    if len(body) != size or hashlib.sha256(body).hexdigest().encode("ascii") != head.group(3):
        raise SystemExit(71)
    return head.group(1).decode("ascii"), json.loads(body.decode("ascii"))


def handle(request: "Json", clock: "Callable[[], float]") -> "Json":
    """The answer to one request; every failure is an answer too."""
    operations = {"observe": observe, "execute": execute, "unlock": unlock}
    try:
        return {"answer": operations[request["operation"]](request, clock)}
    except Held as held:
        return {"locked": held.lock}
    except Refused as refused:
        return {"failed": str(refused)}
    except OSError as error:
        return {"failed": disk_trouble(error)}


def framed(payload: bytes, nonce: str) -> bytes:
    head = "\n=cpt-answer= {} {} {}\n".format(nonce, len(payload), hashlib.sha256(payload).hexdigest())
    return head.encode("ascii") + payload + "\n=cpt-end= {}\n".format(nonce).encode("ascii")


def main() -> None:
    nonce, request = read_request(sys.stdin.buffer)
    answer = json.dumps(handle(dict(request, nonce=nonce), time.time), ensure_ascii=False)
    payload = answer.encode("utf-8", "replace")  # names of files need not be UTF-8
    if len(payload) > ANSWER_BYTES_MAX:
        payload = json.dumps({"failed": "the answer has more than {} bytes".format(ANSWER_BYTES_MAX)}).encode("ascii")
    sys.stdout.buffer.write(framed(payload, nonce))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
