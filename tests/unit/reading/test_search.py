import sys
import time

import numpy as np
import pytest
from tables import write_table

from gloss.errors import ConfigError, DatasetError, MissingExtraError
from gloss.reading import search, search_by_meaning, sentence_embedder

TEXTS = [
    "A plan of Reward  Hacking",
    "reward (hacking)",
    None,
    "it rains",
    "hacking the reward\nand reward hacking",
]


@pytest.fixture
def files(tmp_path):
    rows = [
        {"doc_id": "d", "position": i, "token": f" t{i}", "context": f"… t{i}", "text": t}
        for i, t in enumerate(TEXTS)
    ]
    return [
        write_table(tmp_path / "a.parquet", rows[:3]),
        write_table(tmp_path / "b.parquet", rows[3:]),
    ]


def positions(hits):
    return [hit.position for hit in hits]


def test_a_pattern_is_searched_in_every_table_whatever_the_case(files):
    assert positions(search(files, r"reward\s+hacking")) == [0, 4]
    assert positions(search(files, r"reward\s+hacking", case_sensitive=True)) == [4]
    assert positions(search(files, "reward (hacking)", fixed=True)) == [1]
    assert positions(search(files, "zebra")) == []
    assert positions(search(files, "a", limit=2)) == [0, 1]


def test_a_hit_says_where_the_matches_stand(files):
    hit = list(search(files, "reward"))[-1]
    assert [hit.text[start:end] for start, end in hit.spans] == ["reward", "reward"]
    assert (hit.file, hit.doc_id, hit.token, hit.context) == (str(files[1]), "d", " t4", "… t4")


def test_matches_of_nothing_are_no_hits(files):
    assert positions(search(files, "z*")) == []


@pytest.mark.parametrize(
    ("query", "message"), [("(", "regular expression.*--fixed"), ("", "the query is empty")]
)
def test_a_bad_query_has_one_clear_line(files, query, message):
    with pytest.raises(ConfigError, match=message):
        list(search(files, query))


@pytest.mark.invariant("edges-10")
def test_a_pattern_that_explodes_ends_in_time(tmp_path):
    long = write_table(tmp_path / "a.parquet", [{"doc_id": "d", "text": "a" * 4000 + "!"}])
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"takes too long: expected at most 2 s.*--fixed"):
        list(search([long], "(a|aa)+$"))
    assert time.monotonic() - started < 10


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for file, message in (
        ("a.parquet", "damaged file"),
        ("b.parquet", "no such file of explanations"),
    ):
        with pytest.raises(DatasetError, match=message):
            list(search([tmp_path / file], "x"))


def counted_words(texts):
    """Embeddings by a real vectoriser: texts of the same words are near."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return np.asarray(
        HashingVectorizer(n_features=512).transform(texts).todense(), dtype=np.float32
    )


def test_a_search_by_meaning_ranks_by_similarity_and_embeds_each_text_once(files):
    embedded = []

    def embed(texts):
        embedded.extend(texts)
        return counted_words(texts)

    hits = search_by_meaning([*files, *files], "it rains", embed, limit=3)
    assert [hit.text for hit in hits[:2]] == ["it rains", "it rains"]
    assert hits[0].similarity == pytest.approx(1.0)
    assert hits[2].similarity < 0.5
    assert len(embedded[1:]) == len(set(embedded[1:]))  # the first is the query


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"gloss-nla\[semantic\]"):
        sentence_embedder(tmp_path)


def test_a_real_sentence_model_in_a_folder_is_used(tmp_path, files, lab_tokenizer):
    """Runs where sentence-transformers is installed: a random BERT, so that only equal texts are
    surely nearest.
    """
    package = pytest.importorskip(
        "sentence_transformers", reason="the semantic extra is not installed"
    )
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(
            vocab_size=len(lab_tokenizer),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    ).save_pretrained(tmp_path / "bert")
    lab_tokenizer.save_pretrained(tmp_path / "bert")
    from sentence_transformers.models import Pooling, Transformer

    words = Transformer(str(tmp_path / "bert"))
    package.SentenceTransformer(
        modules=[
            words,
            Pooling(
                words.get_embedding_dimension() if hasattr(words, "get_embedding_dimension") else 32
            ),
        ]
    ).save(str(tmp_path / "model"))
    hits = search_by_meaning(files, "it rains", sentence_embedder(tmp_path / "model"), limit=1)
    assert hits[0].text == "it rains"
    assert hits[0].similarity == pytest.approx(1.0, abs=1e-4)
