"""Fuzzes the types at the boundary: names, encodings, scalars, settings, messages, command lines.

A door is a way into Gloss; knocking at it with what a careless caller, another library or another
system hands over is answered, or refused with a GlossError of one line. ``fuzz_readers.py`` runs
the doors among its readers; the bytes of files are damaged there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
TEXT = "The gulls rest while it rains."
LINE_CHARS = 5000


@dataclass(frozen=True)
class Door:
    """A way in: ``knock`` draws what it hands over; ``weight`` is how often to draw the door."""

    name: str
    knock: Callable[[Path, random.Random], Any]
    weight: int = 20


def doors() -> list[Door]:
    """Every way in."""
    return [
        Door("positions", _positions),
        Door("selection and sampling", _selection, 20),
        Door("question", _question, 15),
        Door("messages", _messages, 20),
        Door("settings", _settings, 12),
        Door("output places", _places),
        Door("JSON values", _json_values),
        Door("cache document", _cache_document, 12),
        Door("run folder", _run_folder, 10),
        Door("command line", _command_line, 40),
    ]


STRINGS = [
    "",
    " ",
    "a",
    "text",
    "1",
    "-1",
    "3,7-9",
    "all",
    "0-2",
    "every:2",
    "regex:[",
    "regex:(a+)+$",
    "nan",
    "inf",
    "1e9",
    "²",
    "９",
    "9" * 30,
    "9" * 5000,
    "x" * 3000,
    "caf\udce9",
    "half \ud83d",
    "\ud83d\ude00",
    "→ 😀 \u202e",
    "\x1b[2J",
    "a\0b",
    "\ufeff",
    "\n",
    "<INJECT>",
    "{explanation}",
    "<|im_end|>",
    "../..",
    "=>",
    "a=>b",
    "a=b",
]


def odd_value(rng: random.Random, depth: int = 0) -> Any:
    """A value of any type that a caller may hand over."""
    import numpy as np
    import torch

    simple: list[Callable[[], Any]] = [
        lambda: rng.choice(STRINGS),
        lambda: rng.choice([0, 1, -1, 2, 3, 7, 2**31, 2**63, 2**70, -(2**70), 10**400]),
        lambda: rng.choice([0.0, -0.0, 0.5, 1.0, 1e-40, 1e300, float("nan"), float("inf")]),
        lambda: rng.choice([None, True, False, NotImplemented, Ellipsis, object(), Path("x"), int]),
        lambda: rng.choice([b"", b"caf\xe9", bytearray(b"1"), memoryview(b"12"), 1j]),
        lambda: rng.choice([np.int64(2), np.uint8(3), np.float32(1.5), np.bool_(True)]),
        lambda: rng.choice([np.datetime64("2026-01-01"), np.str_("1"), np.float16("inf")]),
        lambda: np.array(rng.choice([[1, 2], [1.5], [], [[1, 2]], ["a"], 3, [True]])),
        lambda: torch.tensor(rng.choice([[1, 2], [1.5], [], [[1]], 3, -1.0, True])),
        lambda: rng.choice([torch.Size([1, 2]), torch.float16, torch.zeros(2, 0)]),
        lambda: rng.choice([range(3), slice(1, 4), slice(None, None, 0), slice("a"), range(0)]),
    ]
    if depth < 3 and rng.random() < 0.3:
        items = [odd_value(rng, depth + 1) for _ in range(rng.randrange(3))]
        keyed = {str(i): item for i, item in enumerate(items)}
        kinds = [lambda: items, lambda: tuple(items), lambda: iter(items), lambda: keyed]
        return rng.choice(kinds)()
    return rng.choice(simple)()


def _positions(_folder: Path, rng: random.Random) -> None:
    from gloss.nla import parse_positions

    found = parse_positions(odd_value(rng), rng.choice([1, 5, 1000]))
    assert all(type(one) is int for one in found)


def _options(names: Sequence[str], rng: random.Random) -> dict[str, Any]:
    return {
        name: odd_value(rng) for name in rng.sample(names, min(len(names), rng.randrange(1, 4)))
    }


def _selection(_folder: Path, rng: random.Random) -> None:
    from gloss.nla import Sampling, Selection

    if rng.random() < 0.5:
        names = ["positions", "tokens", "max_activations", "pool", "minus_position"]
        Selection(**_options(names, rng))
    else:
        names = ["samples", "best_of", "temperature", "max_new_tokens", "seed", "score", "prompt"]
        Sampling(**_options(names, rng))


@cache
def _nla() -> Any:
    import tempfile

    from tiny_nla import write_nla

    import gloss
    from gloss.lab.tokenizer import build_tokenizer

    folder = Path(tempfile.mkdtemp(prefix="fuzzed-nla-"))
    return gloss.load(write_nla(folder, build_tokenizer())), folder


def _question(_folder: Path, rng: random.Random) -> None:
    nla, _ = _nla()
    text = TEXT if rng.random() < 0.7 else odd_value(rng)
    asked: dict[str, Sequence[str]] = {
        "explain": [
            "positions",
            "tokens",
            "max_activations",
            "pool",
            "minus",
            "minus_position",
            "seed",
            "score",
        ],
        "activations": ["positions"],
        "trust": ["position", "explanation", "seed"],
        "steer": [
            "positions",
            "edit",
            "edited",
            "original",
            "unrelated",
            "alphas",
            "top_tokens",
            "seed",
        ],
        "continue_text": ["temperature", "seed"],
        "tokens": ["source"],
    }
    name = rng.choice([*asked, "reconstruct", "score", "compare"])
    bounded = {"max_new_tokens": 2} if name in ("explain", "steer", "continue_text") else {}
    if name == "reconstruct":
        nla.reconstruct(odd_value(rng))
    elif name == "score":
        nla.score(odd_value(rng), text, position=odd_value(rng))
    elif name == "compare":
        nla.compare((TEXT, odd_value(rng)), text, max_new_tokens=2, seed=odd_value(rng))
    elif name == "tokens":
        nla.tokens(text)
    elif name == "trust":
        few = {"samples": rng.choice([0, True, 1.5]), "neighbours": rng.choice([0, 1, "1"])}
        nla.trust(text, **few, **_options(asked[name], rng))
    else:
        nla_method = getattr(nla, name)
        nla_method(text, **bounded, **_options(asked[name], rng))


def _chat(rng: random.Random) -> Any:
    messages: list[Any] = []
    for _ in range(rng.randrange(4)):
        message = {"role": rng.choice(["user", "assistant", "system", "tool"]), "content": "It is."}
        for _ in range(rng.randrange(2)):
            name = rng.choice(
                ["role", "content", "channel", "tool_calls", "x", "reasoning_content"]
            )
            message[name] = odd_value(rng)
        messages.append(message if rng.random() < 0.9 else odd_value(rng))
    return messages if rng.random() < 0.8 else {"messages": messages}


def _messages(folder: Path, rng: random.Random) -> None:
    from gloss.text.document import chat_messages, load_transcript

    chat = _chat(rng)
    if rng.random() < 0.5:
        chat_messages(chat, "chat")
    else:
        file = folder / rng.choice(["c.json", "caf\udce9.json", "→.json"])
        data = json.dumps(chat, default=repr, ensure_ascii=rng.random() < 0.5)
        encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1"])
        file.write_bytes(data.encode(encoding, "surrogatepass" if "utf" in encoding else "replace"))
        load_transcript(file)


def _settings(folder: Path, rng: random.Random) -> None:
    import gloss.pipeline
    from gloss.pipeline.run_config import read_config

    presets = sorted((Path(gloss.pipeline.__file__).parent / "presets").glob("*.toml"))
    keys = """seed name target threads corpus.source corpus.max_documents extract.layer
        extract.positions_per_doc split.av_sft label.labeller label.settings build.scale
        ar_sft.steps ar_sft.batch_size ar_sft.optimizer.lr av_sft.steps joint.steps
        joint.group_size joint.temperature joint.kl_weight joint.av.lr evaluate.max_rows x.y"""
    values = [
        *STRINGS,
        "1",
        "0",
        "-5",
        "1e400",
        "[1]",
        "{}",
        "true",
        "'",
        '"""',
        "{a=1}",
        "2026-01-01",
    ]
    overrides = [
        f"{rng.choice(keys.split())}{rng.choice(['=', '=', '=', ' = ', ''])}{rng.choice(values)}"
        for _ in range(rng.randrange(1, 4))
    ]
    read_config(rng.choice(presets), overrides)


def _place(folder: Path, rng: random.Random) -> Path:
    """A place for an output: of any name, of any kind."""
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "file").touch()
    for name, there in (("link", "file"), ("loop", "loop"), ("lost", "no/where"), ("to", "folder")):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(there)
    if not (folder / "pipe").exists():
        os.mkfifo(folder / "pipe")
    names = ["new", "a/b/new", "caf\udce9", "→😀", "x" * 300, "\x1b[2J", "a\nb", "file/x", "to/new"]
    name = rng.choice([*names, "folder", "file", "link", "loop", "lost", "to", "pipe", "pipe/x"])
    if rng.random() < 0.1:
        return Path(rng.choice(["/dev/null", "/dev/full", "/", "", ".", "..", "/proc/x", "a\0b"]))
    return folder / (name if rng.random() < 0.5 else f"{name[:200]}.parquet")


def _places(folder: Path, rng: random.Random) -> None:
    from gloss.durable import folder_lock, replaced_folder, write_json

    with contextlib.chdir(folder):
        place, kind = _place(folder, rng), rng.randrange(3)
        if kind == 0:
            write_json(place, {"x": 1})
            assert json.loads(place.read_text()) == {"x": 1}
        elif str(place) in ("/", "..", "."):
            return
        elif kind == 1:
            with replaced_folder(place) as temporary:
                (temporary / "x").touch()
            assert [one.name for one in place.iterdir()] == ["x"]
        else:
            with folder_lock(place):
                assert place.is_dir()
    assert (folder / "link").is_symlink()
    assert (folder / "pipe").is_fifo()


def _json_values(folder: Path, rng: random.Random) -> None:
    from gloss.foreign import json_text

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} was written")

    text = json_text({"x": odd_value(rng)}, only_ascii=rng.random() < 0.5, default=repr)
    json.loads(text.encode("utf-8").decode("utf-8"), parse_constant=refuse)


def _cache_document(folder: Path, rng: random.Random) -> None:
    from gloss.reading.neuronpedia import export_neuronpedia, from_neuronpedia

    result = {"token": "a", "token_id": 1, "position": 0, "description": "x", "mse": 0.5}
    payload: Any = {"results": [dict(result), dict(result)], "layer_index": 2, "prompt_length": 2}
    document: Any = {"text": "ab", "tokens": ["a", "b"], "sortedPositions": [0, 1]}
    for holder in rng.sample([document, payload, *payload["results"]], 2):
        holder[rng.choice([*holder, "generated", "messages"])] = odd_value(rng)
    document["resultJson"] = json.dumps(payload, default=repr) if rng.random() < 0.5 else payload
    found = from_neuronpedia(document, doc_id=rng.choice(STRINGS), where="c.json")
    export_neuronpedia(found, folder / "out.json")
    json.loads((folder / "out.json").read_text(encoding="utf-8"))


def _run_folder(folder: Path, rng: random.Random) -> None:
    from gloss.report import write_report

    def some() -> Any:
        value = odd_value(rng)
        return rng.choice(
            [value, {"mean": value, "low": 0.1, "high": value}, [value, {"x": value}]]
        )

    names = [
        "fve",
        "layer",
        "target",
        "preset",
        "seconds",
        "claims",
        "controls",
        "examples",
        "trust",
        "versions",
        "config_hash",
        "norm_statistics",
        "baseline",
        "seed",
        "peak_memory_mb",
        "rows",
        "extraction",
    ]
    results = {"fve": {"rl": 0.5}} | {name: some() for name in rng.sample(names, 3)}
    rows = [{"step": rng.choice([0, 1, "x", None]), "stage": "joint", "fve": some()} for _ in "abc"]
    (folder / "results.json").write_text(json.dumps(results, default=repr))
    lines = "\n".join(json.dumps(row, default=repr) for row in rows)
    (folder / "metrics.jsonl").write_text(lines)
    (folder / "samples.jsonl").write_text(lines)
    write_report(folder)


VERBS = """explain|steer|evaluate|data extract|data split|data label|data build|train ar|train av
    |train joint|nla tokens|nla reconstruct|nla score|nla trust|nla compare|nla continue|nla inspect
    |nla validate|nla convert|nla card|results search|results themes|results report|results import
    |results export|data lab documents|nope"""
OPTIONS = """--positions --position --tokens --temperature --limit --max-new-tokens --seed --samples
    --best-of --alpha --edit --edited --explanation --unrelated --chat --activations --text-file
    --minus --minus-text --out --nla --av --ar --target --engine --dtype --device --config --set
    --prompt --batch-size --pool --dataset --results --doc --distance --min-tokens --license"""


def _command_line(folder: Path, rng: random.Random) -> None:
    """No ending but 0 to 2, no traceback, and what was said fits the console."""
    from gloss.cli.main import app

    (folder / "bytes.bin").write_bytes(rng.randbytes(50))
    (folder / "empty.parquet").touch()
    (folder / "a.json").write_text("[1, NaN]")
    (folder / "a.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (folder / "caf\udce9.txt").write_bytes(b"caf\xe9")
    files = ["bytes.bin", "empty.parquet", "a.json", "a.npy", "caf\udce9.txt", ".", "nowhere"]

    def word(option: str = "") -> str:
        if option == "--out":
            return str(_place(folder, rng)).replace("\0", "0")
        if rng.random() < 0.4:
            return rng.choice(files)
        return rng.choice(STRINGS).replace("\0", "0")

    arguments = rng.choice(VERBS.split("|")).strip().split(" ")
    arguments += [word() for _ in range(rng.randrange(3))]
    for option in rng.sample(OPTIONS.split(), rng.randrange(5)):
        arguments += [option, word(option)]
    arguments += rng.sample(
        ["--json", "--jsonl", "--fixed", "--dry-run", "--help"], rng.randrange(2)
    )
    encoding = rng.choice(["utf-8", "ascii", "cp1252", "utf-16-le"])
    streams = {
        name: io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
        for name in ("stdout", "stderr")
    }
    streams["stdin"] = io.TextIOWrapper(io.BytesIO(rng.choice([b"", b"caf\xe9", b"It rains."])))
    code: Any = 0
    with contextlib.chdir(folder), mock.patch.multiple(sys, argv=["gloss", *arguments], **streams):
        try:
            app(arguments, prog_name="gloss")
        except SystemExit as end:
            code = end.code
        sys.stdout.flush()
        sys.stderr.flush()
    said = streams["stderr"].buffer.getvalue().decode(encoding, "replace")
    if code not in (0, 1, 2, None) or "Traceback" in said:
        raise AssertionError(f"{code}: gloss {arguments}\n{said[-2000:]}")
