import pytest
import torch
from tiny_nla import D_MODEL

from gloss.errors import ActivationError
from gloss.nla import NLA, Side

TEXT = "Leo felt joyful that dawn. He fixed the bait and his mother pulled the trout."


def test_the_difference_and_both_sides_are_explained(speaking):
    found = speaking.compare((TEXT, 2), (TEXT, 9))
    activations = speaking.activations(TEXT)
    difference = activations[2] - activations[9]
    assert found.norm == pytest.approx(float(difference.norm()), rel=1e-4)
    similarity = torch.nn.functional.cosine_similarity(activations[2], activations[9], dim=0)
    assert found.similarity == pytest.approx(float(similarity), abs=1e-4)
    assert found.text == speaking.explain(difference)[0].text
    own = speaking.explain(TEXT, positions=[2, 9])
    assert [(side.position, side.token, side.text) for side in found.sides] == [
        (one.position, one.token, one.text) for one in own
    ]
    assert [side.fve for side in found.sides] == pytest.approx([one.fve for one in own], abs=1e-5)


def test_a_side_is_a_text_a_chat_or_an_activation(speaking):
    chat = [{"role": "user", "content": "It rains."}]
    found = speaking.compare(chat, torch.ones(D_MODEL))
    assert found.sides[0].position == len(speaking.tokens(chat).tokens) - 1
    assert (found.sides[1].position, found.sides[1].token) == (None, None)
    assert "first − second" in str(found)
    with pytest.raises(ActivationError, match="a side of a comparison is one activation"):
        speaking.compare(TEXT, torch.ones(2, D_MODEL))


def test_a_thing_compared_with_itself_has_no_difference_to_explain(speaking):
    found = speaking.compare(torch.ones(D_MODEL), torch.ones(D_MODEL))
    assert (found.text, found.norm, found.fve) == (None, 0.0, None)
    assert found.similarity == pytest.approx(1, abs=1e-5)


def test_a_side_can_be_read_by_another_nla(speaking, nla_folder):
    other = NLA(nla_folder)
    found = speaking.compare(TEXT, Side(TEXT, questions=other.questions()))
    assert found.sides[1].norm == pytest.approx(float(other.activations(TEXT)[-1].norm()), rel=1e-5)
    assert found.sides[1].text is None
