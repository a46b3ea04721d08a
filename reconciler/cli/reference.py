"""The pages of the documentation that come from code: `python -m reconciler.cli.reference docs` writes them.

Each is a function from what the program itself uses; a test holds the committed pages against them.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from reconciler.cli.main import COMMANDS, reconcile
from reconciler.cli.messages import Entry, families
from reconciler.domain.rules.check import BY_CODE
from reconciler.domain.rules.rule import Rule
from reconciler.model import schema as schemas
from reconciler.model.manifests import KINDS

WRITTEN: Final = "<!-- Written by `make reference`. -->"


def pages() -> dict[str, str]:
    """File name in docs/ → its text."""
    return {
        "rules.md": rules(),
        "messages.md": messages(),
        "commands.md": commands(),
        "manifests.md": manifests(),
    }


# --- rules -----------------------------------------------------------------------------------------------------------

RULES: Final = """\
# Rules of the cookbook

<!-- Written by `make reference`; texts and examples are in reconciler/domain/rules. -->

`reconcile validate` and `reconcile plan` say where a campaign strays from the cookbook. An **error** refuses:
`validate` exits 1 and nothing is planned. A **warning** most likely costs something; a **note** is worth knowing.
`reconcile explain CODE` shows a rule in the terminal.

`M…` codes are what cannot be read or carried out, and cannot be waived. `CPT…` codes are advice: a person may stray
knowingly, on the campaign, a stage or a strategy,

```yaml
waive:
  - {rule: CPT020, reason: the recovery gate ends it early}
```

and every `validate` and `plan` shows the finding with that reason. A waiver that waives nothing is itself a finding
([CPT090](#cpt090-stale-waiver)).

The examples are parts of manifests, laid over a campaign of the cookbook's four stages
(`tests/cases/rules/campaign.yaml`). `# <-` marks the line that is reported. A test
runs every one.
"""


def rules() -> str:
    """docs/rules.md."""
    rows = ["| rule | severity | name | |", "| --- | --- | --- | --- |"]
    for rule in BY_CODE.values():
        anchor = f"{rule.code}-{rule.name}".lower()
        rows.append(f"| [{rule.code}](#{anchor}) | {rule.severity} | {rule.name} | {rule.summary} |")
    return "\n".join([RULES, *rows, "", *(_rule(rule) for rule in BY_CODE.values())]).rstrip() + "\n"


def _rule(rule: Rule) -> str:
    found = "\n\nFound at a look at the cluster, by what was logged." if rule.observed else ""
    sources = "\n".join(f"- {source}" for source in rule.sources)
    return f"""## {rule.code} {rule.name}

**{rule.severity.value}**: {rule.summary}.

{rule.why}{found}

Instead: {rule.todo}

{sources}

Strays:

```yaml
{rule.bad.rstrip()}
```

Keeps to it:

```yaml
{rule.good.rstrip()}
```
"""


# --- messages --------------------------------------------------------------------------------------------------------

MESSAGES: Final = f"""\
# Messages

{WRITTEN}

Everything that the program tells a person has a code: an error has it in brackets at the end of its line, a wait, a
hold or a step before its message, a finding after its place. `--json` has it as `code` or `reason`. `reconcile explain
CODE` shows the same page in a terminal; case and brackets do not matter there.
"""


def messages() -> str:
    """docs/messages.md."""
    parts = [MESSAGES]
    for family in families():
        parts.append(f"## {family.title}\n\n{family.about}\n")
        if any(entry.rule is not None for entry in family.entries):
            parts += [f"- [{each.code}]({each.see}) {each.kind}: {_prose(each.title)}." for each in family.entries]
            parts.append("")
        else:
            parts += [_entry(entry) for entry in family.entries]
    return "\n".join(parts).rstrip() + "\n"


def _entry(entry: Entry) -> str:
    more = f" {_prose(entry.meaning)}" if entry.meaning else ""
    return f"""### {entry.code}

**{entry.kind}**: {_prose(entry.title)}.{more}

What to do: {_prose(entry.todo)}

See [{entry.see}]({entry.see}).
"""


# --- commands --------------------------------------------------------------------------------------------------------

COMMANDS_PAGE: Final = f"""\
# Commands

{WRITTEN}

Every command says the same with `--help`. All of them but `apply`, `convert`, `local` and `unlock` only read; what they
write on this machine is what they are asked to (`-o`, `--write`).
"""


def commands() -> str:
    """docs/commands.md."""
    parts = [COMMANDS_PAGE, _described(reconcile)]
    context = click.Context(reconcile, info_name="reconcile")
    for name in COMMANDS:
        command = reconcile.get_command(context, name)
        assert command is not None  # noqa: S101
        parts.append(_command(command, click.Context(command, info_name=f"reconcile {name}")))
    return "\n".join(parts).rstrip() + "\n"


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [record for option in command.params if (record := option.get_help_record(context)) and record[1]]
    table = ["| option | |", "| --- | --- |", *(f"| {_cell(f'`{name}`')} | {_cell(text)} |" for name, text in rows)]
    options = "".join(f"{line}\n" for line in (table if rows else []))
    return f"## {context.command_path}\n\n```text\n{usage}\n```\n\n{_described(command)}{options}"


def _described(command: click.Command) -> str:
    """The help of a command: paragraphs, and what must keep its lines as it is."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "".join(_paragraph(each) for each in paragraphs)


def _paragraph(text: str) -> str:
    if not text.startswith("\b\n"):
        return f"{_prose(' '.join(text.split()))}\n\n"
    return f"```text\n{text.removeprefix(chr(8)).strip(chr(10))}\n```\n\n"


# --- manifests -------------------------------------------------------------------------------------------------------

MANIFESTS: Final = f"""\
# Manifests

{WRITTEN}

Every field of the five kinds, as `reconcile validate` checks them. A field without a default has to be there. The same
as JSON Schemas, for editors and other tools: `schemas/`, or `reconcile schema`. A manifest that begins with

```yaml
# yaml-language-server: $schema=../../schemas/cpt-v1.json
```

is completed and checked while it is written.
"""


def manifests() -> str:
    """docs/manifests.md."""
    parts, shown = [MANIFESTS], set[str]()
    for kind in KINDS:
        schema = schemas.of_kind(kind)
        definitions = schema.pop("$defs")
        parts.append(f"## {kind}\n\n{_prose(schema['description'])}\n")
        spec = schema["properties"]["spec"]["$ref"].removeprefix("#/$defs/")
        for name in (spec, *(name for name in definitions if name != spec)):
            if name not in shown and definitions[name].get("properties"):
                shown.add(name)
                parts.append(_object(name, definitions[name]))
    return "\n".join(parts).rstrip() + "\n"


def _object(name: str, node: dict[str, Any]) -> str:
    required = node.get("required", ())
    rows = ["| field | takes | default | |", "| --- | --- | --- | --- |"]
    for field, of in node["properties"].items():
        default = "" if field in required else f"`{of['default']}`" if "default" in of else "-"
        rows.append(f"| `{field}` | {_takes(of)} | {default} | {_cell(of.get('description', ''))} |")
    return f"### {name}\n\n{_prose(node.get('description', ''))}\n\n" + "\n".join(rows) + "\n"


def _takes(node: dict[str, Any]) -> str:
    """What a value may be, in a few words."""
    match node:
        case {"$ref": str(ref)}:
            name = ref.removeprefix("#/$defs/")
            return f"[{name}](#{name.lower()})"
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"anyOf": alternatives} | {"oneOf": alternatives}:
            return " or ".join(dict.fromkeys(_takes(each) for each in alternatives if each != {"type": "null"}))
        case {"items": dict(items)}:
            return f"list of {_takes(items)}"
        case {"additionalProperties": dict(values)}:
            return f"mapping to {_takes(values)}"
        case {"type": str(kind)}:
            return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(kind, kind)
        case _:
            return "any"


# --- text ------------------------------------------------------------------------------------------------------------


def _prose(text: str) -> str:
    """Sentences as Markdown shows them as they are: what stands in backquotes is code already."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([<>*\[\]])", r"\\\1", part) for part in parts)


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def write(folder: Path) -> Iterator[Path]:
    """Write every page; yields what was written."""
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
        yield folder / name


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        print(written)
