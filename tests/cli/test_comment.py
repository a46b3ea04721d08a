"""The comment of a pull request: what strangers wrote stays text, and a long one is cut where it says so."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from reconciler.cli.comment import DETAILS, EARLIER, Told, comment, marker
from reconciler.cli.markdown import LENGTH_MAX, code, fenced, length, prose, table

HOSTILE = [
    "@team look at #12, GH-3 and org/repo#4",
    "https://evil.example/x www.evil.com a@b.example ssh://x",
    "<img src=x onerror=alert(1)> </details></code> <!-- reconcile:details -->",
    "[click](https://evil.example) ![x](https://evil.example/beacon.png) [ref]: x",
    "**b** _i_ ~~s~~ `c` ``d`` ``` $x$ :smile: | cell | \\| x",
    "- [ ] x",
    "# heading",
    "1. list",
    "---",
    "> quote",
    "&lt;b&gt; &#64;team",
    "line\n\n## two\r\nthree \u202e\x1b[31m",
    "<details><summary>Earlier version 1</summary>",
]
MARKUP = re.compile(r"<(?!/?(p|code)>)[a-z/!]")


def rendered(markdown: str) -> str:
    """As a forge renders it, with tables and HTML."""
    return str(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_stranger_s_words_are_shown_as_words(text: str) -> None:
    html = rendered(prose(text))
    assert not MARKUP.search(html), html
    # A forge looks for names, numbers and addresses in what was rendered: none is left whole.
    assert not re.search(r"@\w|#\d|GH-\d|https?://|www\.|:\w+:", html.replace("&lt;", "<")), html


@pytest.mark.parametrize("text", HOSTILE)
def test_a_stranger_s_name_is_one_code_span_in_a_table_too(text: str) -> None:
    html = rendered(f"x {code(text)} y")
    assert html.count("<code>") == 1
    assert not MARKUP.search(html), html
    assert rendered(table(["a", "b"], [[code(text), "last"]])).count("<td>") == 2


@pytest.mark.parametrize("text", HOSTILE)
def test_a_stranger_s_script_does_not_end_its_fence(text: str) -> None:
    lines = ["```", "~~~~", text, "``````", text]
    html = rendered(fenced(lines, "diff") + "\n\nafter")
    assert html.count("<pre>") == 1
    assert html.endswith("<p>after</p>\n")
    assert "<img" not in html
    assert "<details" not in html


def told(scripts: dict[str, str], campaign: str = "c") -> Told:
    """A comment that is mostly scripts."""
    return Told(campaign, "a" * 40, "", "all of it is new", (), {}, None, None, "the record", scripts, (), ())


def test_a_long_comment_is_cut_between_its_parts_and_says_what_is_missing() -> None:
    script = "\n".join(f"echo {number} 😀" for number in range(110))
    text = comment(told({f"stage-{number}.pbs": script for number in range(60)}))
    assert LENGTH_MAX * 0.9 < length(text) <= LENGTH_MAX
    assert re.search(r"\*\*Cut:\*\* a comment holds 65,536 characters; left out: \d+ × script\. All of it: `", text)
    assert text.count("<details>") == text.count("</details>")
    assert DETAILS in text
    assert EARLIER in text


def test_what_a_comment_said_before_is_folded_and_numbered_and_its_scripts_are_not_kept() -> None:
    first = comment(told({"a.pbs": f"echo\n{EARLIER}\n<details><summary>Earlier version 7</summary>\nx"}))
    second = comment(told({"b.pbs": "echo"}), first)
    third = comment(told({"c.pbs": "echo"}), second)
    assert re.findall(r"Earlier version (\d)", third) == ["2", "1"]
    assert "b.pbs" not in third
    assert third.count(marker("c")) == 1
    assert third.count("<details>") == third.count("</details>") == 3


def test_the_oldest_versions_go_when_there_is_no_more_room() -> None:
    text = ""
    for number in range(400):
        text = comment(told({"a.pbs": f"echo {number}"}), text)
    assert length(text) <= LENGTH_MAX
    kept = [int(version) for version in re.findall(r"Earlier version (\d+)", text)]
    assert kept[0] == 399
    assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("earlier", ["", "nothing of ours", marker("other") + f"\nx\n{DETAILS}\n", DETAILS, "\0" * 9])
def test_a_comment_that_is_none_of_ours_is_not_folded(earlier: str) -> None:
    assert "Earlier version" not in comment(told({}), earlier)
