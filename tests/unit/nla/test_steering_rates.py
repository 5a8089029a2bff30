import pytest

from gloss.nla.steering_rates import new_words, rates_of, verdict, wilson
from gloss.nla.steering_result import SteeringRate

TEXT = "Leo felt joyful that dawn. He fixed the bait and his mother pulled the trout."


@pytest.mark.parametrize(
    ("original", "edited", "brought"),
    [
        ("The rhyme will be cake.", "The rhyme will be bread.", "bread"),
        ("A calm tone.", "A very gloomy tone.", "very gloomy"),
        ("It rains. A calm tone.", "It rains.", ""),
        ("It rains and it snows.", "It snows and it rains.", ""),
        ("", "It snows.", "It snows"),
    ],
)
def test_what_an_edit_brought_in(original, edited, brought):
    assert new_words(original, edited) == brought


def test_whole_words_are_counted_in_whatever_case():
    found = rates_of("fine bread", {("edit", 1.0): ["Fine bread.", "fine, bread", "fine breads"]})
    assert [(one.written, one.samples) for one in found] == [(2, 3)]


def test_the_interval_is_wilsons():
    low, high = wilson(2, 8)  # (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n), z = 1.96
    assert (low, high) == pytest.approx((0.0715, 0.5907), abs=1e-4)


def rates(**written):
    return [
        SteeringRate(name, 0.0 if name == "none" else 1.0, count, 8, (0.0, 1.0))
        for name, count in written.items()
    ]


def test_the_edit_did_it_where_every_control_stays_behind():
    # one-sided: 5 of 8 against 0 of 8 happens by chance in 1.3 %, 4 of 8 against 0 in 3.8 %
    said = verdict("bread", rates(none=0, edit=5, random=0, elsewhere=0))
    assert said.startswith("the edit did it: 'bread' in 5 of 8 at α 1, at most 0 of 8 without it")


@pytest.mark.invariant("steering-rates")
@pytest.mark.parametrize("one", ["none", "random", "unrelated", "elsewhere"])
def test_a_single_control_that_does_the_same_takes_it_away(one):
    written = {"none": 0, "random": 0, "unrelated": 0, "elsewhere": 0, one: 5, "edit": 8}
    assert verdict("bread", rates(**written)).startswith("not shown: 'bread' in 8 of 8")


def test_several_strengths_ask_for_more():
    of_one = rates(none=0, edit=4, random=0)
    assert verdict("bread", of_one).startswith("the edit did it")  # 3.8 % is below 5 %
    weaker = SteeringRate("edit", 0.5, 0, 8, (0.0, 1.0))
    assert verdict("bread", [*of_one, weaker]).startswith("not shown")  # and above 5 % / 2


def test_nothing_is_said_where_nothing_was_counted(speaking):
    named = {"original": "it rains", "edited": "it snows", "alphas": [1.0], "max_new_tokens": 2}
    assert speaking.steer(TEXT, **named, samples=0).verdict == ""
    assert speaking.steer(TEXT, original="it rains now", edited="it rains").rates == ()


def test_samples_are_drawn_for_every_direction_and_no_two_alike_by_their_seeds(speaking):
    named = {"original": "it rains", "edited": "the gulls sleep", "alphas": [1.0, 2.0]}
    found = speaking.steer(TEXT, **named, samples=3, wanted="the", max_new_tokens=6)
    assert [(one.edit, one.alpha) for one in found.rates] == [
        (one.edit, one.alpha) for one in found.continuations
    ]
    assert {one.samples for one in found.rates} == {3}
    again = speaking.steer(TEXT, **named, samples=3, wanted="the", max_new_tokens=6)
    assert again == found
    assert found.verdict.split(":")[0] in ("not shown", "the edit did it")
    assert found.verdict.split(":")[0] in str(found)
