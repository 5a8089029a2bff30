"""Nothing of a corpus is left out without being counted, and too much of it ends the work."""

import bz2
import gzip
import json
from copy import deepcopy
from dataclasses import replace

import pyarrow as pa
import pytest
from tiny_data import make_target

from gloss.data import ExtractConfig, extract, read_corpus
from gloss.errors import CorpusError
from gloss.text.document import Document


def lines(*records):
    return "\n".join(json.dumps(r) if not isinstance(r, str) else r for r in records).encode()


@pytest.mark.invariant("runs-1")
def test_a_folder_is_read_whatever_its_files_are_called_and_what_is_not_read_is_counted(tmp_path):
    files = {
        "A.TXT": b"one\n\ntwo",
        "b.jsonl.gz": gzip.compress(lines({"text": "three"}, {"text": "four"})),
        "c.ndjson": lines({"text": "five"}),
        "d.json": b'[{"text": "six"},\n {"text": "seven"}]',
        "e.JSON.bz2": bz2.compress(lines({"text": "eight"}, {"text": "nine"})),
        "deep/f.json": b'{\n "text": "ten"\n}',
        "LICENSE.txt": b"do what you want",
        "README.md": b"about",
        ".cache.jsonl": lines({"text": "hidden"}),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    compressed = pa.Codec("zstd").compress(lines({"text": "eleven"}), asbytes=True)
    (tmp_path / "g.jsonl.zst").write_bytes(compressed)
    corpus = read_corpus(str(tmp_path))
    assert sorted(document.text for document in corpus) == sorted(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    )
    assert dict(corpus.counts.skipped_files) == {
        "LICENSE.txt": "about the corpus",
        "README.md": "unknown kind .md",
        ".cache.jsonl": "hidden",
    }
    assert corpus.counts.lines() == [
        "3 files skipped: .cache.jsonl (hidden), README.md (unknown kind .md),"
        " LICENSE.txt (about the corpus)"
    ]


def test_a_licence_alone_is_a_text_like_any_other(tmp_path):
    (tmp_path / "LICENSE.txt").write_text("do what you want")
    assert [document.text for document in read_corpus(str(tmp_path))] == ["do what you want"]


@pytest.mark.invariant("runs-1")
def test_a_folder_of_mostly_other_files_is_refused(tmp_path):
    (tmp_path / "sample.jsonl").write_bytes(lines({"text": "one"}))
    (tmp_path / "data.csv").write_text("text\n" + "a row\n" * 100)
    with pytest.raises(CorpusError, match=r"most of this folder .* 1 other files such as data.csv"):
        read_corpus(str(tmp_path))


@pytest.mark.invariant("runs-2")
def test_a_few_records_that_cannot_be_read_are_counted_and_more_are_refused(tmp_path):
    file = tmp_path / "a.jsonl"
    good = [{"text": f"text {i}"} for i in range(40)]
    chats = [{"messages": [{"role": "user"}]}]
    file.write_bytes(lines(*good, *chats, "{torn"))
    corpus = read_corpus(str(file))
    assert len(list(corpus)) == 40
    assert (corpus.counts.read, corpus.counts.refused) == (40, 2)
    assert "a.jsonl:41: not a chat" in corpus.counts.lines()[0]
    with pytest.raises(CorpusError, match=r"2 of 42 records cannot be read .*at most 4%"):
        list(read_corpus(str(file), max_refused=0.04))


@pytest.mark.invariant("runs-2")
def test_a_corpus_of_which_too_much_is_refused_ends_before_its_end(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines(*[{"text": "x"}] * 90, *["no json"] * 20, *[{"text": "x"}] * 900))
    corpus = read_corpus(str(file))
    with pytest.raises(CorpusError, match="of 100 records cannot be read"):
        list(corpus)
    assert corpus.counts.read == 90


@pytest.fixture
def target():
    return make_target()


@pytest.mark.invariant("runs-3")
def test_documents_with_one_id_are_one_document_and_the_others_are_counted(tmp_path, target):
    config = ExtractConfig(layer=1, min_position=2, positions_per_doc=3, max_refused=0.2)
    text = "the boat on the lake and the storm over the boat "
    documents = [*(Document(f"d{i}", text * 2) for i in range(9)), Document("d3", text * 3)]
    result = extract(config, target, documents, tmp_path / "a")
    assert (result.counts.documents, result.counts.repeated) == (10, 1)
    assert result.counts.rows == 9 * 3
    again = extract(config, target, documents, tmp_path / "a")
    assert again.counts == result.counts
    strict = config.model_copy(update={"max_refused": 0.05})
    with pytest.raises(CorpusError, match=r"1 of 10 documents .*d3: the id of an earlier document"):
        extract(strict, target, documents, tmp_path / "b")


@pytest.mark.invariant("runs-2")
def test_a_chat_that_the_template_refuses_does_not_stop_the_corpus(tmp_path, target):
    target = replace(target, tokenizer=deepcopy(target.tokenizer))
    target.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.role }} {{ m.content }}\n{% endfor %}"
    )
    words = "the boat on the lake and the storm over the boat"
    chats = [
        Document(f"c{i}", None, ({"role": "system" if i == 4 else "user", "content": words},))
        for i in range(30)
    ]
    config = ExtractConfig(layer=1, min_position=2, positions_per_doc=2)
    counts = extract(config, target, chats, tmp_path).counts
    assert (counts.documents, counts.refused, counts.rows) == (30, 1, 58)
