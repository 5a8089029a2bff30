"""The page's modules: which imports which."""

import re
from graphlib import CycleError, TopologicalSorter

import pytest

from gloss.explorer.mount import STATIC

SCRIPTS = STATIC / "js"
IMPORTED = re.compile(r"(?:\bfrom |\bimport\(|\bimport |new URL\()\"(\.[^\"]+\.js)\"")


def imports(folder):
    """Every module with those that it names: at once, when needed, as a worker, or for a type."""
    return {
        file.resolve(): {
            (file.parent / name).resolve() for name in IMPORTED.findall(file.read_text("utf-8"))
        }
        for file in folder.rglob("*.js")
    }


def test_no_module_imports_itself_by_way_of_others():
    found = imports(SCRIPTS)
    assert len(found) > 20
    assert all(file.is_file() for named in found.values() for file in named)
    shell, main = SCRIPTS / "shell.js", SCRIPTS / "main.js"
    assert shell in found[main]
    assert {file.stem for file in found[shell]} >= {"read", "runs", "route"}
    assert list(TopologicalSorter(found).static_order())


def test_a_circle_by_way_of_a_lazy_import_is_found(tmp_path):
    (tmp_path / "a.js").write_text('const b = () => import("./b.js");')
    (tmp_path / "b.js").write_text('import { x } from "./c.js";')
    (tmp_path / "c.js").write_text('/** @typedef {import("./a.js").A} A */')
    with pytest.raises(CycleError):
        TopologicalSorter(imports(tmp_path)).prepare()


def test_every_module_is_reached_and_no_two_share_a_name():
    found = imports(SCRIPTS)
    named = set().union(*found.values())
    page = (STATIC / "index.html").read_text("utf-8")
    roots = {SCRIPTS / name for name in re.findall(r'<script [^>]*src="js/([\w.-]+)"', page)}
    assert found.keys() - named == roots
    names = [file.name for file in found]
    assert len(names) == len(set(names))
