"""No absurd setting passes: every number of every settings class has bounds, and what settings name
is resolved before any work."""

import math
import re
from typing import get_args

import pytest
from pydantic import ValidationError

from gloss.data import BuildConfig, ExtractConfig, LabelConfig, SplitConfig
from gloss.errors import ConfigError, GlossError
from gloss.evaluate import EvaluateConfig
from gloss.pipeline.run_checks import check_run
from gloss.pipeline.run_config import CorpusConfig, RunConfig, preset_path, read_config
from gloss.train import AVSFTConfig, JointConfig, SFTConfig
from gloss.train.config import OptimizerConfig

CLASSES = {
    CorpusConfig: {"source": "lab"},
    ExtractConfig: {},
    SplitConfig: {},
    LabelConfig: {},
    BuildConfig: {},
    OptimizerConfig: {"lr": 1e-3},
    SFTConfig: {"steps": 5, "optimizer": {"lr": 1e-3}},
    AVSFTConfig: {"steps": 5, "optimizer": {"lr": 1e-3}},
    JointConfig: {"steps": 5, "av": {"lr": 1e-3}, "ar": {"lr": 1e-3}},
    EvaluateConfig: {},
}
NUMBERS = [
    pytest.param(kind, name, id=f"{kind.__name__}.{name}")
    for kind in CLASSES
    for name, field in kind.model_fields.items()
    if {int, float} & {field.annotation, *get_args(field.annotation)}
]


def accepted(kind, name, value):
    try:
        kind.model_validate({**CLASSES[kind], name: value})
    except ValidationError:
        return False
    return True


@pytest.mark.invariant("runs-6")
@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_every_number_is_bounded_on_both_sides(kind, name):
    for absurd in (math.nan, math.inf, -math.inf, 1e300, 10**30, -(10**30)):
        assert not accepted(kind, name, absurd), absurd
    if name != "seed":
        assert not accepted(kind, name, -1)
    default = kind.model_fields[name].get_default()
    assert default is None or not isinstance(default, (int, float)) or accepted(kind, name, default)


def test_no_number_escapes_the_walk():
    assert len(NUMBERS) >= 45
    assert {RunConfig.model_fields[name].annotation for name in ("seed", "threads")}


@pytest.mark.invariant("runs-7")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("extract.layer=6", "extract.layer is beyond the target: expected 0 to 5, found 6"),
        ("label.labeller=nobody", "nobody"),
        ("label.settings={error_rate=7}", "error_rate"),
        ("build.marker=ab", "'ab' cannot be the injection marker"),
        ("joint.attn_implementation=fancy", "joint.attn_implementation: unknown attention kernel"),
        ("joint.max_new_tokens=600", "joint.max_new_tokens does not fit into the target's context"),
        ("target=./nowhere", "nowhere"),
        ("corpus.source=./nothing", "no such corpus"),
        ("corpus.max_documents=0", "corpus.max_documents"),
        ("split={av_sft=0.5, ar_sft=0.5, rl=0, heldout=0}", "split.rl"),
        ("corpus.max_documents=3", "corpus.max_documents: a run needs documents for each part"),
        ("corpus.text_field=''", "corpus.text_field"),
        ("corpus.split=''", "corpus.split"),
        ("corpus.source=''", "corpus.source"),
        ("build.marker=' '", "' ' cannot be the injection marker"),
        ("build.marker=''", "build.marker"),
        ("name=../../x", "name"),
        ("name=..", "name"),
        ("name=''", "name"),
        ("name='a\\u0000b'", "name"),
        ("joint.steps=true", "joint.steps: true or false where a number is expected"),
        ("joint.temperature=true", "joint.temperature: true or false"),
        ("seed=false", "true or false where a number"),
        ("extract.max_tokens=5", "min_position 10 must be below max_tokens 5"),
    ],
)
def test_what_settings_name_is_resolved_before_any_work(override, message):
    with pytest.raises(GlossError) as caught:
        check_run(read_config(preset_path("smoke"), [override]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_presets_pass():
    check_run(read_config(preset_path("smoke")))


def test_a_wrong_corpus_for_hours_is_a_config_error():
    with pytest.raises(ConfigError, match="documents"):
        check_run(read_config(preset_path("smoke"), ["corpus={source='lab'}"]))


def test_a_number_that_nobody_can_write_down_is_refused_in_one_line(tmp_path):
    file = tmp_path / "config.toml"
    text = preset_path("standard").read_text()
    changed = re.sub(r"(?m)^max_tokens = .*$", f"max_tokens = 0x{'f' * 9000}", text, count=1)
    assert changed != text
    file.write_text(changed)
    with pytest.raises(ConfigError, match=r"extract.max_tokens.*a value of type int that cannot"):
        read_config(file)
