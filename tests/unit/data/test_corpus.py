import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gloss.data import Document, load_corpus, read_corpus
from gloss.errors import CorpusError


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def test_blank_lines_separate_documents_of_a_text_file(tmp_path):
    source = write(tmp_path / "tales.txt", "\ufeffone\nstill one\r\n\n \n\ntwo\n")
    assert list(read_corpus(source)) == [
        Document("tales:1", "one\nstill one"),
        Document("tales:6", "two"),
    ]


def test_json_lines_with_text_messages_and_own_ids(tmp_path):
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    source = write(
        tmp_path / "c.jsonl",
        lines({"text": "one"})
        + "\n"
        + lines({"id": 7, "text": ""}, {"messages": chat}, {"doc_id": "x", "text": chat}),
    )
    first, second, third, fourth = read_corpus(source)
    assert first == Document("c:1", "one")
    assert second == Document("7", "")
    assert third == Document("c:4", None, tuple(chat))
    assert fourth == Document("x", None, tuple(chat))


def test_parquet_and_another_text_field(tmp_path):
    pq.write_table(pa.table({"body": ["a", None], "id": ["p", "q"]}), tmp_path / "c.parquet")
    assert list(read_corpus(str(tmp_path / "c.parquet"), text_field="body")) == [
        Document("p", "a"),
        Document("q", ""),
    ]


@pytest.mark.invariant("corpus-path")
def test_a_folder_is_read_in_order_and_ids_do_not_name_it(tmp_path):
    for place in ("here", "there/deep"):
        write(tmp_path / place / "b.txt", "two")
        write(tmp_path / place / "a.txt", "one")
        write(tmp_path / place / "sub" / "a.jsonl", lines({"text": "three"}))
        write(tmp_path / place / "a.jsonl", lines({"text": "four"}))
        write(tmp_path / place / ".hidden.txt", "no")
    here, there = (list(read_corpus(str(tmp_path / place))) for place in ("here", "there/deep"))
    assert here == there
    assert [d.doc_id for d in here] == ["a.jsonl:1", "a.txt:1", "b:1", "sub/a:1"]


def test_limit_and_iterables(tmp_path):
    source = write(tmp_path / "c.jsonl", lines(*({"text": str(i)} for i in range(5))))
    assert [d.text for d in load_corpus(source, limit=2)] == ["0", "1"]
    given = [Document("a", "b")]
    assert list(load_corpus(given)) == given


def test_lone_surrogates_become_replacement_characters(tmp_path):
    source = write(tmp_path / "c.jsonl", '{"text": "a\\ud800b"}\n')
    assert next(read_corpus(source)).text == "a\ufffdb"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.txt", b"\xff\xfe\x00\x01", "not a text file"),
        ("c.txt", b"fine\nbut \x00 here", r"c\.txt:2: not a text file"),
        ("c.txt", b" \n\n", "the corpus is empty"),
        ("c.jsonl", b"", "the corpus is empty"),
        ("c.jsonl", b'{"text": "a"}\n{"text": \n', r"c\.jsonl:2: not JSON"),
        ("c.jsonl", b"[1]\n", r"c\.jsonl:1: not a JSON object"),
        ("c.jsonl", b'{"body": "a"}\n', r"no field 'text'.*found \['body'\].*corpus\.text_field"),
        ("c.jsonl", b'{"text": 5}\n', "is no text"),
        ("c.jsonl", b'{"messages": [{"role": "user"}]}\n', "not a chat"),
        ("c.jsonl", b'{"messages": "hello"}\n', "not a chat"),
        ("c.parquet", b"no parquet", "not a Parquet file"),
        ("c.csv", b"a,b", "unknown kind of corpus"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, content, message):
    with pytest.raises(CorpusError, match=message) as caught:
        list(read_corpus(write(tmp_path / name, content)))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_missing_sources_and_empty_folders_are_refused_before_reading(tmp_path):
    with pytest.raises(CorpusError, match="no such corpus"):
        read_corpus(str(tmp_path / "nowhere.txt"))
    with pytest.raises(CorpusError, match="no corpus files"):
        read_corpus(str(tmp_path))


def test_hub_datasets_are_streamed_by_id_and_split(monkeypatch):
    import datasets

    asked = []

    def load(name, subset, *, split, streaming):
        asked.append((name, subset, split, streaming))
        return iter([{"text": "one"}, {"id": "k", "text": "two"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = list(read_corpus("hf:owner/tales:small", split="test"))
    assert asked == [("owner/tales", "small", "test", True)]
    assert found == [Document("tales:test:1", "one"), Document("k", "two")]


def test_a_hub_dataset_that_fails_is_a_corpus_error(monkeypatch):
    import datasets

    def load(*_args, **_kwargs):
        raise FileNotFoundError("no such dataset\nlong story")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(
        CorpusError, match=r"hf:owner/none: the dataset cannot be read \(.*no such dataset\)"
    ):
        list(read_corpus("hf:owner/none"))
