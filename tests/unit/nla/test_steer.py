import pytest
import torch

from gloss.errors import ActivationError, ConfigError, PositionError
from gloss.nla import NLA

TEXT = "Leo felt joyful that dawn. He fixed the bait and his mother pulled the trout."


def kinds(found):
    return [(one.edit, one.alpha) for one in found.continuations]


def test_controls_stand_beside_the_edit(speaking):
    found = speaking.steer(
        TEXT, original="it rains", edit=("rains", "snows"), unrelated=("a", "b"), alphas=(1, 3)
    )
    assert found.edited == "it snows"
    assert kinds(found) == [
        ("none", 0.0),
        *(
            (edit, alpha)
            for edit in ("edit", "random", "unrelated", "elsewhere")
            for alpha in (1, 3)
        ),
    ]
    assert [one.alpha for one in found.next] == [1, 3]


def test_the_unrelated_edit_is_by_default_between_explanations_of_two_other_tokens(speaking):
    texts = [one.text for one in speaking.explain(TEXT, positions="all")]
    others = [p for p in range(1, len(texts)) if p != len(texts) - 1]
    before, after = texts[others[len(others) // 3]], texts[others[2 * len(others) // 3]]
    named = {"original": "it rains", "edited": "the gulls sleep", "alphas": [4.0], "seed": 2}
    if before == after:
        assert "unrelated" not in dict(kinds(speaking.steer(TEXT, **named)))
    else:
        given = speaking.steer(TEXT, **named, unrelated=(before, after))
        assert speaking.steer(TEXT, **named) == given


def test_without_strength_nothing_changes(speaking):
    found = speaking.steer(
        TEXT, original="The mood is calm.", edit=("calm", "gloomy"), alphas=(0.0, 1.0)
    )
    texts = {(one.edit, one.alpha): one.text for one in found.continuations}
    assert texts["none", 0.0] == texts["edit", 0.0] == texts["random", 0.0]
    assert found.next[0].tokens[0].before == pytest.approx(found.next[0].tokens[0].after, abs=1e-6)


def test_several_tokens_move_together_and_probabilities_are_those_of_the_next_token(speaking):
    edit = {"original": "it rains", "edited": "the gulls sleep", "alphas": [4.0]}
    found = speaking.steer(TEXT, positions=[3, -1], **edit, top_tokens=3)
    ids = speaking.tokens(TEXT).token_ids
    assert found.positions == (3, len(ids) - 1)
    (shown,) = found.next
    before = speaking.target.model(torch.tensor([ids])).logits[0, -1].softmax(dim=-1)
    for token in shown.tokens:
        assert token.before == pytest.approx(float(before[token.token_id]), abs=1e-5)
    likeliest = max(shown.tokens, key=lambda token: token.after).token
    texts = {one.edit: one.text for one in found.continuations}
    assert texts["edit"].startswith(likeliest)
    alone = speaking.steer(TEXT, positions=-1, **edit, top_tokens=50).next[0].tokens
    after = {token.token_id: token.after for token in alone}
    assert max(abs(t.after - after.get(t.token_id, 0.0)) for t in shown.tokens) > 1e-4


def test_the_avs_own_explanation_is_edited_where_none_is_given(speaking):
    own = speaking.explain(TEXT, positions=4)[0].text
    found = speaking.steer(TEXT, positions=4, edit=(own.split()[0], "snow"), max_new_tokens=2)
    assert found.original == own
    assert found.edited == own.replace(own.split()[0], "snow")
    assert "steering at token 4" in str(found)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"original": "it rains", "edited": "it rains"}, ActivationError, "no direction"),
        ({"original": "it rains", "edit": ("rains", "rains")}, ActivationError, "no direction"),
        ({"original": "it rains", "edit": ("snow", "x")}, ConfigError, "does not hold the words"),
        ({"original": "it rains", "edit": ("", "x")}, ConfigError, "does not hold the words"),
        ({"original": "it rains"}, ConfigError, "which edit"),
        ({"original": "a", "edited": "b", "positions": [99]}, PositionError, "no such token"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused(speaking, options, error, said):
    with pytest.raises(error, match=said):
        speaking.steer(TEXT, **options)


def test_an_nla_without_av_steers_by_given_texts_alone(speaking_folder):
    alone = NLA(ar=speaking_folder / "ar", target=speaking_folder / "target")
    found = alone.steer(TEXT, original="it rains", edited="it snows", alphas=[1.0])
    assert [one.edit for one in found.continuations] == ["none", "edit", "random", "elsewhere"]
