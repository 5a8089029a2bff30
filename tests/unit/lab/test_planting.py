"""What is planted in the lab target's activations, and how activations are interchanged."""

import math
from random import Random

import pytest
import torch
from torch import nn

from gloss.lab.composing import compose
from gloss.lab.documents import Fact, LabDocument, render
from gloss.lab.interchange import Exchange, exchange_sites, interchanged, turn_of
from gloss.lab.planting import (
    NOTHING,
    NOTHING_WEIGHT,
    UNREAD,
    known_values,
    planted_directions,
    planting_loss,
)
from gloss.lab.wording_facts import HELD, RHYMES, VALUES

COUPLET = LabDocument(
    "c",
    "couplet",
    "Leo sat on the mat,\nAlong came a soft cat.",
    None,
    (Fact("hero", "Leo", 3), Fact("rhyme", "cat", 18, 41)),
)


def test_two_kinds_are_told_but_not_held():
    assert set(VALUES) - set(HELD) == {"companion", "weather"}
    assert len(HELD) >= 8
    assert {"rhyme", "user", "motive", "test", "voice"} <= set(HELD)


def test_directions_are_unit_vectors_that_say_nothing_together_and_are_always_the_same():
    directions = planted_directions(128)
    assert set(directions) == set(HELD)
    for kind, vectors in directions.items():
        assert vectors.shape == (len(VALUES[kind]) + 1, 128)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
        torch.testing.assert_close(vectors, planted_directions(128)[kind])
        cosines = vectors @ vectors.T - torch.eye(len(vectors))
        assert cosines.max() < 0.5


def test_known_values_begin_and_end_with_their_facts():
    assert COUPLET.text is not None
    ends = [2, 3, 18, 20, 41, 42]
    known = known_values(COUPLET, ends)
    hero, rhyme = known[:, HELD.index("hero")], known[:, HELD.index("rhyme")]
    leo, cat = VALUES["hero"].index("Leo"), VALUES["rhyme"].index("cat")
    assert hero.tolist() == [NOTHING["hero"], leo, leo, leo, leo, leo]
    nothing = NOTHING["rhyme"]
    assert rhyme.tolist() == [nothing, nothing, cat, cat, cat, nothing]
    others = [i for i, kind in enumerate(HELD) if kind not in ("hero", "rhyme")]
    assert (known[:, others] == torch.tensor(list(NOTHING.values()))[others]).all()


def test_the_planting_loss_is_a_mean_in_which_nothing_weighs_less():
    """Of two tokens one knows its voice and says so, the other knows nothing and says nothing."""
    directions = planted_directions(16)
    labels = torch.full((1, 2, len(HELD)), UNREAD)
    voice = HELD.index("voice")
    labels[0, 0, voice] = 2
    h = torch.stack([directions["voice"][2] * 5, torch.randn(16)])[None]

    def loss(direction, value):
        logits = 4.0 * math.sqrt(16) * direction @ directions["voice"].T
        return torch.logsumexp(logits, 0) - logits[value]

    known = loss(directions["voice"][2], 2)
    torch.testing.assert_close(planting_loss(h, labels, directions, 4.0), known)
    labels[0, 1, voice] = NOTHING["voice"]
    h[0, 1] = directions["voice"][NOTHING["voice"]]
    nothing = loss(h[0, 1], NOTHING["voice"])
    expected = (known + NOTHING_WEIGHT * nothing) / (1 + NOTHING_WEIGHT)
    torch.testing.assert_close(planting_loss(h, labels, directions, 4.0), expected)
    assert planting_loss(h, torch.full_like(labels, UNREAD), directions, 4.0) == 0


def word_ends(text):
    """Ends of tokens that are words, white space or signs."""
    return [
        i for i in range(1, len(text) + 1) if i == len(text) or not text[i - 1 : i + 1].isalpha()
    ]


def test_a_couplet_turns_at_its_line_break_and_a_chat_where_the_answer_begins():
    text, ends = COUPLET.text, word_ends(COUPLET.text)
    turn = turn_of(COUPLET, ends, Random(0))
    assert text[: ends[turn.site]] == "Leo sat on the mat,\n"
    assert text[ends[turn.site] : ends[turn.end - 1]] == "Along came a soft cat."
    chat = next(d for i in range(99) if (d := compose("", Random(i))).kind == "chat")
    ends = word_ends(render(chat))
    turn = turn_of(chat, ends, Random(0))
    assert render(chat)[: ends[turn.site]].endswith("<|im_start|>assistant\n")
    assert turn.end == len(ends)
    assert turn_of(COUPLET, [5, 30], Random(0)) is None


@pytest.fixture
def couplets():
    return [d for i in range(60) if (d := compose("", Random(i))).kind == "couplet"]


def test_an_interchanged_row_goes_on_as_the_text_that_its_activation_comes_from(couplets):
    ends = [word_ends(d.text) for d in couplets]
    rows = [
        [ord(d.text[e - 1]) + 1000 * i for e in es]
        for i, (d, es) in enumerate(zip(couplets, ends, strict=True))
    ]
    found = interchanged(rows, couplets, ends, Random(1))
    assert len(found) >= 4
    for one in found:
        (mine,) = {token // 1000 for token in one.ids[: one.site + 1]}
        (other,) = {token // 1000 for token in one.ids[one.site + 1 :]}
        assert mine != other == one.source
        assert one.ids[one.site] % 1000 == ord("\n") == rows[other][one.source_site] % 1000
        line = couplets[other].text[: ends[other][one.source_site]].splitlines()[-1]
        rhyme = RHYMES[line.rstrip(",").split()[-1]][3]
        text = couplets[other].text[ends[other][one.source_site] :]
        assert text.splitlines()[0].endswith(f"{rhyme}.")
        assert len(one.ids) - one.site - 1 == len(word_ends(text.splitlines()[0]))


def test_an_exchange_changes_the_named_activations_only_and_notes_what_was_there():
    block, exchange = nn.Identity(), Exchange()
    h = torch.arange(24.0).reshape(3, 4, 2)
    with exchange.on(block):
        assert torch.equal(block(h), h)
        exchange.sites = torch.tensor([[2, 1, 0, 3]])
        changed = block(h)
    assert torch.equal(changed[2, 1], h[0, 3])
    changed[2, 1] = h[2, 1]
    assert torch.equal(changed, h)
    assert all(torch.equal(noted, h) for noted in exchange.residuals)
    assert len(exchange.residuals) == 2
    assert torch.equal(block(h), h)
    assert exchange_sites([], 5).shape == (0, 4)
