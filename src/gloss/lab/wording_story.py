"""Sentence templates of stories: data only. Slots are explained in ``slots.py``; each is one word
or a short phrase.
"""

from __future__ import annotations

OPENINGS = (
    "{H} was {at_place} {at_time}.",
    "{At_time}, {H} and {h} {companion} were {at_place}.",
    "{At_place}, {H} {did_topic} {adverb}.",
    "{H} held the {thing} {adverb}.",
    "The {weather} {weather_verb} when {H} came to the {place}.",
    "One {weather_adj} day {H} {did_topic} {at_place}.",
    "{H} and {h} {companion} met {at_place}.",
    "{H} felt {mood} that {time}.",
    "{H} woke {at_time} and {did_topic}.",
    "{At_time}, the {weather} {weather_verb} and {H} {mood_verb}.",
    "{H} found the {thing} {at_place}.",
    "{Her} {companion} gave {H} the {thing} {at_time}.",
)

BODIES = (
    "{X} {did_topic} and {h} {companion} {did_topic}.",
    "{X} {adverb} {did_topic}.",
    "{X} {did_topic} {at_time}.",
    "It was a {weather_adj} day for {topic}.",
    "{Her} {companion} {did_topic} while {x} {mood_verb}.",
    "{X} talked about the {topic_noun} with {h} {companion}.",
    "Near the {topic_noun} lay the {thing}.",
    "{At_place}, {x} {did_topic} with care.",
    "The {topic_noun} made {o} {mood}.",
    "The {topic_noun} looked {mood_adj} in the {weather}.",
    "{X} left the {thing} near the {topic_noun}.",
    "{Her} {companion} {mood_verb} {at_place}.",
    "{X} asked {h} {companion} about the {thing}.",
    "{Her} {companion} carried the {thing} {adverb}.",
    "{X} followed {h} {companion} to the {place}.",
    "With {h} {companion}, {x} walked past the {place_things}.",
    "{Her} {companion} saw the {weather} and {mood_verb}.",
    "All around the {place} the {weather} {weather_verb}.",
    "{X} looked at the {place_things} {adverb}.",
    "{X} loved the {place_things} of the {place}.",
    "Behind the {place_things}, {x} {mood_verb}.",
    "The {place_things} looked {mood_adj} {at_time}.",
    "{X} felt {mood} {at_place}.",
    "{X} {mood_verb} and held the {thing}.",
    "A {mood_adj} feeling stayed with {o}.",
    "{At_time}, the {weather} {weather_verb} everywhere.",
    "{X} waited with {h} {companion} until {time}.",
    "It was {weather_adj} that {time}.",
    "Since {time}, {h} {companion} had kept the {thing}.",
    "The {weather} {weather_verb} over the {place_things}.",
    "{X} walked on {adverb} through the {weather}.",
    "The {weather} {weather_verb}, but {x} {did_topic}.",
    "{X} kept the {thing} close.",
    "{X} showed the {thing} to {h} {companion}.",
    "The {thing} lay beside the {place_things}.",
    "{X} {adverb} looked for the {thing}.",
    "{At_time}, {x} took the {thing} to the {place}.",
    "The {thing} looked {mood_adj} in the {weather}.",
)

CLOSINGS = (
    "In the end {x} {did_topic} and {mood_verb}.",
    "At last {x} and {h} {companion} left the {place}.",
    "So {x} {adverb} took the {thing} home.",
    "It was a {mood_adj} {time}, and {x} {did_topic}.",
    "{Her} {companion} thanked {o} {adverb} for the {thing}.",
    "In the end the {weather} {weather_verb} over the {place}.",
    "At last {x} slept until {time}.",
    "In the end {x} gave {h} {companion} the {thing}.",
    "{X} never forgot the {topic_noun} and the {place_things}.",
)
