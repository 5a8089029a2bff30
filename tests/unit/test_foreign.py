"""JSON that every reader takes, and text from elsewhere that harms nothing."""

import json
import re
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gloss.durable import write_json
from gloss.errors import ConfigError, CorpusError, first_line, foreign_faults
from gloss.foreign import json_text, printable, shown, without_surrogates

SOURCE = Path(__file__).resolve().parents[2] / "src" / "gloss"


def strict(text):
    """The value, read as by a tool that knows no NaN."""

    def refuse(name):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.invariant("edges-4")
def test_numbers_that_json_lacks_become_null():
    value = {"a": [float("nan"), -float("inf"), 2.5], "b": (float("inf"), {"c": 1})}
    assert strict(json_text(value)) == {"a": [None, None, 2.5], "b": [None, {"c": 1}]}


@pytest.mark.invariant("edges-4")
def test_numbers_and_arrays_of_other_libraries_are_numbers():
    value = [np.int64(7), np.float32(0.5), np.float64("nan"), torch.tensor(3), np.array([1.0])]
    assert strict(json_text({"x": value, "p": PurePosixPath("a/b")})) == {
        "x": [7, 0.5, None, 3, [1.0]],
        "p": "a/b",
    }
    with pytest.raises(TypeError, match="no JSON value: object"):
        json_text([object()])
    assert json_text([object()], default=lambda _: float("nan")) == "[null]"


def test_half_an_emoji_can_be_written_as_utf_8(tmp_path):
    write_json(tmp_path / "x.json", {"a\udce9": "cut \ud83d"})
    assert (tmp_path / "x.json").read_bytes().decode("utf-8").count("\ufffd") == 2
    assert json_text("\ud83d", only_ascii=True) == '"\\ufffd"'


def test_ascii_only_is_what_the_json_module_writes():
    value = {"é": "😀\x7f\x1f €", "n": [1, 2.5, None, True]}
    assert json_text(value, only_ascii=True, sort_keys=True) == json.dumps(value, sort_keys=True)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
        max_leaves=20,
    )
)
def test_whatever_is_written_is_read_by_a_strict_reader_and_as_bytes(value):
    for only_ascii in (False, True):
        text = json_text(value, only_ascii=only_ascii)
        assert strict(text.encode("utf-8").decode("utf-8")) == strict(json_text(value))
        assert not only_ascii or text.isascii()


@pytest.mark.invariant("edges-4")
def test_nothing_in_gloss_writes_json_by_itself():
    writes = re.compile(r"\bjson\.dumps?\(|orjson|ujson")
    found = [
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        if writes.search(file.read_text(encoding="utf-8"))
    ]
    assert found == ["foreign.py"]


def test_a_terminal_obeys_nothing_of_what_is_shown():
    assert printable("a\x1b[2Jb\u202ec\x00\ud83d\x9bd\n\te") == "a�[2Jb�c���d\n\te"
    assert without_surrogates("caf\udce9 é") == "caf� é"
    line = str(ConfigError("odd", where="a\x1b]0;x\x07b", expected="\u202ey", found="\x9b1m"))
    assert line == "a�]0;x�b: odd: expected �y, found �1m."


class PanicError(BaseException):
    """As pyo3 raises it: no Exception."""


@pytest.mark.invariant("edges-6")
def test_whatever_foreign_code_raises_names_the_place():
    for error in (PanicError("index out of bounds\nmore"), RecursionError("deep"), KeyError("x")):
        with (
            pytest.raises(CorpusError) as raised,
            foreign_faults(CorpusError, "cannot be read", where="a.jsonl:7"),
        ):
            raise error
        line = f"a.jsonl:7: cannot be read: found {type(error).__name__}: {first_line(error)}."
        assert str(raised.value) == line
    for passing in (KeyboardInterrupt, MemoryError, ConfigError("mine")):
        with (
            pytest.raises(type(passing) if isinstance(passing, ConfigError) else passing),
            foreign_faults(CorpusError, "x"),
        ):
            raise passing


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


def test_a_foreign_value_is_always_shown_somehow():
    assert shown("a") == "'a'"
    assert shown("a" * 100, 10) == "'aaaaaaaaa…"
    assert shown(int("f" * 9000, 16)) == "a value of type int that cannot be shown"
    assert shown(Unshowable()) == "a value of type Unshowable that cannot be shown"
