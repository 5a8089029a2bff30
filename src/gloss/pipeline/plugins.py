"""What a config's names stand for: the lab's target, corpus, labeller and truth, or the user's
own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gloss.data import Document, LabelConfig, read_corpus
from gloss.errors import ConfigError
from gloss.evaluate import ClaimJudge
from gloss.pipeline.run_config import CorpusConfig, RunConfig
from gloss.providers import ExtractiveLabeller, Labeller

LAB = "lab"


def target_name(name: str) -> str:
    """A model's folder or hub id; ``lab`` is the shipped lab target."""
    if name != LAB:
        return name
    from gloss.lab import lab_target_folder

    return str(lab_target_folder())


def documents(config: CorpusConfig, seed: int) -> Iterator[Document]:
    """The documents of a corpus.

    Raises: CorpusError if it cannot be read; ConfigError if the lab is asked for without a number
    of documents."""
    if config.source == LAB:
        from gloss.lab import lab_documents

        if config.max_documents is None:
            raise ConfigError(
                "corpus.max_documents is needed for the lab", expected="a number of documents"
            )
        return lab_documents(config.max_documents, seed)
    return read_corpus(
        config.source, text_field=config.text_field, split=config.split, limit=config.max_documents
    )


def labeller(config: LabelConfig) -> Labeller:
    """The labeller that a config names.

    Raises: ConfigError if there is none of that name.
    """
    try:
        if config.labeller == LAB:
            from gloss.lab import LabLabeller

            return LabLabeller(**{"seed": config.seed, **config.settings})
        if config.labeller == "extractive":
            return ExtractiveLabeller(**config.settings)
    except TypeError as error:
        raise ConfigError(
            f"wrong label.settings for labeller {config.labeller!r}", found=str(error)
        ) from error
    raise ConfigError("unknown labeller", expected="lab or extractive", found=repr(config.labeller))


def judge(config: RunConfig) -> ClaimJudge | None:
    """Known truth, where the corpus is the lab's."""
    if config.corpus.source != LAB:
        return None
    from gloss.lab import LabJudge

    truth: Any = LabJudge()
    return truth  # type: ignore[no-any-return]
