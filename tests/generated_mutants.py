"""Breaks the code in ways that nobody chose, and shows that a test notices: ``make mutants``.

    lines   = which tests run which line: one run of the tests under coverage, a context per test
    mutants = Cosmic Ray's operators at every place of the measured modules, drawn by a seed, the
              modules in turn, every place once before any place twice
    each    = a fork of a process that has PyTorch loaded imports the changed module and runs the
              tests of the changed line, the quick ones first, until one fails

A mutant is killed when a test fails, the module cannot be imported, or no end comes. Every survivor
stands in generated_mutants.toml with the reason why no test can tell it, or the run fails. Changes
of annotations and of what only type checkers read are left out: they are never run."""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

REPO = Path(__file__).resolve().parents[1]
SOURCE = REPO / "src" / "gloss"
REASONS = Path(__file__).with_suffix(".toml")
MEASURED = (
    "evaluate/*.py",
    "contract/*.py",
    "models/geometry.py",
    "models/injection.py",
    "train/grpo.py",
    "train/rewards.py",
    "data/split.py",
    "nla/results.py",
    "serve/guard.py",
)
TESTS = (
    *(f"tests/unit/{name}" for name in ("evaluate", "contract", "models", "train", "data", "nla")),
    *(f"tests/contract/test_golden_{n}.py" for n in ("numbers", "sidecars", "errors", "common")),
    "tests/serve/test_access.py",
    "tests/unit/test_shape.py",
)
"""The tests that may judge: those of the measured packages and what the golden data says."""
SLOWEST_TEST_S, FIRST_TESTS_S, ALL_TESTS_S, NO_END_S = 5.0, 3.0, 10.0, 100.0
FIRST_TESTS = 60
SMALLEST_SHARE = 0.9


@dataclass(frozen=True)
class Mutant:
    """A module with one place changed: the line of the place before and after."""

    file: str
    line: int
    operator: str
    before: str
    after: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What names it also after lines above it came or went."""
        return self.file, self.before, self.after


def files() -> list[Path]:
    """The measured modules."""
    return sorted(path for pattern in MEASURED for path in SOURCE.glob(pattern))


# ── Which tests run which line ───────────────────────────────────────────────────────────────────


class Recorder:
    """A pytest plugin: which tests passed, and the seconds of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.unfit: set[str] = set()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Adds up set-up, call and teardown; a test that is skipped or fails is no judge."""
        self.seconds[report.nodeid] += report.duration
        if report.outcome != "passed":
            self.unfit.add(report.nodeid)


def measure(work: Path) -> None:
    """Runs the tests once under coverage; writes ``coverage`` and ``seconds.json`` to ``work``."""
    import pytest

    settings, recorder = work / "coveragerc", Recorder()
    included = "\n    ".join(map(str, files()))
    lines = ["[run]", f"data_file = {work / 'coverage'}", f"include =\n    {included}"]
    settings.write_text("\n".join([*lines, "concurrency = thread", ""]))
    command = [
        "-m",
        "not slow and not gpu and not engines and not browser",
        "-p",
        "no:cacheprovider",
    ]
    command += ["--cov", f"--cov-config={settings}", "--cov-context=test", "--cov-report="]
    pytest.main([*command, "--tb=line", *TESTS], plugins=[recorder])
    fit = {t: s for t, s in recorder.seconds.items() if t not in recorder.unfit}
    (work / "seconds.json").write_text(json.dumps(fit))
    print(f"{len(fit)} tests pass unchanged, {len(recorder.unfit)} are left out", file=sys.stderr)


class Covering:
    """Tests by line: those of the module's own folder first, then the quick ones."""

    def __init__(self, work: Path) -> None:
        from coverage import CoverageData

        self._seconds = json.loads((work / "seconds.json").read_text())
        data = CoverageData(basename=str(work / "coverage"))
        data.read()
        self._lines: dict[str, Mapping[int, list[str]]] = {}
        for measured in data.measured_files():
            file = measured.partition("src/gloss/")[2]
            self._lines[file] = data.contexts_by_lineno(measured)

    def tests(self, mutant: Mutant) -> list[list[str]]:
        """Tests that run the mutant's statement, a few first; of one run at import alone, the tests
        of its package."""
        lines, near = self._lines.get(mutant.file, {}), f"/{Path(mutant.file).parent.as_posix()}/"
        wanted = statement_lines((SOURCE / mutant.file).read_text("utf-8"), mutant.line)
        found = self._named(context for line in wanted for context in lines.get(line, ()))
        at_import = not found
        if at_import:
            found = self._named(context for each in lines.values() for context in each)
            found |= {test for test in self._seconds if test.startswith(_OF_SHAPE) or near in test}
        ordered = sorted(found, key=lambda test: (*_rank(test, near), self._seconds[test], test))
        groups: list[list[str]] = [[], []]
        spent = 0.0
        for test in ordered:
            spent += self._seconds[test]
            if spent > (2 if at_import else 1) * ALL_TESTS_S and groups[0]:
                break
            groups[spent > FIRST_TESTS_S or len(groups[0]) >= FIRST_TESTS].append(test)
        return [group for group in groups if group]

    def _named(self, contexts: Iterator[str]) -> set[str]:
        tests = {context.rpartition("|")[0] for context in contexts}
        return {test for test in tests if self._seconds.get(test, 1e9) <= SLOWEST_TEST_S}


_OF_SHAPE = "tests/unit/test_shape.py"


def _rank(test: str, near: str) -> tuple[bool, bool]:
    """Where a test stands in the order: a package's own first, of the shape before all."""
    return not test.startswith(_OF_SHAPE), near not in test


# ── Drawing mutants ──────────────────────────────────────────────────────────────────────────────


@cache
def _tree(source: str) -> ast.Module:
    return ast.parse(source)


def statement_lines(source: str, line: int) -> range:
    """Lines of the smallest statement around a line; of one with a body, only its head."""
    best = range(line, line + 1)
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
            body = getattr(node, "body", None)
            end = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or line
            if line <= end:
                best = range(node.lineno, end + 1)
    return best


def never_run(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Places of annotations and of imports for type checkers."""
    nodes: list[ast.AST] = []
    for node in ast.walk(_tree(source)):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            nodes.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            nodes.append(node.returns)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes.append(node)
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Place:
    """Where an operator can change a module: its nth place there."""

    path: Path
    start: tuple[int, int]
    operator: str
    occurrence: int

    def mutant(self) -> Mutant | None:
        """The module with this place changed; None if the operator changes nothing."""
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.operators.provider import OperatorProvider

        source = self.path.read_text("utf-8")
        changed = mutate_code(source, OperatorProvider()[self.operator](), self.occurrence)
        if changed is None or changed == source:
            return None
        pair = _lines_that_differ(source, changed)
        file = self.path.relative_to(SOURCE).as_posix()
        return Mutant(file, self.start[0], self.operator, *pair, changed)


def places(path: Path) -> dict[tuple[int, int], list[Place]]:
    """Everything that an operator can change in a module, by where it begins."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.operators.provider import OperatorProvider

    source, provider = path.read_text("utf-8"), OperatorProvider()
    left_out, found = never_run(source), defaultdict(list)
    nodes = list(ast_nodes(get_ast(source)))
    for name in sorted(provider):
        if name.startswith("Variable"):  # they ask for names as arguments
            continue
        operator = provider[name]()
        positions = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(positions):
            if not any(first <= start < last for first, last in left_out):
                found[start].append(Place(path, start, name, occurrence))
    return dict(found)


def _lines_that_differ(old: str, new: str) -> tuple[str, str]:
    before, after = old.splitlines(), new.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return " ".join(map(str.strip, before)), " ".join(map(str.strip, after))


def draw(count: int, seed: int) -> list[Mutant]:
    """``count`` mutants: the modules in turn; in each every place once before any twice."""
    queues = []
    for path in files():
        rng = random.Random(f"{seed} {path.relative_to(SOURCE).as_posix()}")
        at = [rng.sample(each, len(each)) for _, each in sorted(places(path).items())]
        rounds: list[Place] = []
        for turn in range(max(map(len, at), default=0)):
            of_turn = [each[turn] for each in at if turn < len(each)]
            rounds += rng.sample(of_turn, len(of_turn))
        queues.append(filter(None, (place.mutant() for place in rounds)))
    drawn: dict[tuple[str, str, str], Mutant] = {}
    while queues and len(drawn) < count:
        for queue in list(queues):
            mutant = next((each for each in queue if each.key not in drawn), None)
            if mutant is None:
                queues.remove(queue)
            elif len(drawn) < count:
                drawn[mutant.key] = mutant
    return list(drawn.values())


# ── Running them ─────────────────────────────────────────────────────────────────────────────────


class Changed(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports one module of Gloss from a mutant's text."""

    def __init__(self, mutant: Mutant) -> None:
        path = SOURCE / mutant.file
        parts = ("gloss", *path.relative_to(SOURCE).with_suffix("").parts)
        super().__init__(".".join(p for p in parts if p != "__init__"), str(path))
        self._mutant, self._package = mutant, path.name == "__init__.py"

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """The changed module's spec; None for every other name."""
        if fullname != self.name:
            return None
        options: Any = {"submodule_search_locations": [str(Path(self.path).parent)]}
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=self, **(options if self._package else {})
        )

    def get_code(self, fullname: str) -> CodeType:
        """The mutant, compiled."""
        return compile(self._mutant.source, self.path, "exec")


def warm() -> None:
    """Loads what every test loads, but nothing of Gloss, so that each fork begins with it."""
    third = "torch transformers pyarrow.parquet pyarrow.compute pytest _pytest.assertion hypothesis"
    third += " pydantic fastapi starlette.testclient rich jinja2 anyio httpx2 schemathesis xdist"
    third += " sklearn.linear_model safetensors.torch typer prometheus_client"
    for name in third.split():
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    for module in ("qwen2", "llama", "gemma3"):
        importlib.import_module(f"transformers.models.{module}.modeling_{module}")
    assert not any(name.partition(".")[0] == "gloss" for name in sys.modules)


class Only:
    """A pytest plugin: of the files named, only these tests, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._place = {test: i for i, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leaves the others out."""
        kept = [item for item in items if item.nodeid in self._place]
        items[:] = sorted(kept, key=lambda item: self._place[item.nodeid])


def start(mutant: Mutant, groups: Sequence[Sequence[str]], folder: Path) -> int:
    """Forks a process that runs the tests against the mutant, group by group; its id."""
    if pid := os.fork():
        return pid
    status = 99
    try:
        os.setsid()
        folder.mkdir(parents=True)
        out = os.open(folder / "out", os.O_WRONLY | os.O_CREAT)
        for stream in (1, 2):
            os.dup2(out, stream)
        os.closerange(out, 64)
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
        sys.meta_path.insert(0, Changed(mutant))
        import pytest

        options = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider", "-p", "no:cov"]
        for group in groups:
            named = list(dict.fromkeys(test.partition("::")[0] for test in group))
            command = [*options, f"--basetemp={folder / 'tmp'}", *named]
            if status := int(pytest.main(command, plugins=[Only(group)])):
                break
    finally:
        sys.stdout.flush()
        os._exit(status)


def run(mutants: Sequence[Mutant], covering: Covering, jobs: int) -> dict[Mutant, str]:
    """What became of every mutant: killed, killed at import, no end, survived or not covered."""
    outcomes: dict[Mutant, str] = {}
    waiting, running = list(reversed(mutants)), dict[int, tuple[Mutant, float, Path]]()
    work = Path(tempfile.mkdtemp(prefix="gloss-mutants-"))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                mutant, folder = waiting.pop(), work / str(len(waiting))
                if groups := covering.tests(mutant):
                    running[start(mutant, groups, folder)] = (mutant, time.monotonic(), folder)
                else:
                    outcomes[mutant] = "not covered"
            time.sleep(0.02)
            for pid, (mutant, started, folder) in list(running.items()):
                late = time.monotonic() - started > NO_END_S
                if late:
                    os.killpg(pid, signal.SIGKILL)
                ended, status = os.waitpid(pid, 0 if late else os.WNOHANG)
                if ended:
                    del running[pid]
                    outcomes[mutant] = _outcome(os.waitstatus_to_exitcode(status), late)
                    _tell(mutant, outcomes[mutant], time.monotonic() - started)
                    shutil.rmtree(folder, ignore_errors=True)
    finally:
        for pid in running:
            os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(work, ignore_errors=True)
    return outcomes


def _outcome(code: int, late: bool) -> str:
    if late:
        return "no end"
    return {0: "SURVIVED", 1: "killed"}.get(code, "killed at import")


def _tell(mutant: Mutant, outcome: str, seconds: float) -> None:
    print(
        f"{outcome:<16} {seconds:5.1f} s  {mutant.file}:{mutant.line} {mutant.operator}\n"
        f"        - {mutant.before}\n        + {mutant.after}",
        flush=True,
    )


def reasons(file: Path = REASONS) -> dict[tuple[str, str, str], str]:
    """Why no test can tell a survivor, by the mutant's key."""
    entries = tomllib.loads(file.read_text("utf-8")).get("survivor", [])
    return {(e["file"], e["before"], e["after"]): e["reason"] for e in entries}


def summary(outcomes: Mapping[Mutant, str]) -> int:
    """Prints what became of them; 1 if too few are killed or a survivor has no reason."""
    known, counts = reasons(), Counter(outcomes.values())
    alive = [m for m, outcome in outcomes.items() if outcome in ("SURVIVED", "not covered")]
    unexplained = [m for m in alive if m.key not in known]
    for mutant in alive:
        print(
            f"{outcomes[mutant]} {mutant.file}:{mutant.line}  {known.get(mutant.key, 'NO REASON')}"
        )
    share = 1 - len(alive) / len(outcomes)
    print(", ".join(f"{count} {name}" for name, count in counts.most_common()))
    print(f"{share:.1%} of {len(outcomes)} killed; {len(unexplained)} survivors without a reason")
    return int(bool(unexplained) or share < SMALLEST_SHARE)


def main() -> int:
    """Measures coverage unless it is at hand, draws, runs, and judges."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=400, help="mutants drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--jobs", type=int, default=2, help="mutants side by side")
    parser.add_argument("--only", default="", help="only mutants whose file or line holds this")
    parser.add_argument("--work", type=Path, help="folder of the coverage; measured if it is empty")
    parser.add_argument("--list", action="store_true", help="print the drawn mutants and stop")
    parser.add_argument("--operators", type=Path, help="folder with Cosmic Ray, searched last")
    arguments = parser.parse_args()
    if arguments.operators is not None:
        sys.path.append(str(arguments.operators.resolve()))
    os.chdir(REPO)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    os.environ["PYTEST_XDIST_WORKER"] = "gw0"  # as beside other workers: one thread each
    mutants = draw(arguments.count, arguments.seed)
    mutants = [m for m in mutants if arguments.only in f"{m.file}:{m.line} {m.before}"]
    if arguments.list:
        print("\n".join(f"{m.file}:{m.line}\n  - {m.before}\n  + {m.after}" for m in mutants))
        return 0
    work = arguments.work or Path(tempfile.mkdtemp(prefix="gloss-coverage-"))
    if not (work / "seconds.json").is_file():
        work.mkdir(parents=True, exist_ok=True)
        if not (pid := os.fork()):
            measure(work)
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
    warm()
    print(f"{len(mutants)} mutants, {arguments.jobs} side by side", file=sys.stderr, flush=True)
    return summary(run(mutants, Covering(work), arguments.jobs))


if __name__ == "__main__":
    sys.exit(main())
