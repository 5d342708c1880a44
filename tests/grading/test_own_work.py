"""What solutions may use, read from their code, refused at run time, and checked in a notebook."""

from __future__ import annotations

import ast
import math
import sys

import numpy as np
import pytest

import tinynet
from tinynet import kernels, nn
from tinynet.grading import own_work, require_own_work
from tinynet.grading.own_work import Absent, NotOwnWork, Rules, imported_names, objections
from tinynet.kernels import relu as borrowed
from tinynet.nn import functional as F

GIVEN = """
import numpy as np
import tinynet
from tinynet import kernels
from tinynet.nn import functional as F
"""
LIBRARY = Rules(("numpy", "tinynet"), ("tinynet.kernels", "tinynet.nn.functional.interpolate", "tinynet.nn.Upsample"))


def found(code: str, rules: Rules = LIBRARY) -> list[str]:
    return objections(ast.parse(code), rules, imported_names(ast.parse(GIVEN)))


@pytest.mark.parametrize("code, path", [
    ("def f(x): return kernels.relu(x)", "tinynet.kernels.relu"),
    ("from tinynet.kernels import relu", "tinynet.kernels.relu"),
    ("def f():\n    import tinynet.kernels.im2col as i", "tinynet.kernels.im2col"),
    ("def f(x): return F.interpolate(x)", "tinynet.nn.functional.interpolate"),
    ("def f(x): return tinynet.nn.functional.interpolate(x, scale_factor=2)", "tinynet.nn.functional.interpolate"),
    ("from tinynet.nn import Upsample as U", "tinynet.nn.Upsample"),
    ("class A(tinynet.nn.Upsample): pass", "tinynet.nn.Upsample"),
    ("def f(x, g=F.interpolate): return g(x)", "tinynet.nn.functional.interpolate"),
])  # fmt: skip
def test_refused_paths_are_found(code, path):
    assert found(code) == [f"uses tinynet's own answer ({path}), which this assignment asks you to write"]


@pytest.mark.parametrize("code", [
    "def f(x): return F.relu(tinynet.zeros(3))", "import math, itertools", "from collections import deque",
    "def f(kernels): return kernels.relu(3)", "def f(x):\n    kernels = []\n    kernels.append(x)", "np.linalg.norm(3)",
    "f = lambda F: F.interpolate(1)", "x.kernels.relu()", "def f(x): return interpolate(x)",
])  # fmt: skip
def test_other_code_is_not(code):
    assert found(code) == []


def test_without_the_library_every_use_of_it_is_refused():
    rules = Rules(("numpy",))
    assert "tinynet.zeros" in found("def f(): return tinynet.zeros(1)", rules)[0]
    assert found("import torch.nn", rules) == ["uses torch.nn; this assignment allows numpy"]


def test_an_absent_module_says_so_only_when_it_is_called():
    absent = Absent("tinynet.kernels")
    with pytest.raises(NotOwnWork, match=r"own answer \(tinynet.kernels.relu\)"):
        absent.relu(3)


def test_at_run_time_only_solutions_are_refused(monkeypatch):
    module = type(sys)("tinynet_guarded")
    exec("def f(x): return x\nclass C:\n    def __init__(self, x): self.x = x\ndef g(x): return f(x)", module.__dict__)
    module.C.__module__ = "tinynet_guarded"
    monkeypatch.setitem(sys.modules, "tinynet_guarded", module)
    own_work.guard("tinynet_guarded.f", lambda frame: frame.f_code.co_filename == "<cell>")
    own_work.guard("tinynet_guarded.C", lambda frame: frame.f_code.co_filename == "<cell>")
    own_work.guard("tinynet_guarded.absent", lambda frame: True)
    assert module.g(3) == 3 and module.C(3).x == 3
    for code in ("module.f(3)", "module.C(3)", "list(map(module.f, [3]))"):
        with pytest.raises(NotOwnWork, match="tinynet_guarded"):
            eval(compile(code, "<cell>", "eval"), {"module": module})


def honest(x):
    return np.maximum(x, 0) * math.pi


def by_kernel(x):
    return kernels.relu(x)


def by_borrowed(x):
    return borrowed(x)


def by_helper(x):
    return by_kernel(x)


def by_import(x):
    from tinynet.nn.functional import relu

    return relu(x)


def by_functional(x):
    return F.relu(x)


def closed_over():
    inner = F.relu
    return lambda x: inner(x)


class Mine:
    def forward(self, x):
        return F.relu(x)


class Theirs(nn.ReLU):
    pass


@pytest.mark.parametrize("answer", [by_kernel, by_borrowed, by_helper, by_import, by_functional, closed_over(), Mine,
                                    kernels.relu, F.relu, nn.ReLU, Theirs])  # fmt: skip
def test_in_a_notebook_the_librarys_own_is_refused(answer):
    with pytest.raises(AssertionError, match="own answer"):
        require_own_work(honest, answer)


def test_in_a_notebook_own_work_passes():
    require_own_work(honest)
    require_own_work(by_functional, Mine, Theirs, allowed=("numpy", "tinynet"), refused=("tinynet.kernels",))
    with pytest.raises(AssertionError, match=r"own answer \(tinynet.nn.functional.relu\)"):
        require_own_work(by_functional, allowed=("tinynet",), refused=("tinynet.nn.functional.relu",))
    with pytest.raises(AssertionError, match="own answer"):
        require_own_work(by_kernel, allowed=("tinynet",), refused=("tinynet.kernels",))
    assert tinynet is not None
