"""One list of rules: loading raises the first that fails, and what validate says of it is the same
line.
"""

import dataclasses
import subprocess
import sys

import pytest
from test_sidecar import ar_sidecar, live_av

from gloss.contract import CONTRACT_RULES, verify_model_sidecar
from gloss.contract.checkpoint_rules import Half, findings
from gloss.errors import CheckpointError, GlossError


def half_of(sidecar, tokenizer, **config) -> Half:
    values = {"hidden_size": 16, "num_hidden_layers": 3} | config
    return Half(sidecar.role, sidecar, values, tokenizer)


def lines(half, status) -> dict[str, str]:
    found = findings(half, CONTRACT_RULES)
    return {f.check: f"{f.says}. {f.remedy}" for f in found if f.status == status}


def wrong_halves(make_tokenizer):
    """(the rule that it breaks, a half that loading refuses)"""
    tokenizer = make_tokenizer("㈎", bos=True)
    av, ar = live_av(tokenizer), ar_sidecar(ar_suffix_ids=None)
    suffix = tuple(tokenizer.convert_tokens_to_ids(list("</t> end")))
    moved = dataclasses.replace(av.marker, left_neighbor_id=av.marker.left_neighbor_id + 1)
    return [
        ("d_model", half_of(av, tokenizer, hidden_size=17)),
        ("d_model", half_of(ar, tokenizer, hidden_size=8)),
        ("layer", half_of(av, tokenizer, num_hidden_layers=2)),
        ("layer", half_of(ar, tokenizer, num_hidden_layers=4)),
        ("marker in prompt", half_of(dataclasses.replace(av, marker=moved), tokenizer)),
        ("AR suffix", half_of(dataclasses.replace(ar, ar_suffix_ids=suffix[::-1]), tokenizer)),
    ]


def test_loading_raises_what_validate_reports(make_tokenizer):
    for rule, half in wrong_halves(make_tokenizer):
        with pytest.raises(GlossError) as caught:
            verify_model_sidecar(
                half.sidecar,
                tokenizer=half.tokenizer,
                d_model=half.config["hidden_size"],
                num_blocks=half.config["num_hidden_layers"],
            )
        failed = lines(half, "fail")
        assert set(failed) == {rule}
        assert failed[rule] == str(caught.value).removesuffix(".")


def test_a_warning_does_not_keep_a_half_from_loading(make_tokenizer):
    tokenizer = make_tokenizer()
    sidecar = ar_sidecar(ar_suffix_ids=None, layer=None)
    half = half_of(sidecar, tokenizer)
    assert {"layer", "AR suffix", "base"} <= set(lines(half, "warning"))
    verify_model_sidecar(sidecar, tokenizer=tokenizer, d_model=16, num_blocks=3)


def test_a_rule_is_skipped_where_a_part_cannot_be_read(make_tokenizer):
    class Unreadable(Half):
        @property
        def config(self):
            raise CheckpointError("cannot be read")

        @config.setter
        def config(self, _value):
            """Nothing to set."""

    good = half_of(ar_sidecar(ar_suffix_ids=None), make_tokenizer())
    skipped = lines(Unreadable(good.role, good.sidecar, {}, good.tokenizer), "skipped")
    assert skipped.keys() == {"d_model", "layer", "tokenizer"}
    assert "needs a readable config" in skipped["layer"]


def test_every_rule_has_a_name_of_its_own_and_concerns_what_it_refuses():
    names = [rule.name for rule in CONTRACT_RULES]
    assert len(set(names)) == len(names)
    assert all(set(rule.loading) <= set(rule.roles) for rule in CONTRACT_RULES)


IMPORTS = [
    "import gloss.contract",
    "from gloss.release import card, publish, summary, validate",
]
MISTYPED = """
from pathlib import Path
from gloss.errors import GlossError
from gloss.release.card import write_cards
from gloss.release.publish import pull, push
from gloss.release.summary import inspect
from gloss.release.validate import validate
for ask in (inspect, validate, write_cards, pull, lambda name: push(Path(name), "me/nla")):
    try:
        ask("nowhere")
    except GlossError as error:
        assert "no NLA here" in str(error) or "no such folder" in str(error), error
    else:
        raise AssertionError
"""


@pytest.mark.parametrize("code", [*IMPORTS, MISTYPED], ids=["contract", "release", "mistyped"])
def test_nothing_of_it_loads_pytorch_before_a_weight_is_read(code, tmp_path):
    check = "import sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
