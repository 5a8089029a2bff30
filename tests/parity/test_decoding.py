"""What a row says does not depend on when it joins, what else is written, or in which order."""

import pytest
import torch
from family_models import FAMILIES, family_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import random_model

from gloss.engines import DecodingBatch, LocalEngine, ResidualEdit, RowRequest, TextRequest
from gloss.errors import ArchitectureError, ConfigError, PositionError
from gloss.models import ActivationVerbalizer, autocast, linear_weights_cast_once
from gloss.models.slot_cache import GROWTH_COLUMNS
from gloss.seeds import row_seed
from gloss.target_model import Target, architecture_of, edit_residual


def activations(n, d_model=32, seed=0):
    return torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))


def written(batch, requests, joins=None, aborts=None):
    """The last token of every row; ``joins`` gives the step at which each row joins (0 if None),
    ``aborts`` that at which some are taken out.
    """
    joins = joins or [0] * len(requests)
    done, step, waiting = {}, 0, sorted(range(len(requests)), key=lambda i: joins[i])
    while waiting or batch.num_rows:
        while waiting and joins[waiting[0]] <= step and batch.room > 0:
            batch.add(waiting[0], requests[waiting[0]])
            waiting.pop(0)
        batch.abort([key for key, at in (aborts or {}).items() if at == step])
        done |= {token.key: token.rollout for token in batch.step() if token.rollout is not None}
        step += 1
    return done


def greedy(vectors, length):
    return [RowRequest(v, 0.0, length, 0) for v in vectors]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    joins=st.lists(st.integers(0, 20), min_size=1, max_size=9),
    aborted=st.dictionaries(st.integers(0, 8), st.integers(0, 25)),
)
def test_rows_that_join_and_leave_are_those_written_together(av, joins, aborted):
    vectors = activations(len(joins))
    alone = LocalEngine(av).generate(vectors, temperature=0.0, max_new_tokens=12, seed=0)
    batch = DecodingBatch(av, max_rows=5)
    done = written(batch, greedy(vectors, 12), joins, aborted)
    assert {i: r.token_ids for i, r in done.items()} == {i: alone[i].token_ids for i in done}
    assert set(done) >= set(range(len(joins))) - set(aborted)
    assert batch.num_rows == 0


def test_columns_fall_out_of_view_and_the_cache_stays_small(av):
    vectors = activations(40)
    alone = LocalEngine(av).generate(vectors, temperature=0.0, max_new_tokens=20, seed=0)
    batch = DecodingBatch(av, max_rows=3)
    done = written(batch, greedy(vectors, 20), [7 * i for i in range(40)])
    assert [done[i].token_ids for i in range(40)] == [r.token_ids for r in alone]
    prompt = len(av.prefix_ids) + len(av.tail_ids)
    rows, columns = batch._cache.capacity
    assert rows <= 4
    assert columns <= prompt + 20 + 2 * GROWTH_COLUMNS


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family_av(request, lab_tokenizer):
    from tiny_nla import nla_sidecar

    model = family_model(request.param, vocab_size=len(lab_tokenizer))
    d_model = model.config.get_text_config().hidden_size
    return ActivationVerbalizer(
        model, lab_tokenizer, nla_sidecar(lab_tokenizer, "av", d_model=d_model)
    )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_says_the_same_alone_in_company_and_joining_midway_in_every_family(
    family_av, temperature
):
    """Windows of attention are shorter than the prompt here, so rows that join midway cross
    them.
    """
    vectors = activations(7, family_av.sidecar.d_model)
    requests = [RowRequest(v, temperature, 9, row_seed(5, i)) for i, v in enumerate(vectors)]
    alone = [written(DecodingBatch(family_av, max_rows=1), [r])[0] for r in requests]
    together = written(DecodingBatch(family_av, max_rows=7), requests)
    midway = written(DecodingBatch(family_av, max_rows=4), requests, [0, 2, 2, 5, 5, 6, 11])
    engine = LocalEngine(family_av).generate(
        vectors, temperature=temperature, max_new_tokens=9, seed=5
    )
    assert [together[i] for i in range(7)] == alone
    assert [midway[i] for i in range(7)] == alone
    assert engine == alone
    if temperature:  # greedy, untrained models of some families say one thing of every activation
        assert len({rollout.token_ids for rollout in alone}) > 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_responses_do_not_depend_on_batch_size_order_or_company(av, temperature):
    vectors, rows = activations(7), [3, 40, 41, 7, 0, 9, 8]
    options = {"temperature": temperature, "max_new_tokens": 10, "seed": 11, "num_samples": 2}
    whole = LocalEngine(av).generate(vectors, **options, rows=rows)
    order = [4, 1, 6, 0, 2, 5, 3]
    for batch_size in (1, 3, 256):
        engine = LocalEngine(av, batch_size=batch_size)
        shuffled = engine.generate(vectors[order], **options, rows=[rows[i] for i in order])
        assert shuffled == [whole[2 * i + sample] for i in order for sample in (0, 1)]
    (only,) = LocalEngine(av).generate(vectors[2:3], **options | {"num_samples": 1}, rows=[rows[2]])
    assert only == whole[4]
    assert (whole[4] == whole[5]) == (temperature == 0)


def test_a_sampled_row_depends_on_its_seed_and_not_on_its_neighbours(av):
    vectors = activations(6)
    requests = [RowRequest(v, 1.0, 10, seed=i % 3) for i, v in enumerate(vectors)]
    together = written(DecodingBatch(av, max_rows=6), requests)
    one_by_one = [written(DecodingBatch(av, max_rows=1), [r])[0] for r in requests]
    assert [together[i].token_ids for i in range(6)] == [r.token_ids for r in one_by_one]
    other = written(DecodingBatch(av, max_rows=1), [RowRequest(vectors[0], 1.0, 10, 99)])[0]
    assert other.token_ids != one_by_one[0].token_ids


def test_greedy_and_sampled_rows_stand_in_one_batch(av):
    vectors = activations(6)
    requests = [RowRequest(v, float(i % 3), 8, i) for i, v in enumerate(vectors)]
    mixed = written(DecodingBatch(av, max_rows=6), requests)
    for temperature in (0.0, 1.0, 2.0):
        of_it = [i for i in range(6) if i % 3 == temperature]
        apart = written(DecodingBatch(av, max_rows=6), [requests[i] for i in of_it])
        assert [mixed[i] for i in of_it] == [apart[0], apart[1]]


def test_a_row_with_nan_leaves_nothing_behind_for_the_row_that_takes_its_place(lab_tokenizer):
    """What is masked is multiplied by zero, which NaN survives."""
    target = batch_target(random_model(vocab_size=len(lab_tokenizer)), lab_tokenizer)
    nan = ResidualEdit(0, [0], torch.full((1, 32), torch.nan))
    short = TextRequest(TEXTS[1], 0.0, 6, 0)
    batch = DecodingBatch(target, max_rows=2)
    batch.add(8, TextRequest(TEXTS[0], 0.0, 12, 0))
    batch.add(9, TextRequest(TEXTS[0], 0.0, 2, 0, nan))
    assert {token.key for token in batch.step() + batch.step() if token.rollout} == {9}
    assert written(batch, [short])[0] == written(DecodingBatch(target, max_rows=1), [short])[0]


def test_under_autocast_the_cache_stands_in_its_format_and_says_the_same(av):
    """With weights cast once, as joint RL generates."""
    vectors = activations(4)
    requests = [RowRequest(v, 1.0, 8, row_seed(0, i)) for i, v in enumerate(vectors)]
    with autocast("bfloat16"), torch.inference_mode(), linear_weights_cast_once(av.model):
        batch = DecodingBatch(av, max_rows=4)
        done = written(batch, requests)
        assert {buffer.dtype for buffer in batch._cache.buffers} == {torch.bfloat16}
        found = LocalEngine(av).generate(vectors, temperature=1.0, max_new_tokens=8, seed=0)
    assert [done[i] for i in range(4)] == found


def test_rows_beyond_the_room_and_without_a_token_to_write_are_refused(av):
    batch = DecodingBatch(av, max_rows=1)
    (vector,) = activations(1)
    with pytest.raises(ConfigError, match="at least 1 token"):
        batch.add(0, RowRequest(vector, 0.0, 0, 0))
    batch.add(0, RowRequest(vector, 0.0, 5, 0))
    with pytest.raises(ConfigError, match="fewer than 1 rows"):
        batch.add(1, RowRequest(vector, 0.0, 5, 0))


# Texts of the target

TEXTS = [
    [5, 9, 300, 17, 44, 8, 120, 77, 31, 6, 500, 12],
    [5, 9, 300, 21, 19],
    [11, 400, 3, 90, 41, 8, 7, 6, 45, 30, 200, 1, 2, 3, 4, 80, 81, 82, 83, 84],
    [5, 9, 300, 17, 44, 8, 120, 77, 31, 6, 500, 13],
    [77],
]


def batch_target(model, tokenizer):
    return Target(model, tokenizer, architecture_of(model.config.model_type), "tiny")


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def target(request, lab_tokenizer):
    return batch_target(family_model(request.param, vocab_size=len(lab_tokenizer)), lab_tokenizer)


@torch.no_grad()
def continued(target, request):
    """One whole forward pass for every token, the edit made in each: no cache, no batch."""
    ids, edit = list(request.token_ids), request.edit

    def add(hidden):
        hidden = hidden.clone()
        hidden[0, list(edit.positions)] += edit.offsets
        return hidden

    first = None
    for _ in range(request.max_new_tokens):
        if edit is None:
            logits = target.model(input_ids=torch.tensor([ids])).logits[0, -1]
        else:
            with edit_residual(target.model, edit.layer, add):
                logits = target.model(input_ids=torch.tensor([ids])).logits[0, -1]
        first = logits.softmax(-1) if first is None else first
        ids.append(int(logits.argmax()))
        if ids[-1] == target.tokenizer.eos_token_id:
            break
    return tuple(ids[len(request.token_ids) :]), first


def test_texts_of_any_length_go_on_as_whole_forward_passes_do_in_every_family(target):
    """Rows of other lengths and of the same, edited and not, at two layers, that join at different
    steps.
    """
    d_model = target.d_model
    offsets = activations(2, d_model, seed=3) * 20
    requests = [
        TextRequest(TEXTS[1], 0.0, 7, 0),
        TextRequest(TEXTS[0], 0.0, 6, 0),
        TextRequest(TEXTS[0], 0.0, 6, 0, ResidualEdit(1, [9, 4], offsets)),
        TextRequest(TEXTS[2], 0.0, 5, 0),
        TextRequest(TEXTS[3], 0.0, 6, 0, ResidualEdit(2, [11], offsets[:1])),
        TextRequest(TEXTS[4], 0.0, 8, 0),
    ]
    expected = [continued(target, request) for request in requests]
    batch, first, done = DecodingBatch(target, max_rows=6), {}, {}
    joins = [0, 1, 1, 3, 1, 4]
    for step in range(20):
        for key, at in enumerate(joins):
            if at == step:
                batch.add(key, requests[key])
        for token in batch.step():
            if token.next_probabilities is not None:
                assert token.key not in first
                first[token.key] = token.next_probabilities
            if token.rollout is not None:
                done[token.key] = token.rollout.token_ids
    assert done == {key: ids for key, (ids, _) in enumerate(expected)}
    for key, (_, probabilities) in enumerate(expected):
        torch.testing.assert_close(first[key], probabilities, atol=1e-5, rtol=1e-3)
    assert done[1] != done[2] or not torch.allclose(first[1], first[2], atol=1e-4)


def test_a_text_ends_at_its_end_token_which_is_not_in_its_words(lab_tokenizer):
    model = random_model(vocab_size=len(lab_tokenizer))
    target = batch_target(model, lab_tokenizer)
    (endless,) = written(
        DecodingBatch(target, max_rows=1), [TextRequest(TEXTS[0], 1.5, 30, 4)]
    ).values()
    assert not endless.finished
    assert len(endless.token_ids) == 30
    batch = DecodingBatch(target, max_rows=1)
    batch._prompts.stop_ids = frozenset({endless.token_ids[12]})
    (ended,) = written(batch, [TextRequest(TEXTS[0], 1.5, 30, 4)]).values()
    assert ended.finished
    assert (
        ended.token_ids == endless.token_ids[: endless.token_ids.index(endless.token_ids[12]) + 1]
    )


def test_an_edit_of_a_token_that_is_not_there_and_an_empty_text_are_refused(lab_tokenizer):
    target = batch_target(random_model(vocab_size=len(lab_tokenizer)), lab_tokenizer)
    batch = DecodingBatch(target, max_rows=2)
    for position in (-1, len(TEXTS[1])):
        edit = ResidualEdit(1, [0, position], torch.zeros(2, 32))
        with pytest.raises(PositionError, match=f"position 0 to 4, found {position}"):
            batch.add(0, TextRequest(TEXTS[1], 0.0, 3, 0, edit))
    with pytest.raises(ConfigError, match="the text is empty"):
        batch.add(0, TextRequest([], 0.0, 3, 0))
    batch.add(0, TextRequest(TEXTS[1], 0.0, 3, 0, ResidualEdit(9, [0], torch.zeros(1, 32))))
    with pytest.raises(ArchitectureError, match="no such layer"):
        batch.step()
