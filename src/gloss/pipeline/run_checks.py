"""What a run would fail on hours later, found before its first stage: also ``--dry-run``."""

from __future__ import annotations

from gloss import plugins
from gloss.contract import choose_marker, marker_for, prompt_ids
from gloss.data.build import ar_suffix_ids
from gloss.data.corpus import HUB_PREFIX
from gloss.errors import ConfigError
from gloss.pipeline.run_config import RunConfig
from gloss.target_model import ModelPlace, load_tokenizer, read_config
from gloss.train.config import NEEDS_TRUTH

KERNELS = ("extract", "ar_sft", "av_sft", "joint", "evaluate")


def check_run(config: RunConfig) -> None:
    """Resolves what the settings name: labeller, corpus, target, layer, templates, marker, kernels.

    No weight is read. Raises: the error that its stage would raise."""
    config.label.make_labeller()
    for name, share in config.split.shares.items():
        if not share:
            what = f"split.{name}: a run needs documents for each part"
            raise ConfigError(what, expected="a share above 0", found=share)
    most, parts = config.corpus.max_documents, len(config.split.shares)
    if most is not None and most < parts:
        what = "corpus.max_documents: a run needs documents for each part"
        raise ConfigError(what, expected=f"{parts} or more", found=most)
    _check_measures(config)
    for stage in KERNELS:
        _check_kernel(stage, getattr(config, stage).attn_implementation)
    if not config.corpus.source.startswith(HUB_PREFIX):
        next(config.corpus.documents(config.seed))
    _check_target(config)


def _check_measures(config: RunConfig) -> None:
    if plugins.find("gloss.judges", config.corpus.source) is not None:
        return
    for name in set(config.joint.judged_by).intersection(NEEDS_TRUTH):
        raise ConfigError(
            "joint.series and joint.stop_when cannot judge by what is true here",
            expected="a measure of FVE, as nothing knows the truth of the corpus",
            found=name,
        )


def _check_kernel(stage: str, kernel: str | None) -> None:
    if kernel is None:
        return
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known = ["eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()]
    if kernel not in known:
        what = f"{stage}.attn_implementation: unknown attention kernel"
        raise ConfigError(what, expected=f"one of {', '.join(known)}", found=repr(kernel))


def _check_target(config: RunConfig) -> None:
    place = ModelPlace.of(plugins.target_place(config.target))
    folder = place.folder(with_weights=False)
    model = read_config(folder, False).get_text_config()
    layer, depth = config.extract.layer, int(model.num_hidden_layers)
    if layer is not None and layer >= depth:
        what, expected = "extract.layer is beyond the target", f"0 to {depth - 1}"
        raise ConfigError(what, expected=expected, found=layer)
    tokenizer, build = load_tokenizer(folder), config.build
    marker = (
        marker_for(tokenizer, build.av_template, build.marker)
        if build.marker
        else choose_marker(tokenizer, build.av_template).marker
    )
    prompt = len(prompt_ids(tokenizer, build.av_template, marker.char))
    if not ar_suffix_ids(tokenizer, build.ar_template):
        what = "build.ar_template: its end is another token with every explanation"
        raise ConfigError(what, expected="text behind {explanation}")
    longest = getattr(model, "max_position_embeddings", None)
    for name in ("joint", "evaluate"):
        wanted = getattr(config, name).max_new_tokens
        if longest is not None and prompt + wanted > longest:
            raise ConfigError(
                f"{name}.max_new_tokens does not fit into the target's context",
                expected=f"at most {longest - prompt}, behind a prompt of {prompt} tokens",
                found=wanted,
            )
