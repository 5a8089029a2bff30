"""Explain, activations, score and continue, asked in this process."""

import asyncio
import inspect
import json
import types
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from speaking_nla import SAYINGS, directions
from tiny_nla import D_MODEL, LAYER

from gloss.errors import (
    ActivationError,
    CheckpointError,
    ConfigError,
    CorpusError,
    PositionError,
)
from gloss.nla import (
    NLA,
    Bounds,
    LocalExecutor,
    Questions,
    Sampling,
    Selection,
    TokenExplanation,
    TooLarge,
    run_now,
)
from gloss.nla.results import ExplainPart, ExplainStart
from gloss.store.sources import VectorRows
from gloss.text.document import Document

TEXT = "The mood is calm and it rains at the harbor 🎉 while the gulls sleep."
CHAT = [
    {"role": "user", "content": "The gulls rest."},
    {"role": "assistant", "content": "It rains."},
]


def noisy(count, *, scale=1.5, seed=0):
    noise = torch.randn(count, D_MODEL, generator=torch.Generator().manual_seed(seed))
    return directions()[torch.arange(count) % len(SAYINGS)] + scale * noise


def responses(found):
    return [one.response for one in found]


def same(found, expected):
    """The same explanations, and scores up to the rounding of batched arithmetic."""
    scores = ("fve", "cosine", "direction_mse")
    unscored = dict.fromkeys(scores)
    assert [replace(e, **unscored) for e in found] == [replace(e, **unscored) for e in expected]
    for name in scores:
        assert [getattr(e, name) for e in found] == pytest.approx(
            [getattr(e, name) for e in expected], abs=1e-5
        )


# ---- what is asked about


def test_the_last_token_of_a_text_and_of_each_message_is_explained_by_default(speaking):
    (one,) = speaking.explain(TEXT)
    assert (one.position, one.token) == (len(speaking.tokens(TEXT).tokens) - 1, ".")
    found = speaking.explain(CHAT)
    assert [(e.role, e.section, e.message_index, e.token) for e in found] == [
        ("user", "content", 0, "."),
        ("assistant", "content", 1, "."),
    ]
    assert responses(found) == responses(speaking.explain(CHAT, tokens="last"))


def test_a_glyph_of_several_tokens_is_shown_whole_on_every_path(speaking):
    wanted = [("🎉", i, 4) for i in range(4)]
    read = [t for t in speaking.tokens(TEXT).tokens if t.fragment_count > 1]
    assert [(t.token, t.fragment_index, t.fragment_count) for t in read] == wanted
    found = speaking.explain(TEXT, positions=[t.position for t in read])
    assert [(e.token, e.fragment_index, e.fragment_count) for e in found] == wanted
    assert (
        speaking.steer(TEXT, positions=read[1].position, original="a", edited="b", alphas=[1]).token
        == "🎉"
    )
    trusted = speaking.trust(TEXT, position=read[0].position, explanation="a", samples=0)
    assert trusted.neighbours[-1].token == "🎉"
    assert speaking.compare((TEXT, read[2].position), TEXT).sides[0].token == "🎉"


def test_a_tokenizer_that_does_not_say_where_tokens_stand_shows_glyphs_too(speaking, monkeypatch):
    fast = speaking.explain(TEXT, positions="all")
    monkeypatch.setattr(type(speaking.target.tokenizer), "is_fast", False)
    slow = speaking.explain(TEXT, positions="all")
    assert [(e.token, e.fragment_index) for e in slow] == [
        (e.token, e.fragment_index) for e in fast
    ]
    assert [e.context for e in slow] == [e.context for e in fast]
    with pytest.raises(CorpusError, match="does not say where its tokens stand"):
        speaking.explain(CHAT)


def test_template_options_and_channels_come_from_the_document(speaking):
    chat = ({"role": "user", "content": "Hi.", "channel": "final"},)
    plain, opened = (
        speaking.tokens(Document("chat", None, chat, {"add_generation_prompt": opens}))
        for opens in (False, True)
    )
    assert opened.text.startswith(plain.text)
    assert opened.text.endswith("assistant\n")
    last = opened.tokens[-1]
    assert (last.section, last.role, last.message_index) == ("header", "assistant", None)
    assert {token.channel for token in plain.tokens if token.is_content} == {"final"}
    assert speaking.explain(Document("chat", None, chat))[0].channel == "final"


def test_pooled_and_subtracted_activations_say_so(speaking):
    activations = speaking.activations(TEXT)
    (pooled,) = speaking.explain(TEXT, positions=[3, 5], pool="mean")
    assert pooled.norm == pytest.approx(float(activations[[3, 5]].mean(dim=0).norm()), rel=1e-5)
    assert (pooled.position, pooled.flags) == (5, ("early position", "mean-pooled"))
    (other,) = speaking.explain(TEXT, positions=3, minus_position=5)
    difference = activations[3] - activations[5]
    assert other.norm == pytest.approx(float(difference.norm()), rel=1e-5)
    assert other.response == speaking.explain(difference)[0].response
    assert speaking.explain(activations[3], minus=activations[5])[0].norm == pytest.approx(
        other.norm, rel=1e-5
    )
    (nothing,) = speaking.explain(TEXT, positions=3, minus_position=3)
    assert (nothing.text, nothing.response, nothing.flags[-1]) == (None, "", "no direction")


@pytest.mark.parametrize(
    ("source", "options", "error", "said"),
    [
        ("", {}, CorpusError, "the text is empty"),
        ("rain " * 300, {}, CorpusError, "at most 256 tokens"),
        (TEXT, {"positions": 99}, PositionError, "no such token"),
        (TEXT, {"positions": 1, "tokens": "all"}, ConfigError, "positions and tokens"),
        (TEXT, {"samples": 0}, ConfigError, "samples: expected 1 or more, found 0"),
        (TEXT, {"max_new_tokens": 0}, ConfigError, "max_new_tokens: expected 1 or more"),
        (TEXT, {"best_of": 2, "temperature": 0}, ConfigError, "best-of needs different responses"),
        (
            TEXT,
            {"temperature": float("nan")},
            ConfigError,
            "temperature: expected a finite number",
        ),
        ([{"role": "user"}], {}, CorpusError, "not a chat"),
        (torch.ones(1, D_MODEL), {"positions": 0}, ConfigError, "only a text has tokens"),
        (torch.ones(1, D_MODEL), {"minus": torch.ones(3, D_MODEL)}, ActivationError, "1, or 1"),
        (torch.ones(1, 5), {}, ActivationError, "wrong activations"),
        (torch.zeros(1, D_MODEL), {}, ActivationError, "no direction"),
    ],
)
def test_what_cannot_be_explained_has_one_clear_line(speaking, source, options, error, said):
    with pytest.raises(error, match=said) as caught:
        speaking.explain(source, **options)
    assert "\n" not in str(caught.value)


# ---- samples


def test_results_do_not_depend_on_the_batch_or_on_what_else_is_in_it(speaking):
    vectors = noisy(11)
    options = {"samples": 3, "temperature": 1.3, "seed": 5}
    whole = speaking.explain(vectors, **options)
    assert len(set(responses(whole))) > 8
    same(run_now(speaking.questions(max_rows=4).explain(vectors, **options)), whole)
    for first in (0, 4, 10):
        alone = speaking.explain(VectorRows(first, vectors[first : first + 1], {}), **options)
        assert responses(alone) == responses(whole)[3 * first : 3 * first + 3]


def test_a_sample_of_a_token_is_keyed_on_its_position_alone(speaking):
    options = {"samples": 2, "temperature": 2.0, "seed": 3}
    every = speaking.explain(TEXT, positions="all", **options)
    assert responses(speaking.explain(TEXT, positions=[7, 2], **options)) == [
        *responses(every)[14:16],
        *responses(every)[4:6],
    ]
    more = speaking.explain(TEXT, positions=7, **{**options, "samples": 5})
    assert responses(more)[:2] == responses(every)[14:16]
    other = speaking.explain(TEXT, positions=7, **{**options, "seed": 4, "samples": 5})
    assert responses(other) != responses(more)


def test_best_of_keeps_the_response_with_the_least_error(speaking):
    vectors = noisy(3)
    options = {"temperature": 1.5, "seed": 2}
    drawn = speaking.explain(vectors, samples=6, **options)
    best = speaking.explain(vectors, samples=2, best_of=3, **options)
    for i, one in enumerate(best):
        errors = [e.direction_mse for e in drawn[3 * i : 3 * i + 3] if e.direction_mse is not None]
        assert one.direction_mse == (min(errors) if errors else None)
    assert [(e.position, e.sample) for e in best] == [(i, s) for i in range(3) for s in range(2)]


def test_greedy_samples_are_written_once_and_shown_as_often_as_asked_for(speaking):
    steps = []

    class Counting(LocalExecutor):
        def explanations(self, rows, **options):
            steps.append(len(rows))
            return super().explanations(rows, **options)

    asked = Questions(speaking, Counting(speaking))
    found = run_now(asked.explain(TEXT, samples=3, temperature=0))
    assert steps == [1]
    assert len(set(responses(found))) == 1
    assert [e.sample for e in found] == [0, 1, 2]


# ---- answers


def test_events_begin_with_the_number_of_explanations_and_end_in_them(speaking):
    async def events():
        return [
            event
            async for event in speaking.questions().explain_events(
                TEXT, Selection(positions=[2, 5]), Sampling(samples=2, seed=7), partial=True
            )
        ]

    start, *rest = asyncio.run(events())
    tokens = len(speaking.tokens(TEXT).tokens)
    assert start == ExplainStart(nla=speaking.name, layer=LAYER, total=4, num_tokens=tokens)
    whole = speaking.explain(TEXT, positions=[2, 5], samples=2, seed=7)
    finished = [event for event in rest if isinstance(event, TokenExplanation)]
    same(sorted(finished, key=lambda e: (e.row, e.sample)), whole)
    parts = [e for e in rest if isinstance(e, ExplainPart) and (e.position, e.sample) == (2, 0)]
    assert len(parts) > 3
    assert "<" not in "".join(part.text for part in parts)
    texts = [part.text for part in parts]
    assert all(later.startswith(before) for before, later in pairwise(texts))


def test_an_answer_is_json_and_its_score_that_of_the_ar(speaking):
    found = speaking.explain(TEXT, positions="3,9")
    answer = json.loads(json.dumps(found.to_dict()))
    assert (answer["nla"], answer["layer"]) == (speaking.name, LAYER)
    one = answer["explanations"][1]
    assert {"position", "sample", "token", "text", "fve", "baseline", "norm", "done"} <= set(one)
    (score,) = speaking.score([one["text"]], TEXT, position=9)
    assert (one["fve"], one["cosine"]) == pytest.approx((score.fve, score.cosine), abs=1e-5)
    assert speaking.explain(TEXT, score=False)[0].fve is None


def test_percentile_and_baseline_come_from_what_the_checkpoint_records(speaking):
    vectors = noisy(2)
    mean = {"mean_direction": vectors[0].tolist()}
    speaking.recorded = speaking.recorded.model_copy(update=mean)
    speaking.evaluation = {"heldout_errors": [0.0, 1.0, 3.9, 4.0]}
    (score,) = speaking.score(["it rains"], vectors[0])
    assert score.percentile == 50.0
    assert speaking.explain(vectors)[0].baseline == pytest.approx(1.0, abs=1e-5)
    assert speaking.trust(TEXT).controls[0].fve is not None


def test_one_activation_scores_any_number_of_texts_and_other_counts_are_refused(speaking):
    vectors = noisy(2)
    scores = speaking.score(["a", "b", "c"], vectors[0])
    assert scores[2].fve == pytest.approx(speaking.score("c", vectors[:1])[0].fve, abs=1e-5)
    with pytest.raises(ActivationError, match="differ in number"):
        speaking.score(["a", "b", "c"], vectors)


def test_without_an_ar_nothing_is_scored_and_asking_for_it_says_so(speaking_folder):
    alone = NLA(av=speaking_folder / "av", target=speaking_folder / "target")
    assert alone.explain(TEXT)[0].fve is None
    with pytest.raises(CheckpointError, match="this NLA has no AR"):
        alone.explain(TEXT, score=True)
    with pytest.raises(CheckpointError, match="this NLA has no AR"):
        alone.explain(TEXT, best_of=2)


def test_a_continuation_is_the_targets_greedy_one_and_comes_in_whole_glyphs(speaking):
    found = speaking.continue_text(TEXT, max_new_tokens=8)
    ids = speaking.tokens(TEXT).token_ids
    written = speaking.target.model.generate(
        torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0
    )[0, len(ids) :].tolist()
    assert [token.token_id for token in found.generated] == written
    assert found.prompt_length == len(ids)
    assert found.text == TEXT + found.continuation
    assert [token.position for token in found.tokens] == list(range(len(ids) + 8))
    drawn = [speaking.continue_text(CHAT, temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {token.role for token in drawn[0].generated} == {"assistant"}


def test_bounds_hold_whatever_is_asked_for(speaking):
    bounds = Bounds(max_rows=4, max_values=3 * D_MODEL, max_new_tokens=2)
    asked = Questions(speaking, LocalExecutor(speaking), bounds)
    with pytest.raises(ConfigError, match=r"too many positions .* at most 4, found 6"):
        run_now(asked.explain(TEXT, positions=[1, 2, 3], samples=2))
    with pytest.raises(TooLarge, match="too many numbers"):
        run_now(asked.activations(TEXT))
    assert len(run_now(asked.activations(TEXT, positions=[1, 2, -1]))) == 3
    two, three = (speaking.explain(noisy(1), max_new_tokens=n)[0].response for n in (2, 3))
    (cut,) = run_now(asked.explain(noisy(1), max_new_tokens=50))
    assert cut.response == two != three


def test_a_part_that_is_missing_is_named_by_whoever_asks(speaking):
    missing = {"target": CheckpointError("the target is not loaded")}
    asked = Questions(speaking, LocalExecutor(speaking), missing=missing)
    with pytest.raises(CheckpointError, match="the target is not loaded"):
        run_now(asked.explain(TEXT))
    assert len(run_now(asked.explain(noisy(1)))) == 1


def test_every_question_of_the_nla_has_its_own_signature_and_description():
    for name in ("tokens", "activations", "explain", "reconstruct", "score", "steer", "trust"):
        asked, method = getattr(Questions, name), getattr(NLA, name)
        assert inspect.signature(method) == inspect.signature(asked)
        assert method.__doc__ == asked.__doc__


def test_a_question_whose_executor_waits_is_not_driven_without_a_loop():
    @types.coroutine
    def waiting():
        yield

    with pytest.raises(RuntimeError, match="await the question"):
        run_now(waiting())
