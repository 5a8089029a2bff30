"""The same explanation in other words of the micro-world."""

from collections import Counter
from random import Random

from gloss.lab.judge import LabJudge
from gloss.lab.labels import write_label
from gloss.lab.other_words import rewrites
from gloss.lab.truth import ENDING, NEXT, parse_claims
from gloss.lab.world import generate_documents, render

LABEL = (
    'It is about baking.\nThe mood is calm.\nA blanket matters here.\nIt ends with "... the sea".'
)


def _claims(text, without=()):
    return Counter((c.kind, c.value) for c in parse_claims(text) if c.kind not in without)


def test_paraphrases_say_the_same_claims_in_other_sentences():
    found = rewrites(LABEL)
    light, heavy = found["light"].split("\n"), found["heavy"].split("\n")
    before = LABEL.split("\n")
    assert [a == b for a, b in zip(light, before, strict=True)] == [False, True, False, True]
    assert not set(heavy) & set(before[:3])
    assert heavy[1] == before[3]  # a quotation stays, at another place
    assert _claims(found["light"]) == _claims(found["heavy"]) == _claims(LABEL)


def test_coherence_leaves_out_what_repeats_a_kind_or_says_nothing():
    found = rewrites("The mood is calm.\nIt feels grim.\nHm.\nIt is about baking.")
    assert found["coherent"] == "The mood is calm.\nIt is about baking."


def test_a_summary_is_the_values_and_the_quotation():
    assert rewrites(LABEL)["summary"] == 'baking, calm, blanket, "... the sea".'
    assert rewrites("Hm.")["summary"] == ""


def test_no_rewrite_of_a_label_says_another_claim():
    """Only topic and hero share a wording, "It is about …": both read the value alone."""
    for document in generate_documents(60, seed=3):
        offset = Random(document.doc_id).randrange(20, len(render(document)))
        label = write_label(document, offset, seed=0, position=offset, error_rate=0.0)
        for name, text in LabJudge().rewrites(label).items():
            without = {NEXT} if name == "summary" else set()
            said, meant = _claims(text, without), _claims(label, without)
            if name == "summary":
                assert set(said) == set(meant), (label, text)
            else:
                assert said == meant, (name, label, text)


def test_the_lab_knows_what_its_activations_hold():
    kinds = LabJudge.fact_kinds
    assert kinds.text_only == {"companion", "weather"}
    assert kinds.privileged == {"user", "motive", "test", "voice", "rhyme"} < kinds.held
    assert ENDING not in kinds.facts
