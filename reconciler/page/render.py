"""The page as one HTML file: nothing is fetched, nothing runs but its own program, and all that it shows is escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from reconciler.model.problems import harmless
from reconciler.model.quantities import approximate_tokens, counted, format_duration, format_tokens
from reconciler.model.spans import hours, numbers, sizes
from reconciler.page.chartdata import chart_json
from reconciler.page.content import Page
from reconciler.page.curves import Curves

MADE_BY: Final = '<meta name="generator" content="reconcile report">'
"""By which a report is told from other files."""
_TEMPLATE: Final = "page.html.jinja"
_CODE: Final = re.compile(r"`([^`]+)`")
NOTHING: Final = Curves((), (), (), 0, 0, 0)


def html(page: Page, refresh_s: float = 0.0) -> str:
    """The whole file; with `refresh_s` it asks the server that it came from so often whether there is news."""
    style = _asset("vendor/uplot/uPlot.min.css") + _asset("assets/page.css")
    library, program = _asset("vendor/uplot/uPlot.iife.min.js"), _asset("assets/page.js")
    curves = page.read.curves if page.read is not None else NOTHING
    return _template().render(
        page=page,
        made_by=Markup(MADE_BY),  # noqa: S704
        policy=policy(style, (library, program), refreshes=refresh_s > 0),
        style=Markup(style),  # noqa: S704  # our own files
        scripts=[Markup(library), Markup(program)],  # noqa: S704
        data=Markup(chart_json(curves, refresh_s)),  # noqa: S704  # escaped by `embedded`
        refresh_s=refresh_s,
    )


def policy(style: str, scripts: tuple[str, ...], *, refreshes: bool) -> str:
    """The page's Content-Security-Policy: only these very texts count as style and program."""
    programs = " ".join(map(_digest, scripts))
    news = "; connect-src 'self'" if refreshes else ""
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {programs}; img-src data:{news}; base-uri 'none'; "
        "form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _asset(path: str) -> str:
    return files("reconciler.page").joinpath(path).read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(
        loader=DictLoader({_TEMPLATE: _asset(f"assets/{_TEMPLATE}")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    environment.filters.update(
        code=_code,
        tokens=approximate_tokens,
        exact=format_tokens,
        duration=format_duration,
        numbers=numbers,
        hours=hours,
        sizes=sizes,
        counted=counted,
        times=lambda count, size: f"{count / size:.3g}" if size else "unknown",
    )
    return environment.get_template(_TEMPLATE)


def _plain(value: object) -> object:
    """Text without what steers terminals and readers: control characters and changes of direction."""
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _code(text: str) -> Markup:
    """What stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(harmless(text)))))  # noqa: S704
