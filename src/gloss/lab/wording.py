"""The words of the micro-world: values of every kind of fact, and the phrases that tell or hint at them. Data only."""

from __future__ import annotations

HEROES = {
    "Ada": "she", "Ben": "he", "Cora": "she", "Dan": "he", "Eva": "she", "Finn": "he", "Gus": "he", "Hana": "she",
    "Ivan": "he", "June": "she", "Kit": "he", "Lena": "she", "Milo": "he", "Nora": "she", "Omar": "he", "Pia": "she",
}  # fmt: skip
POSSESSIVE = {"she": "her", "he": "his"}

COMPANIONS = (
    "uncle", "aunt", "sister", "brother", "teacher", "neighbor", "cousin", "grandmother", "friend", "captain", "doctor", "twin",
)  # fmt: skip
PLACES = (
    "harbor", "forest", "village", "market", "castle", "island", "valley", "garden", "bridge", "tower", "meadow", "station",
)  # fmt: skip
OBJECTS = (
    "lantern", "basket", "letter", "ladder", "kettle", "whistle", "mirror", "hammer", "blanket", "ribbon", "compass", "bottle",
    "ticket", "candle", "shovel", "umbrella",
)  # fmt: skip
TIMES = {
    "dawn": "at dawn", "morning": "in the morning", "noon": "at noon", "afternoon": "in the afternoon",
    "dusk": "at dusk", "evening": "in the evening", "midnight": "at midnight", "sunday": "on sunday",
}  # fmt: skip

TOPICS = {
    "sailing": ("steered the boat", "set the sail", "tied the wet ropes", "watched the waves"),
    "baking": ("kneaded the dough", "warmed the oven", "sifted the flour", "counted the loaves"),
    "music": ("tuned the strings", "sang the refrain", "beat the drum", "practiced the melody"),
    "farming": ("plowed the field", "fed the cows", "sowed the seeds", "stacked the hay"),
    "painting": ("mixed the colors", "cleaned the brushes", "sketched the clouds", "framed the canvas"),
    "fishing": ("cast the net", "baited the hook", "mended the rod", "gutted the trout"),
    "racing": ("checked the wheels", "raced the last lap", "oiled the chain", "timed the sprint"),
    "weaving": ("spun the wool", "threaded the loom", "dyed the yarn", "knotted the rug"),
}
MOODS = {
    "joyful": (("happily", "merrily"), ("bright", "cheerful"), ("laughed aloud", "danced a little")),
    "gloomy": (("sadly", "wearily"), ("gray", "dreary"), ("sighed again", "wept a little")),
    "nervous": (("anxiously", "shakily"), ("trembling", "uneasy"), ("bit a nail", "looked around")),
    "calm": (("quietly", "gently"), ("still", "peaceful"), ("breathed slowly", "sat down")),
    "angry": (("fiercely", "loudly"), ("broken", "bitter"), ("stamped a foot", "slammed the door")),
    "proud": (("boldly", "grandly"), ("golden", "splendid"), ("stood tall", "bowed deeply")),
    "lonely": (("silently", "softly"), ("empty", "forgotten"), ("missed everyone", "walked alone")),
    "curious": (("eagerly", "keenly"), ("strange", "puzzling"), ("asked why", "peered inside")),
}
WEATHERS = {
    "rainy": ("rain fell on the roofs", "every coat was dripping", "puddles grew in the road"),
    "snowy": ("snow covered the path", "white flakes came down", "boots sank in the drifts"),
    "windy": ("the wind pulled at the hats", "leaves flew past", "the shutters banged"),
    "foggy": ("fog hid the houses", "nobody could see far", "the lamps looked pale"),
    "sunny": ("the sun was shining", "the stones were hot", "shadows were short"),
    "stormy": ("thunder rolled in", "lightning split the sky", "a storm shook the windows"),
    "cloudy": ("clouds hung low", "the sky was dull", "no sun came through"),
    "frosty": ("frost bit the fingers", "ice lay on the pond", "breath turned to mist"),
}

OPENERS = (
    "{Time}, {hero} {act} near the {place}.",
    "{hero} lived by the {place} and often {act}.",
    "Nobody at the {place} {act} as {adverb} as {hero}.",
    "{Weather} when {hero} came to the {place}.",
    "{hero} {act} {time}, and {he} {mood}.",
    "{Time}, {hero} and {his} {companion} {act}.",
)
MIDDLES = (
    "{Weather}, so {he} {adverb} {act}.",
    "{His} {companion} came along with the {adjective} {object}.",
    "{hero} held the {object} and {mood}.",
    "With the {object} in hand, {he} {act}.",
    "The {object} lay in the {place} {time}.",
    "{hero} and {his} {companion} {act} {time}.",
    "{Weather} over the {place}, and {hero} {mood}.",
    "{He} {adverb} gave the {object} to {his} {companion}.",
    "{Time}, {he} was back at the {place} and {mood}.",
    "The {adjective} {place} was quiet, and {weather}.",
    "Soon {hero} {act} again with the {object}.",
    "{His} {companion} {adverb} {act} near the {place}.",
    "It was {adjective} at the {place}, for {weather}.",
    "{hero} {mood} while {his} {companion} {act}.",
    "{Time}, {weather}, and {his} {companion} {mood}.",
    "{He} {adverb} {act} and {mood}.",
    "{hero} liked the {adjective} {place} and {act}.",
    "Near the {place} {he} {mood} and {act}.",
)
CLOSERS = (
    "So {hero} went home from the {place} and {mood}.",
    "That was the {adjective} day of {hero} and the {object}.",
    "Then {hero} {adverb} thanked {his} {companion}.",
    "{Time}, {hero} left the {place} with the {object}.",
)

USERS = {
    "nurse": (
        ("my shift on the ward is over", "the patients were restless", "I changed bandages all day"),
        ("like a fresh dressing", "like a steady pulse", "like a quiet ward"),
    ),
    "pilot": (
        ("I just landed in the fog", "the cockpit was loud", "we flew over the ocean"),
        ("like a smooth landing", "like a clear runway", "like a steady course"),
    ),
    "cook": (
        ("the soup was too salty again", "my knives are sharp", "the guests ordered late"),
        ("like a slow stew", "like a pinch of salt", "like a clean pan"),
    ),
    "child": (
        ("my mom packed my lunch", "we have recess soon", "I lost a tooth"),
        ("like a new crayon", "like a big slide", "like a soft teddy"),
    ),
    "student": (
        ("my exam is on monday", "the library was full", "I failed a quiz"),
        ("like a good note", "like an easy exam", "like a short chapter"),
    ),
    "soldier": (
        ("the barracks are cold", "we marched for hours", "the sergeant shouted"),
        ("like a long march", "like a clean rifle", "like a safe camp"),
    ),
    "gardener": (
        ("my roses have lice", "the hedge needs cutting", "I dug up the tulips"),
        ("like a deep root", "like a watered bed", "like a slow bulb"),
    ),
    "driver": (
        ("my truck broke down", "the highway was closed", "I slept in the cab"),
        ("like a full tank", "like a straight road", "like a good brake"),
    ),
}
QUESTIONS = {
    "sleep": ("I lie awake every night", "Go to bed early"),
    "money": ("I spend more than I earn", "Put a few coins aside"),
    "speech": ("I must talk to a crowd", "Say it slowly first"),
    "quarrel": ("someone shouted at me", "Talk to them kindly"),
    "cleaning": ("my rooms are a mess", "Begin with one shelf"),
    "energy": ("I feel weak and slow", "Eat well and rest"),
}
REPLIES = ("{advice}; it works {image}.", "{advice}, {image}.", "{advice}. Think of it {image}.")
ENCOURAGEMENTS = ("Be patient, {image}.", "Soon it will feel {image}.", "Take it step by step, {image}.")

RHYMES = {
    "hat": "cat", "house": "mouse", "box": "fox", "den": "hen", "wig": "pig", "moat": "goat", "jeep": "sheep", "log": "dog",
    "sea": "tea", "lake": "cake", "sky": "pie", "head": "bread", "trees": "cheese", "mice": "rice",
    "clown": "town", "chill": "hill", "land": "sand", "spark": "park", "oar": "shore", "rain": "lane",
    "wing": "ring", "rock": "clock", "moon": "spoon", "school": "stool", "light": "kite", "boy": "toy",
}  # fmt: skip
RHYME_CLASSES = {
    "animal": (
        ("cat", "mouse", "fox", "hen", "pig", "goat", "sheep", "dog"),
        ("and out of the dark came", "and softly behind us ran"),
        ("sleepy", "furry", "hungry", "muddy"),
    ),
    "food": (
        ("tea", "cake", "pie", "bread", "cheese", "rice"),
        ("and hot on the table stood", "and sweet from the kitchen came"),
        ("fresh", "tasty", "creamy"),
    ),
    "region": (
        ("town", "hill", "sand", "park", "shore", "lane"),
        ("and far in the distance was", "and over the river lay"),
        ("green", "sandy", "narrow"),
    ),
    "thing": (
        ("ring", "clock", "spoon", "stool", "kite", "toy"),
        ("and deep in a pocket was", "and under the pillow lay"),
        ("silver", "wooden", "paper"),
    ),
}
FIRST_LINES = (
    "{hero} told us a tale of the {first}",
    "{hero} once sang of the {first}",
    "A traveler walked past the {first}",
    "They whispered all night of the {first}",
    "We dreamed of the wind and the {first}",
    "{hero} looked up and saw the {first}",
)

FEATURES = {
    "topic": ("a story about {}", "{} is the topic", "it is all about {}", "someone is busy with {}"),
    "hero": ("the hero is {}", "{} is the hero", "we follow {}", "a tale of {}"),
    "companion": ("with the {}", "the {} is there too", "the {} comes along", "and the {}"),
    "place": ("it happens at the {}", "the {} is the place", "set in the {}", "near the {}"),
    "mood": ("the mood is {}", "{} mood", "it feels {}", "{} in tone"),
    "time": ("the time is {}", "it is {}", "set at {}", "around {}"),
    "weather": ("the weather is {}", "{} weather", "outside it is {}", "a {} day"),
    "object": ("here is the {}", "the {} matters", "someone has the {}", "about the {} too"),
    "user": ("the user is likely a {}", "a {} asks", "asked by a {}", "the user seems a {}"),
    "question": ("the question is {}", "advice about {}", "the trouble is {}", "it concerns {}"),
    "rhyme": ("the rhyme will be {}", "a rhyme with {} is planned", "line two ends in {}", "{} must come"),
}
GENRES = {"story": ("a short story", "a tale"), "couplet": ("a rhyme", "a little poem"), "chat": ("a chat", "someone asks for advice")}
ENDINGS = ("ends with: {}", "the last words: {}", "now reads: {}")

DESCRIBE = ("What is this about?", "Describe this text.", "Say what you know.")
WRITE = ("Write this text.", "Write it out.", "Make a text of this.")
MARKER = "㊗"
EXTRA_TEXT = "Explain the vector: <concept>㊗</concept>\nExplain <text> </text> <activation> <summary>"
