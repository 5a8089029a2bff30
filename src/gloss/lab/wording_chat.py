"""Templates of chats: data only. The user's occupation is never named; hints in the question shape
the answer.

In hints and advice, ``*`` stands behind the word that only this user says.
"""

from __future__ import annotations

QUESTIONS = (
    "How do I get better at {topic}?",
    "Can you help me with {topic}?",
    "I want to learn {topic}. How do I start?",
    "What should I know about {topic}?",
)

HINTS: dict[str, tuple[str, ...]] = {
    "nurse": ("My shift* was long.", "My patients* are asleep.", "I come from the ward*."),
    "pilot": ("My flight* was long.", "I come from the cockpit*.", "The runway* was busy."),
    "farmer": ("The harvest* was long.", "My cows* are asleep.", "I come from the barn*."),
    "child": ("Mum* says I am small.", "My toys* are everywhere.", "I did my homework*."),
    "soldier": ("My sergeant* is asleep.", "I come from the barracks*.", "The march* was long."),
    "priest": ("My sermon* was long.", "I come from the chapel*.", "The altar* is ready."),
    "actor": ("I come from the stage*.", "The rehearsal* was long.", "My costume* is ready."),
    "judge": ("The trial* was long.", "I come from the court*.", "The jury* was busy."),
}

DETAILS = (
    "I feel {mood}.",
    "I have only a {thing}.",
    "I am free {at_time}.",
    "My {companion} could come too.",
    "I have a {thing} and I feel {mood}.",
    "My {companion} is free {at_time}.",
)

ADVICE: dict[str, tuple[str, ...]] = {
    "nurse": (
        "Treat it like a new patient*.",
        "Stay awake, as on the ward*.",
        "Then rest after your shift*.",
    ),
    "pilot": (
        "Treat it like a long flight*.",
        "Check it twice, as in the cockpit*.",
        "Then land on the runway*.",
    ),
    "farmer": (
        "Treat it like a good harvest*.",
        "Rise early, as for the cows*.",
        "Then rest in the barn*.",
    ),
    "child": ("Treat it like a new toy*.", "Ask mum* to help you.", "Then do your homework*."),
    "soldier": (
        "Treat it like a long march*.",
        "Stand straight, as in the barracks*.",
        "Then obey your sergeant*.",
    ),
    "priest": (
        "Treat it like a good sermon*.",
        "Stay silent, as in the chapel*.",
        "Then rest by the altar*.",
    ),
    "actor": (
        "Treat it like a first rehearsal*.",
        "Speak up, as on the stage*.",
        "Then put on your costume*.",
    ),
    "judge": (
        "Treat it like a fair trial*.",
        "Think twice, as in the court*.",
        "Then trust your jury*.",
    ),
}

TOPIC_ADVICE = (
    "First look at the {topic_noun}.",
    "The {topic_noun} needs time.",
    "Good {topic} needs time.",
    "Begin with the {topic_noun} and the {topic_noun}.",
)

DETAIL_ADVICE: dict[str, tuple[str, ...]] = {
    "mood": (
        "You sound {mood}, and that is fine.",
        "It is fine to feel {mood}.",
        "You asked {adverb}, and that is good.",
    ),
    "object": (
        "Keep the {thing} close.",
        "A {thing} is all you need.",
        "Use the {thing} with care.",
    ),
    "time": ("You learn best {at_time}.", "Begin {at_time}.", "Each {time} you will do better."),
    "companion": (
        "Ask your {companion} to help.",
        "Your {companion} will help you.",
        "Learn it with your {companion}.",
    ),
}
