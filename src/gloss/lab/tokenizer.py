"""The lab tokenizer: whole words of the micro-world, single characters, and bytes for everything else; deterministic."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import islice
from typing import Any

from gloss.lab import wording
from gloss.lab.labels import write_label
from gloss.lab.mix import training_texts
from gloss.lab.truth import values_of
from gloss.lab.world import generate_documents

END_OF_TEXT, START, STOP, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIALS = (END_OF_TEXT, START, STOP, PAD)
TAGS = ("<explanation>", "</explanation>")
SPACE = "▁"
VOCABULARY_SIZE = 1152
SAMPLE_TEXTS, SAMPLE_LABELS = 3000, 1500
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SPLIT = r"</?explanation>|\n|[^\sA-Za-z0-9▁]"
_FORM = re.compile(rf"{_SPLIT}| ?[A-Za-z0-9]+")


def build_tokenizer() -> Any:
    """The lab tokenizer as a Transformers fast tokenizer."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = _pieces()
    model = models.Unigram(pieces, unk_id=0, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never", split=True),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIALS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=STOP,
        pad_token=PAD,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        additional_special_tokens=[END_OF_TEXT, START],
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _pieces() -> list[tuple[str, float]]:
    forms = _counted_forms()
    characters = sorted({chr(code) for code in range(32, 127)} | {SPACE, "\n", wording.MARKER, "⏎"} - {" "})
    fixed = [(token, 0.0) for token in SPECIALS]
    fixed += [(f"<0x{byte:02X}>", -60.0) for byte in range(256)]
    fixed += [(character, -8.0 if character == wording.MARKER else -20.0) for character in characters]
    room = VOCABULARY_SIZE - len(fixed) - len(TAGS)
    words = [form for form, _ in forms.most_common() if form not in characters][:room]
    return fixed + [(tag, -5.0) for tag in TAGS] + [(word, -10.0) for word in sorted(words)]


def _counted_forms() -> Counter[str]:
    texts = list(islice(training_texts(SAMPLE_TEXTS, 0), SAMPLE_TEXTS))
    draw = random.Random("tokenizer")
    for document in generate_documents(SAMPLE_LABELS, 0):
        part = document.text[: document.text.rindex(" ", 0, draw.randint(60, len(document.text)))]
        texts.append("\n" + write_label(draw, document, part, error_rate=0.1) + "\n")
    texts += [wording.EXTRA_TEXT] * 10
    texts += [f"\n{template.format(value)}\n" for kind, templates in wording.FEATURES.items() for template in templates for value in values_of(kind)] * 2
    counts: Counter[str] = Counter()
    for text in texts:
        for special in SPECIALS:
            text = text.replace(special, "\n")
        counts.update(form.replace(" ", SPACE) for form in _FORM.findall(text) if len(form) > 1)
    return Counter({form: count for form, count in counts.items() if count > 1})
