"""A stage listed in its campaign: one name is added behind another, and every other byte stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.inserting import NotInserted, with_stage
from reconciler.model.source import read

HEAD = "kind: Campaign  # mine\nmetadata: {name: c}\nspec:\n"
LAYOUTS = {
    "brackets": ("  stages: [a, b]   # in order\n", "  stages: [a, new, b]   # in order\n"),
    "brackets on lines": (
        "  stages: [\n    a,  # first\n    b\n  ]\n",
        "  stages: [\n    a, new,  # first\n    b\n  ]\n",
    ),
    "quotes": ("  stages: ['a', \"b\"]\n", "  stages: ['a', new, \"b\"]\n"),
    "lines": (
        "  stages:\n    - a   # first\n    # about b\n    - b\n",
        "  stages:\n    - a   # first\n    - new\n    # about b\n    - b\n",
    ),
    "lines at the key's column": ("  stages:\n  - a\n  - b\n", "  stages:\n  - a\n  - new\n  - b\n"),
    "the last line, without an end": ("  stages:\n    -  b\n    -  a", "  stages:\n    -  b\n    -  a\n    -  new"),
    "a document behind": (
        "  stages:\n    - a\n---\nkind: Stage\n",
        "  stages:\n    - a\n    - new\n---\nkind: Stage\n",
    ),
}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["", "BOM"])
@pytest.mark.parametrize("before, after", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_is_kept(before: str, after: str, bom: str, line_end: str) -> None:
    def written(text: str) -> bytes:
        return (bom + (HEAD + text).replace("\n", line_end)).encode()

    assert with_stage(written(before), "c", "new", "a").decode() == written(after).decode()


REFUSED = {
    "no such campaign": "  stages: [a]\n---\nkind: Campaign\nmetadata: {name: d}\n",
    "no such stage": "  stages: [b]\n",
    "a name in two lines": "  stages:\n    -\n      a\n",
    "an anchor": "  stages:\n    - &x a\n    - *x\n",
    "no YAML": "  stages: [a\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_edited_is_left_alone(text: str) -> None:
    with pytest.raises(NotInserted):
        with_stage((HEAD + text).encode(), "c" if "kind: Campaign\n" not in text else "e", "new", "a")


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True), st.booleans(), st.data())
def test_the_list_is_the_old_one_with_the_name_behind_another(
    names: list[str], flow: bool, data: st.DataObject
) -> None:
    after = data.draw(st.sampled_from(names))
    listed = f" [{', '.join(names)}]\n" if flow else "\n" + "".join(f"    - {name}\n" for name in names)
    [document] = read("", with_stage(f"{HEAD}  stages:{listed}".encode(), "c", "new", after)).documents
    at = names.index(after) + 1
    stages = [*names[:at], "new", *names[at:]]
    assert document.data == {"kind": "Campaign", "metadata": {"name": "c"}, "spec": {"stages": stages}}
