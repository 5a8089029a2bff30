"""The shipped lab target is what ``gloss data lab build`` makes, and a language model of the
micro-world.
"""

import json

import pytest
import torch

from gloss.engines import DecodingBatch, ResidualEdit, TextRequest
from gloss.lab import generate_documents, lab_target_folder
from gloss.lab.target_training import RECORD_NAME, LabTargetConfig, build_lab_target, heldout_loss
from gloss.lab.tokenizer import build_tokenizer
from gloss.lab.wording_facts import RHYMES
from gloss.target_model import capture_activations, load_target


@pytest.fixture(scope="module")
def record():
    return json.loads((lab_target_folder() / RECORD_NAME).read_text())


def test_the_shipped_target_is_small_and_was_made_with_the_present_config(record):
    assert sum(file.stat().st_size for file in lab_target_folder().iterdir()) <= 4_000_000
    assert record["config"] == LabTargetConfig().model_dump()


def test_the_shipped_target_has_the_recorded_loss(record):
    target = load_target(lab_target_folder())
    assert heldout_loss(target.model, target.tokenizer, LabTargetConfig()) == pytest.approx(
        record["heldout_loss"], abs=0.01
    )


def test_the_shipped_tokenizer_is_the_built_one():
    target, built = load_target(lab_target_folder()).tokenizer, build_tokenizer()
    assert target.get_vocab() == built.get_vocab()
    for document in generate_documents(50, 3):
        text = document.text or document.messages[0]["content"]
        assert target.encode(text) == built.encode(text)


def test_the_target_finishes_a_couplet_with_its_rhyme():
    """The rhyme is fixed by the first line, so greedy decoding must end the second line with it."""
    target = load_target(lab_target_folder())
    tokenizer, right, total = target.tokenizer, 0, 0
    for document in generate_documents(200, 11):
        rhyme = next((fact for fact in document.facts if fact.kind == "rhyme"), None)
        if document.kind != "couplet" or rhyme is None or total == 25:
            continue
        start = document.text.index("\n") + 1
        ids = torch.tensor([tokenizer.encode(document.text[:start])])
        out = target.model.generate(
            ids, max_new_tokens=12, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        line = tokenizer.decode(out[0, ids.shape[1] :]).split("\n")[0].split("<")[0]
        right += line.rstrip(" .").endswith(rhyme.value)
        total += 1
    assert total == 25
    assert right >= 20


def steered(target, ids, site, offsets):
    batch, responses = DecodingBatch(target, max_rows=len(offsets)), {}
    for key, offset in enumerate(offsets):
        batch.add(key, TextRequest(ids, 0.0, 14, 0, ResidualEdit(2, [site], offset.unsqueeze(0))))
    while batch.num_rows:
        responses |= {new.key: new.rollout.token_ids for new in batch.step() if new.rollout}
    return [responses[key] for key in range(len(offsets))]


def test_another_first_rhyme_at_its_own_token_changes_the_planned_rhyme():
    """At layer 2 the activation of the first rhyme word holds what the second line will end on."""
    target = load_target(lab_target_folder())
    tokenizer, firsts = target.tokenizer, list(RHYMES)
    kept, changed, intended, by_noise = 0, 0, 0, 0
    for document in [d for d in generate_documents(300, 11) if d.kind == "couplet"][:20]:
        line = document.text.split("\n")[0] + "\n"
        first = line.rstrip(",\n").split(" ")[-1]
        other = firsts[(firsts.index(first) + 7) % len(firsts)]
        ids = tokenizer.encode(line)
        site = len(ids) - 3
        swapped = [*ids[:site], tokenizer.encode(" " + other)[0], *ids[site + 1 :]]
        states = capture_activations(target.model, torch.tensor([ids, swapped]), None, 2)[:, site]
        offset = states[1] - states[0]
        noise = torch.randn(offset.shape, generator=torch.Generator().manual_seed(0))
        offsets = torch.stack(
            [torch.zeros_like(offset), offset, noise * offset.norm() / noise.norm()]
        )
        rows = steered(target, ids, site, offsets)
        ends = [tokenizer.decode(row).split("\n")[0].rstrip(". ").split(" ")[-1] for row in rows]
        kept += ends[0] == RHYMES[first][3]
        changed += ends[1] != ends[0]
        intended += ends[1] == RHYMES[other][3]
        by_noise += ends[2] == RHYMES[other][3]
    assert kept >= 18
    assert changed >= 12
    assert intended >= by_noise + 4


@pytest.mark.slow
def test_lab_build_rebuilds_the_target_to_the_same_loss(record, tmp_path):
    losses = build_lab_target(LabTargetConfig(), tmp_path / "target")
    assert losses["heldout_loss"] == pytest.approx(record["heldout_loss"], abs=0.03)
