"""Breaks the code on purpose, one way at a time; shows that a test notices: ``make mutants-named``.

    for each mutant of mutants.toml:
        copy        = the source tree and the tests as they were at the start, in a temporary folder
        text        = its old text there, which must stand exactly once, replaced by the new
        pytest      = only the tests that concern it, in the copy

A mutant is killed when one of its tests fails. One that cannot be imported, or that breaks a
fixture rather than a test, is
*broken*: it proves nothing and counts as a failure. The tests must pass on the unchanged copy
first."""

from __future__ import annotations

import argparse
import keyword
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".toml")
COPIED = ("src", "tests", "benchmarks", "docs", "configs", "pyproject.toml")
TIMEOUT_S = 600
_OUTCOME = re.compile(r"^(FAILED|ERROR) (.+?)(?: - (.*))?$", re.MULTILINE)
_NO_TEST_OF_BEHAVIOUR = re.compile(
    r"^(ImportError|ModuleNotFoundError|SyntaxError|IndentationError|NameError)\b"
)


@dataclass(frozen=True)
class Mutant:
    """One way to break the code: ``old`` becomes ``new`` in ``file`` (below src/gloss); ``tests``
    (below tests) must notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant; ``detail`` is the test that failed, or what is wrong with the
    mutant.
    """

    mutant: Mutant
    state: str
    detail: str
    seconds: float


def read_mutants(file: Path = LIST) -> list[Mutant]:
    """The mutants of a list, checked for names that come twice."""
    mutants = [
        Mutant(**{**entry, "tests": tuple(entry["tests"])})
        for entry in tomllib.loads(file.read_text())["mutant"]
    ]
    names = [mutant.name for mutant in mutants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SystemExit(f"{file.name}: these names come twice: {', '.join(twice)}")
    return mutants


_TOKEN = re.compile(r"""[rbf]*"(?:\\.|[^"\\])*"|[rbf]*'(?:\\.|[^'\\])*'|\w+|[^\w\s]""")
_NAME = re.compile(r"[^\W\d]\w*$")


def _pattern(old: str, *, renamed: bool) -> re.Pattern[str]:
    """Finds ``old`` however it is wrapped; ``renamed``: whatever its names are now."""
    parts, groups = [], dict[str, int]()
    for token in _TOKEN.findall(old):
        if not renamed or not _NAME.match(token) or keyword.iskeyword(token):
            part = re.escape(token)
        elif token in groups:
            part = f"(?P=n{groups[token]})"
        else:
            groups[token] = len(groups)
            part = rf"(?P<n{groups[token]}>[^\W\d]\w*)"
        edges = (r"\b" if re.match(r"\w", token) else "", r"\b" if re.search(r"\w$", token) else "")
        parts.append(edges[0] + part + edges[1])
    return re.compile(r",?\s*".join(parts))


def _renamings(old: str, match: re.Match[str]) -> dict[str, str]:
    names = dict.fromkeys(t for t in _TOKEN.findall(old) if _NAME.match(t))
    plain = [name for name in names if not keyword.iskeyword(name)]
    return {name: match[f"n{i}"] for i, name in enumerate(plain)} if match.groups() else {}


def find(mutant: Mutant, source: Path) -> tuple[Path, re.Match[str]]:
    """Where a mutant's old text stands: in its file, or moved elsewhere; as it was, or renamed.

    Raises: ValueError unless one of these ways finds it exactly once.
    """
    named = source / mutant.file
    everywhere = sorted(source.rglob("*.py"))
    counts = []
    for renamed in (False, True):
        pattern = _pattern(mutant.old, renamed=renamed)
        for files in ([named] if named.is_file() else [], everywhere):
            found = [(f, m) for f in files for m in pattern.finditer(f.read_text("utf-8"))]
            if len(found) == 1:
                return found[0]
            counts.append(len(found))
    raise ValueError(f"{mutant.file}: the old text stands there {counts} times, never once")


def mutated(mutant: Mutant, source: Path) -> tuple[Path, str]:
    """The file that a mutant changes, below the package's folder ``source``, and its changed text.

    Raises: ValueError unless the old text is found, the new one differs and the result is Python.
    """
    file, match = find(mutant, source)
    if mutant.old == mutant.new:
        raise ValueError("the new text is the old one")
    text, new = file.read_text(encoding="utf-8"), mutant.new.strip()
    for name, now in _renamings(mutant.old, match).items():
        new = re.sub(rf"(?<![\w.]){name}\b", now, new) if name != now else new
    changed = text[: match.start()] + new + text[match.end() :]
    compile(changed, mutant.file, "exec")
    return file, changed


def located(test: str, folder: Path) -> str:
    """A test's id below ``folder``, wherever its file stands now.

    Raises: ValueError if there is no such test, or several in other files.
    """
    name, separator, function = test.partition("::")
    wanted = f"def {function.partition('[')[0]}(" if separator else ""
    named = folder / name
    if named.is_file() and wanted in named.read_text(encoding="utf-8"):
        return test
    if not separator:
        found = list(folder.rglob(Path(name).name))
    else:
        found = [f for f in folder.rglob("test_*.py") if wanted in f.read_text(encoding="utf-8")]
    if len(found) != 1:
        raise ValueError(f"{test}: {len(found)} such tests")
    return f"{found[0].relative_to(folder).as_posix()}{separator}{function}"


@contextmanager
def copied_tree(origin: Path) -> Iterator[Path]:
    """A temporary copy of what the tests need; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="gloss-mutant-") as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        for place in (origin / name for name in COPIED):
            if place.is_dir():
                shutil.copytree(
                    place, tree / place.name, ignore=shutil.ignore_patterns("__pycache__")
                )
            elif place.exists():
                shutil.copy2(place, tree / place.name)
        yield tree


def run_tests(tree: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs tests in a copied tree, whose source comes first on the path."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".hypothesis"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "400",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=no",
        "-rfE",
        "-p",
        "no:cacheprovider",
    ]
    named = [f"tests/{test}" for test in tests]
    where = [sys.executable, "-c", "import gloss; print(gloss.__file__)"]
    imported = subprocess.run(
        where, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if not imported.stdout.startswith(str(tree)):
        raise ValueError(
            "the copy cannot be imported:"
            f" {imported.stderr.strip().splitlines()[-1:]}{imported.stdout}"
        )
    return subprocess.run(
        [*command, *named],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )


def judge(finished: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """State and detail of a mutant from pytest's exit code and summary."""
    if finished.returncode == 0:
        return "SURVIVED", "all its tests pass"
    found = _OUTCOME.search(finished.stdout)
    if finished.returncode != 1 or found is None:
        return "broken", f"pytest ended with {finished.returncode}: {_last_line(finished)}"
    kind, test, reason = found[1], found[2].removeprefix("tests/"), found[3] or ""
    if kind == "ERROR" or _NO_TEST_OF_BEHAVIOUR.match(reason):
        return "broken", f"{test}: {reason}"
    return "killed", test


def _last_line(finished: subprocess.CompletedProcess[str]) -> str:
    lines = (finished.stdout + finished.stderr).strip().splitlines()
    return lines[-1].strip("! ")[:200] if lines else "no output"


def try_mutant(mutant: Mutant, origin: Path) -> Outcome:
    """Breaks a copy of ``origin`` and runs the mutant's tests on it."""
    started = time.monotonic()
    try:
        with copied_tree(origin) as tree:
            source = tree / "src" / "gloss"
            file, changed = mutated(mutant, source)
            file.write_text(changed, encoding="utf-8")
            state, detail = judge(run_tests(tree, mutant.tests))
    except subprocess.TimeoutExpired:
        state, detail = "broken", f"no end after {TIMEOUT_S} s"
    except (ValueError, SyntaxError, OSError) as error:
        state, detail = "broken", str(error)
    outcome = Outcome(mutant, state, detail, time.monotonic() - started)
    print(
        f"{outcome.state:<8} {outcome.seconds:5.1f} s  {mutant.name}: {outcome.detail}",
        file=sys.stderr,
        flush=True,
    )
    return outcome


def check_unchanged(mutants: Sequence[Mutant], tree: Path) -> float:
    """Runs every named test on an unchanged tree and returns the seconds it took; ends the program
    if one fails.
    """
    started = time.monotonic()
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    for mutant in mutants:
        try:
            mutated(mutant, tree / "src" / "gloss")
        except (ValueError, SyntaxError, OSError) as error:
            raise SystemExit(f"mutant {mutant.name!r}: {error}") from error
    finished = run_tests(tree, tests)
    if finished.returncode != 0:
        print(finished.stdout[-3000:], finished.stderr[-1000:], file=sys.stderr)
        raise SystemExit("the tests do not pass without any mutant")
    return time.monotonic() - started


def main() -> int:
    """Runs the mutants asked for and prints a table; 1 if one survives or is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", action="append", default=[], help="only mutants whose name holds this; repeatable"
    )
    parser.add_argument(
        "--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="mutants side by side"
    )
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    arguments = parser.parse_args()
    mutants = [
        m
        for m in read_mutants()
        if not arguments.only or any(part in m.name for part in arguments.only)
    ]
    if arguments.list or not mutants:
        print("\n".join(mutant.name for mutant in mutants) or "no mutant of this name")
        return 0 if mutants else 1
    started = time.monotonic()
    with copied_tree(REPO) as origin, ThreadPoolExecutor(arguments.jobs) as pool:
        seconds = check_unchanged(mutants, origin)
        print(
            f"tests pass unchanged ({seconds:.0f} s); {len(mutants)} mutants follow",
            file=sys.stderr,
            flush=True,
        )
        outcomes = list(pool.map(try_mutant, mutants, repeat(origin)))
    width = max(len(mutant.name) for mutant in mutants)
    for outcome in outcomes:
        print(
            f"{outcome.mutant.name:<{width}}  {outcome.state:<8}  {outcome.seconds:5.1f} s "
            f" {outcome.detail}"
        )
    killed = sum(outcome.state == "killed" for outcome in outcomes)
    print(f"{killed} of {len(outcomes)} mutants killed in {time.monotonic() - started:.0f} s")
    return 0 if killed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
