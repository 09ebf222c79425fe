"""Modules made one file: it does what they did, whatever names they share."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from mxbench.bundle import Symbol, bundle
from mxbench.errors import MxbenchError


@pytest.fixture
def kernels(tmp_path: Path):
    """A kernels folder of these files; returns the folder."""

    def make(**files: str) -> Path:
        for name, source in files.items():
            folder, _, stem = name.partition("__")
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{stem}.py").write_text(source)
        return tmp_path

    return make


def made(root: Path, *wanted: str, **more: Any) -> str:
    whole = bundle(root / "op" / "main.py", root / "op", wanted, **more)
    parts = ["\n".join(whole.imports), *(source for _, _, source in whole.modules)]
    return "\n\n\n".join(parts)


def run(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "one_file"}
    exec(compile(text, "one_file.py", "exec"), names)
    return names


def test_modules_packages_and_names_are_all_resolved(kernels):
    root = kernels(
        common__base="import math\nLIMIT = math.floor(3.5)\ndef double(x):\n    return 2 * x\n",
        op___near="from ..common.base import LIMIT\ndef add(x):\n    return x + LIMIT\n",
        op__main="from ..common import base\nfrom . import _near\nfrom ._near import add as plus\n"
        "def go(x):\n    return base.double(_near.add(x)) + plus(0)\n",
    )
    text = made(root, "go")
    assert run(text)["go"](1) == 2 * (1 + 3) + 3
    assert "base." not in text and "_near." not in text and text.startswith("import math\n")


def test_equal_names_of_two_modules_stay_apart(kernels):
    root = kernels(
        op___one="def start(x):\n    return x + 1\n\ndef first(x):\n    return start(x)\n",
        op___two="def start(x):\n    return x * 10\n\ndef second(x):\n    return start(x)\n",
        op__main="from . import _one, _two\ndef go(x):\n    return _one.first(x), _two.second(x)\n",
    )
    text = made(root, "go")
    assert run(text)["go"](3) == (4, 30)
    assert "def start(x)" in text and "def two_start(x)" in text


def test_a_local_variable_never_captures_a_name(kernels):
    root = kernels(
        op___near="def scale(x):\n    return 2 * x\n",
        op__main="from . import _near\ndef go(scale):\n    return _near.scale(scale)\n"
        "def other(rows):\n    return [_near.scale(r) for scale in rows for r in [scale]]\n",
    )
    names = run(made(root, "go", "other"))
    assert names["go"](4) == 8 and names["other"]([1, 2]) == [2, 4]


def test_a_name_of_python_s_own_is_left_to_python(kernels):
    root = kernels(
        op___near="def max(x):\n    return -x\n",
        op__main="from . import _near\ndef go(x):\n    return _near.max(max(x))\n",
    )
    assert run(made(root, "go"))["go"]([1, 5]) == -5


def test_a_module_used_as_a_value_becomes_an_object_like_it(kernels):
    root = kernels(
        op___one="SIZE = 1\ndef make(x):\n    return x + SIZE\n",
        op___two="SIZE = 2\ndef make(x):\n    return x + SIZE\n",
        op__main="from . import _one, _two\n"
        "def go(x, small):\n    way = _one if small else _two\n    return way.make(x), way.SIZE\n",
    )
    names = run(made(root, "go"))
    assert names["go"](5, True) == (6, 1) and names["go"](5, False) == (7, 2)


def test_what_is_not_reached_is_left_out_and_side_effects_stay(kernels):
    root = kernels(
        op__main="import os\nimport json\nos.environ.setdefault('BUNDLED', '1')\n"
        "UNUSED = json.dumps(1)\ndef helper():\n    return 1\ndef go():\n    return helper()\n"
        "def rest():\n    return UNUSED\n",
    )
    text = made(root, "go")
    names = {n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)}
    assert names == {"helper", "go"} and "UNUSED" not in text and "json" not in text
    assert "os.environ.setdefault" in text


def test_text_and_comments_stay_as_they_are(kernels):
    body = '# about go\n\n\ndef go(  x ):  # [T, H]\n    """Says   é."""\n'
    body += "    return (x\n            + 1)  # odd\n"
    text = made(kernels(op__main=f"LATER = 1\n{body}"), "go")
    assert body.strip() in text


def test_annotations_that_name_what_comes_later_are_put_in_quotes(kernels):
    root = kernels(
        op__main="from __future__ import annotations\n"
        "def go(x: Late | None = None, n: int = 3) -> list[Late]:\n    return [Late()]\n"
        "class Late:\n    pass\n",
    )
    text = made(root, "go")
    assert 'x: "Late | None" = None, n: int = 3' in text and '-> "list[Late]"' in text
    assert len(run(text)["go"]()) == 1


def test_definitions_can_be_replaced_with_what_they_need_gone(kernels):
    root = kernels(
        common__data="import json\nPATH = 'x.json'\n"
        "def table():\n    return json.load(open(PATH))\n",
        op__main="from ..common.data import table\ndef go():\n    return table()['a']\n",
    )
    table = "def table():\n    return {'a': 7}"
    text = made(root, "go", replaced={Symbol("common/data", "table"): table})
    assert run(text)["go"]() == 7 and "json" not in text and "PATH" not in text


@pytest.mark.parametrize(
    ("main", "near", "said"),
    [
        ("from ._near import *\ndef go(): ...\n", "", "main.py:1: a relative star import"),
        ("from math import *\ndef go(): ...\n", "", "main.py:1: a star import of math"),
        ("def go():\n    from . import _near\n", "", "main.py:2: a relative import inside"),
        ("from . import _nothing\ndef go(): ...\n", "", "no module op/_nothing.py"),
        ("from ._near import nothing\ndef go():\n    nothing()\n", "", "defines no nothing"),
        ("from ....far import x\ndef go(): ...\n", "", "above the kernels folder"),
        ("from . import _near\ndef go(): ...\n", "from . import main\n", "in a circle"),
        ("def gone(): ...\n", "", "defines no go"),
        (
            "import json as j\nfrom ._near import dump\ndef go():\n    return j, dump\n",
            "import math as j\ndef dump():\n    return j\n",
            "j means different things: import json as j and import math as j",
        ),
    ],
)
def test_what_one_file_cannot_hold_is_named_with_its_place(kernels, main, near, said):
    root = kernels(op__main=main, op___near=near)
    with pytest.raises(MxbenchError) as caught:
        made(root, "go")
    assert said in caught.value.message and caught.value.exit_code == 2
