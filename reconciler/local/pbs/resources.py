"""`-l`: resource lists, walltimes, and what `select` and `place` mean. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from reconciler.local.pbs.config import Server
from reconciler.local.pbs.refusals import (
    PBSE_BAD_VALUE,
    PBSE_UNKNOWN_RESOURCE,
    Refusal,
    Usage,
)

NUMBERS = ("ncpus", "mpiprocs", "ompthreads", "ngpus", "naccelerators")
SIZES = ("mem", "vmem", "pmem", "pvmem", "file")
TIMES = ("walltime", "cput", "pcput")
STRINGS = ("arch", "host", "vnode", "software")
PLACES = ("free", "pack", "scatter", "vscatter")
SHARING = ("excl", "exclhost", "shared")
CHUNKS_MAX = 10_000


class Chunk(NamedTuple):
    """One term of `select`: so many chunks, each with these resources (ncpus is always there)."""

    copies: int
    resources: dict[str, str]

    @property
    def ncpus(self) -> int:
        return int(self.resources["ncpus"])

    @property
    def mpiprocs(self) -> int:
        return int(self.resources.get("mpiprocs", "1"))


def split_list(text: str) -> list[tuple[str, str]]:
    """`walltime=1:00,select=2:ncpus=4` → pairs. A value may be quoted to hold commas.

    Raises:
        Usage: a term without a name or a value.
    """
    pairs = []
    for term in re.findall(r"(?:\"[^\"]*\"|'[^']*'|[^,\"'])+|(?<=,)(?=,)|\"|'", text) or [""]:
        name, equals, value = term.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name) or not value:
            raise Usage("illegal -l value")
        if value[0] in "\"'" and value[-1] == value[0] and len(value) > 1:
            value = value[1:-1]
        pairs.append((name, value))
    return pairs


def seconds(text: str) -> int:
    """`90`, `1:30`, `01:01:30` or with a fraction → whole seconds.

    Raises:
        ValueError: anything else.
    """
    found = re.fullmatch(r"(?:(?:(\d{1,9}):)?(\d{1,9}):)?(\d{1,9})(?:\.\d+)?", text)
    if not found:
        raise ValueError(text)
    hours, minutes, rest = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + rest


def clock(total_s: int) -> str:
    """Seconds → HH:MM:SS, hours without limit."""
    return f"{total_s // 3600:02d}:{total_s // 60 % 60:02d}:{total_s % 60:02d}"


def known(name: str, server: Server) -> bool:
    """Whether jobs may ask for `name`: what PBS brings along, and the site's own."""
    return name in (*NUMBERS, *SIZES, *TIMES, *STRINGS, "select", "place", "nodes", *server.resources)


def checked(name: str, value: str) -> str:
    """The value as PBS keeps it.

    Raises:
        Refusal: 15014, not a value of this resource's type.
    """
    fine = {
        **dict.fromkeys(NUMBERS, r"\d{1,9}"),
        **dict.fromkeys(SIZES, r"\d{1,15}[kmgtpKMGTP]?[bwBW]?"),
    }
    if name in TIMES:
        try:
            return clock(seconds(value))
        except ValueError:
            raise _illegal(f" Resource_List.{name}") from None
    if name in fine and not re.fullmatch(fine[name], value):
        raise _illegal(f" Resource_List.{name}")
    if name == "place":
        _check_place(value)
    return value


def _check_place(value: str) -> None:
    terms = value.split(":")
    for number, term in enumerate(terms):
        if not (term in SHARING or (term in PLACES and number == 0) or term.startswith("group=")):
            raise _illegal(" Resource_List.place")


def chunks(select: str, server: Server) -> list[Chunk]:
    """`2:ncpus=4:mpiprocs=2+ncpus=1` → its chunks.

    Raises:
        Refusal: 15014 for nonsense, 15035 for a resource that nobody knows.
    """
    found = []
    for term in select.split("+"):
        parts = term.split(":")
        count = 1
        if "=" not in parts[0]:
            if not re.fullmatch(r"\d{1,6}", parts[0]):
                raise _illegal(" Resource_List.select")
            count = int(parts.pop(0))
            if not 0 < count <= CHUNKS_MAX:
                raise _illegal("")
        resources = {}
        for part in parts:
            name, equals, value = part.partition("=")
            if not equals or not value:
                raise _illegal(" Resource_List.select")
            if not known(name, server) or name in (*TIMES, "select", "place", "nodes"):
                raise Refusal(f"Unknown resource: {name}", PBSE_UNKNOWN_RESOURCE)
            resources[name] = checked(name, value)
        resources.setdefault("ncpus", "1")
        found.append(Chunk(count, resources))
    return found


def _illegal(where: str) -> Refusal:
    return Refusal(f"Illegal attribute or resource value{where}", PBSE_BAD_VALUE)


def requested(pairs: list[tuple[str, str]], server: Server) -> dict[str, str]:
    """What a job asks for → its Resource_List, with `select`, `place` and the totals filled in as PBS does.

    Raises:
        Refusal: an unknown resource, a value that makes no sense, or old and new syntax mixed.
    """
    asked = dict(pairs)
    if {"select", "place"} & asked.keys():
        for name in (*NUMBERS, "mem", "vmem", "nodes"):
            if name in asked and "select" in asked:
                message = f'"-lresource=" cannot be used with "select" or "place", resource is: {name}'
                raise Refusal(message, 5)
    for name in asked:
        if not known(name, server):
            raise Refusal(f"Unknown resource Resource_List.{name}", PBSE_UNKNOWN_RESOURCE)
    values = {name: checked(name, value) for name, value in asked.items()}
    if "nodes" in values:
        _expand_nodes(values)
    if "select" in values:
        values.setdefault("place", "free")
    else:
        values["select"] = f"1:ncpus={values.get('ncpus', '1')}"
        values["select"] += f":mpiprocs={values['mpiprocs']}" if "mpiprocs" in values else ""
        values.setdefault("place", "pack")
    return with_totals(values, server)


def with_totals(values: dict[str, str], server: Server) -> dict[str, str]:
    """The list with ncpus, mpiprocs and nodect summed over `select`, in the order PBS prints."""
    terms = chunks(values["select"], server)
    values["ncpus"] = str(sum(term.copies * term.ncpus for term in terms))
    values["nodect"] = str(sum(term.copies for term in terms))
    if any("mpiprocs" in term.resources for term in terms):
        values["mpiprocs"] = str(sum(term.copies * term.mpiprocs for term in terms))
    own = [name for name in values if name in server.resources]
    return {name: values[name] for name in [*sorted(values.keys() - set(own)), *own]}


def _expand_nodes(values: dict[str, str]) -> None:
    """The old `nodes=N:ppn=M` → a `select` of N chunks."""
    found = re.fullmatch(r"(\d{1,6})(?::ppn=(\d{1,6}))?", values["nodes"])
    if not found:
        raise _illegal(" Resource_List.nodes")
    per_node = found[2] or "1"
    values["select"] = f"{found[1]}:ncpus={per_node}:mpiprocs={per_node}"
    values.setdefault("place", "scatter")
