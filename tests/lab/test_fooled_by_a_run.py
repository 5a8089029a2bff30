"""The page "How to be fooled by an NLA": its examples with an AR, on the smoke preset's after SFT.

Another number of threads trains other weights; the numbers of the page are held to 0.08."""

from dataclasses import replace

import pytest
from fooled_page import blocks, hold

from examples.how_to_be_fooled import of_ar
from gloss.contract import check_same_activations, read_dataset_sidecar, read_model_sidecar
from gloss.errors import SidecarError
from gloss.models import load_ar


@pytest.fixture(scope="module")
def found(small_run):
    ar = load_ar(small_run / "ar_sft" / "checkpoint")
    return {name: example(ar) for name, example in of_ar.EXAMPLES.items()}


@pytest.mark.parametrize("name", of_ar.EXAMPLES)
def test_the_page_shows_what_a_run_gives(found, name):
    hold(blocks()[name], found[name], within=0.08)


def test_labels_of_the_text_score_without_any_activation(found):
    one = found["last-words"]
    assert one["FVE of labels, written from the text"] > 0.4
    best_quote = one["FVE of the best quote of last words"]
    assert best_quote < one["FVE of labels, written from the text"] - 0.2
    assert one["FVE of an empty text"] < one["FVE of the best quote of last words"]


def test_false_last_lines_carry_fve_and_wrong_facts_do_not(found):
    assert found["false-quotes"]["FVE lost without a wrong fact, mean"] < 0.02
    assert found["false-quotes"]["FVE lost without one, mean"] > 0.03
    assert found["false-quotes"]["share that costs FVE to leave out"] > 0.5


def test_the_same_sentences_in_another_order_are_not_the_same(found):
    one = found["order"]
    whole = one["as written"]
    assert one["every second fact in other words"] > whole - 0.05
    assert one["the same sentences, last first"] < whole - 0.3


def test_the_best_rows_are_not_the_run(found):
    one = found["best-of-many"]
    assert one["FVE of the best five rows"] > one["FVE of all rows"] + 0.3


def test_the_page_quotes_the_refusal_of_another_layer(small_run):
    av = read_model_sidecar(small_run / "nla/av")
    rows = read_dataset_sidecar(small_run / "splits/heldout.parquet")
    check_same_activations(av, rows)
    with pytest.raises(SidecarError) as refused:
        check_same_activations(av, replace(rows, layer=3))
    assert " ".join(blocks()["refusal"]) == str(refused.value)
