"""A tokenizer as its file says: whatever class loads it, its ids are those of tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gloss.errors import CheckpointError, foreign_faults
from gloss.target_model.folder_files import json_object, readable
from gloss.target_model.hub import ModelPlace
from gloss.target_model.template_limits import with_bounded_template

_PLAIN = ("PreTrainedTokenizerFast", "TokenizersBackend")
_FILE = "tokenizer.json"
_MAX_GROWTH = 256
"""How many characters a normalizer may make of one; more of them exhausts memory."""
_PROBES = (
    "Hello, how are you? It's what they'll've DONE, isn't it?",
    " a leading space, two  inside, three   and a\ttab\n\n    indented:\r\n return f(n - 1)\n",
    "In 2024 and 1999: 1, 12, 123, 1234, 1234567 and word123abc, 3.14e-10, 0x1F",
    "café cafe\u0301 ﬁne Å \u212b straße naïve Ⅳ ½ ①",
    "Привет, мир. 你好,世界。こんにちは 안녕하세요 مرحبا हिन्दी ไทย",
    "emoji 👩‍👩‍👧 🏳️‍🌈 and \u200bzero\u00a0width \ufeff marks …—“”",
    "def camelCase_snake(x): return {'key': [x ** 2 for _ in range(10)]}  # <tag/> && || \\n",
    "x",
    " ",
)


def load_tokenizer(name: str | Path | ModelPlace, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer saved with a model; its ids are those of ``tokenizer.json`` where there is one.

    AutoTokenizer rebuilds some families' tokenizers with the family's own splitting rules, whatever
    the file says. A folder whose class gives other ids than the file, and one that records the
    plain class, is loaded with the plain class, which takes the file as it is.
    Its chat template may run for a few seconds of a chat, and no longer.
    Raises: CheckpointError if there is none, if no class gives the file's ids, or if its
    normalizer makes texts too long."""
    return with_bounded_template(_loaded(name, trust_remote_code=trust_remote_code))


def _loaded(name: str | Path | ModelPlace, *, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    folder = ModelPlace.of(name).folder(with_code=trust_remote_code)
    remedy = "Name a Hugging Face folder or id with tokenizer files"
    expected = _ids_of_file(folder)
    with readable("no tokenizer could be loaded", name, remedy):
        plain = get_tokenizer_config(str(folder)).get("tokenizer_class") in _PLAIN
        if not plain:
            auto: Any = AutoTokenizer
            found = auto.from_pretrained(str(folder), trust_remote_code=trust_remote_code)
            if expected is None or ids_of_probes(found) == expected:
                return found
        found = PreTrainedTokenizerFast.from_pretrained(str(folder))
    if expected is not None and (ids := ids_of_probes(found)) != expected:
        i = next(i for i, _ in enumerate(_PROBES) if ids[i] != expected[i])
        raise CheckpointError(
            "the tokenizer gives other ids than its own tokenizer.json",
            where=folder,
            expected=f"{expected[i][:8]} for {_PROBES[i][:24]!r}",
            found=str(ids[i][:8]),
            remedy="Remove from tokenizer_config.json what contradicts tokenizer.json",
        )
    return found


def ids_of_probes(tokenizer: Any) -> list[list[int]]:
    """Ids of texts that tell tokenizers apart. Raises: CheckpointError if it cannot read them."""
    with foreign_faults(CheckpointError, "the tokenizer cannot read a text"):
        return [list(tokenizer.encode(text, add_special_tokens=False)) for text in _PROBES]


def _ids_of_file(folder: Path) -> list[list[int]] | None:
    """The probes' ids by the file alone; None for a tokenizer of another form."""
    file = folder / _FILE
    if not file.is_file():
        return None
    refuse_exploding_rules(file)
    from tokenizers import Tokenizer

    with readable("the tokenizer cannot be read", file):
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return [tokenizer.encode(text, add_special_tokens=False).ids for text in _PROBES]


def refuse_exploding_rules(file: Path) -> None:
    """Raises CheckpointError for replacements that, one behind the other, make texts too long."""
    rules = json_object(file)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        growth = 1
        for rule in _rules(rules.get(part)):
            added = rule.get("content", rule.get("prepend"))
            growth *= max(1, len(added)) if isinstance(added, str) else 1
        if growth > _MAX_GROWTH:
            what = f"its {part} makes more than {_MAX_GROWTH} characters of one"
            remedy = "Do not use this tokenizer: it would exhaust the memory"
            raise CheckpointError(what, where=file, remedy=remedy)


def _rules(part: Any) -> Iterator[dict[str, Any]]:
    """The rules of a part, those of its sequences one by one."""
    if isinstance(part, dict):
        yield part
        for inside in ("normalizers", "pretokenizers", "decoders"):
            for rule in part.get(inside) or ():
                yield from _rules(rule)
