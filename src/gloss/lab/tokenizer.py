"""The lab's tokenizer: whole words of the micro-world, characters and bytes for the rest, exact for
any text."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import Unigram

from gloss.lab.documents import MESSAGE_END, MESSAGE_START, render
from gloss.lab.statements import features
from gloss.lab.wording_label import TEMPLATE_WORDS
from gloss.lab.world import generate_documents, training_texts

END_OF_TEXT, PAD, MARKER = "<|endoftext|>", "<|pad|>", "㊗"
MAX_VOCABULARY = 1152
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n'"
    " }}{% endif %}"
)

_SPECIALS = (END_OF_TEXT, MESSAGE_START, MESSAGE_END, PAD)
_PIECE = r'</?[a-z]+>| ?"\.\.\.|"\.| ?\p{L}+|[^\p{L}]'
_SAMPLE = 3000
_WORD_SCORE, _CHARACTER_SCORE, _NEVER = -1.0, -10.0, -1000.0


def build_tokenizer() -> Any:
    """The tokenizer of the lab target, built from the micro-world's words: the same on every
    machine."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=_unigram(),
        eos_token=MESSAGE_END,
        pad_token=PAD,
        extra_special_tokens=[END_OF_TEXT, MESSAGE_START],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def _unigram() -> Tokenizer:
    splitter = pre_tokenizers.Split(Regex(_PIECE), behavior="isolated")
    characters = ["\n", *(chr(code) for code in range(32, 127)), MARKER]
    pieces: dict[str, float] = dict.fromkeys(_SPECIALS, _NEVER)
    pieces |= {f"<0x{byte:02X}>": _NEVER for byte in range(256) if chr(byte) not in characters}
    pieces |= dict.fromkeys(characters, _CHARACTER_SCORE)
    words = [word for word in _words(splitter) if word not in pieces]
    pieces |= dict.fromkeys(words[: MAX_VOCABULARY - len(pieces)], _WORD_SCORE)
    tokenizer = Tokenizer(Unigram(list(pieces.items()), unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(list(_SPECIALS))
    return tokenizer


def _words(splitter: Any) -> list[str]:
    """The pieces of a sample of documents, instruct pairs and labels, the most frequent first."""
    counts: Counter[str] = Counter()
    for document in generate_documents(_SAMPLE, seed=0):
        text = render(document)
        cut = text.rindex(" ", 0, 1 + 3 * len(text) // 4)
        label = features(document, cut, Random(f"label 0 {document.doc_id} 0"), 0.5)
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(label + "\n" + text))
    for text in training_texts(_SAMPLE, seed=0):
        counts.update(piece for piece, _ in splitter.pre_tokenize_str(text))
    found = [piece for piece, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return [
        *TEMPLATE_WORDS,
        *(piece for piece in found if len(piece) > 1 and piece not in TEMPLATE_WORDS),
    ]
