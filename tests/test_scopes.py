"""Names mean what Python says they mean."""

from __future__ import annotations

import ast
import builtins

import pytest

from mxbench.scopes import analyse

SOURCE = """
import os.path as p
from x import a as b
top = 1
def f(arg, *rest, key=top, **more):
    local = arg
    def inner():
        nonlocal local
        global made
        local, made = top, key
        return [local for local in rest if (walrus := local)], walrus
    class C:
        field = local
        def method(self):
            return field
    return lambda q: (q, C, inner, more)
match top:
    case [first, *others]:
        pass
try:
    pass
except ValueError as error:
    print(error)
"""


def kinds() -> dict[str, set[str]]:
    """Name -> kinds of the scopes that its uses resolve to."""
    tree = ast.parse(SOURCE)
    scopes = analyse(tree)
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            scope = scopes.resolve(node)
            found.setdefault(node.id, set()).add("none" if scope is None else scope.kind)
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("top", {"module"}),
        ("made", {"module"}),
        ("key", {"function"}),
        ("rest", {"function"}),
        ("more", {"function"}),
        ("walrus", {"function"}),
        ("q", {"function"}),
        ("C", {"function"}),
        ("error", {"module"}),
        ("local", {"function", "comprehension"}),
        ("ValueError", {"none"}),
    ],
)
def test_names_resolve_to_the_scope_that_binds_them(name, kind):
    assert kinds()[name] == kind


def test_a_class_body_s_names_are_not_seen_in_its_methods():
    assert kinds()["field"] == {"class", "none"}


def test_what_the_module_binds():
    bound = analyse(ast.parse(SOURCE)).module.bound
    assert bound == {"p", "b", "top", "f", "made", "first", "others", "error"}
    assert hasattr(builtins, "print") and "print" not in bound
