"""Load a target model: a Hugging Face folder or hub id, safetensors only, no remote code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gloss.errors import CheckpointError, ConfigError
from gloss.target.architectures import Architecture, architecture_of, blocks_of
from gloss.target.folder_files import UNREADABLE, refuse_unsafe_files

_PLAIN_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Target:
    """A target model with its tokenizer, in evaluation mode; ``name`` is what it was loaded from."""

    model: Any
    tokenizer: Any
    architecture: Architecture
    name: str

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def num_blocks(self) -> int:
        """Number of decoder blocks."""
        return len(blocks_of(self.model))

    @property
    def default_layer(self) -> int:
        """The block at about two thirds of the depth, 0-based."""
        return max(0, round(self.num_blocks * 2 / 3) - 1)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keeps Transformers' loading and saving bars and its load report off the terminal while active."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype called ``name``.

    Raises: ConfigError if it is not one of float32, bfloat16, float16.
    """
    if name not in _DTYPES:
        raise ConfigError("unknown dtype", expected=f"one of {sorted(_DTYPES)}", found=repr(name))
    return _DTYPES[name]


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer saved with a model, exactly as its ``tokenizer.json`` says.

    AutoTokenizer rebuilds some families' tokenizers with the family's own splitting rules, whatever the file says; a folder that
    records the plain class is therefore loaded with it.
    Raises: CheckpointError if there is none.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    _refuse_missing_folder(name)
    try:
        recorded = get_tokenizer_config(str(name)).get("tokenizer_class")
        loader = PreTrainedTokenizerFast if recorded in _PLAIN_TOKENIZERS else AutoTokenizer
        return loader.from_pretrained(str(name), trust_remote_code=False)
    except UNREADABLE as error:
        raise CheckpointError(
            f"no tokenizer could be loaded ({_first_line(error)})",
            where=name,
            remedy="Name a Hugging Face folder or id with tokenizer files",
        ) from error


def load_target(
    name: str | Path, *, dtype: str = "float32", device: str = "cpu", attn_implementation: str | None = None
) -> Target:
    """Loads the target language model and its tokenizer; ``attn_implementation`` None takes the default of Transformers.

    Raises: CheckpointError if the folder or id cannot be loaded, ArchitectureError if its family is unknown.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    wanted = torch_dtype(dtype)
    _refuse_missing_folder(name)
    try:
        config = AutoConfig.from_pretrained(str(name), trust_remote_code=False)
    except UNREADABLE as error:
        raise CheckpointError(
            f"no model could be loaded ({_first_line(error)})",
            where=name,
            remedy="Name a Hugging Face model folder (with config.json) or hub id",
        ) from error
    architecture = architecture_of(config.model_type)
    try:
        with quiet_loading():
            model = AutoModelForCausalLM.from_pretrained(
                str(name),
                dtype=wanted,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=attn_implementation,
            )
    except UNREADABLE as error:
        raise CheckpointError(
            f"the weights could not be loaded ({_first_line(error)})", where=name, remedy="Gloss reads safetensors only"
        ) from error
    module: Any = model
    module.to(device).eval().requires_grad_(False)
    return Target(model=module, tokenizer=load_tokenizer(name), architecture=architecture, name=str(name))


def _refuse_missing_folder(name: str | Path) -> None:
    """A name that can only be a path is not looked for on the hub; in a folder, nothing may lead out of it."""
    text = str(name)
    if (text.startswith((".", "/", "~")) or text.count("/") > 1) and not Path(text).is_dir():
        raise CheckpointError("no such model folder", where=name, remedy="Name a Hugging Face folder or hub id")
    if Path(text).is_dir():
        refuse_unsafe_files(Path(text))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
