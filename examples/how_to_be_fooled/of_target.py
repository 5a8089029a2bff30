"""The examples that need the shipped target and no NLA."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from examples.how_to_be_fooled.lab_rows import (
    FITTED,
    JUDGE,
    LAYER,
    POSITIONS,
    READ,
    Found,
    Rows,
    end_of,
    measured,
    rows,
    share_of_commonest,
    target,
)
from gloss.engines import DecodingBatch, ResidualEdit, TextRequest
from gloss.evaluate import BestReader, Documents, FactRows, best_reader, measure_claims
from gloss.evaluate.blind import words_of
from gloss.lab import document_by_id, generate_documents, render
from gloss.lab.wording_facts import RHYMES
from gloss.models import cosine, direction_mse, mean_direction, steering_offset
from gloss.nla.trust_score import Wording
from gloss.target_model import capture_activations


def last_token() -> Found:
    """A table from the last token to the mean direction of training activations: no NLA at all."""
    read, fitted = rows(*READ), rows(*FITTED)

    def tokens(some: Rows) -> list[str]:
        return [words_of(context)[-1] for context in some.contexts]

    means, of_token = mean_direction(fitted.activations), dict[str, Tensor]()
    for token in set(tokens(fitted)):
        same = [row for row, other in enumerate(tokens(fitted)) if other == token]
        of_token[token] = mean_direction(fitted.activations[same])
    guess = torch.stack([of_token.get(token, means) for token in tokens(read)])
    return {
        "FVE of the mean direction of each last word": read.fve(guess),
        "FVE of the mean direction for all": read.fve(mean_direction(read.activations)),
    }


def text_only() -> Found:
    """A claim that is true of the text, and what two classifiers read of its kind."""
    read = rows(*READ)
    said = "With the sister."
    known = read.facts.known
    meant = [row for row, at in enumerate(known) if at.get("companion") == "sister"]
    row = min(meant, key=lambda row: len(read.contexts[row]) - read.contexts[row].rfind("sister"))
    (claim,) = JUDGE.judge(said, read.doc_ids[row], read.contexts[row])
    found: dict[str, float | int | str] = {
        "text": end_of(read.contexts[row]),
        "explanation": said,
        "verdict": claim.verdict,
    }
    for kind in ("companion", "hero"):
        reader = _reader(kind, rows(*FITTED).facts, read.facts)
        found |= {
            f"{kind}: linear reader": reader.linear,
            f"{kind}: non-linear reader": reader.nonlinear,
            f"{kind}: commonest value": share_of_commonest(kind, read.facts),
        }
    return found


def majority() -> Found:
    """A probe for one value of many, and a reader of rows that it was fitted on."""
    read, fitted = rows(*READ).facts, rows(*FITTED).facts
    probe = _reader("companion", _is(fitted, "mother"), _is(read, "mother"))
    return {
        "probe: is the companion the mother?": probe.accuracy,
        "always no": share_of_commonest("companion", _is(read, "mother")),
        "who is the companion? on rows it was fitted on": _reader(
            "companion", fitted, fitted
        ).accuracy,
        "the same on other documents": _reader("companion", fitted, read).accuracy,
        "commonest companion": share_of_commonest("companion", read),
    }


def habit() -> Found:
    """One sentence per form of text: it recurs at every token, and in every text of that form."""
    say = {"story": "We follow Tom.", "couplet": "We follow Leo.", "chat": "It comes from a nurse."}
    read = rows(*READ)
    said = [say[document_by_id(doc_id).kind] for doc_id in read.doc_ids]
    claims = [JUDGE.judge(text, *at) for text, at in _places(said, read)]
    wording = Wording(said)
    one_form = {text: Wording([other for other in said if other == text]) for text in said}
    recurs = [wording.shares(text, [text] * (POSITIONS - 1)) for text in said]
    base = [wording.base_rate(text) or 0.0 for text in said]
    same = [one_form[text].base_rate(text) or 0.0 for text in said]
    return {
        "at the text's other tokens": float(np.mean(recurs)),
        "in texts of any form": float(np.mean(base)),
        "in texts of the same form": float(np.mean(same)),
        "right": float(np.mean([claim.verdict == "right" for some in claims for claim in some])),
    }


def collapse() -> Found:
    """The commonest kind of test, said wherever one is settled."""
    read = rows(*READ)
    values = Counter(known["test"] for known in read.facts.known if "test" in known)
    value = values.most_common(1)[0][0]
    said = [f"It must be a {value}." if "test" in known else "" for known in read.facts.known]
    found = measure_claims(
        JUDGE, {"rl": said}, read.doc_ids, read.contexts, heldout=read.facts, probe_rows=None
    ).kinds["test"]
    return {
        "explanation, every time": f"It must be a {value}.",
        "claims": found.n_claims,
        "precision": measured(found.precision),
        "chance": measured(found.chance),
        "above chance, 95 % interval, low end": measured(found.above_chance_ci95)[0],
        "majority": measured(found.majority),
        "best reader": _reader("test", rows(*FITTED).facts, read.facts).accuracy,
        "n_values": found.n_values,
    }


def raw_vectors() -> Found:
    """One vector for all, scored on raw vectors and on directions."""
    vectors = rows(*READ).activations
    mean = vectors.mean(dim=0).expand_as(vectors)
    explained = 1 - (mean - vectors).square().sum() / vectors.square().sum()
    alike = cosine(direction_mse(mean, vectors))
    return {
        "share of the squared length, raw vectors": float(explained),
        "mean cosine": float(alike.mean()),
        "FVE of directions": rows(*READ).fve(mean[0]),
    }


def rows_of_one_document() -> Found:
    """The interval of one precision, rows taken for independent, and by documents."""
    read = rows(*READ)
    known = np.array(["topic" in facts for facts in read.facts.known], dtype=np.float64)
    topics = Counter(facts["topic"] for facts in read.facts.known if "topic" in facts)
    topic, times = topics.most_common(1)[0]
    right = np.array([facts.get("topic") == topic for facts in read.facts.known], dtype=np.float64)
    found: dict[str, float | int | str] = {
        "explanation, every time": f"A story about {topic}.",
        "precision": times / sum(topics.values()),
    }
    naive = [str(row) for row in range(len(known))]
    for name, doc_ids in (("rows", naive), ("documents", read.doc_ids)):
        documents = Documents.of(doc_ids, resamples=2000, seed=0)
        low, high = measured(documents.interval(documents.sums(right) / documents.sums(known)))
        found |= {f"95 % by {name}": f"{low:.2f} to {high:.2f}"}
    return found


def any_direction() -> Found:
    """Twenty couplets at their line break, moved at alpha 2 towards another rhyme's activation,
    towards an unrelated one's, and along a random direction."""
    words, counts = list(RHYMES), Counter[str]()
    couplets = [d for d in generate_documents(150, 11) if d.kind == "couplet"][:20]
    for number, document in enumerate(couplets):
        line = render(document).split("\n")[0] + "\n"
        first = line.rstrip(",\n").split(" ")[-1]
        other, third = (words[(words.index(first) + shift) % len(words)] for shift in (7, 11))
        ids = target().tokenizer.encode(line)
        swapped = [
            [*ids[:-3], target().tokenizer.encode(f" {w}")[0], *ids[-2:]] for w in (other, third)
        ]
        states = capture_activations(target().model, torch.tensor([ids, *swapped]), None, LAYER)[
            :, -1
        ]
        noise = torch.randn(states[0].shape, generator=torch.Generator().manual_seed(number))
        moves = {"edit": states[1] - states[0], "unrelated": states[2] - states[0], "random": noise}
        offsets = [steering_offset(states[0], move, 2.0) for move in moves.values()]
        before, *after = _ends(ids, [torch.zeros_like(noise), *offsets])
        for name, end in zip(moves, after, strict=True):
            counts[f"{name}: another last word"] += end != before
            counts[f"{name}: the rhyme that was meant"] += end == RHYMES[other][3]
    return dict(counts)


def _ends(ids: list[int], offsets: list[Tensor]) -> list[str]:
    """The last word of the line that the target writes, with each offset at the last token."""
    batch, written = DecodingBatch(target(), max_rows=len(offsets)), dict[int, str]()
    for key, offset in enumerate(offsets):
        edit = ResidualEdit(LAYER, [len(ids) - 1], offset[None])
        batch.add(key, TextRequest(ids, 0.0, 14, 0, edit))
    while batch.num_rows:
        for new in batch.step():
            if new.rollout:
                written[new.key] = target().tokenizer.decode(new.rollout.token_ids)
    lines = [written[key].split("\n")[0] for key in range(len(offsets))]
    return [line.rstrip(". ").split(" ")[-1] for line in lines]


def wrong_layer() -> Found:
    """The activations of the neighbouring layers without any loss, scored against layer 2."""
    read, found = rows(*READ), dict[str, float]()
    for layer in (1, 3):
        there = rows(*READ, layer).activations
        found[f"layer {layer}: mean cosine"] = float(
            cosine(direction_mse(there, read.activations)).mean()
        )
        found[f"layer {layer}: FVE"] = read.fve(there)
    return found


def _reader(kind: str, fitted: FactRows, read: FactRows) -> BestReader:
    reader: BestReader = measured(best_reader(kind, fitted, read))
    return reader


def _is(facts: FactRows, value: str) -> FactRows:
    """Whether the companion is this one."""
    known = [
        {"companion": "yes" if one["companion"] == value else "no"} if "companion" in one else {}
        for one in facts.known
    ]
    return FactRows(facts.vectors, known, facts.doc_ids)


def _places(said: list[str], read: Rows) -> list[tuple[str, tuple[str, str]]]:
    return list(zip(said, zip(read.doc_ids, read.contexts, strict=True), strict=True))


EXAMPLES: Mapping[str, Callable[[], Found]] = {
    "last-token": last_token,
    "text-only": text_only,
    "majority": majority,
    "habit": habit,
    "collapse": collapse,
    "raw-vectors": raw_vectors,
    "rows-of-one-document": rows_of_one_document,
    "any-direction": any_direction,
    "wrong-layer": wrong_layer,
}
