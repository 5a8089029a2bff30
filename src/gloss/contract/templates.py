"""Prompt templates of AV and AR, filled by Python's format rules, and tokenized, as training and
reading share it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from gloss.contract.foreign_text import Spans, encode_texts
from gloss.errors import MarkerError, TemplateError

MARKER_FIELD, EXPLANATION_FIELD = "injection_char", "explanation"
INJECT = "<INJECT>"
"""Where the activation goes in a prompt of the user's own; all else is literal, braces too."""
_DOUBLED = re.compile(r"\{\{|\}\}|\{\w*\}")

DEFAULT_AV_TEMPLATE = (
    "Here is one activation of a language model, taken at one token of a text:"
    " <concept>{injection_char}</concept>\n\nSay what the model has in mind there: a few short"
    " features, the last of them about the final token. Write them between <explanation> and"
    " </explanation>."
)
DEFAULT_AR_TEMPLATE = "What a language model has in mind: <text>{explanation}</text> <activation>"


def fill(template: str, **fields: str) -> str:
    """The template with each ``{name}`` replaced and ``{{``, ``}}`` as single braces, by Python's
    format rules; braces in values stay text. Raises: TemplateError."""
    pieces = _pieces(template)
    names = {name for _, name in pieces if name is not None}
    if names != set(fields):
        raise TemplateError(
            "wrong fields in a template",
            expected=sorted(fields),
            found=sorted(names),
            remedy="Double a brace that is text: {{ and }}" if names - set(fields) else None,
        )
    return "".join(text + ("" if name is None else fields[name]) for text, name in pieces)


def around_field(template: str, field: str) -> tuple[str, str]:
    """The texts before and behind a field that stands there once. Raises: TemplateError."""
    pieces = _pieces(template)
    if (count := sum(name == field for _, name in pieces)) != 1:
        raise TemplateError(f"wrong number of {{{field}}} in a template", expected=1, found=count)
    at = next(i for i, (_, name) in enumerate(pieces) if name == field) + 1
    return "".join(text for text, _ in pieces[:at]), "".join(text for text, _ in pieces[at:])


def _pieces(template: str) -> list[tuple[str, str | None]]:
    """Texts, each with the name of the field behind it, or None."""
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        at = next((i for i, char in enumerate(_DOUBLED.sub("xx", template)) if char in "{}"), 0)
        found, remedy = repr(template[max(0, at - 20) : at + 20]), "Double it if it is text"
        what = f"stray brace in a template ({error})"
        raise TemplateError(what, found=found, remedy=remedy) from error
    for _, name, form, conversion in parsed:
        if name is not None and (form or conversion):
            shown = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            what, expected = "a field with a format in a template", f"{{{name}}}"
            raise TemplateError(what, expected=expected, found=f"{{{shown}}}")
    return [(text, name) for text, name, _, _ in parsed]


def validate_av_template(template: str) -> None:
    """Raises TemplateError unless ``{injection_char}``, and it alone, is to be filled, once."""
    fill(template, **{MARKER_FIELD: ""})
    around_field(template, MARKER_FIELD)


def validate_ar_template(template: str) -> None:
    """Raises TemplateError unless ``{explanation}`` stands there once, with text behind it."""
    fill(template, **{EXPLANATION_FIELD: ""})
    if not around_field(template, EXPLANATION_FIELD)[1].strip():
        what = "the AR template ends with the explanation"
        raise TemplateError(what, expected="text behind {explanation}")


def render_chat_ids(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
) -> list[int]:
    """Token ids of a chat, with one BOS at most; plain text where there is no chat template."""
    if getattr(tokenizer, "chat_template", None):
        rendered = tokenizer.apply_chat_template(
            list(messages),
            tokenize=True,
            add_generation_prompt=add_generation_prompt,
            return_dict=False,
        )
        ids = list(rendered["input_ids"]) if hasattr(rendered, "keys") else list(rendered)
        ids = ids[0] if ids and isinstance(ids[0], list) else ids
        return _one_bos(tokenizer, [int(i) for i in ids])
    return text_ids(tokenizer, "".join(message["content"] for message in messages))


def text_ids(tokenizer: Any, text: str, foreign: Spans = ()) -> list[int]:
    """Token ids of a plain text: one BOS where the tokenizer adds one, no end-of-text token; in
    ``foreign`` spans of it control tokens are text."""
    ids, _ = encode_texts(tokenizer, [text], [foreign], add_special_tokens=True)[0]
    return _one_bos(tokenizer, [int(i) for i in ids])


def ar_prompt_ids(tokenizer: Any, template: str, explanation: str) -> list[int]:
    """Token ids of the AR prompt of one explanation, without an end-of-text token."""
    return ar_ids(tokenizer, template, fill(template, **{EXPLANATION_FIELD: explanation}))


def ar_ids(tokenizer: Any, template: str, prompt: str) -> list[int]:
    """Token ids of an AR prompt that holds its explanation; in that, control tokens are text."""
    before, after = around_field(template, EXPLANATION_FIELD)
    return text_ids(tokenizer, prompt, [(len(before), len(prompt) - len(after))])


def check_ar_prompt(template: str, prompt: str) -> None:
    """Raises TemplateError unless ``prompt`` can be the AR template around some explanation."""
    before, after = around_field(template, EXPLANATION_FIELD)
    long_enough = len(prompt) >= len(before) + len(after)
    if not (long_enough and prompt.startswith(before) and prompt.endswith(after)):
        raise TemplateError(
            "an AR prompt of another template",
            expected=repr(template),
            found=repr(prompt if len(prompt) <= 80 else f"{prompt[:40]} … {prompt[-40:]}"),
            remedy="Build the dataset again, or use the AR it was built for",
        )


def prompt_ids(tokenizer: Any, av_template: str, marker_char: str) -> list[int]:
    """Token ids of the AV prompt, a user message, up to where the response begins."""
    content = fill(av_template, **{MARKER_FIELD: marker_char})
    return _ids_with_marker(tokenizer, content, marker_char)


def custom_prompt_ids(tokenizer: Any, prompt: str, marker_char: str) -> list[int]:
    """Token ids of the user's own AV prompt, a message with one ``<INJECT>``, or TemplateError."""
    if (found := prompt.count(INJECT)) != 1:
        what, remedy = (
            f"wrong number of {INJECT} in a prompt",
            f"Write {INJECT} where the activation goes",
        )
        raise TemplateError(what, expected=1, found=found, remedy=remedy)
    return _ids_with_marker(tokenizer, prompt.replace(INJECT, marker_char), marker_char)


def _ids_with_marker(tokenizer: Any, content: str, marker_char: str) -> list[int]:
    ids = render_chat_ids(tokenizer, [{"role": "user", "content": content}])
    if marker_char not in tokenizer.decode(ids):
        raise MarkerError(
            f"marker {marker_char!r} does not survive the prompt",
            found="another character in its place",
            remedy="Choose another marker, or use the tokenizer saved beside the checkpoint",
        )
    return ids


def _one_bos(tokenizer: Any, ids: list[int]) -> list[int]:
    bos = getattr(tokenizer, "bos_token_id", None)
    while bos is not None and ids[:2] == [bos, bos]:
        ids = ids[1:]
    return ids
