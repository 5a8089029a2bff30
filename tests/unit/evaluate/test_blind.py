"""Blind controls: what they say, and that repeating the last words does not beat them."""

from dataclasses import dataclass

import pytest
import torch

from gloss.engines import Rollout
from gloss.evaluate.blind import LastWords, blind_controls, quote_form, words_of
from gloss.evaluate.round_trip import RoundTrip
from gloss.models import direction_mse, direction_variance

WORDS = ("boat", "lake", "gull", "rain", "well", "mill")
TURN = "<|im_start|>user\n"


class WordReconstructor:
    """Rebuilds from a text the sum of the directions of the words that it holds; a word that comes
    last counts twice."""

    def reconstruct(self, texts):
        table = torch.eye(8)
        rows = []
        for text in texts:
            said = [word.strip('".') for word in text.split()]
            known = [WORDS.index(word) for word in said if word in WORDS]
            row = 0.1 * table[7] + sum((table[i] for i in known), torch.zeros(8))
            rows.append(row + table[known[-1]] if known else row)
        return torch.stack(rows)


@dataclass
class OneAnswerEngine:
    """Says the same of every activation."""

    said: str = "It is about rain."

    def generate(self, activations, **_):
        return [rollout(self.said) for _ in activations]


def rollout(text):
    return Rollout((1, 2), f"<explanation>{text}</explanation>", True)


CONTEXTS = [f"{TURN}the {a} at the {b}" for a in WORDS for b in WORDS if a != b]
DOC_IDS = [str(i // 5) for i in range(len(CONTEXTS))]


def blind(explanations, contexts=CONTEXTS, seed=0):
    reconstructor = WordReconstructor()
    truth = reconstructor.reconstruct(contexts) + 0.01
    vectors = reconstructor.reconstruct(explanations)
    trip = RoundTrip(
        [rollout(text) for text in explanations],
        vectors,
        direction_mse(vectors, truth),
        torch.ones(len(truth), dtype=torch.bool),
        direction_variance(truth),
    )
    found = blind_controls(
        OneAnswerEngine(),
        reconstructor,
        trip,
        truth,
        doc_ids=DOC_IDS,
        contexts=contexts,
        positions=[i % 3 for i in range(len(contexts))],
        max_new_tokens=8,
        seed=seed,
    )
    return trip, found


def test_words_are_those_of_the_text_without_control_tokens_and_roles():
    chat = f"{TURN}Who sat<|im_end|>\n<|im_start|>assistant\nA user"
    chat += "<end_of_turn>\n<start_of_turn>model\n"
    assert words_of(chat) == ["Who", "sat", "A", "user"]
    assert words_of("") == []


def test_the_form_is_that_in_which_explanations_quote_the_end_of_their_texts():
    contexts = ["Leo sat by the well", "Mia found a boat.", "It was calm"]
    quoting = ['It is calm. The last words are "... the well".', 'Ends with "a boat". Nice.']
    wrong = 'The last words are "... the lake".'
    assert quote_form([*quoting, wrong], contexts) == 'The last words are "... {words}".'
    assert quote_form(["no quote", wrong, wrong], contexts) is None
    assert LastWords(2, 'Ends "... {words}".').text("Leo sat by the well") == 'Ends "... the well".'


def test_an_nla_that_repeats_the_last_words_is_not_above_the_guess_that_does():
    trip, found = blind([f'Ends "{context.split()[-1]}".' for context in CONTEXTS])
    name, fve = found.best(trip.variance)
    assert name == "last_words"
    assert fve >= trip.fve
    assert found.guess.text(CONTEXTS[0]).split()[-1].strip('".') == CONTEXTS[0].split()[-1]


def test_the_best_number_of_words_is_found():
    _, found = blind(["It is about rain."] * len(CONTEXTS))
    assert found.guess.count == 4  # both nouns, no word before
    assert found.guess.form in ('"... {words}"', "{words}")
    assert float(found.errors["last_words"].mean()) < 0.01


def test_one_text_for_all_and_the_avs_answer_to_nothing_are_scored_for_every_row():
    explanations = ["rain" if i % 3 else "boat lake" for i in range(len(CONTEXTS))]
    trip, found = blind(explanations)
    reconstructor, truth = WordReconstructor(), WordReconstructor().reconstruct(CONTEXTS) + 0.01
    each = {
        text: float(direction_mse(reconstructor.reconstruct([text]).expand_as(truth), truth).mean())
        for text in ("rain", "boat lake", "It is about rain.")
    }
    assert float(found.errors["one_text"].mean()) == pytest.approx(
        min(each["rain"], each["boat lake"])
    )
    for name in ("av_of_mean", "av_of_noise"):
        assert float(found.errors[name].mean()) == pytest.approx(each["It is about rain."])
    assert all(errors.shape == trip.errors.shape for errors in found.errors.values())


def test_another_token_is_the_next_of_the_same_document():
    explanations = [f"word {WORDS[i % 6]}" for i in range(len(CONTEXTS))]
    trip, found = blind(explanations)
    truth = WordReconstructor().reconstruct(CONTEXTS) + 0.01
    expected = direction_mse(trip.vectors[[1, 2, 3, 4, 0]], truth[:5])
    torch.testing.assert_close(found.errors["other_token"][:5], expected)


def test_the_mean_of_a_position_leaves_the_row_itself_out():
    _, found = blind(["x"] * len(CONTEXTS))
    truth = WordReconstructor().reconstruct(CONTEXTS) + 0.01
    units = torch.nn.functional.normalize(truth, dim=1)
    same = [
        i for i in range(len(CONTEXTS)) if i % 3 == 0 and i
    ]  # positions 0; 1 and 2 share a class
    expected = direction_mse(units[same].sum(0)[None], truth[:1])[0]
    torch.testing.assert_close(found.errors["position_mean"][0], expected, atol=1e-5, rtol=1e-5)
