"""Positions and options as callers of other libraries have them."""

import numpy as np
import pytest
import torch

from gloss.errors import ConfigError, CorpusError, GlossError, PositionError
from gloss.nla import Sampling, Selection, boundary, parse_positions
from gloss.nla.compare import _side
from gloss.nla.questions import Questions
from gloss.nla.remote.wire import body_of
from gloss.text.document import chat_messages
from gloss.text.positions import check_selection


@pytest.mark.invariant("edges-5")
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (np.int64(3), [3]),
        (np.int8(-1), [9]),
        (torch.tensor(4), [4]),
        (torch.tensor([1, 2, 1]), [1, 2]),
        (np.array([0, -1], dtype=np.int16), [0, 9]),
        (torch.Size([2, 3]), [2, 3]),
        (range(1, 8, 3), [1, 4, 7]),
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, -4), [9, 5, 1]),
        (slice(np.int64(8), None), [8, 9]),
        ([np.int64(1), torch.tensor(2), 3], [1, 2, 3]),
        ((one for one in (5, 6)), [5, 6]),
        ({7: "x"}.keys(), [7]),
    ],
)
def test_whole_numbers_of_any_library_are_positions(given, meant):
    assert parse_positions(given, 10) == meant


@pytest.mark.invariant("edges-5")
@pytest.mark.parametrize(
    "given",
    [
        True,
        np.True_,
        torch.tensor(True),
        [False],
        1.0,
        np.float32(1),
        torch.tensor([1.5]),
        None,
        b"1",
        {"a": 1},
        [[1]],
        ["1"],
        object(),
        np.array(["1"]),
        slice(0, 4, 0),
        slice("a"),
        slice(3, 3),
        [],
        2**70,
        np.uint64(2**64 - 1),
        "9" * 30,
        "9" * 5000,
        "0-" + "9" * 5000,
        "²",
        "1\x00",
    ],
)
def test_what_is_no_position_is_refused_in_one_line(given):
    with pytest.raises(PositionError) as error:
        parse_positions(given, 10)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_a_selection_holds_plain_numbers():
    chosen = Selection(positions=torch.tensor([1, 2]), minus_position=np.int64(-1))
    assert (chosen.positions, chosen.minus_position) == ([1, 2], -1)
    assert type(chosen.minus_position) is int
    assert Selection(positions=np.int32(4)).positions == 4
    for wrong in ({"minus_position": True}, {"max_activations": 0}, {"pool": "max"}, {"tokens": 5}):
        with pytest.raises(GlossError):
            Selection(**wrong)


@pytest.mark.parametrize("wrong", ["every:²", "every:0", "every:" + "9" * 5000, "every:-1", "some"])
def test_a_selection_that_counts_nothing_is_refused(wrong):
    with pytest.raises(PositionError, match="cannot read the selection of tokens") as error:
        check_selection(wrong)
    assert len(str(error.value)) < 300


@pytest.mark.invariant("edges-5")
def test_sampling_takes_numbers_of_any_library_and_no_others():
    drawn = Sampling(samples=np.int64(2), temperature=np.float32(0.5), seed=torch.tensor(3))
    assert (drawn.samples, drawn.temperature, drawn.seed) == (2, 0.5, 3)
    assert (type(drawn.samples), type(drawn.seed)) == (int, int)
    for name, value in (
        ("samples", True),
        ("samples", 2.0),
        ("best_of", "3"),
        ("best_of", 10**30),
        ("temperature", float("inf")),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", 1e300),
        ("max_new_tokens", 0),
        ("seed", 1.5),
        ("seed", None),
        ("seed", 2**64),
        ("score", "yes"),
        ("prompt", 5),
    ):
        with pytest.raises(ConfigError, match=f"^{name}: expected"):
            Sampling(**{name: value})


def test_texts_and_strengths_are_checked():
    assert boundary.texts("explanation", ("a", "b")) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"explanation 1 holds half a character"):
        boundary.texts("explanation", ("a", "b\ud83d"))
    assert boundary.finite_numbers("alphas", np.array([0.5, 1])) == [0.5, 1.0]
    assert boundary.finite_numbers("alphas", torch.tensor(2.0)) == [2.0]
    assert boundary.pair("edit", ["a", "b"]) == ("a", "b")
    with pytest.raises(ConfigError, match=r"^x 0 is not a text: expected str, found int"):
        boundary.texts("x", [1])
    with pytest.raises(ConfigError, match=r"^xs: expected a text, or several"):
        boundary.texts("x", None)
    for wrong in ("ab", ("a",), ("a", "b", "c"), 5):
        with pytest.raises(ConfigError, match=r"^edit: expected"):
            boundary.pair("edit", wrong)
    for wrong in (["x"], [float("inf")], "1", [None]):
        with pytest.raises(ConfigError, match=r"^alphas: expected a finite number"):
            boundary.finite_numbers("alphas", wrong)


def test_a_side_of_a_comparison_may_be_placed_by_any_number():
    assert _side(("text", np.int64(2))).position == 2
    assert _side(("text", torch.tensor(2))).position == 2


@pytest.mark.invariant("edges-5")
def test_positions_are_sent_to_a_server_as_numbers():
    body = body_of(Questions.explain, None, "text", positions=np.array([1, 2]))
    assert body == {"text": "text", "positions": [1, 2]}
    assert body_of(Questions.trust, None, "t", position=np.int64(3))["position"] == 3
    with pytest.raises(PositionError, match="a slice of a text that the server reads"):
        body_of(Questions.explain, None, "text", positions=slice(3))


ARRAYS = [np.zeros(0), np.array([1, 2]), torch.zeros(2, 0), torch.tensor([True, False])]


@pytest.mark.invariant("edges-5")
@pytest.mark.parametrize("given", [*ARRAYS, 1, 0, "yes", b"", object()])
def test_what_is_neither_true_nor_false_is_no_score_and_no_pool(given):
    with pytest.raises(ConfigError, match="score: expected true or false"):
        Sampling(score=given)
    with pytest.raises(ConfigError, match="pool: expected mean"):
        Selection(pool=given)
    assert Sampling(score=np.True_).score is True
    assert Selection(pool=np.str_("mean")).pool == "mean"


@pytest.mark.invariant("edges-5")
def test_arrays_without_dimensions_are_one_thing_and_no_texts():
    for given in (np.array("a"), torch.tensor(1), np.array(3.0)):
        with pytest.raises(ConfigError, match="explanations: expected a text, or several"):
            boundary.texts("explanation", given)
        with pytest.raises(ConfigError, match="expected two texts"):
            boundary.pair("edit", given)
    with pytest.raises(ConfigError, match="a finite number"):
        boundary.finite("temperature", 10**400)


@pytest.mark.invariant("edges-5")
@pytest.mark.parametrize("name", ["samples", "best_of", "max_new_tokens"])
def test_more_than_anybody_means_is_refused(name):
    assert getattr(Sampling(**{name: boundary.MOST}), name) == boundary.MOST
    with pytest.raises(ConfigError, match=f"{name}: expected at most 100000"):
        Sampling(**{name: boundary.MOST + 1})


@pytest.mark.invariant("edges-5")
@pytest.mark.parametrize("value", [*ARRAYS, {1: "a"}, {"a", "b"}, object(), b"x"])
def test_a_message_holds_what_json_knows(value):
    good = [{"role": "user", "content": "It rains.", "x": [1, {"a": None}]}]
    assert chat_messages(good, "chat")[0]["x"] == [1, {"a": None}]
    with pytest.raises(CorpusError, match="chat: not a chat"):
        chat_messages([{"role": "user", "content": "It rains.", "x": [value]}], "chat")
