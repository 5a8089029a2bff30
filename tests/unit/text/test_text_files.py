"""What is read of the user's: texts with an end, and objects that say each thing once."""

import pytest

from gloss.cli.options import read_text
from gloss.data import read_corpus
from gloss.errors import ConfigError, CorpusError
from gloss.pipeline.run_config import read_config
from gloss.store.run_files import read_run_results
from gloss.text import text_files
from gloss.text.document import json_value, load_transcript
from gloss.text.text_files import read_text_file


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(text_files, "LARGEST_TEXT", 2**20)


@pytest.mark.invariant("edges-9")
@pytest.mark.parametrize(
    ("read", "error"),
    [
        (read_text_file, CorpusError),
        (load_transcript, CorpusError),
        (lambda path: read_text(None, path), ConfigError),
        (read_config, ConfigError),
        (read_run_results, ConfigError),
    ],
    ids=["text", "chat", "option", "config", "results"],
)
def test_a_file_without_an_end_is_refused(read, error, tmp_path, short):
    endless = tmp_path / "endless"
    endless.symlink_to("/dev/zero")
    with pytest.raises(error, match=r"endless: .*too much to be a text"):
        read(endless)


@pytest.mark.invariant("edges-9")
def test_the_largest_text_is_read_without_its_mark_and_one_byte_more_is_not(tmp_path, short):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbf" + b"a" * (2**20 - 3))
    assert read_text_file(file) == "a" * (2**20 - 3)
    file.write_bytes(b"a" * (2**20 + 1))
    with pytest.raises(CorpusError, match="too much"):
        read_text_file(file)


@pytest.mark.invariant("edges-9")
def test_a_key_given_twice_is_refused_however_deep(tmp_path):
    assert json_value('[{"a": 1}, {"a": 2}]', where="x") == [{"a": 1}, {"a": 2}]
    for text in ('{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'):
        with pytest.raises(CorpusError, match=r"x: not JSON .*the key 'a' more than once"):
            json_value(text, where="x")


@pytest.mark.invariant("edges-9")
def test_a_record_with_a_key_given_twice_is_counted_as_refused(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n{"text": "two", "text": "other"}\n')
    corpus = read_corpus(str(file), max_refused=0.5)
    assert [document.text for document in corpus] == ["one"]
    with pytest.raises(CorpusError, match="more than once"):
        list(read_corpus(str(file), max_refused=0))
