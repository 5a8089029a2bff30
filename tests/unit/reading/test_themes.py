import pytest
from tables import write_table

from gloss.errors import ConfigError
from gloss.nla.trust import split_claims
from gloss.reading import find_themes
from gloss.reading import themes as module

HARBOR, RAIN = "the scene is set at the harbor", "it rains"


def row(doc, position, *claims, **more):
    return {"doc_id": doc, "position": position, "text": "\n".join(claims), **more}


@pytest.fixture
def table(tmp_path):
    """The harbor: tokens 20, 21, 22 of a (in two wordings) and 40 of b; rain: a 20 and a 60; the
    rest once each.
    """
    return write_table(
        tmp_path / "t.parquet",
        [
            row("a", 20, f"- {HARBOR}.", RAIN, fve=0.5),
            row("a", 21, HARBOR.upper(), "a question about bread", fve=0.7),
            row("a", 22, "the scene is set at a harbor", fve=0.9),
            row("a", 60, RAIN, fve=0.1),
            row("b", 40, HARBOR, fve=0.1),
            row("b", 41, "somebody counts coins"),
            {"doc_id": "b", "position": 42, "text": None},
        ],
    )


def test_claims_are_lines_items_and_sentences_but_quotes_stay_whole():
    assert split_claims("- one\n* two\n3) three\n\n• four") == ["one", "two", "three", "four"]
    assert split_claims("It rains. The sail is up; nobody sleeps!  Why?") == [
        "It rains.",
        "The sail is up",
        "nobody sleeps!",
        "Why?",
    ]
    assert split_claims('It quotes "No. Never; go." and ends. Then stops') == [
        'It quotes "No. Never; go." and ends.',
        "Then stops",
    ]
    assert split_claims("J. Smith paid 3.5 dollars") == ["J. Smith paid 3.5 dollars"]
    assert split_claims('an open " quote. Next') == ['an open " quote.', "Next"]
    assert split_claims(" \n ") == []


def test_a_theme_counts_tokens_documents_and_neighbours(table):
    harbor, rain = find_themes([table])
    assert (harbor.label, harbor.n_tokens, harbor.n_documents) == (HARBOR + ".", 4, 2)
    assert [count for _, count in harbor.claims] == [3, 1]
    assert harbor.agreement == pytest.approx(
        4 / 5
    )  # the neighbours of a 20, 21, 21, 22 say it, that of b 40 does not
    assert harbor.share == pytest.approx(4 / 7)
    assert harbor.fve == pytest.approx((0.5 + 0.7 + 0.9 + 0.1) / 4)
    assert (rain.label, rain.n_tokens, rain.n_documents) == (RAIN, 2, 1)
    assert rain.agreement == 0.0  # a 20 has a neighbour, a 60 has none


def test_with_distance_zero_only_the_same_words_are_one_theme(table):
    assert [theme.n_tokens for theme in find_themes([table], distance=0)] == [3, 2]


def test_a_token_is_counted_once_whatever_its_samples_and_repetitions(tmp_path):
    rows = [row("a", 20, RAIN, RAIN, sample=i) for i in range(3)]
    (theme,) = find_themes([write_table(tmp_path / "t.parquet", rows)], min_tokens=1)
    assert (theme.n_tokens, theme.agreement, theme.share) == (1, None, 1.0)


def test_claims_that_differ_in_what_they_name_stay_apart_and_reordered_ones_come_together(tmp_path):
    things, orders = (
        ("kite", "parcel", "feather", "map"),
        ("A verb comes next.", "Next comes a verb."),
    )
    rows = [row("a", 20 + i, f"There is a {thing}.") for i, thing in enumerate(things * 2)]
    rows += [row("a", 40 + i, order) for i, order in enumerate(orders)]
    found = {
        theme.label: len(theme.claims)
        for theme in find_themes([write_table(tmp_path / "t.parquet", rows)])
    }
    assert found == {**{f"There is a {thing}.": 1 for thing in things}, "A verb comes next.": 2}


def test_the_reach_of_neighbours_can_be_chosen(tmp_path):
    table = write_table(tmp_path / "t.parquet", [row("a", 20, RAIN), row("a", 30, RAIN)])
    assert find_themes([table])[0].agreement is None
    assert find_themes([table], neighbours=10)[0].agreement == 1.0


def test_the_same_document_name_in_two_tables_is_two_documents(tmp_path):
    files = [write_table(tmp_path / f"{i}.parquet", [row("a", 20, RAIN)]) for i in range(2)]
    (theme,) = find_themes(files)
    assert (theme.n_tokens, theme.n_documents, theme.agreement) == (2, 2, None)


def test_rows_without_positions_count_as_tokens_without_neighbours(tmp_path):
    table = write_table(tmp_path / "t.parquet", [{"text": RAIN}, {"text": RAIN}])
    (theme,) = find_themes([table])
    assert (theme.n_tokens, theme.agreement) == (2, None)


def test_many_claims_are_grouped_in_linear_memory_and_always_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PAIRWISE_LIMIT", 10)
    kinds = (
        "the weather turns to storm number",
        "a recipe for bread with",
        "who owns the lantern of",
    )
    rows = [row("a", i, f"{kinds[i % 3]} {i}") for i in range(30)]
    table = write_table(tmp_path / "t.parquet", rows)
    first, second = find_themes([table]), find_themes([table])
    assert first == second
    assert sum(theme.n_tokens for theme in find_themes([table], min_tokens=1)) == 30
    for theme in first:
        assert len({claim.rsplit(" ", 1)[0] for claim, _ in theme.claims}) == 1


def test_nothing_to_say_gives_no_themes_and_bad_settings_a_line(tmp_path):
    assert find_themes([write_table(tmp_path / "t.parquet", [{"text": None}])]) == []
    with pytest.raises(ConfigError, match="distance of themes"):
        find_themes([], distance=2)
