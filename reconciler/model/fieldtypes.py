"""How single values in a manifest are written and typed: names, words that a shell may read, quantities, hours.

A text's pattern is what the JSON Schemas in `schemas/` say of it; its words for people are in `forms`.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from reconciler.model import quantities
from reconciler.model.quantities import Rate

NAME_PATTERN: Final = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"
SYMBOL_PATTERN: Final = r"^D[0-9]{1,3}$"
TERM_PATTERN: Final = r"^(D[0-9]{1,3}|[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?)$"
WORD_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_./:+-]{0,199}$"
"""What survives the launcher, which flattens its command line into one string for `bash -c`."""
LABEL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$"
VALUE_PATTERN: Final = r"^[A-Za-z0-9_./][A-Za-z0-9_./:=,@%+-]{0,999}$"
ENVIRONMENT_PATTERN: Final = r"^[A-Z][A-Z0-9_]{0,63}$"
SHA256_PATTERN: Final = r"^[0-9a-f]{64}$"
PATH_PATTERN: Final = r"^[A-Za-z0-9_./][A-Za-z0-9_./+-]{0,999}$"
HOUR_PATTERN: Final = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"
BRANCH_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_-]*([./][A-Za-z0-9_][A-Za-z0-9_-]*)*$"
ZONE_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RULE_PATTERN: Final = r"^CPT[0-9]{3}$"
_NO_TEXT: Final = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
"""Controls, line ends, and what turns a line around: a terminal obeys them, or shows another text than there is."""
TEXT_PATTERN: Final = rf"^[^{_NO_TEXT}]*$"
SENTENCE_PATTERN: Final = rf"^ *[^ {_NO_TEXT}][^{_NO_TEXT}]*$"
"""A text that says something."""


def _text_of(value: object) -> object:
    """Numbers become their decimal text, so that one parser reads `4000`, `4e9` and `4T`; the rest is left alone."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}" if value == value.to_integral_value() and value.is_finite() else str(value)
    return str(value) if isinstance(value, int) else value


def _parsed(parse: Any) -> BeforeValidator:
    def read(value: object) -> object:
        text = _text_of(value)
        return parse(text) if isinstance(text, str) else value

    return BeforeValidator(read)


def _number_or(pattern: str, what: str, **bounds: object) -> WithJsonSchema:
    either = [{"type": "number", **bounds}, {"type": "string", "pattern": pattern}]
    return WithJsonSchema({"anyOf": either, "description": what})


def _inside(path: str) -> str:
    """A path on a cluster or under the repository may not climb out of where it is put."""
    if ".." in path.split("/"):
        raise ValueError("a path without .. in it is expected")
    return path


def _no_ref(name: str) -> str:
    if name.startswith("refs/"):
        raise ValueError(f"{name} is a ref; the branch's name on the remote is expected, such as main")
    return name


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name} is no time zone; there is America/Chicago, Europe/Berlin, UTC and so on") from None
    return name


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Word = Annotated[str, Field(pattern=WORD_PATTERN)]
Value = Annotated[str, Field(pattern=VALUE_PATTERN)]
Path = Annotated[str, Field(pattern=PATH_PATTERN), AfterValidator(_inside)]
Text = Annotated[str, Field(pattern=TEXT_PATTERN, max_length=2000)]
Sentence = Annotated[str, Field(pattern=SENTENCE_PATTERN, max_length=2000)]
Label = Annotated[str, Field(pattern=LABEL_PATTERN)]
Symbol = Annotated[str, Field(pattern=SYMBOL_PATTERN)]
Term = Annotated[str, Field(pattern=TERM_PATTERN)]
BranchName = Annotated[str, Field(pattern=BRANCH_PATTERN, max_length=200), AfterValidator(_no_ref)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Rule = Annotated[str, Field(pattern=RULE_PATTERN)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
HourOfDay = Annotated[str, Field(pattern=HOUR_PATTERN)]
TimeZone = Annotated[str, Field(pattern=ZONE_PATTERN), AfterValidator(_known_zone)]
Tokens = Annotated[
    int,
    _parsed(quantities.parse_tokens),
    _number_or(quantities.TOKENS_PATTERN, "tokens: 4T, 22B, 1500000", minimum=1),
    Field(ge=1, le=10**16),
]
Seconds = Annotated[
    Fraction,
    _parsed(quantities.parse_duration),
    WithJsonSchema({"type": "string", "pattern": quantities.DURATION_PATTERN, "description": "6h, 1h30m, 06:00:00"}),
]
Walltime = Annotated[Seconds, Field(gt=0)]
Share = Annotated[
    Decimal,
    _parsed(quantities.parse_share),
    WithJsonSchema({"type": "string", "pattern": quantities.SHARE_PATTERN, "description": "5%"}),
]
Weight = Annotated[
    Decimal,
    _parsed(quantities.parse_decimal),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1}),
    Field(ge=0, le=1),
]
Positive = Annotated[
    Decimal, _parsed(quantities.parse_decimal), WithJsonSchema({"type": "number", "minimum": 0}), Field(ge=0)
]
AboveZero = Annotated[
    Decimal, _parsed(quantities.parse_decimal), WithJsonSchema({"type": "number", "exclusiveMinimum": 0}), Field(gt=0)
]
RateField = Annotated[
    Rate,
    _parsed(quantities.parse_rate),
    _number_or(quantities.RATE_PATTERN, "2e-4, lrMax/5, lrMax*2, lrSource", minimum=0),
]


class Frozen(BaseModel):
    """Immutable, closed to unknown fields, camelCase in YAML."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, arbitrary_types_allowed=True
    )


class Metadata(Frozen):
    """What names an object."""

    name: Name
    """Unique among objects of the kind; a stage's within its campaign. Becomes part of job and folder names."""


class ListOnCluster(Frozen):
    """A weighted data list as one cluster has it; `sha256` pins the file's bytes."""

    path: Path
    """Path of the data list on the cluster; a relative one starts at the root of a `local` transport."""
    sha256: Sha256 | None = None
    """SHA-256 of the file's bytes. With it, a list changed on the cluster is noticed and refused."""


Lists = Annotated[dict[Name, ListOnCluster], Field(min_length=1)]


class Tokenizer(Frozen):
    """The launcher's TOKENIZER_TYPE and TOKENIZER_MODEL; all data of a campaign must share it."""

    type: Word
    """TOKENIZER_TYPE, such as HFTokenizer or Llama2Tokenizer."""
    model: Word
    """TOKENIZER_MODEL: a name such as google/gemma-7b, or a path in the checkout."""
