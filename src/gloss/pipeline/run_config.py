"""One TOML file for a whole run, in which every table belongs to one stage; strict."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, model_validator

from gloss import plugins
from gloss.data import BuildConfig, ExtractConfig, LabelConfig, SplitConfig
from gloss.data.settings import MANY, Seed, Settings
from gloss.errors import ConfigError
from gloss.evaluate import EvaluateConfig
from gloss.foreign import json_text, shown
from gloss.text.text_files import read_text_file
from gloss.train import AVSFTConfig, JointConfig, SFTConfig

if TYPE_CHECKING:
    from gloss.text.document import Document

PRESETS = ("smoke", "standard", "thorough")
SEEDED = ("extract", "split", "label", "ar_sft", "av_sft", "joint", "evaluate")


_NAME = r"^[^/\\\x00-\x1f.][^/\\\x00-\x1f]*$"
"""What one folder can be called, and no hidden one."""


class CorpusConfig(Settings):
    """Where the documents come from."""

    source: str = Field(min_length=1)
    """A .txt, .jsonl or .parquet file, a folder, ``hf:owner/name[:subset]``, or one installed."""
    max_documents: int | None = Field(default=None, gt=0, le=1000 * MANY)
    """Documents to read; all of them if not set (``lab`` needs it)."""
    text_field: str = Field(default="text", min_length=1)
    """Field or column that holds the text."""
    split: str = Field(default="train", min_length=1)
    """Split of a Hugging Face dataset."""
    max_refused: float = Field(default=0.05, ge=0, le=1)
    """Share of the records that may be unreadable; they are counted, more end the run."""

    def documents(self, seed: int) -> Iterator[Document]:
        """The documents; an installed corpus is seeded. Raises: CorpusError, ConfigError."""
        corpus = plugins.find("gloss.corpora", self.source)
        if corpus is not None:
            made: Iterator[Document] = corpus(self.max_documents, seed)
            return made
        from gloss.data import read_corpus

        return read_corpus(
            self.source,
            text_field=self.text_field,
            split=self.split,
            limit=self.max_documents,
            max_refused=self.max_refused,
        )


class RunConfig(Settings):
    """A whole run, from corpus to report."""

    name: str = Field(default="run", min_length=1, max_length=100, pattern=_NAME)
    """Shown in the report, and the folder in gloss-runs; also the preset's name."""
    target: str
    """The model to explain: a Hugging Face folder, a hub id, or an installed one, like ``lab``."""
    seed: Seed = 0
    """Seed of every stage that does not set its own."""
    threads: int | None = Field(default=None, gt=0, le=4096)
    """CPU threads; what PyTorch chooses if not set."""
    corpus: CorpusConfig
    """Documents."""
    extract: ExtractConfig
    """Activations."""
    split: SplitConfig
    """Documents for each use."""
    label: LabelConfig
    """Texts for the warm start."""
    build: BuildConfig = BuildConfig()
    """Prompt templates and datasets."""
    ar_sft: SFTConfig
    """Warm start of the AR."""
    av_sft: AVSFTConfig
    """Warm start of the AV."""
    joint: JointConfig
    """Joint reinforcement learning."""
    evaluate: EvaluateConfig
    """Measurements on held-out documents."""

    @model_validator(mode="before")
    @classmethod
    def _spread_seed(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for stage in SEEDED:
            if isinstance(values.get(stage, {}), dict):
                values[stage] = {"seed": values.get("seed", 0), **values.get(stage, {})}
        return values

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that identify all settings."""
        values = json_text(self.model_dump(mode="json"), sort_keys=True, only_ascii=True)
        return hashlib.sha256(values.encode()).hexdigest()[:12]


def preset_path(name: str) -> Path:
    """The shipped config of a preset. Raises: ConfigError if there is no such preset."""
    if name not in PRESETS:
        expected = f"one of {', '.join(PRESETS)}"
        raise ConfigError("unknown preset", expected=expected, found=repr(name))
    return Path(str(resources.files("gloss.pipeline") / "presets" / f"{name}.toml"))


def read_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run's TOML file and applies overrides such as ``joint.steps=40``.

    Raises: ConfigError that names the file and the key: unreadable, unknown, or a wrong value."""
    try:
        values = tomllib.loads(read_text_file(path, ConfigError))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not a TOML file ({error})", where=path) from error
    for override in overrides:
        _apply(values, override)
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise _config_error(error, path) from error


def _apply(values: dict[str, Any], override: str) -> None:
    def wrong(expected: str) -> ConfigError:
        return ConfigError("cannot read an override", expected=expected, found=repr(override))

    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise wrong("table.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    *tables, name = key.strip().split(".")
    place = values
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise wrong(f"a table called {table!r}")
    place[name] = value


def _config_error(error: ValidationError, path: Path) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "config"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        remedy = "Remove it or check its spelling"
        return ConfigError(f"unknown key {key!r}{more}", where=path, remedy=remedy)
    if first["type"] == "missing":
        return ConfigError(f"missing key {key!r}{more}", where=path)
    cause = first.get("ctx", {}).get("error")
    if cause is not None:
        return ConfigError(f"{key}{more}: {cause}", where=path)
    found = shown(first["input"], 120)
    return ConfigError(f"{key}{more}", where=path, expected=first["msg"], found=found)
