"""The shipped lab target is what ``gloss data lab build`` makes, and a language model of the
micro-world.
"""

import json
import random

import pytest
import torch
import transformers
from tokenizers import Tokenizer

from gloss.contract import DEFAULT_AV_TEMPLATE
from gloss.engines import DecodingBatch, ResidualEdit, TextRequest
from gloss.lab import generate_documents, lab_target_folder, render
from gloss.lab.target_training import RECORD_NAME, LabTargetConfig, build_lab_target, heldout_loss
from gloss.lab.tokenizer import MARKER, build_tokenizer
from gloss.lab.wording_facts import HELD, RHYMES, VALUES
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


@pytest.mark.invariant("older-9")
@pytest.mark.parametrize("part", ["target", "nla/av", "nla/ar"])
def test_other_tools_read_the_labs_tokenizer_and_its_rotary_base(small_run, part):
    """A plain AutoTokenizer: its class must not replace the rules of tokenizer.json."""
    folder = small_run / part
    plain = transformers.AutoTokenizer.from_pretrained(folder)
    rules = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in (f'Sam sat.\n"... {MARKER} well"', MARKER, DEFAULT_AV_TEMPLATE):
        ids = rules.encode(text, add_special_tokens=False).ids
        assert plain.encode(text, add_special_tokens=False) == ids
    assert plain.convert_tokens_to_ids(MARKER) == rules.token_to_id(MARKER) is not None
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 50_000


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


def test_what_the_line_break_holds_decides_the_rhyme():
    """Another plan's activation there, direct patching at layer 2: unrelated and random changes,
    and the same change elsewhere, do not lead to the intended rhyme."""
    target = load_target(lab_target_folder())
    tokenizer, firsts = target.tokenizer, list(RHYMES)
    counts = dict.fromkeys(("kept", "intended", "unrelated", "random", "elsewhere"), 0)
    couplets = [d for d in generate_documents(300, 11) if d.kind == "couplet"][:40]
    for number, document in enumerate(couplets):
        line = document.text.split("\n")[0] + "\n"
        first = line.rstrip(",\n").split(" ")[-1]
        other, third = (firsts[(firsts.index(first) + shift) % len(firsts)] for shift in (7, 11))
        ids = tokenizer.encode(line)
        lines = [ids] + [
            [*ids[:-3], tokenizer.encode(f" {word}")[0], *ids[-2:]] for word in (other, third)
        ]
        states = capture_activations(target.model, torch.tensor(lines), None, 2)[:, -1]
        offset, unrelated = states[1] - states[0], states[2] - states[0]
        noise = torch.randn(offset.shape, generator=torch.Generator().manual_seed(number))
        noise *= offset.norm() / noise.norm()
        last = len(ids) - 1
        rows = steered(target, ids, last, [0 * offset, offset, unrelated, noise])
        rows += steered(target, ids, 1, [offset])
        ends = [tokenizer.decode(row).split("\n")[0].rstrip(". ").split(" ")[-1] for row in rows]
        counts["kept"] += ends[0] == RHYMES[first][3]
        for name, end in zip(list(counts)[1:], ends[1:], strict=True):
            counts[name] += end == RHYMES[other][3]
    assert counts["kept"] >= 38
    assert counts["intended"] >= 20
    assert max(counts[name] for name in ("unrelated", "random", "elsewhere")) <= 4


def test_held_kinds_can_be_read_from_the_activations_and_told_ones_cannot():
    """Linear readers of random positions, on documents that they were not fitted on."""
    target = load_target(lab_target_folder())
    rng, states, known, document_of = random.Random(0), [], [], []
    for number, document in enumerate(generate_documents(1200, 77)):
        read = target.tokenizer(render(document), return_offsets_mapping=True)
        ids = torch.tensor([read["input_ids"]])
        found = capture_activations(target.model, ids, None, 2)[0].float()
        for i in rng.sample(range(8, ids.shape[1]), 10):
            states.append(found[i])
            known.append(document.known(read["offset_mapping"][i][1]))
            document_of.append(number)
    h = torch.stack(states)
    h = h / h.pow(2).mean(dim=1, keepdim=True).sqrt()
    fitted = torch.tensor(document_of) < 800
    for kind, values in VALUES.items():
        here = torch.tensor([kind in facts for facts in known])
        y = torch.tensor([values.index(facts.get(kind, values[0])) for facts in known])
        x_fit, y_fit, x, y = (
            h[here & fitted],
            y[here & fitted],
            h[here & ~fitted],
            y[here & ~fitted],
        )
        torch.manual_seed(0)
        reader = torch.nn.Linear(h.shape[1], len(values))
        optimizer = torch.optim.AdamW(reader.parameters(), lr=0.01, weight_decay=0.01)
        for _ in range(300):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(reader(x_fit), y_fit).backward()
            optimizer.step()
        right = (reader(x).argmax(dim=1) == y).float().mean()
        majority = y.bincount().max() / len(y)
        if kind in HELD:
            assert right >= majority + 0.6, kind
        else:
            assert right <= majority + 0.05, kind


@pytest.mark.slow
def test_lab_build_rebuilds_the_target_to_the_same_loss(record, tmp_path):
    losses = build_lab_target(LabTargetConfig(), tmp_path / "target")
    assert losses["heldout_loss"] == pytest.approx(record["heldout_loss"], abs=0.03)
