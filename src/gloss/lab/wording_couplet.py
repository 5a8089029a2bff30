"""Templates of rhyming couplets: data only. Line one ends on A; line two opens by the class of B
and ends on B."""

from __future__ import annotations

FIRST_LINES = (
    "{X} {rested} {a_phrase},",
    "{X} {rested} {adverb} {a_phrase},",
    "{At_time} {x} {rested} {a_phrase},",
    "{X} {mood_verb} {a_phrase},",
    "Once again {x} {rested} {a_phrase},",
    "{X} felt {mood} {a_phrase},",
    "{At_time} {x} {mood_verb} {a_phrase},",
    "{X} {rested} that {time} {a_phrase},",
)
RESTED = ("sat", "slept", "waited", "stood", "hid", "stayed")

SECOND_LINE = "{opener} {filler}{b_phrase}."
OPENERS: dict[str, tuple[str, ...]] = {
    "animal": ("Along came a", "Up jumped a", "Out ran a"),
    "food": ("Eating all the", "Hungry for the", "Tasting only the"),
    "clothes": ("Wearing just the", "Showing off the", "Trying on the"),
    "nature": ("Dreaming of the", "Far away from the", "Looking for the"),
    "sound": ("Playing on the", "Listening to the", "Dancing to the"),
}
FILLERS = ("", "", "fine ", "lovely ")
