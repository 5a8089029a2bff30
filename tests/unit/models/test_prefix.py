import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import random_model

from gloss.models import SharedPrefix, common_prefix_length, hidden_after_prefix, length_chunks
from gloss.target_model import backbone_of

rows_of_ids = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=5)


@given(rows_of_ids)
def test_a_shared_prefix_leaves_every_row_a_token(rows):
    length = common_prefix_length(rows)
    assert all(row[:length] == rows[0][:length] for row in rows)
    assert all(len(row) > length for row in rows)
    longer = {tuple(row[: length + 1]) for row in rows}
    assert len(longer) > 1 or min(map(len, rows)) == length + 1


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 7))
def test_chunks_hold_every_row_once_shortest_first(lengths, size):
    chunks = length_chunks(lengths, size)
    flat = [i for chunk in chunks for i in chunk]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths)
    assert all(len(chunk) <= size for chunk in chunks)


def test_rows_behind_a_shared_prefix_see_it_at_its_own_positions():
    backbone = backbone_of(random_model())
    ids = torch.randint(0, 1024, (2, 12), generator=torch.Generator().manual_seed(0))
    ids[1, :7] = ids[0, :7]
    with torch.inference_mode():
        whole = backbone(input_ids=ids).last_hidden_state
        for cut in (0, 1, 7):
            prefix = SharedPrefix(backbone, ids[0, :cut].tolist())
            hidden = hidden_after_prefix(
                backbone, prefix, backbone.get_input_embeddings()(ids[:, cut:])
            )
            torch.testing.assert_close(hidden, whole[:, cut:], atol=1e-5, rtol=1e-5)


@pytest.mark.invariant("shared-prefix-gradients")
def test_gradients_flow_through_the_shared_prefix():
    backbone = backbone_of(random_model())
    ids = torch.randint(0, 1024, (1, 8), generator=torch.Generator().manual_seed(0))
    keys = [block.self_attn.k_proj.weight for block in backbone.layers]
    prefix = SharedPrefix(backbone, ids[0, :6].tolist())
    behind = hidden_after_prefix(backbone, prefix, backbone.get_input_embeddings()(ids[:, 6:]))[
        :, -1
    ]
    read = torch.randn(behind.shape, generator=torch.Generator().manual_seed(1))
    shared = torch.autograd.grad((behind * read).sum(), keys)
    whole = torch.autograd.grad(
        (backbone(input_ids=ids).last_hidden_state[:, -1] * read).sum(), keys
    )
    assert min(float(gradient.abs().max()) for gradient in whole) > 1e-2
    for one, other in zip(shared, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
