"""Fuzzes every reader of files and every other way in (``fuzz_boundaries.py``): damaged input is
read or refused with a GlossError of one line, nothing else.

    case i = a reader, one of its good inputs, and mutations, all drawn from (seed, i); or a door
Cases run in a child process with limits on memory and time, so that a crash of a native library is
a finding too. A finding is saved with its case number; ``python tests/fuzz_readers.py --seed S
--case I`` runs that case alone. Not a test by itself: ``make fuzz`` runs it for FUZZ_SECONDS, a
unit test runs its first cases."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_boundaries import Door, doors

GOLDEN = Path(__file__).resolve().parents[1].parent / "shared" / "golden"
MEMORY_BYTES, CASE_SECONDS = 12 * 2**30, 20
EXECUTED = "executed-by-a-reader"
PRESETS = Path(__file__).resolve().parents[1] / "src" / "gloss" / "pipeline" / "presets"
SNIPPETS = [
    b"!!python/object/apply:os.system ['touch " + EXECUTED.encode() + b"']",
    b"!!python/name:os.system",
    b"!!int ''",
    b"!!timestamp x",
    b"!!binary \xff",
    b"&a [*a, *a]",
    b"<<: *a\n",
    b"*nowhere",
    b"0x" + b"f" * 5000,
    b"9" * 5000,
    b"1e999",
    b".nan",
    b"-.inf",
    b"~",
    b"[" * 2000,
    b"{" * 500,
    b'"\\ud800"',
    b"\xff\xfe",
    b"\0",
    b"\r\n---\n",
    b"\t",
    b"0001-01-01T00:00:00+14:00",
    b"1:1:1:1",
    b"? [a]\n: b\n",
    b"-0",
    b"{{",
    b"}",
    b"../../x",
    b"\xef\xbb\xbf",
    b"%YAML 9",
]
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**70,
    10**300,
    0.0,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "0",
    "a\0b",
    "{",
    "{{x}}",
    "{explanation}",
    "{injection_char}",
    "㊗",
    "raw",
    "sqrt_d_model",
    [],
    [[]],
    {},
    {"a": {"b": []}},
    [None],
    ["x", 1],
    "x" * 100_000,
    "../../../etc/passwd",
    "\x85",
    "owner/kernel",
]


@dataclass(frozen=True)
class Reader:
    """A reader with good inputs: file name → bytes; ``mutated`` are the files to damage, ``weight``
    how often to draw it.
    """

    name: str
    inputs: Sequence[dict[str, bytes]]
    mutated: Sequence[str]
    read: Callable[[Path], Any]
    weight: int = 8
    intact: Callable[[Any], bool] | None = None


@cache
def readers() -> list[Reader]:
    """Every reader with its good inputs, made on the spot and taken from the golden data where that
    is present.
    """
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    from gloss.contract import read_dataset_sidecar, read_model_sidecar
    from gloss.data import iter_activations, read_activations, read_corpus, vectors_as_array
    from gloss.models import load_ar
    from gloss.models.saving import read_head
    from gloss.pipeline.run_config import read_config
    from gloss.store.activations import read_schema

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, plain, table = _parquet_files(folder)
        av, ar, dataset, checkpoint = _sidecars_and_checkpoint(folder)
    sealed = [{"a.parquet": ours}]
    parquet = [
        {"a.parquet": plain},
        *({"a.parquet": data} for data in _golden("*/datagen/**/*.parquet")),
    ]
    models = [
        {"nla_meta.yaml": data}
        for data in (av, ar, *_golden("*/a[vr]/nla_meta.yaml", "*/errors/sidecars/*.yaml"))
    ]
    datasets = [
        {"a.parquet.nla_meta.yaml": d}
        for d in (dataset, *_golden("*/datagen/**/*.parquet.nla_meta.yaml"))
    ]

    presets = [{"c.toml": path.read_bytes()} for path in sorted(PRESETS.glob("*.toml"))]

    def corpus(name: str) -> Callable[[Path], Any]:
        return lambda path: [document.doc_id for document in read_corpus(str(path / name))]

    def rows(path: Path) -> Any:
        found = read_activations(path / "a.parquet")
        vectors_as_array(found, where=path)
        return found.to_pylist()

    lines = (
        b'{"text": "one", "id": 7}\n{"messages": [{"role": "user", "content": "hi"}]}\n{"text":'
        b' "\\u00e9"}\n'
    )
    a, p = ["a.parquet"], "a.parquet"
    return [
        Reader("model sidecar", models, ["nla_meta.yaml"], read_model_sidecar, 30),
        Reader(
            "dataset sidecar",
            datasets,
            [f"{p}.nla_meta.yaml"],
            lambda path: read_dataset_sidecar(path / p),
            20,
        ),
        Reader(
            "sealed Parquet",
            sealed,
            a,
            lambda path: read_activations(path / p),
            20,
            lambda t: t.equals(table),
        ),
        Reader("Parquet", parquet, a, rows, 20),
        Reader(
            "Parquet in batches",
            parquet,
            a,
            lambda path: [t.to_pylist() for t in iter_activations(path / p)],
            10,
        ),
        Reader("Parquet schema", parquet, a, lambda path: read_schema(path)),
        Reader("Parquet corpus", parquet[:1], a, corpus(p)),
        Reader("JSON lines", [{"c.jsonl": lines}], ["c.jsonl"], corpus("c.jsonl"), 12),
        Reader("text corpus", [{"c.txt": "ä b\n\nzwei\n".encode()}], ["c.txt"], corpus("c.txt"), 6),
        Reader("config", presets, ["c.toml"], lambda path: read_config(path / "c.toml"), 10),
        Reader(
            "AR head",
            [checkpoint],
            ["value_head.safetensors"],
            lambda p: read_head(p / "value_head.safetensors", 16),
        ),
        Reader(
            "AR",
            [checkpoint],
            [
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "nla_meta.yaml",
                "model.safetensors",
                "value_head.safetensors",
            ],
            load_ar,
            4,
        ),
    ]


def _golden(*patterns: str) -> list[bytes]:
    return [path.read_bytes() for pattern in patterns for path in sorted(GOLDEN.glob(pattern))]


def _parquet_files(folder: Path) -> tuple[bytes, bytes, Any]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gloss.data import ActivationWriter, activation_schema
    from gloss.store.activations import vector_column

    n = 20
    columns = {
        "n_raw_tokens": range(1, n + 1),
        "detokenized_text_truncated": [f"text {i} é" for i in range(n)],
        "activation_vector": vector_column(
            np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
        ),
        "activation_layer": [2] * n,
        "doc_id": [f"doc {i // 3}" for i in range(n)],
        "position": range(n),
        "token_id": range(n),
        "token": ["t"] * n,
    }
    table = pa.table(
        {k: list(v) if isinstance(v, range) else v for k, v in columns.items()},
        schema=activation_schema(4),
    )
    with ActivationWriter(folder / "a.parquet", activation_schema(4)) as writer:
        writer.write(table)
    text = pa.array(columns["detokenized_text_truncated"])
    pq.write_table(table.append_column("text", text), folder / "b.parquet", row_group_size=7)
    return (folder / "a.parquet").read_bytes(), (folder / "b.parquet").read_bytes(), table


def _sidecars_and_checkpoint(folder: Path) -> tuple[bytes, bytes, bytes, dict[str, bytes]]:
    import dataclasses

    from tiny_models import random_model
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from gloss.contract import (
        DatasetSidecar,
        InjectionMarker,
        ModelSidecar,
        write_dataset_sidecar,
        write_model_sidecar,
    )
    from gloss.models import ActivationReconstructor, save_ar

    vocabulary = {token: i for i, token in enumerate(["<unk>", "</s>", *map(chr, range(32, 127))])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>"
    )
    ar = ModelSidecar(
        role="ar",
        d_model=16,
        layer=0,
        injection_scale=None,
        mse_scale=4.0,
        marker=None,
        ar_suffix_ids=None,
        av_template=None,
        ar_template="<{explanation}> end",
        created_at="2026-01-02",
    )
    av = dataclasses.replace(
        ar,
        role="av",
        injection_scale=3.0,
        marker=InjectionMarker("㈎", 5, 6, 7),
        av_template="<{injection_char}>",
    )
    model = random_model(vocab_size=128, num_blocks=1, d_model=16)
    save_ar(ActivationReconstructor.from_target(model, 0, tokenizer, ar), folder / "ar")
    dataset = DatasetSidecar(
        dataset_id="d",
        stage="base",
        row_count=3,
        base_model="m",
        d_model=8,
        layer=1,
        marker=av.marker,
        corpus_slice={"start": 0},
        norm_statistics={"mean": 3.5},
        av_template=av.av_template,
        parent_datasets=("e",),
    )
    sidecars = (
        write_model_sidecar(av, folder),
        write_dataset_sidecar(dataset, folder / "d.parquet"),
    )
    files = {path.name: path.read_bytes() for path in (folder / "ar").iterdir() if path.is_file()}
    return sidecars[0].read_bytes(), files["nla_meta.yaml"], sidecars[1].read_bytes(), files


def damaged(data: bytes, name: str, rng: random.Random) -> bytes:
    """The bytes with one to four mutations: of single bytes, of ranges, of text snippets, or of
    values in its structure.
    """
    structured = {
        ".yaml": _damaged_yaml,
        ".json": _damaged_json,
        ".jsonl": _damaged_json_lines,
    }.get(Path(name).suffix)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        change = structured if structured is not None and rng.random() < 0.6 else _damaged_bytes
        data = change(data, rng)
    return data


def _damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    tail = rng.random() < 0.4  # where formats keep their table of contents
    at = rng.randrange(max(0, len(data) - 2000) if tail else 0, len(data) + 1)
    length = rng.choice([1, 1, 2, 4, 8, 64, 1000])
    kind = rng.randrange(8)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + length :]
    if kind == 2:
        return data[:at] + rng.randbytes(length) + data[at:]
    if kind == 3:
        return data[:at] + rng.choice(SNIPPETS) + data[at + (length if rng.random() < 0.5 else 0) :]
    if kind == 4:
        return data[:at] + data[at : at + length] * rng.choice([2, 3, 50]) + data[at + length :]
    if kind == 5:
        extreme = rng.choice([b"\xff", b"\x00", b"\x7f", b"\x80"]) * length
        return data[:at] + extreme + data[at + length :]
    changed = bytearray(data)
    for i in range(at, min(len(changed), at + (1 if kind == 6 else length))):
        changed[i] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _damaged_yaml(data: bytes, rng: random.Random) -> bytes:
    import yaml

    try:
        values = yaml.safe_load(data)
        return yaml.safe_dump(_damaged_value(values, rng), sort_keys=False).encode()
    except Exception:  # no longer YAML after an earlier mutation
        return _damaged_bytes(data, rng)


def _damaged_json(data: bytes, rng: random.Random) -> bytes:
    try:
        return json.dumps(_damaged_value(json.loads(data), rng)).encode()
    except (ValueError, RecursionError):
        return _damaged_bytes(data, rng)


def _damaged_json_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    lines[at] = _damaged_json(lines[at], rng)
    return b"\n".join(lines)


def _damaged_value(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.15:
            return {
                **value,
                rng.choice(["x", 5, None, key + "s" if isinstance(key, str) else "y"]): value[key],
            }
        return {**value, key: _damaged_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.6:
        at = rng.randrange(len(value))
        return [*value[:at], _damaged_value(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


@dataclass
class Finding:
    """A case that ended otherwise than it may."""

    case: int
    reader: str
    what: str


def run_case(
    seed: int, case: int, folder: Path, all_readers: Sequence[Reader | Door] | None = None
) -> tuple[str, str, str]:
    """Runs one case in ``folder``: (reader, ``fine`` or the GlossError's name or ``other``,
    details).
    """
    from gloss.errors import GlossError

    rng = random.Random(f"{seed}:{case}")
    chosen = all_readers or [*readers(), *doors()]
    reader = rng.choices(chosen, [r.weight for r in chosen])[0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        if isinstance(reader, Door):
            reader.knock(folder, rng)
        elif not _read_as_it_was(reader, folder, rng):
            return reader.name, "other", "changed data were read without an error"
        return reader.name, "fine", ""
    except GlossError as error:
        line = str(error)
        return (
            reader.name,
            "other" if "\n" in line or len(line) > 5000 else type(error).__name__,
            line,
        )
    except Exception:
        return reader.name, "other", traceback.format_exc()


def _read_as_it_was(reader: Reader, folder: Path, rng: random.Random) -> bool:
    """Reads damaged files; False if what was read is not what was written."""
    name = rng.choice(reader.mutated)
    for file, data in rng.choice(reader.inputs).items():
        (folder / file).write_bytes(damaged(data, file, rng) if file == name else data)
    result = reader.read(folder / name if reader.name == "Parquet schema" else folder)
    return reader.intact is None or reader.intact(result)


def _worker(seed: int, first: int, until: float, folder: str, current: Any, results: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

    def too_slow(_signal: int, _frame: Any) -> None:
        raise BaseException(f"more than {CASE_SECONDS} s")

    signal.signal(signal.SIGALRM, too_slow)
    all_readers, case = [*readers(), *doors()], first
    while time.time() < until:
        current.value = case
        signal.alarm(CASE_SECONDS)
        try:
            result = run_case(seed, case, Path(folder) / "case", all_readers)
        except BaseException:
            result = ("?", "other", traceback.format_exc())
        signal.alarm(0)
        results.put((case, *result))
        if result[1] == "other":
            _keep(Path(folder), seed, case)
        case += 1
    results.put(None)
    results.close()
    results.join_thread()


def _keep(folder: Path, seed: int, case: int) -> None:
    """Copies the inputs of a finding, but for pipes, which have no content."""

    def pipes(inside: str, names: list[str]) -> list[str]:
        return [name for name in names if (Path(inside) / name).is_fifo()]

    kept = folder / f"finding-{seed}-{case}"
    shutil.copytree(folder / "case", kept, symlinks=True, ignore=pipes, dirs_exist_ok=True)


def fuzz(seed: int, seconds: float, folder: Path) -> tuple[Counter[tuple[str, str]], list[Finding]]:
    """Runs cases for so long: how often each (reader, outcome) came, and the findings, whose inputs
    stay in ``folder``.
    """
    import queue

    context = multiprocessing.get_context("spawn")
    counts: Counter[tuple[str, str]] = Counter()
    findings: list[Finding] = []
    until, first, finished = time.time() + seconds, 0, False
    while not finished and time.time() < until:
        current, results = context.Value("q", first), context.Queue()
        child = context.Process(
            target=_worker, args=(seed, first, until, str(folder), current, results)
        )
        child.start()
        heard = time.time()
        while True:
            try:
                message = results.get(timeout=1)
            except queue.Empty:
                if child.is_alive() and time.time() - heard < 6 * CASE_SECONDS:
                    continue
                break
            if message is None:
                finished = True
                break
            heard = time.time()
            case, reader, outcome, details = message
            counts[reader, outcome] += 1
            if outcome == "other":
                findings.append(Finding(case, reader, details))
        if not finished:
            child.kill()
        child.join()
        if not finished:
            case = current.value
            findings.append(
                Finding(case, "?", f"the process ended with {child.exitcode} or stopped answering")
            )
            if not (folder / "case").exists():
                raise RuntimeError("the fuzzer itself could not start")
            _keep(folder, seed, case)
            first = case + 1
    return counts, findings


def main() -> int:
    """Runs the fuzzer and prints what came out; 1 if anything but GlossErrors did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="run this case alone")
    parser.add_argument(
        "--out", type=Path, default=Path("fuzz-findings"), help="where inputs of findings are kept"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.case is not None:
        print(*run_case(options.seed, options.case, options.out / "case"), sep="\n")
        return 0
    started = time.time()
    counts, findings = fuzz(options.seed, options.seconds, options.out)
    for (reader, outcome), number in sorted(counts.items()):
        print(f"{number:8d}  {reader}: {outcome}")
    for finding in findings:
        print(f"\nfinding {options.seed}:{finding.case} {finding.reader}\n{finding.what}")
    fine = sum(number for (_, outcome), number in counts.items() if outcome == "fine")
    refused = (
        counts.total()
        - fine
        - sum(number for (_, outcome), number in counts.items() if outcome == "other")
    )
    seconds = time.time() - started
    print(
        f"{counts.total()} cases in {seconds:.0f} s: {fine} read, {refused} GlossErrors,"
        f" {len(findings)} others"
    )
    return 1 if findings or Path(EXECUTED).exists() else 0


if __name__ == "__main__":
    sys.exit(main())
