from types import SimpleNamespace

from gloss.lab import document_by_id, lab_target_folder
from gloss.lab.examples import LabExamples
from gloss.target_model import load_tokenizer


def _nla(tokenizer):
    return SimpleNamespace(target=SimpleNamespace(tokenizer=tokenizer))


def test_lab_texts_are_offered_for_the_lab_target_only(lab_tokenizer):
    examples = LabExamples()
    assert len(examples.texts(_nla(load_tokenizer(lab_target_folder())))) == 12
    assert len(examples.texts(_nla(lab_tokenizer))) == 12
    assert not examples.texts(_nla(SimpleNamespace(get_vocab=lambda: {"a": 0})))


def test_claims_about_a_lab_text_are_judged_and_others_are_not():
    examples = LabExamples()
    doc_id, text = next(iter(examples.texts(_nla(load_tokenizer(lab_target_folder()))).items()))
    facts = document_by_id(doc_id).known(len(text))
    kind, value = next((kind, value) for kind, value in facts.items() if kind == "hero")
    right = examples.verdicts(text, len(text), f"A story about {value}.")
    wrong = examples.verdicts(text, len(text), "A story about Nobody.")
    assert kind == "hero"
    assert [(claim.kind, claim.verdict) for claim in right] == [("hero", "right")]
    assert all(claim.verdict != "right" for claim in wrong)
    assert examples.verdicts(text + " More.", len(text), f"A story about {value}.") is None
