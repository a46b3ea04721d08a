"""A strategy moved to the top of its ladder: nothing else of the file changes, however it is laid out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.moving import NotMoved, moved_to_top
from reconciler.model.source import read

GOLDEN = Path(__file__).parent.parent / "golden" / "moved"
LAYOUTS = sorted(path for path in GOLDEN.glob("*.yaml") if not path.name.endswith(".moved.yaml"))


def moved(content: bytes, strategy: str = "mix", *, unconditionally: bool = True) -> bytes:
    return moved_to_top(content, "c", "s", strategy, unconditionally=unconditionally)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda path: path.stem)
def test_a_layout_is_kept(layout: Path) -> None:
    """`mix` goes up, and loses its `if`; the files beside these show how."""
    expected = layout.with_suffix(".moved.yaml")
    assert moved(layout.read_bytes()).decode() == expected.read_bytes().decode()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("line_end", ["\r\n", "\r"], ids=["CRLF", "CR"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["", "BOM"])
def test_line_ends_and_a_mark_at_the_beginning_are_kept(layout: Path, line_end: str, bom: str) -> None:
    def written(path: Path) -> bytes:
        return (bom + path.read_bytes().decode().replace("\n", line_end)).encode()

    assert moved(written(layout)) == written(layout.with_suffix(".moved.yaml"))


HEAD = "kind: Stage\nmetadata: {name: s}\nspec:\n  campaign: c\n  strategies:"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "kind: Stage\nmetadata: {name: other}\nspec: {campaign: c, strategies: [{name: mix}]}\n", id="stage"
        ),
        pytest.param(
            "kind: Stage\nmetadata: {name: s}\nspec: {campaign: d, strategies: [{name: mix}]}\n", id="campaign"
        ),
        pytest.param(f"{HEAD} [{{name: naive}}]\n", id="strategy"),
        pytest.param(f"{HEAD} [{{name: naive}}, {{name: mix}}\n", id="no YAML"),
        pytest.param("", id="empty"),
        pytest.param(f"{HEAD}\n    - &a {{name: naive}}\n    - *a\n    - {{name: mix}}\n", id="alias"),
    ],
)
def test_what_cannot_be_edited_is_refused(text: str) -> None:
    with pytest.raises(NotMoved):
        moved(text.encode())


# --- the law

NAMES = st.sampled_from(["naive", "replay-5", "mix", "decay", "rewarm"])
COMMENT = st.sampled_from(["# cheapest first", "#", "# - name: not-an-item", "# {a: [b", "# if: no"])
TEXT = "why: |\n  # text\n\n  more"
SPACE = st.sampled_from(["", " ", "   "])


@st.composite
def item(draw: st.DrawFn, name: str, indent: str) -> str:
    """A strategy below its dash, in one of the ways in which people write them."""
    end = draw(st.one_of(st.just(""), COMMENT.map(lambda comment: f"  {comment}")))
    inner = f"\n{indent}  "
    fields = [f"name: {name}{end}"]
    fields += draw(st.sampled_from([[], ["if: forgetting"], ["if: forgetting   # only then"], ['"if": no-recovery']]))
    fields += [draw(st.sampled_from(["legs: [{mixture: {D1: 1}}]", "legs:\n- mixture: {D1: 1}", TEXT]))]
    fields = draw(st.permutations(fields))
    if draw(st.booleans()):
        fields.insert(draw(st.integers(1, len(fields))), draw(COMMENT))
    dash = draw(st.sampled_from(["- ", "-   ", f"-{inner}", f"-  # dash{inner}"]))
    if dash == "-   ":
        inner += "  "
    return indent + dash + "\n".join(fields).replace("\n", inner)


@st.composite
def ladders(draw: st.DrawFn) -> tuple[str, str]:
    """(a file with a ladder, one of its strategies)."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    if draw(st.booleans()):
        indent = draw(st.sampled_from(["  ", "    "]))
        lines = [f"{HEAD}{draw(st.sampled_from(['', '  # a ladder', ' &ladder']))}"]
        for name in names:
            lines += [indent + draw(SPACE) + comment for comment in draw(st.lists(COMMENT, max_size=2))]
            lines += [""] * draw(st.integers(0, 1))
            lines.append(draw(item(name, indent)))
        text = "\n".join(lines)
    else:
        gap = draw(st.sampled_from([", ", ",", ",\n      ", " ,\n\n      ", ",\n      # why\n      "]))
        flow = [
            f"{{name: {name}{draw(st.sampled_from(['', ', if: forgetting', ', if: divergence, a: [1]']))}}}"
            for name in names
        ]
        text = f"{HEAD} [{gap.join(flow)}{draw(st.sampled_from(['', ',', ' ']))}]"
    text += draw(st.sampled_from(["", "\n", "\n  tokens: 1B\n", "\n\n# end\n---\nkind: Other\n"]))
    if TEXT.split("\n")[0] in text and not text.endswith("\n"):
        text += "\n"  # a text that ends without one would get one further up, and so is not moved
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    return text.replace("\n", line_end), draw(st.sampled_from(names))


@given(ladders(), st.booleans())
def test_what_comes_out_is_the_same_ladder_in_another_order(given: tuple[str, str], unconditionally: bool) -> None:
    text, strategy = given
    before = [document.data for document in read("", text.encode()).documents]
    assert isinstance(before[0], dict)
    try:
        edited = moved(text.encode(), strategy, unconditionally=unconditionally)
    except NotMoved:
        raise AssertionError(f"not moved:\n{text}") from None
    after = [document.data for document in read("", edited).documents]
    ladder = before[0]["spec"]["strategies"]
    first = next(each for each in ladder if each["name"] == strategy)
    kept = {key: value for key, value in first.items() if key != "if"} if unconditionally else first
    before[0]["spec"]["strategies"] = [kept, *(each for each in ladder if each is not first)]
    assert after == before
    lost = Counter(text) - Counter(edited.decode())
    assert not Counter(edited.decode()) - Counter(text)
    assert not lost if kept == first else lost["#"] <= 1  # the comment behind what was taken out
