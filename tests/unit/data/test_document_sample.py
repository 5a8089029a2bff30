"""Which rows are measured: whole documents, drawn by seed and id alone."""

from collections import Counter

import pytest

from gloss.data.document_sample import sample_documents

IDS = [f"web-{i}" for i in range(30) for _ in range(4)] + [
    f"chat-{i}" for i in range(30) for _ in range(4)
]


@pytest.mark.invariant("numbers-6")
def test_documents_are_drawn_at_random_and_not_the_first_of_the_file():
    """Of sixty documents, the web's before the chats', forty rows are ten: about half of each."""
    shares = Counter()
    for seed in range(40):
        chosen = sample_documents(IDS, 40, seed=seed)
        assert chosen == sorted(set(chosen))
        assert len(chosen) == 40
        documents = Counter(IDS[row] for row in chosen)
        assert set(documents.values()) == {4}
        shares.update(name.split("-")[0] for name in documents)
    assert shares["web"] / 400 == pytest.approx(0.5, abs=0.1)
    assert sample_documents(IDS, 40, seed=0) != sample_documents(IDS, 40, seed=1)


@pytest.mark.invariant("numbers-6")
def test_the_draw_depends_on_ids_and_not_on_the_order_of_the_file():
    chosen = {IDS[row] for row in sample_documents(IDS, 40, seed=5)}
    backwards = IDS[::-1]
    assert {backwards[row] for row in sample_documents(backwards, 40, seed=5)} == chosen
    more = {IDS[row] for row in sample_documents(IDS, 80, seed=5)}
    assert chosen < more


def test_the_last_document_is_cut_to_fit_by_a_draw():
    one = ["a"] * 50
    drawn = [sample_documents(one, 10, seed=seed) for seed in range(20)]
    assert all(len(set(each)) == 10 for each in drawn)
    assert any(each != list(range(10)) for each in drawn)
    assert max(map(max, drawn)) > 40
    assert sample_documents(one, 60, seed=0) == list(range(50))
    assert sample_documents([], 5, seed=0) == []
