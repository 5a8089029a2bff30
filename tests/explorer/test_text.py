"""Texts as the page shows them: white space, fragments, comparison of words, links."""

import random

import pytest

from gloss.formatting import count, decimal, percent, signed


def test_white_space_and_control_characters_become_visible(modules):
    pieces = modules("js/text.js", "visiblePieces", " a\tb\n\x07")
    assert [(piece["text"], piece["mark"]) for piece in pieces] == [
        ("·", True),
        ("a", False),
        ("⇥\t", True),
        ("b", False),
        ("⏎\n␇", True),
    ]


def test_fragments_of_one_glyph_are_drawn_once(modules):
    tokens = [
        {"position": 0, "token": "a", "fragment_index": 0, "fragment_count": 1},
        {"position": 1, "token": "🦊", "fragment_index": 0, "fragment_count": 2},
        {"position": 2, "token": "🦊", "fragment_index": 1, "fragment_count": 2},
        {"position": 3, "token": "🦊", "fragment_index": 0, "fragment_count": 2},
        {"position": 4, "token": "🦊", "fragment_index": 1, "fragment_count": 2},
    ]
    assert [item["positions"] for item in modules("js/text.js", "drawnTokens", tokens)] == [
        [0],
        [1, 2],
        [3, 4],
    ]


WORDS = ["the", "cat", "sat", "on", "mat", "🦊", "قط", "\n", ".", '"', "'", "hero"]


@pytest.mark.parametrize("seed", range(20))
def test_a_word_diff_holds_both_texts(modules, seed):
    rng = random.Random(seed)
    before, after = (" ".join(rng.choices(WORDS, k=rng.randrange(12))) for _ in range(2))
    parts = modules("js/text.js", "wordDiff", before, after)
    assert "".join(p["text"] for p in parts if p["kind"] != "added") == before
    assert "".join(p["text"] for p in parts if p["kind"] != "removed") == after


def test_a_word_diff_shows_the_one_word_that_changed(modules):
    parts = modules(
        "js/text.js", "wordDiff", "The hero is Sam.\nA verb.", "The hero is Leo.\nA verb."
    )
    assert [(p["kind"], p["text"]) for p in parts] == [
        ("same", "The hero is "),
        ("removed", "Sam"),
        ("added", "Leo"),
        ("same", ".\nA verb."),
    ]


def test_themes_leave_out_what_every_explanation_says(modules):
    texts = [
        f"It ends with {word}. A poem of a fox"
        for word in ("house", "house", "mouse", "mouse", "mouse", "x1", "x2", "x3")
    ]
    words = modules("js/text.js", "commonWords", texts)
    assert words == [{"word": "mouse", "count": 3}, {"word": "house", "count": 2}]


@pytest.mark.parametrize("positions", [[], [0], [3, 7, 8, 9], [0, 1, 2, 5000]])
def test_positions_survive_a_link(modules, positions):
    link = modules("js/route.js", "formatPositions", positions)
    assert modules("js/route.js", "parsePositions", link) == positions


def test_a_text_survives_a_link(modules):
    text = "a & b = c? #1 100% +\n\tقط 🦊 <script>"
    hash_ = modules("js/route.js", "formatHash", "read", {"t": text, "sel": None, "by": ""})
    assert modules("js/route.js", "parseHash", hash_) == {"view": "read", "params": {"t": text}}


def test_the_scale_has_seven_steps_and_says_what_lies_below(modules):
    steps = [
        modules("js/numbers.js", "scaleStep", value, [0, 1])
        for value in (-0.01, 0, 0.5, 0.99, 1, 7, None)
    ]
    assert steps == ["under", "0", "3", "6", "6", "6", None]


@pytest.mark.parametrize(
    ("function", "value", "shown"),
    [
        ("fixed", -0.004, "0.00"),
        ("fixed", -0.5, "−0.50"),
        ("fixed", None, "—"),
        ("signed", 0.5, "+0.50"),
        ("signed", 0.001, "0.00"),
        ("percent", 0.004, "0.40\u00a0%"),
        ("percent", 0.5, "50\u00a0%"),
        ("norm", 23.284, "23.3"),
        ("norm", 80123.4, "80\u202f123"),
    ],
)
def test_numbers_as_they_are_shown(modules, function, value, shown):
    assert modules("js/numbers.js", function, value) == shown


VALUES = (
    0,
    -0.0,
    1,
    -1,
    0.004,
    -0.004,
    0.0095,
    0.00995,
    0.0149,
    0.0195,
    0.0875,
    -0.58,
    1.25,
    12345.6,
)


def test_page_and_terminal_write_numbers_alike(modules):
    forms = {"fixed": decimal, "signed": signed, "percent": percent, "count": count}
    for name, form in forms.items():
        for value in (*VALUES, None):
            assert modules("js/numbers.js", name, value) == form(value), (name, value)


def contrast(one, other):
    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_ink_is_readable_on_every_step_and_in_both_themes():
    import re

    from gloss.explorer.mount import STATIC

    css = (STATIC / "css/base.css").read_text(encoding="utf-8")
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root[^{]*\{([^}]*)\}", css)
    ]
    assert len(themes) == 3
    assert themes[1] == themes[2]
    for theme in themes:
        for ground in ("paper", "card", *(f"q{i}" for i in range(7))):
            assert contrast(theme["ink"], theme[ground]) >= 4.5, ground
        for ink in ("muted", "accent", "good", "bad", "warn"):
            assert contrast(theme[ink], theme["paper"]) >= 4.5, ink
