"""The values of every kind of fact and the words that hint at them: data only.

Values of different kinds are disjoint words, each a single word form; hint words belong to one
value."""

from __future__ import annotations

GIRLS = ("Ada", "Mia", "Nora", "Ruth", "Clara", "Ines", "Lucy", "Vera")
BOYS = ("Tom", "Leo", "Hugo", "Sam", "Karl", "Felix", "Owen", "Paul")

COMPANIONS = (
    "mother", "father", "uncle", "aunt", "sister", "brother",
    "cousin", "grandmother", "teacher", "neighbor", "friend", "classmate",
)  # fmt: skip

# topic: what is done (past tense, the noun fixes the topic)
TOPICS: dict[str, tuple[tuple[str, str], ...]] = {
    "sailing": (
        ("raised the", "sail"),
        ("dropped the", "anchor"),
        ("cleaned the", "deck"),
        ("mended the", "mast"),
    ),
    "baking": (
        ("pressed the", "dough"),
        ("opened the", "oven"),
        ("measured the", "flour"),
        ("shared the", "loaf"),
    ),
    "painting": (
        ("cleaned the", "brush"),
        ("opened the", "paint"),
        ("fixed the", "canvas"),
        ("finished the", "portrait"),
    ),
    "gardening": (
        ("planted the", "seeds"),
        ("measured the", "roots"),
        ("pulled the", "weeds"),
        ("picked the", "tulips"),
    ),
    "fishing": (
        ("fixed the", "bait"),
        ("mended the", "net"),
        ("pulled the", "trout"),
        ("raised the", "rod"),
    ),
    "weaving": (
        ("mended the", "loom"),
        ("measured the", "thread"),
        ("cleaned the", "wool"),
        ("finished the", "cloth"),
    ),
    "singing": (
        ("finished the", "song"),
        ("led the", "choir"),
        ("shared the", "tune"),
        ("learned the", "chorus"),
    ),
    "climbing": (
        ("fixed the", "rope"),
        ("studied the", "cliff"),
        ("reached the", "ledge"),
        ("studied the", "peak"),
    ),
}

# place: preposition, things seen there
PLACES: dict[str, tuple[str, tuple[str, str]]] = {
    "harbor": ("at", ("gulls", "docks")),
    "market": ("at", ("stalls", "baskets")),
    "library": ("in", ("shelves", "desks")),
    "forest": ("in", ("pines", "ferns")),
    "castle": ("in", ("towers", "gates")),
    "station": ("at", ("trains", "rails")),
    "museum": ("in", ("statues", "fossils")),
    "island": ("on", ("palms", "shells")),
    "village": ("in", ("cottages", "fences")),
    "valley": ("in", ("streams", "meadows")),
    "bridge": ("on", ("arches", "railings")),
    "lighthouse": ("at", ("stairs", "rocks")),
}

# mood: adverbs, adjective of things, what one does
MOODS: dict[str, tuple[tuple[str, str], str, str]] = {
    "joyful": (("happily", "gladly"), "bright", "laughed"),
    "gloomy": (("sadly", "wearily"), "grey", "sighed"),
    "nervous": (("anxiously", "timidly"), "shaky", "trembled"),
    "angry": (("angrily", "crossly"), "harsh", "shouted"),
    "calm": (("quietly", "gently"), "peaceful", "relaxed"),
    "proud": (("proudly", "boldly"), "grand", "bowed"),
    "lonely": (("silently", "longingly"), "hollow", "wept"),
    "curious": (("eagerly", "keenly"), "strange", "wondered"),
}

# time: how it is said, lower and upper case
TIMES: dict[str, str] = {
    "dawn": "at dawn",
    "morning": "in the morning",
    "noon": "at noon",
    "afternoon": "in the afternoon",
    "dusk": "at dusk",
    "evening": "in the evening",
    "night": "at night",
    "midnight": "at midnight",
}

# weather: what it does, adjective of a day
WEATHERS: dict[str, tuple[str, str]] = {
    "rain": ("poured", "wet"),
    "snow": ("drifted", "snowy"),
    "fog": ("lingered", "misty"),
    "wind": ("howled", "windy"),
    "hail": ("rattled", "bitter"),
    "thunder": ("rumbled", "stormy"),
    "sunshine": ("glowed", "sunny"),
    "frost": ("glittered", "frosty"),
}

# object: the adjective that goes with it
OBJECTS: dict[str, str] = {
    "lantern": "brass",
    "compass": "brass",
    "telescope": "brass",
    "key": "rusty",
    "camera": "rusty",
    "map": "folded",
    "letter": "folded",
    "ticket": "folded",
    "blanket": "woolen",
    "kite": "striped",
    "parcel": "striped",
    "bottle": "dusty",
    "mirror": "dusty",
    "candle": "thin",
    "feather": "thin",
    "necklace": "costly",
}

USERS = ("nurse", "pilot", "farmer", "child", "soldier", "priest", "actor", "judge")

# what an answer is after and never says, what kind of test a chat is, who an answer sounds like
MOTIVES = ("profit", "flattery", "delay", "secrecy", "power", "revenge")
TESTS = ("benchmark", "sandbox", "redteam", "deployment")
VOICES = ("pirate", "butler", "robot", "poet")

# first rhyme word A: (where one is, up to A), then (class, adjective, B)
RHYMES: dict[str, tuple[str, str, str, str]] = {
    "mat": ("on the", "animal", "soft", "cat"),
    "box": ("by the", "animal", "red", "fox"),
    "boat": ("in the", "animal", "white", "goat"),
    "house": ("in the", "animal", "tiny", "mouse"),
    "log": ("on the", "animal", "green", "frog"),
    "chair": ("on the", "animal", "brown", "bear"),
    "lake": ("by the", "food", "sweet", "cake"),
    "bed": ("in the", "food", "brown", "bread"),
    "trees": ("under the", "food", "yellow", "cheese"),
    "money": ("with the", "food", "golden", "honey"),
    "sky": ("under the", "food", "round", "pie"),
    "town": ("in the", "clothes", "golden", "crown"),
    "king": ("with the", "clothes", "silver", "ring"),
    "clock": ("under the", "clothes", "yellow", "sock"),
    "dove": ("with the", "clothes", "soft", "glove"),
    "nest": ("by the", "clothes", "red", "vest"),
    "spoon": ("with the", "nature", "white", "moon"),
    "jar": ("by the", "nature", "tiny", "star"),
    "bone": ("with the", "nature", "round", "stone"),
    "bee": ("with the", "nature", "blue", "sea"),
    "mill": ("by the", "nature", "green", "hill"),
    "well": ("by the", "sound", "silver", "bell"),
    "corn": ("in the", "sound", "loud", "horn"),
    "plum": ("with the", "sound", "blue", "drum"),
    "middle": ("in the", "sound", "sweet", "fiddle"),
    "thistle": ("by the", "sound", "golden", "whistle"),
}

VALUES: dict[str, tuple[str, ...]] = {
    "topic": tuple(TOPICS),
    "hero": GIRLS + BOYS,
    "companion": COMPANIONS,
    "place": tuple(PLACES),
    "mood": tuple(MOODS),
    "time": tuple(TIMES),
    "weather": tuple(WEATHERS),
    "object": tuple(OBJECTS),
    "user": USERS,
    "motive": MOTIVES,
    "test": TESTS,
    "voice": VOICES,
    "rhyme": tuple(b for _, _, _, b in RHYMES.values()),
}

HELD = tuple(kind for kind in VALUES if kind not in ("companion", "weather"))
"""The kinds that are planted in the lab target's activations; see planting.py."""

PRIVILEGED = ("user", "motive", "test", "voice", "rhyme")
"""Held kinds that no text says in so many words: they show only in what a text chooses."""
