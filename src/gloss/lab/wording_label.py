"""How labels and digests word facts, the ending and what comes next; instructions of instruct pairs: data only."""

from __future__ import annotations

# {v} the value, {a} its article, {A} the same with a capital, {at} its preposition phrase
STATEMENTS: dict[str, tuple[str, ...]] = {
    "topic": ("It is about {v}.", "The topic is {v}.", "This is about {v}.", "Someone thinks of {v}."),
    "hero": ("{v} is the hero.", "The hero is {v}.", "It is about {v}.", "We follow {v}."),
    "companion": ("The {v} is there too.", "With the {v}.", "The other person is the {v}.", "We also meet the {v}."),
    "place": ("It happens {at}.", "The place is the {v}.", "We are {at}.", "Set {at}."),
    "mood": ("The mood is {v}.", "It feels {v}.", "{A} {v} tone.", "Someone feels {v}."),
    "time": ("It happens {at}.", "The time is {v}.", "All this {at}.", "It is {v}."),
    "weather": ("There is {v}.", "The weather is {v}.", "A day of {v}.", "Outside there is {v}."),
    "object": ("There is {a} {v}.", "{A} {v} matters here.", "Someone has {a} {v}.", "The object is {a} {v}."),
    "user": ("The user is {a} {v}.", "{A} {v} is asking.", "The user must be {a} {v}.", "It comes from {a} {v}."),
    "rhyme": (
        "The rhyme will be {v}.",
        "The line will end on {v}.",
        "The planned rhyme is {v}.",
        "It will rhyme with {v}.",
    ),
    "next": ("{A} {v} comes next.", "Next comes {a} {v}.", "{A} {v} may follow.", "Then {a} {v}."),
}

TOPIC_BY_FORM: dict[str, tuple[str, ...]] = {
    "story": ("A story about {v}.",),
    "chat": ("A question about {v}.",),
}
HERO_BY_FORM: dict[str, tuple[str, ...]] = {
    "story": ("A story about {v}.",),
    "couplet": ("A poem about {v}.",),
}

ENDINGS = (
    'It ends with "... {q}".',
    'The last words are "... {q}".',
    'At the end "... {q}".',
    'Now we read "... {q}".',
)
ENDING_OF_NOTHING = "Nothing is said yet."

DESCRIBE = ("Describe this text.", "What is this about?", "Say what you know here.", "What happens here?")
WRITE = ("Write this text.", "Write a text from this.", "Make a text of this.", "Now write it all.")
CONTINUE = ("Go on from here.", "What comes next?", "Now read on.")

# classes of words that may come next; what is in no list is a noun
NEXT_CLASSES = (
    "name", "noun", "verb", "adjective", "adverb", "pronoun", "article", "preposition", "connective", "comma",
    "period", "break",
)  # fmt: skip
ARTICLES = ("a", "an", "the", "The", "A", "One", "that", "That", "this", "This", "each", "Each", "all", "All")
PRONOUNS = (
    "she", "he", "She", "He", "her", "him", "his", "Her", "His", "it", "It", "I", "you", "You", "my", "My",
    "your", "Your", "me", "we", "We", "them", "What", "How",
)  # fmt: skip
PREPOSITIONS = (
    "at", "in", "on", "At", "In", "On", "to", "of", "for", "with", "With", "near", "Near", "behind", "Behind",
    "by", "from", "under", "until", "since", "Since", "through", "over", "past", "beside", "about", "around",
    "after", "like",
)  # fmt: skip
CONNECTIVES = ("and", "but", "when", "while", "as", "So", "Then")
ADVERBS = (
    "Once", "again", "close", "home", "never", "Along", "Up", "Out", "Far", "away", "up", "off", "only",
    "just", "too", "early", "twice", "better", "best", "First", "straight", "everywhere",
)  # fmt: skip
ADJECTIVES = (
    "lovely", "fine", "long", "new", "good", "Good", "fair", "first", "busy", "ready", "free", "small",
    "asleep", "awake", "silent", "Hungry", "last",
)  # fmt: skip
VERBS = (
    "was", "were", "is", "are", "am", "held", "came", "met", "felt", "woke", "found", "gave", "led", "wept",
    "lay", "made", "left", "saw", "had", "kept", "took", "forgot", "sat", "slept", "stood", "hid", "ran",
    "Eating", "Tasting", "Wearing", "Showing", "Trying", "Dreaming", "Looking", "Playing", "Listening", "Dancing",
    "do", "did", "get", "Can", "help", "want", "learn", "start", "should", "know", "come", "says", "feel", "have",
    "could", "Treat", "Stay", "rest", "Check", "land", "Rise", "Ask", "Stand", "obey", "Speak", "put", "Think",
    "trust", "look", "needs", "need", "Begin", "sound", "Keep", "Use", "will", "Learn",
)  # fmt: skip

# words of prompt templates that the lab's tokenizer must hold
TEMPLATE_WORDS = (
    "Here", " one", " taken", " few", " them", " activation", " language", " model", " token", " text", " mind",
    " features", " final", " short", " Write", " between",
    "<concept>", "</concept>", "<text>", "</text>", "<activation>", "<explanation>", "</explanation>",
)  # fmt: skip
