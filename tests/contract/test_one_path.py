"""The same question has the same answer wherever it is asked: in Python, on the command line, over
HTTP and with both clients, samples under a seed included.
"""

import asyncio
import base64
import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from served_nla import TEXT, serving
from speaking_nla import directions, save_speaking_nla
from typer.testing import CliRunner

import gloss
from gloss.cli.main import app
from gloss.nla import NLA
from gloss.nla.presentation import Result
from gloss.store.sources import VectorRows
from gloss.text.document import Document
from gloss.text.tokens import ReadText

CHAT = [
    {"role": "user", "content": "Who sat there? 🙂"},
    {"role": "assistant", "content": "Sam sat there."},
]
GLYPHS = "a 🙂 and a 🎉."
ANSWERING = Document("chat", None, tuple(CHAT[:1]), {"add_generation_prompt": True})
PROMPT = "Say what this means: <concept><INJECT></concept>"
SAMPLED = {"samples": 3, "temperature": 1.5, "seed": 7}
STEER = {"original": "it rains", "edit": ("rains", "snows"), "unrelated": ("a", "the gulls sleep")}
EDITS = ["--explanation", "it rains", "--edit", "rains=>snows"]
EDITS += ["--unrelated", "a=>the gulls sleep"]


@dataclass
class Case:
    """A question: the method of ``NLA`` and what it is given, the body of its request, and the
    command line that asks the same, where there is one.
    """

    method: str
    given: tuple = ()
    options: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    command: list[str] | None = None


def vectors():
    """Activations that mean something to the tiny NLA, and one that does not."""
    return torch.cat([0.5 * directions() + 0.1, torch.ones(1, 32)])


def encoded(rows):
    return {"activations": rows.tolist()}


def table():
    """Rows of a file, of which something is known."""
    columns = {"doc_id": ["a", "b"], "token": ["x", "y"], "position": [3, 12], "token_id": [5, 6]}
    return VectorRows(40, vectors()[:2], columns)


CASES = {
    "tokens of glyphs": Case("tokens", (GLYPHS,), {}, {"text": GLYPHS}, ["nla", "tokens", GLYPHS]),
    "tokens of a chat": Case(
        "tokens", (CHAT,), {}, {"messages": CHAT}, ["nla", "tokens", "--chat", "CHAT"]
    ),
    "activations": Case(
        "activations",
        (TEXT,),
        {"positions": "3,5-7"},
        {"text": TEXT, "positions": "3,5-7"},
    ),
    "explain the last token": Case("explain", (TEXT,), {}, {"text": TEXT}, ["explain", TEXT]),
    "explain a chat": Case(
        "explain", (CHAT,), {}, {"messages": CHAT}, ["explain", "--chat", "CHAT"]
    ),
    "explain glyphs, sampled": Case(
        "explain",
        (GLYPHS,),
        {"positions": "all", **SAMPLED},
        {"text": GLYPHS, "positions": "all", **SAMPLED},
        [
            "explain",
            GLYPHS,
            "--positions",
            "all",
            "--samples",
            "3",
            "--temperature",
            "1.5",
            "--seed",
            "7",
        ],
    ),
    "explain the best of several": Case(
        "explain",
        (TEXT,),
        {"tokens": "every:4", "max_activations": 3, "best_of": 3, "samples": 2, "seed": 5},
        {"text": TEXT, "tokens": "every:4", "max_activations": 3, "best_of": 3, "samples": 2}
        | {"seed": 5},
        [
            "explain",
            TEXT,
            *[
                "--tokens",
                "every:4",
                "--max-activations",
                "3",
                "--best-of",
                "3",
                "--samples",
                "2",
                "--seed",
                "5",
            ],
        ],
    ),
    "explain a mean": Case(
        "explain",
        (CHAT,),
        {"pool": "mean"},
        {"messages": CHAT, "pool": "mean"},
        ["explain", "--chat", "CHAT", "--pool", "mean"],
    ),
    "explain a difference": Case(
        "explain",
        (TEXT,),
        {"positions": [4, 9], "minus": GLYPHS, "minus_position": 1},
        {"text": TEXT, "positions": [4, 9], "minus": {"text": GLYPHS}, "minus_position": 1},
        ["explain", TEXT, "--positions", "4,9", "--minus-text", GLYPHS, "--minus-position", "1"],
    ),
    "explain with a prompt": Case(
        "explain",
        (TEXT,),
        {"prompt": PROMPT, "max_new_tokens": 9, "score": False},
        {"text": TEXT, "prompt": PROMPT, "max_new_tokens": 9, "score": False},
    ),
    "explain vectors, sampled": Case(
        "explain", (vectors(),), SAMPLED, {**encoded(vectors()), **SAMPLED}
    ),
    "explain rows of a file": Case(
        "explain",
        (table(),),
        SAMPLED,
        {**encoded(table().vectors), "columns": table().columns, "first_row": 40, **SAMPLED},
    ),
    "reconstruct": Case("reconstruct", (["it rains", ""],), {}, {"explanations": ["it rains", ""]}),
    "score a token": Case(
        "score",
        (["it rains", "a"], TEXT),
        {"position": 4},
        {"explanations": ["it rains", "a"], "text": TEXT, "position": 4},
    ),
    "score vectors": Case(
        "score",
        (["it rains"] * 5, vectors()),
        {},
        {"explanations": ["it rains"] * 5, **encoded(vectors())},
    ),
    "steer": Case(
        "steer",
        (TEXT,),
        {**STEER, "positions": [3, -1], "alphas": (1.0, 4.0), "seed": 4},
        {"text": TEXT, **STEER, "positions": [3, -1], "alphas": [1.0, 4.0], "seed": 4},
        [
            "steer",
            TEXT,
            *EDITS,
            "--positions",
            "3,-1",
            "--alpha",
            "1",
            "--alpha",
            "4",
            "--seed",
            "4",
        ],
    ),
    "steer a chat": Case(
        "steer",
        (CHAT,),
        {**STEER, "top_tokens": 3},
        {"messages": CHAT, **STEER, "top_tokens": 3},
        ["steer", "--chat", "CHAT", *EDITS, "--top-tokens", "3"],
    ),
    "trust": Case(
        "trust",
        (TEXT,),
        {"position": 12, "explanation": "it rains\na b", "samples": 3, "seed": 2},
        {"text": TEXT, "position": 12, "explanation": "it rains\na b", "samples": 3, "seed": 2},
        [
            "nla",
            "trust",
            TEXT,
            "--explanation",
            "it rains\na b",
            "--position",
            "12",
            "--samples",
            "3",
            "--seed",
            "2",
        ],
    ),
    "trust of a chat": Case(
        "trust",
        (CHAT,),
        {"position": 5, "explanation": "a"},
        {"messages": CHAT, "position": 5, "explanation": "a"},
        ["nla", "trust", "--chat", "CHAT", "--position", "5", "--explanation", "a"],
    ),
    "compare": Case(
        "compare",
        ((TEXT, 3), (GLYPHS, 2)),
        {"temperature": 1.0, "seed": 3},
        {"sides": [{"text": TEXT, "position": 3}, {"text": GLYPHS, "position": 2}]}
        | {"temperature": 1.0, "seed": 3},
        [
            "nla",
            "compare",
            TEXT,
            GLYPHS,
            "--positions",
            "3,2",
            "--temperature",
            "1",
            "--seed",
            "3",
        ],
    ),
    "compare with a vector": Case(
        "compare",
        (CHAT, vectors()[0]),
        {},
        {"sides": [{"messages": CHAT}, {"activation": vectors()[0].tolist()}]},
    ),
    "continue": Case("continue_text", (TEXT,), {}, {"text": TEXT}, ["nla", "continue", TEXT]),
    "continue, sampled": Case(
        "continue_text",
        (GLYPHS,),
        {"max_new_tokens": 24, "temperature": 2.0, "seed": 9},
        {"text": GLYPHS, "max_new_tokens": 24, "temperature": 2.0, "seed": 9},
        ["nla", "continue", GLYPHS, "--max-new-tokens", "24", "--temperature", "2", "--seed", "9"],
    ),
    "continue a chat": Case(
        "continue_text",
        (ANSWERING,),
        {},
        {"messages": CHAT[:1], "add_generation_prompt": True},
    ),
}
PATHS = {"continue_text": "continue"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lab_tokenizer):
    return save_speaking_nla(tmp_path_factory.mktemp("path"), lab_tokenizer)


@pytest.fixture(scope="module")
def nla(folder):
    return NLA(folder)


@pytest.fixture(scope="module")
def client(nla):
    with serving(nla, max_batch_rows=3, cache_bytes=0) as client:
        yield client


@pytest.fixture(scope="module")
def expected(nla):
    """What the library answers, once for each question."""
    known = {}

    def answer(name):
        if name not in known:
            case = CASES[name]
            known[name] = plain(getattr(nla, case.method)(*case.given, **case.options))
        return known[name]

    return answer


def plain(answer):
    """An answer as JSON has it."""
    if isinstance(answer, torch.Tensor):
        return answer.tolist()
    if isinstance(answer, list):
        return [plain(one) for one in answer]
    if isinstance(answer, Result):
        return answer.to_dict()
    if isinstance(answer, ReadText):
        return json.loads(json.dumps(vars(answer), default=vars))
    return answer


def assert_same(found, wanted, where="answer"):
    """Equal, but for the rounding of batched arithmetic and what the NLA is called."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted.keys() - {"nla"}:
            assert_same(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    elif isinstance(wanted, float) and not isinstance(found, bool):
        assert found == pytest.approx(wanted, abs=2e-4, rel=2e-4), where
    else:
        assert found == wanted, where


def decoded(case, answer):
    """The JSON of an HTTP answer as ``plain`` has it."""
    if case.method in ("activations", "reconstruct"):
        raw = torch.frombuffer(
            bytearray(base64.b64decode(answer["activations"])), dtype=torch.float32
        )
        return raw.reshape(answer["shape"]).tolist()
    return answer["scores"] if case.method == "score" else answer


@pytest.mark.parametrize("name", CASES)
def test_over_http(client, expected, name):
    case = CASES[name]
    path = f"/v1/{PATHS.get(case.method, case.method)}"
    answer = client.post(path, json=case.body)
    assert answer.status_code == 200, answer.text
    assert_same(decoded(case, answer.json()), expected(name))


@pytest.mark.parametrize("name", CASES)
def test_with_the_client(client, expected, name):
    case = CASES[name]
    with gloss.connect(str(client.base_url)) as remote:
        found = getattr(remote, case.method)(*case.given, **case.options)
    assert_same(plain(found), expected(name))


def test_with_the_asynchronous_client_all_at_once(client, expected):
    """So no answer depends on what else is in the batch."""

    async def ask():
        async with gloss.connect(str(client.base_url), asynchronous=True) as remote:
            asked = (getattr(remote, c.method)(*c.given, **c.options) for c in CASES.values())
            return await asyncio.gather(*asked)

    for name, found in zip(CASES, asyncio.run(ask()), strict=True):
        assert_same(plain(found), expected(name), name)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.command])
def test_on_the_command_line(folder, expected, name, tmp_path):
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps(CHAT))
    command = [str(chat) if word == "CHAT" else word for word in CASES[name].command]
    ran = CliRunner().invoke(app, [*command, "--nla", str(folder), "--json"])
    assert ran.exit_code == 0, ran.output
    found, wanted = json.loads(ran.stdout), expected(name)
    if command[0] == "explain":
        wanted = [{**one, "layer": wanted["layer"]} for one in wanted["explanations"]]
    assert_same(found, wanted)


@pytest.mark.parametrize("max_batch_rows", [1, 64])
def test_whatever_the_batch(nla, expected, max_batch_rows):
    names = [name for name, case in CASES.items() if case.method in ("explain", "steer")]
    answers = {}
    with serving(nla, max_batch_rows=max_batch_rows, max_completions=max_batch_rows) as client:

        def ask(name):
            answers[name] = client.post(f"/v1/{CASES[name].method}", json=CASES[name].body).json()

        threads = [threading.Thread(target=ask, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in names:
        assert_same(answers[name], expected(name), name)


def test_the_steering_has_its_controls(expected):
    edits = {one["edit"] for one in expected("steer")["continuations"]}
    assert edits == {"none", "edit", "random", "unrelated", "elsewhere"}


def test_a_glyph_of_several_tokens_is_shown_whole(expected):
    shown = {one["token"] for one in expected("explain glyphs, sampled")["explanations"]}
    assert any("🎉" in token for token in shown)
    assert not any("\ufffd" in token for token in shown)


def test_samples_are_not_all_the_same(expected):
    for name in ("explain glyphs, sampled", "explain vectors, sampled"):
        responses = [one["response"] for one in expected(name)["explanations"]]
        assert len(set(responses)) > len(responses) // 2


@pytest.mark.parametrize(
    ("method", "given", "options", "said"),
    [
        ("explain", (TEXT,), {"positions": 99}, "expected a position from -17 to 16, found 99"),
        ("explain", (TEXT,), {"positions": 1, "tokens": "all"}, "expected one of them"),
        ("explain", (TEXT,), {"best_of": 2, "temperature": 0.0}, "a temperature above 0"),
        ("explain", (torch.zeros(1, 32),), {}, "no direction"),
        ("explain", (torch.ones(1, 7),), {}, "expected [n, 32], found (1, 7)"),
        ("explain", ("",), {}, "the text is empty"),
        ("explain", (TEXT,), {"prompt": "no place for it"}, "<INJECT>"),
        ("steer", (TEXT,), {"original": "a", "edit": ("b", "c")}, "does not hold the words"),
        ("trust", (TEXT,), {"position": 99}, "no such token"),
        ("compare", (TEXT, torch.ones(7)), {}, "32"),
        ("continue_text", ([],), {}, "the text is empty"),
        ("score", (["a", "b"], vectors()), {}, "expected 1 or 2, found 5"),
    ],
)
def test_what_is_refused_is_refused_alike(client, nla, method, given, options, said):
    with pytest.raises(gloss.GlossError, match=re.escape(said)) as here:
        getattr(nla, method)(*given, **options)
    with (
        gloss.connect(str(client.base_url)) as remote,
        pytest.raises(type(here.value), match=re.escape(said)),
    ):
        getattr(remote, method)(*given, **options)
