"""Load a model: a folder or hub id, safetensors only, no remote code unless it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from gloss.errors import CheckpointError, ConfigError, GlossError, MissingExtraError, first_line
from gloss.target_model.adapters import ADAPTER_CONFIG, add_adapter
from gloss.target_model.architectures import Architecture, architecture_of, blocks_of
from gloss.target_model.folder_files import UNREADABLE, json_object
from gloss.target_model.hub import ModelPlace
from gloss.target_model.tokenizer_files import load_tokenizer
from gloss.target_model.weight_checks import refuse_missing, refuse_not_finite, refuse_unused

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_QUANTIZATIONS = {
    "bitsandbytes-8bit": "bitsandbytes",
    "bitsandbytes-4bit": "bitsandbytes",
    "torchao-int8": "torchao",
}
_EXTRAS = {name: name for name in ("accelerate", "bitsandbytes", "torchao")} | {"peft": "lora"}


class LoadOptions(TypedDict, total=False):
    """How weights are loaded, the same for a target, an AV and an AR; passed on to Transformers.

    ``dtype`` float32 (default), bfloat16 or float16. ``device`` takes the whole model: "auto"
    (default) is the first CUDA device, or the CPU where there is none; ``device_map`` spreads it
    instead ("auto", or a mapping from modules to devices). ``attn_implementation`` None takes the
    default of Transformers. ``quantization`` is bitsandbytes-8bit, bitsandbytes-4bit, torchao-int8
    or a quantization config of Transformers. ``adapter`` is a folder or hub id with a LoRA adapter
    for the model, ``revision`` a branch, tag or commit on the hub. ``trust_remote_code`` lets the
    model's own Python code run: it can do anything that you can."""

    dtype: str
    device: str
    device_map: str | Mapping[str, Any] | None
    attn_implementation: str | None
    quantization: Any
    adapter: str | Path | None
    revision: str | None
    trust_remote_code: bool


@dataclass(frozen=True)
class Target:
    """A target model with its tokenizer, in evaluation mode; ``name`` is what was loaded."""

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
    """While active, Transformers' bars and its load report stay off the terminal."""
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
    """The torch dtype called ``name``; ConfigError if it is none of float32, bfloat16, float16."""
    if name not in _DTYPES:
        raise ConfigError("unknown dtype", expected=f"one of {sorted(_DTYPES)}", found=repr(name))
    return _DTYPES[name]


def load_target(name: str | Path | ModelPlace, **options: Unpack[LoadOptions]) -> Target:
    """Loads the target language model and its tokenizer; see ``LoadOptions``.

    Of a multimodal model only the text model is loaded, a LoRA adapter alone on top of the model it
    names.
    Raises: CheckpointError if it cannot be loaded or weights are missing, ArchitectureError if its
    family is unknown, MissingExtraError if an option needs a package that is not installed."""
    trust = options.get("trust_remote_code", False)
    folder = ModelPlace.of(name, revision=options.get("revision")).folder(with_code=trust)
    base = _base_of_adapter(folder)
    if base is not None:
        options = {**options, "adapter": options.get("adapter") or folder, "revision": None}
    model, missing = load_weights(base or folder, head=True, **options)
    refuse_missing(missing, where=name)
    own_tokenizer = base is None or (folder / "tokenizer_config.json").is_file()
    tokenizer = load_tokenizer(folder if own_tokenizer else str(base), trust_remote_code=trust)
    return Target(model, tokenizer, architecture_of(model.config.model_type), str(name))


def load_weights(
    name: str | Path | ModelPlace, *, head: bool, **options: Unpack[LoadOptions]
) -> tuple[Any, list[str]]:
    """A model with (``head``) or without its LM head, frozen, in evaluation mode, and the names of
    weights that the files lack. Raises: as ``load_target``, except for missing weights."""
    from transformers import AutoModel, AutoModelForCausalLM

    trust, device_map = options.get("trust_remote_code", False), options.get("device_map")
    quantization = _quantization_config(options.get("quantization"))
    _require("accelerate", wanted=device_map is not None or quantization is not None)
    _require("peft", wanted=options.get("adapter") is not None)
    device = _device(options)
    arguments: dict[str, Any] = {
        "dtype": torch_dtype(options.get("dtype", "float32")),
        "attn_implementation": options.get("attn_implementation"),
        "quantization_config": quantization,
        "device_map": device_map if device_map is not None or quantization is None else device,
    }
    folder = ModelPlace.of(name, revision=options.get("revision")).folder(with_code=trust)
    config = read_config(folder, trust)
    architecture = architecture_of(config.model_type, config=config)
    if architecture.text_keys:
        arguments |= {"config": text_config(config), "key_mapping": dict(architecture.text_keys)}
    loader: Any = AutoModelForCausalLM if head else AutoModel
    try:
        with quiet_loading():
            model, info = loader.from_pretrained(
                str(folder),
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=trust,
                **{key: value for key, value in arguments.items() if value is not None},
            )
    except UNREADABLE as error:
        raise _weights_error(error, name) from error
    if architecture.text_keys:
        # Else saving would turn the text model's names back into the wrapper's.
        model._weight_conversions = None
    is_quantized = quantization is not None or getattr(model, "is_quantized", False)
    if not is_quantized:
        refuse_unused(info["unexpected_keys"], architecture, head=head, where=name)
    refuse_not_finite(dict(model.named_parameters()), where=name)
    if (adapter := options.get("adapter")) is not None:
        with quiet_loading():
            add_adapter(model, adapter, of_wrapper=bool(architecture.text_keys))
    if device_map is None and not is_quantized:
        model.to(device)
    return model.eval().requires_grad_(False), sorted(info["missing_keys"])


def _device(options: LoadOptions) -> str:
    name = options.get("device", "auto")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        expected = "auto, cpu, or an accelerator of this machine such as cuda:0"
        raise ConfigError("no such device here", expected=expected, found=repr(name)) from error
    return name


def read_config(name: str | Path, trust_remote_code: bool) -> Any:
    """The config of a model folder; CheckpointError if it cannot be loaded."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(str(name), trust_remote_code=trust_remote_code)
    except UNREADABLE as error:
        what = f"no model could be loaded ({first_line(error)})"
        remedy = "Name a Hugging Face model folder (with config.json) or hub id"
        if "trust_remote_code" in str(error):
            what = "this model brings its own Python code, which Gloss does not run"
            remedy = "Read that code, and load with trust_remote_code=True if you trust it"
        raise CheckpointError(what, where=name, remedy=remedy) from error


def text_config(config: Any) -> Any:
    """The text model's part of a wrapper's config, with what only the wrapper's own level says."""
    text = config.get_text_config()
    text.tie_word_embeddings = config.tie_word_embeddings
    if getattr(config, "quantization_config", None) is not None:
        text.quantization_config = config.quantization_config
    return text


def _quantization_config(quantization: Any) -> Any:
    if not isinstance(quantization, str):
        return quantization
    if quantization not in _QUANTIZATIONS:
        expected = f"one of {sorted(_QUANTIZATIONS)}"
        raise ConfigError("unknown quantization", expected=expected, found=repr(quantization))
    _require(_QUANTIZATIONS[quantization], wanted=True)
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if quantization.startswith("bitsandbytes"):
        bits: Any = BitsAndBytesConfig
        return bits(**{f"load_in_{quantization.removeprefix('bitsandbytes-')}": True})
    from torchao.quantization import Int8WeightOnlyConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _require(package: str, *, wanted: bool) -> None:
    if wanted and find_spec(package) is None:
        raise MissingExtraError(package, _EXTRAS[package])


def _weights_error(error: Exception, name: object) -> GlossError:
    if isinstance(error, ImportError):
        for package, extra in _EXTRAS.items():
            if package in str(error) and find_spec(package) is None:
                return MissingExtraError(package, extra)
    what, remedy = "the weights could not be loaded", "Gloss reads safetensors only"
    return CheckpointError(f"{what} ({first_line(error)})", where=name, remedy=remedy)


def _base_of_adapter(folder: Path) -> str | None:
    """The model that an adapter belongs to, where a folder holds an adapter and no model."""
    adapter = folder / ADAPTER_CONFIG
    if not adapter.is_file() or (folder / "config.json").is_file():
        return None
    base = json_object(adapter).get("base_model_name_or_path")
    if not base or not isinstance(base, str):
        expected = "base_model_name_or_path"
        raise CheckpointError("the adapter names no model", where=adapter, expected=expected)
    return base


def weights_fingerprint(model: torch.nn.Module) -> str:
    """Sixteen hexadecimal digits from the shapes and a few values of every parameter."""
    digest = hashlib.blake2b(digest_size=8)
    for name, parameter in model.named_parameters():
        flat = parameter.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // 4)][:4].float().cpu().numpy()
        digest.update(f"{name} {tuple(parameter.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()
