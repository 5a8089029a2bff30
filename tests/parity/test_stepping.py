"""Rows that join and leave at any step read exactly as rows that LocalEngine writes together."""

import pytest
import torch
from family_models import FAMILIES, family_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gloss.engines import LocalEngine, RowRequest, DecodingBatch
from gloss.errors import ConfigError
from gloss.models import ActivationVerbalizer
from gloss.models.slot_cache import GROWTH_COLUMNS


def activations(n, d_model=32, seed=0):
    return torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))


def written(engine, requests, joins, leaves=None):
    """Runs the engine; ``joins`` gives the step at which each row joins, ``leaves`` that at which
    some are dropped.
    """
    done, step, waiting = {}, 0, sorted(range(len(requests)), key=lambda i: joins[i])
    while waiting or engine.num_rows:
        while waiting and joins[waiting[0]] <= step and engine.room > 0:
            engine.admit(waiting[0], requests[waiting[0]])
            waiting.pop(0)
        engine.drop([key for key, at in (leaves or {}).items() if at == step])
        done |= {token.key: token.rollout for token in engine.step() if token.rollout is not None}
        step += 1
    return done


def greedy(vectors, length):
    return [RowRequest(v, 0.0, length, 0) for v in vectors]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    joins=st.lists(st.integers(0, 20), min_size=1, max_size=9),
    dropped=st.dictionaries(st.integers(0, 8), st.integers(0, 25)),
)
def test_rows_that_join_and_leave_are_those_written_together(av, joins, dropped):
    vectors = activations(len(joins))
    alone = LocalEngine(av).generate(vectors, temperature=0.0, max_new_tokens=12, seed=0)
    engine = DecodingBatch(av, max_rows=5, max_new_tokens=12)
    done = written(engine, greedy(vectors, 12), joins, dropped)
    assert {i: r.token_ids for i, r in done.items()} == {i: alone[i].token_ids for i in done}
    assert set(done) >= set(range(len(joins))) - set(dropped)
    assert engine.num_rows == 0


def test_columns_are_closed_up_and_the_cache_stays_small(av):
    vectors = activations(40)
    alone = LocalEngine(av).generate(vectors, temperature=0.0, max_new_tokens=20, seed=0)
    engine = DecodingBatch(av, max_rows=3, max_new_tokens=20)
    done = written(engine, greedy(vectors, 20), [7 * i for i in range(40)])
    assert [done[i].token_ids for i in range(40)] == [r.token_ids for r in alone]
    prompt = len(av.prefix_ids) + len(av.tail_ids)
    assert engine._cache._layers[0].num_columns <= prompt + 20 + 2 * GROWTH_COLUMNS


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_steps_as_it_generates(family, lab_tokenizer):
    from tiny_nla import nla_sidecar

    model = family_model(family, vocab_size=len(lab_tokenizer))
    d_model = model.config.get_text_config().hidden_size
    av = ActivationVerbalizer(
        model, lab_tokenizer, nla_sidecar(lab_tokenizer, "av", d_model=d_model)
    )
    vectors = activations(4, d_model)
    alone = LocalEngine(av).generate(vectors, temperature=0.0, max_new_tokens=9, seed=0)
    done = written(
        DecodingBatch(av, max_rows=4, max_new_tokens=9), greedy(vectors, 9), [0, 2, 2, 5]
    )
    assert [done[i].token_ids for i in range(4)] == [r.token_ids for r in alone]


def test_a_sampled_row_depends_on_its_seed_and_not_on_its_neighbours(av):
    vectors = activations(6)
    requests = [RowRequest(v, 1.0, 10, seed=i % 3) for i, v in enumerate(vectors)]
    together = written(DecodingBatch(av, max_rows=6, max_new_tokens=10), requests, [0] * 6)
    one_by_one = [
        written(DecodingBatch(av, max_rows=1, max_new_tokens=10), [r], [0])[0] for r in requests
    ]
    assert [together[i].token_ids for i in range(6)] == [r.token_ids for r in one_by_one]
    other = written(
        DecodingBatch(av, max_rows=1, max_new_tokens=10),
        [RowRequest(vectors[0], 1.0, 10, 99)],
        [0],
    )[0]
    assert other.token_ids != one_by_one[0].token_ids


def test_rows_beyond_the_room_or_the_length_cap_are_refused(av):
    engine = DecodingBatch(av, max_rows=1, max_new_tokens=5)
    (vector,) = activations(1)
    with pytest.raises(ConfigError, match="at most 5 tokens"):
        engine.admit(0, RowRequest(vector, 0.0, 6, 0))
    engine.admit(0, RowRequest(vector, 0.0, 5, 0))
    with pytest.raises(ConfigError, match="cannot join"):
        engine.admit(1, RowRequest(vector, 0.0, 5, 0))
