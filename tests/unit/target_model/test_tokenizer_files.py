"""Ids are the file's: whatever class a folder names, and nothing where none gives them."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from gloss.errors import CheckpointError
from gloss.target_model import load_tokenizer

TEXTS = ["In 1984 Zoë wrote 250 pages; it's cafe\u0301 time", "  two\n\tlines 42", "ABC def"]
_SAMPLE = [*TEXTS, "1984 250 84 98 1 2 3 4 pages wrote time lines two"] * 30


def write_tokenizer(folder, class_name, *, splitter=None, normalizer=None, **config):
    tokenizer = Tokenizer(models.BPE())
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = splitter or bytes_of
    tokenizer.normalizer = normalizer or tokenizer.normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": class_name, "eos_token": "<|endoftext|>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]


def sequence(first):
    return pre_tokenizers.Sequence([first, pre_tokenizers.ByteLevel(add_prefix_space=False)])


@pytest.mark.invariant("loading-2")
@pytest.mark.parametrize(
    "class_name",
    ["LlamaTokenizerFast", "GPT2Tokenizer", "Qwen2Tokenizer", "GemmaTokenizerFast", None],
)
@pytest.mark.parametrize(
    "rules",
    [
        {"splitter": sequence(pre_tokenizers.Digits(individual_digits=True))},
        {"splitter": sequence(pre_tokenizers.Punctuation())},
        {"normalizer": normalizers.NFKC()},
        {"normalizer": normalizers.Lowercase()},
        {"splitter": pre_tokenizers.ByteLevel(add_prefix_space=True)},
    ],
    ids=["digits", "punctuation", "nfkc", "lowercase", "prefix"],
)
def test_a_class_that_overrides_the_file_is_not_taken(tmp_path, class_name, rules):
    expected = write_tokenizer(tmp_path / "t", class_name, **rules)
    tokenizer = load_tokenizer(tmp_path / "t")
    assert [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS] == expected
    assert tokenizer.eos_token == "<|endoftext|>"


@pytest.mark.invariant("loading-3")
@pytest.mark.parametrize("part", ["normalizer", "decoder"])
def test_replacements_that_multiply_a_text_are_refused_unread(tmp_path, part):
    write_tokenizer(tmp_path / "t", "PreTrainedTokenizerFast")
    file = tmp_path / "t" / "tokenizer.json"
    rule = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 40}
    kind = {"normalizer": "normalizers", "decoder": "decoders"}[part]
    rules = json.loads(file.read_text())
    rules[part] = {"type": "Sequence", kind: [rule, {"type": "Sequence", kind: [rule] * 5}]}
    file.write_text(json.dumps(rules))
    with pytest.raises(CheckpointError, match=rf"its {part} makes more than 256 characters of one"):
        load_tokenizer(tmp_path / "t")
