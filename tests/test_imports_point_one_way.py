"""training -> sdk, export -> training and sdk, benchmarks -> sdk; the sdk stands alone.

The folder tree is the architecture: an import against these arrows fails here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "fer_sdk": ROOT / "sdk" / "fer_sdk",
    "fer_training": ROOT / "training" / "fer_training",
    "fer_export": ROOT / "export" / "fer_export",
    "fer_bench": ROOT / "benchmarks" / "fer_bench",
}
ALLOWED = {
    "fer_sdk": {"fer_sdk"},
    "fer_training": {"fer_sdk", "fer_training"},
    "fer_export": {"fer_sdk", "fer_training", "fer_export"},
    "fer_bench": {"fer_sdk", "fer_bench"},
}
TORCH = {"torch", "torchvision", "lightning", "torchmetrics", "timm"}
NOT_IN_THE_SDK = TORCH | {"onnx", "onnxscript", "sklearn", "scipy"}
ONE_HOME = {
    "PIL": "image/pillow.py",
    "onnxruntime": "models/session.py",
    "mediapipe": "detectors/mediapipe.py",
    "pandas": "output/interop.py",
    "matplotlib": "output/chart.py",
}


def _files(package: str) -> list[Path]:
    return sorted(PACKAGES[package].rglob("*.py"))


def _imports(file: Path, *, at_start_only: bool = False) -> Iterator[str]:
    """Every module that a file imports, also inside of functions and under TYPE_CHECKING."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = _run_at_import(tree) if at_start_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            assert node.module is not None
            yield node.module
        elif isinstance(node, ast.Call) and _name(node.func) in {"import_module", "__import__"}:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and _name(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _run_at_import(child)


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _roots(file: Path, **how: bool) -> set[str]:
    return {module.partition(".")[0] for module in _imports(file, **how)}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_goes_against_the_arrows(package: str) -> None:
    files = _files(package)
    assert files
    for file in files:
        ours = _roots(file) & PACKAGES.keys()
        assert ours <= ALLOWED[package], f"{file} imports {ours - ALLOWED[package]}"


def test_the_sdk_never_imports_what_it_does_not_depend_on() -> None:
    for file in _files("fer_sdk"):
        heavy = _roots(file) & NOT_IN_THE_SDK
        assert not heavy, f"{file} imports {heavy}"


def test_benchmarks_load_torch_only_where_they_compare_with_it() -> None:
    for file in _files("fer_bench"):
        heavy = _roots(file, at_start_only=True) & TORCH
        assert not heavy, f"{file} imports {heavy} when it is loaded"


@pytest.mark.parametrize(("module", "home"), ONE_HOME.items())
def test_what_is_heavy_is_imported_in_one_place(module: str, home: str) -> None:
    found = {
        file.relative_to(PACKAGES["fer_sdk"]).as_posix()
        for file in _files("fer_sdk")
        if module in _roots(file)
    }
    assert found == {home}


def test_this_test_sees_imports(tmp_path: Path) -> None:
    file = tmp_path / "odd.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nimport a.b\nif TYPE_CHECKING:\n    import c\n"
        "def f():\n    from d.e import g\n    import_module('h.i')\n"
        "class K:\n    import j\n"
    )
    assert _roots(file) == {"typing", "a", "c", "d", "h", "j"}
    assert _roots(file, at_start_only=True) == {"typing", "a", "j"}
    file.write_text("from . import sibling\n")
    with pytest.raises(AssertionError, match="a relative import"):
        _roots(file)
