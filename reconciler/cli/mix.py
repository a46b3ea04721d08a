"""`reconcile mix`: mix weighted data lists by hand. The list goes to standard output or a file, all else to stderr."""

from __future__ import annotations

import itertools
import json
import math
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from rich.console import Console
from rich.table import Table

from reconciler.cli.listfiles import SizeUnknown, WriteRefused, read_list, tokens_held, write_list
from reconciler.domain import mixture
from reconciler.domain.mixture import LABEL, Mixed, MixFinding, MixRefused, Source, decimal, rescaled
from reconciler.model.datalist import DataList, apportion, content_digest, render_blocks, share_digits
from reconciler.model.listreader import BadList, Finding, ParsedList
from reconciler.model.quantities import Unreadable, approximate_tokens, format_tokens, parse_decimal, parse_tokens

STATEMENT_VERSION: Final = 1
_NEGATIVE: Final = re.compile(r"-\.?[0-9][0-9.eE+-]*%?")
_FRACTION: Final = re.compile(r"([0-9]{1,9})/([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Input:
    """One `W LIST` pair as given."""

    weight: str
    path: Path
    label: str


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    inputs: tuple[Input, ...]
    output: Path | None
    tokens: int | None
    source_tokens: dict[str, int]
    renormalise: bool
    force: bool
    as_json: bool


class _PairsCommand(click.Command):
    """Shows the pairs in the usage line, and keeps a negative weight from being taken for an option."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["--inputs W LIST [W LIST …]", "[-o FILE]", "[OPTIONS]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if _NEGATIVE.fullmatch(word):
                raise click.UsageError(f"Weight {word} is negative; weights are 0 to 1.", ctx)
        return super().parse_args(ctx, args)


def _tokens(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_tokens(value)
    except Unreadable as error:
        raise click.BadParameter(f"{value!r}: {error}.", ctx, param) from None


def _sizes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    sizes = {}
    for value in values:
        label, _, amount = value.partition("=")
        size = _tokens(ctx, param, amount) if amount else None
        if not size:
            raise click.BadParameter(f"{value!r}: expected LABEL=TOKENS, such as D0=4T, above 0.", ctx, param)
        sizes[label] = size
    return sizes


@click.command("mix", cls=_PairsCommand)
@click.option("--inputs", "--input", "marked", is_flag=True, help="Marks the pairs that follow: a weight, then a list.")
@click.argument("pairs", nargs=-1, metavar="W LIST [W LIST …]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the list here instead of standard output.")
@click.option("--tokens", callback=_tokens, metavar="N", help="Token budget, such as 22B: states tokens and epochs.")
@click.option(
    "--source-tokens",
    multiple=True,
    callback=_sizes,
    metavar="LABEL=N",
    help="Tokens that a source holds, when its .idx files are not on this machine.",
)
@click.option("--renormalise", is_flag=True, help="Rescale weights that do not sum to 1, and say what became of them.")
@click.option("--force", is_flag=True, help="Replace FILE when it holds another list.")
@click.option("--json", "as_json", is_flag=True, help="The statement as JSON: on stdout with -o, else on stderr.")
def mix(
    marked: bool,
    pairs: tuple[str, ...],
    output: Path | None,
    tokens: int | None,
    source_tokens: dict[str, int],
    renormalise: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Mix weighted data lists (`weight prefix corpus`) into one.

    A row's share is its list's weight W times its share in that list, exactly. The printed shares sum to 1 to the last
    digit and no row is rounded away. A file in two lists becomes one row. Corpora are labelled by source, so that the
    trainer's log tells them apart: `olmo.wiki`, `dolmino.wiki`.

    W is a decimal, a percentage or a fraction (0.05, 5%, 1/3); all W sum to exactly 1. LIST is a file, or LABEL=FILE to
    choose its label, which else is the file's name. Lists may have comments, blank lines, relative weights, and two
    columns (the label is then the corpus). What was taken differently from how it was written is told on stderr.

    \b
    Examples:
      reconcile mix --inputs 0.9 papers.txt 0.1 dolma.txt > mixed.txt
      reconcile mix --inputs 0.05 D0=olmo.txt 0.95 D1=dolmino.txt -o stage2.txt
      reconcile mix --inputs 5% D0=olmo.txt 95% D1=dolmino.txt \\
          --tokens 2T --source-tokens D0=4T --source-tokens D1=2T -o stage2.txt

    Exit status: 0 mixed; 1 a list or weight is bad, nothing was written; 2 wrong usage.
    """
    del marked  # `--inputs` is there for the command line people know; the pairs are what remains.
    request = Request(_inputs(pairs), output, tokens, source_tokens, renormalise, force, as_json)
    unknown = set(source_tokens) - {given.label for given in request.inputs}
    if unknown:
        labels = ", ".join(given.label for given in request.inputs)
        raise click.UsageError(f"--source-tokens {min(unknown)}: no source has that label; there are: {labels}")
    run(request)


def _inputs(pairs: Sequence[str]) -> tuple[Input, ...]:
    """Pairs with a label each: the one given, or the file's name; a second file of that name gets a number."""
    if not pairs or len(pairs) % 2:
        raise click.UsageError(f"Expected pairs of a weight and a list, found {len(pairs)} words after --inputs.")
    inputs: list[Input] = []
    for weight, word in zip(pairs[::2], pairs[1::2], strict=True):
        label, sign, name = word.partition("=")
        if not (sign and name and LABEL.fullmatch(label)) or Path(word).exists():
            name = word
            label = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(word).stem).strip("-_")[:60] or "list"
            taken = {given.label for given in inputs}
            numbered = (f"{label}-{number}" for number in itertools.count(2))
            label = next(free for free in itertools.chain([label], numbered) if free not in taken)
        inputs.append(Input(weight, Path(name), label))
    return tuple(inputs)


def run(request: Request) -> None:
    """Read, mix, write, state; the first problem found stops nothing before all are told."""
    notices: list[str] = []
    lists, problems = _read(request.inputs, notices)
    weights = _weights(request, problems, notices)
    if problems:
        _fail(problems)
    sources = [
        Source(given.label, weight, data, _size(given, data, request, notices))
        for given, weight, data in zip(request.inputs, weights, lists, strict=True)
    ]
    mixed = mixture.mix(sources, token_budget=request.tokens)
    if isinstance(mixed, MixRefused):
        _fail([_line("--inputs", problem) for problem in mixed.problems] + _corrected(request, weights))
    notices += [_line("--inputs", notice) for notice in mixed.notices]
    digest = _write(request, mixed.list, notices)
    if request.as_json:
        text = json.dumps(_statement(request, sources, mixed, digest, notices), indent=2)
        click.echo(text, err=request.output is None)
    else:
        for notice in notices:
            click.echo(notice, err=True)
        _tell(request, sources, mixed, digest)


def _read(inputs: Sequence[Input], notices: list[str]) -> tuple[list[DataList], list[str]]:
    lists, problems = [], []
    for given in inputs:
        match read_list(given.path, given.label):
            case BadList(problems=found):
                problems += [_placed(given.path, finding) for finding in found]
            case ParsedList(data=data, notices=found):
                lists.append(data)
                notices += [_placed(given.path, finding) for finding in found]
    return lists, problems


def _weights(request: Request, problems: list[str], notices: list[str]) -> list[Fraction]:
    weights = []
    for given in request.inputs:
        try:
            weights.append(_weight(given.weight))
        except Unreadable as error:
            swapped = re.fullmatch(r"[0-9.]+%?", str(given.path)) is not None
            hint = " The weight comes first: W LIST." if swapped else ""
            problems.append(f"--inputs: MIX005 weight {given.weight!r} of {given.path}: {error}.{hint}")
    total = sum(weights, Fraction(0))
    if request.renormalise and not problems and total not in (0, 1):
        before, weights = weights, list(rescaled(weights))
        told = ", ".join(
            f"{given.label} {decimal(old)} → {decimal(new)}"
            for given, old, new in zip(request.inputs, before, weights, strict=True)
        )
        notices.append(f"--inputs: MIX102 weights summed to {decimal(total)} and were rescaled as asked: {told}")
    return weights


def _weight(text: str) -> Fraction:
    fraction = _FRACTION.fullmatch(text)
    if fraction:
        return Fraction(int(fraction.group(1)), int(fraction.group(2)))
    number = parse_decimal(("0" + text if text.startswith(".") else text).removesuffix("%"))
    # Outside this, arithmetic gets slow and no such share was ever meant.
    if number and not Decimal("1e-12") <= number <= 10**6:
        raise Unreadable("a weight is 0, or from 1e-12 to 1")
    return Fraction(number) / (100 if text.endswith("%") else 1)


def _corrected(request: Request, weights: Sequence[Fraction]) -> list[str]:
    """The command with weights that sum to 1, to be pasted; nothing when no weight is above 0."""
    total = sum(weights, Fraction(0))
    if total in (0, 1):
        return []
    whole = [int(weight * math.lcm(*(weight.denominator for weight in weights))) for weight in weights]
    exact = [weight / total for weight in weights]
    digits = next((d for d in range(1, 13) if all((10**d * share).denominator == 1 for share in exact)), None)
    ratios = "the same ratios"
    if digits is None:
        ratios = "these ratios, as near as so many digits come"
        digits = max(4, len(str(math.ceil(1 / min(share for share in exact if share)))))
    command = ["reconcile", "mix", "--inputs"]
    for part, given in zip(apportion(10**digits, whole), request.inputs, strict=True):
        named = f"{given.label}={given.path}"
        command += [decimal(Fraction(part, 10**digits)), named if _labelled(given) else str(given.path)]
    if request.output is not None:
        command += ["-o", str(request.output)]
    if request.tokens is not None:
        command += ["--tokens", format_tokens(request.tokens)]
    for label, size in request.source_tokens.items():
        command += ["--source-tokens", f"{label}={format_tokens(size)}"]
    command += ["--force"] * request.force + ["--json"] * request.as_json
    return [f"In {ratios}:", f"    {shlex.join(command)}"]


def _labelled(given: Input) -> bool:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", given.path.stem).strip("-_")[:60] != given.label


def _size(given: Input, data: DataList, request: Request, notices: list[str]) -> int | None:
    """Tokens the source holds; looked up only when there is a budget to compare with."""
    if given.label in request.source_tokens or request.tokens is None:
        return request.source_tokens.get(given.label)
    try:
        return tokens_held(data.prefixes)
    except SizeUnknown as unknown:
        fix = f"Say it: --source-tokens {given.label}=4T"
        notices.append(f"{given.path}: MIX103 epochs are not known: {unknown}. {fix}")
        return None


def _write(request: Request, data: DataList, notices: list[str]) -> str:
    """The list to its place; returns its SHA-256."""
    if request.output is not None:
        try:
            digest, changed = write_list(request.output, render_blocks(data), overwrite=request.force)
        except WriteRefused as refused:
            _fail([f"{request.output}: MIX006 {refused}"])
        if not changed:
            notices.append(f"{request.output}: MIX104 holds exactly this list already; it was left as it is")
        return digest
    hashed = sha256()
    stream = sys.stdout.buffer
    for block in render_blocks(data):
        hashed.update(block.encode())
        stream.write(block.encode())
    stream.flush()
    return hashed.hexdigest()


def _placed(path: Path, finding: Finding) -> str:
    fix = f" {finding.fix}" if finding.fix else ""
    return f"{path}:{finding.line}:{finding.column}: {finding.code} {finding.message}.{fix}"


def _line(where: str, finding: MixFinding) -> str:
    return f"{where}: {finding.code} {finding.message}." + (f" {finding.fix}" if finding.fix else "")


def _fail(lines: Sequence[str]) -> NoReturn:
    for line in lines:
        click.echo(line, err=True)
    raise click.exceptions.Exit(1)


def _tell(request: Request, sources: Sequence[Source], mixed: Mixed, digest: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Source", no_wrap=True)
    budget = request.tokens
    headings = ["Weight", "Rows", "Of rows", "Σw read"]
    for heading in headings if budget is None else [*headings, "Tokens drawn", "Held", "Epochs"]:
        table.add_column(heading, justify="right", no_wrap=True)
    rows = len(mixed.list)
    for source, share in zip(sources, mixed.ledger, strict=True):
        # A sum with many digits is cut for people; the notice and the JSON have it exactly.
        cells = [
            decimal(share.weight),
            f"{share.rows:,}",
            f"{share.rows / rows:.1%}",
            f"{float(source.list.weight_sum):.6g}",
        ]
        if share.tokens_drawn is not None:
            held = "?" if source.tokens is None else approximate_tokens(source.tokens)
            epochs = "?" if share.epochs is None else f"{float(share.epochs):.3g}"
            cells += [f"{share.tokens_drawn:,}", held, epochs]
        table.add_row(share.label, *cells)
    total = ["1", f"{rows:,}", "", ""]
    table.add_row("total", *(total if budget is None else [*total, f"{budget:,}", "", ""]), style="bold")
    console = Console(file=sys.stderr, markup=False, highlight=False, width=None if sys.stderr.isatty() else 160)
    console.print(table)
    place = "" if request.output is None else f" in {request.output}"
    told = (
        f"{rows:,} rows{place}; their shares, of {share_digits(mixed.list)} digits, sum to exactly 1; sha256 {digest}"
    )
    click.echo(told, err=True)


def _statement(
    request: Request, sources: Sequence[Source], mixed: Mixed, digest: str, notices: Sequence[str]
) -> dict[str, Any]:
    entries = []
    for given, source, share in zip(request.inputs, sources, mixed.ledger, strict=True):
        entry = asdict(share) | {"list": str(given.path), "tokens": source.tokens}
        entry["weight"] = decimal(share.weight)
        entry["weight_sum"] = decimal(source.list.weight_sum)
        entry["epochs"] = None if share.epochs is None else float(share.epochs)
        entries.append(entry)
    return {
        "version": STATEMENT_VERSION,
        "output": None if request.output is None else str(request.output),
        "rows": len(mixed.list),
        "sha256": digest,
        "content_digest": content_digest(mixed.list),
        "token_budget": request.tokens,
        "sources": entries,
        "shared": [
            {"prefix": file.prefix, "corpus": file.corpus, "parts": {label: str(part) for label, part in file.parts}}
            for file in mixed.shared
        ],
        "notices": list(notices),
    }
