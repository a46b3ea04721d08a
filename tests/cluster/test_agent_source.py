"""The agent as it is sent: old Python, standard library only, small enough to start at once."""

from __future__ import annotations

import ast
import sys

from reconciler.cluster.observe import agent_source

TREE = ast.parse(agent_source(), feature_version=(3, 6))


def is_own_import(node: ast.stmt) -> bool:
    """`if __name__ != "__main__":` imports the other files of the agent: for tests, and never where it is sent."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ != '__main__'"


def test_where_it_is_sent_its_files_are_one_program() -> None:
    named = [
        {alias.name for line in node.body if isinstance(line, ast.ImportFrom) for alias in line.names}
        for node in TREE.body
        if isinstance(node, ast.If) and is_own_import(node)
    ]
    defined: set[str] = set()
    for node in TREE.body:
        if is_own_import(node):
            assert named.pop(0) <= defined, "what is imported stands in a file before this one"
        defined |= {n.name for n in [node] if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
        defined |= {t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)}


def test_no_name_of_one_file_is_taken_again_by_another() -> None:
    names = [node.name for node in TREE.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    names += [
        t.id for node in TREE.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    ]
    assert {name for name in names if names.count(name) > 1} == {"MYPY"}


def test_it_is_python_3_6_and_imports_only_the_standard_library() -> None:
    names = set()
    sent = [inner for node in TREE.body if not is_own_import(node) for inner in ast.walk(node)]
    for node in sent:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    assert names <= sys.stdlib_module_names
    assert "__future__" not in names, "Python 3.6 does not know annotations from the future"
    assert not names & {"typing"} or "if MYPY:" in agent_source().decode(), "typing is slow to import"


def test_no_annotation_is_evaluated_that_python_3_6_lacks() -> None:
    """`list[str]` and `X | None` may stand in quotes only."""
    for node in ast.walk(TREE):
        annotations = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for annotation in filter(None, annotations):
            assert isinstance(annotation, (ast.Name, ast.Constant)), ast.dump(annotation)
            if isinstance(annotation, ast.Name):
                assert annotation.id in {"str", "bytes", "int", "float", "bool", "object", "OSError"} | {
                    node.name for node in TREE.body if isinstance(node, ast.ClassDef)
                }


def test_it_calls_nothing_that_python_3_6_lacks() -> None:
    """Arguments and functions that came later; the list is what such a file is tempted to use."""
    late_arguments = {"capture_output", "text", "missing_ok", "dirs_exist_ok"}
    late_functions = {"removeprefix", "removesuffix", "waitstatus_to_exitcode", "pidfd_open", "fromisoformat"}
    for node in ast.walk(TREE):
        if isinstance(node, ast.Call):
            assert not late_arguments & {keyword.arg for keyword in node.keywords}
        if isinstance(node, ast.Attribute):
            assert node.attr not in late_functions
