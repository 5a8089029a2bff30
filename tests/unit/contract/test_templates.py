import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AddedToken

from gloss.contract import (
    DEFAULT_AR_TEMPLATE,
    DEFAULT_AV_TEMPLATE,
    ar_prompt_ids,
    check_ar_prompt,
    custom_prompt_ids,
    fill,
    prompt_ids,
    render_chat_ids,
    text_ids,
    validate_ar_template,
    validate_av_template,
)
from gloss.contract.foreign_text import encode_texts
from gloss.errors import CorpusError, MarkerError, TemplateError

BOS, EOS = 1, 2


@pytest.mark.invariant("14")
@given(st.text())
def test_braces_in_an_explanation_are_text(text):
    assert fill("a {explanation} b", explanation=text) == f"a {text} b"
    assert fill(DEFAULT_AR_TEMPLATE, explanation=text) == DEFAULT_AR_TEMPLATE.replace(
        "{explanation}", text
    )


@pytest.mark.invariant("14")
@given(st.text(), st.text())
def test_a_value_is_never_filled_again(first, second):
    filled = fill("{left}|{right}", left="{right}" + first, right="{left}" + second)
    assert filled == "{right}" + first + "|{left}" + second


@pytest.mark.invariant("older-4")
@given(st.text(alphabet="ab{}_ 0"))
def test_a_template_is_filled_as_python_formats_it_or_refused(template):
    try:
        filled = fill(template, a="{X}")
    except TemplateError:
        return
    assert filled == template.format(a="{X}")


@pytest.mark.parametrize(
    "template",
    [
        "no field",
        "{other}",
        "{explanation} {other}",
        "{explanation} {",
        "} {explanation}",
        "{} {explanation}",
    ],
)
def test_a_template_with_wrong_fields_is_refused(template):
    with pytest.raises(TemplateError):
        fill(template, explanation="x")


@pytest.mark.invariant("older-4", "template-braces")
def test_a_doubled_brace_is_a_brace():
    template = 'Answer {{"words": "{explanation}"}} }}'
    assert fill(template, explanation="a {b}") == 'Answer {"words": "a {b}"} }'
    validate_ar_template(template)
    validate_av_template("{{x}} <c>{injection_char}</c> {{{{y}}}}")
    check_ar_prompt(template, 'Answer {"words": "any {text}"} }')
    with pytest.raises(TemplateError, match="another template"):
        check_ar_prompt(template, 'Answer {{"words": "any"}} }}')


@pytest.mark.invariant("older-4")
@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{explanation!r} so", "expected {explanation}, found {explanation!r}"),
        ("{explanation:>9} so", "expected {explanation}, found {explanation:>9}"),
        ("{explanation.upper} so", "found ['explanation.upper']"),
        ("{explanation[0]} so", "found ['explanation[0]']"),
        ("a { b } {explanation} so", "found [' b ', 'explanation']"),
        ("{explanation so", "expected '}' before end"),
        ("{explanation} so }", "Single '}'"),
        ("{a{explanation}} so", "unexpected '{'"),
    ],
)
def test_what_python_would_format_otherwise_is_refused_in_one_line(template, says):
    with pytest.raises(TemplateError) as caught:
        validate_ar_template(template)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_behind_an_explanation_may_be_a_brace():
    validate_ar_template("{explanation}}}")
    with pytest.raises(TemplateError, match="text behind"):
        validate_ar_template("{{ {explanation} ")


def test_a_stray_brace_is_shown_with_its_surroundings():
    with pytest.raises(TemplateError, match="the end }"):
        fill("a long beginning " * 10 + "{explanation} the end }", explanation="x")


@pytest.mark.parametrize(
    ("before", "behind", "shown"),
    [
        ("a" * 30, "b" * 30, "a" * 20 + "}" + "b" * 19),
        ("abcde", "b", "abcde}b"),
        ("", "bcd", "}bcd"),
    ],
)
def test_a_stray_brace_is_shown_with_20_characters_before_it(before, behind, shown):
    with pytest.raises(TemplateError) as caught:
        fill(before + "}" + behind)
    assert f"found {shown!r}." in str(caught.value)


@pytest.mark.parametrize(("length", "whole"), [(80, True), (81, False)])
def test_a_prompt_of_another_template_is_shown_whole_up_to_80_characters(length, whole):
    prompt = "".join(chr(97 + i % 26) for i in range(length))
    with pytest.raises(TemplateError) as caught:
        check_ar_prompt("<t>{explanation}</t> end", prompt)
    assert (repr(prompt) in str(caught.value)) is whole
    assert (f"'{prompt[:40]} … {prompt[-40:]}'" in str(caught.value)) is not whole


def test_a_prompt_of_the_users_own_names_the_place_once(make_tokenizer):
    tokenizer = make_tokenizer("㈎")
    ids = custom_prompt_ids(tokenizer, "Look: <INJECT>.", "㈎")
    assert tokenizer.decode(ids).replace(" ", "") == "Look:㈎."
    for prompt, found in (("Look.", 0), ("<INJECT> <INJECT>", 2)):
        with pytest.raises(TemplateError, match=f"expected 1, found {found}"):
            custom_prompt_ids(tokenizer, prompt, "㈎")


def test_a_template_that_writes_bos_beside_the_tokenizers_own_gives_one(make_tokenizer):
    doubled = "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    for bos in (True, False):
        tokenizer = make_tokenizer("㈎", bos=bos, chat_template=doubled)
        ids = render_chat_ids(tokenizer, [{"role": "user", "content": "ab"}])
        assert ids.count(BOS) == int(bos)
        assert tokenizer.convert_ids_to_tokens(ids)[-2:] == ["a", "b"]


@pytest.mark.parametrize("bos", [False, True])
def test_places_of_tokens_lose_the_appended_end_too(make_tokenizer, bos):
    tokenizer = make_tokenizer(bos=bos, appends_eos=True)
    ((ids, offsets),) = encode_texts(tokenizer, ["ab"], [()], add_special_tokens=True)
    assert ids == [BOS] * bos + tokenizer.convert_tokens_to_ids(["a", "b"])
    assert offsets == [(0, 0)] * bos + [(0, 1), (1, 2)]


def test_texts_have_no_bos_unless_it_is_asked_for(make_tokenizer):
    tokenizer = make_tokenizer(bos=True)
    ((ids, _),) = encode_texts(tokenizer, ["ab"], [()])
    assert ids == tokenizer.convert_tokens_to_ids(["a", "b"])


def test_of_special_tokens_that_begin_alike_the_longest_is_read(make_tokenizer):
    """Our own <a>b, then a foreign <a> that is text."""
    tokenizer = make_tokenizer("🜀")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<a>", "<a>b"]})
    ((ids, _),) = encode_texts(tokenizer, ["<a>b <a>"], [[(5, 8)]])
    long = tokenizer.convert_tokens_to_ids("<a>b")
    assert ids == [long, *tokenizer.convert_tokens_to_ids([" ", "<", "a", ">"])]


def test_our_own_tokens_are_read_before_the_text_is_normalised(make_tokenizer, prepends_space):
    """Each piece between special tokens gets its space, as where no foreign text names one."""
    tokenizer = make_tokenizer(normalizer=prepends_space)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<x>"]})
    plain = tokenizer.encode("ab<x>cd", add_special_tokens=False)
    ((ids, _),) = encode_texts(tokenizer, ["ab<x>cd<x>"], [[(7, 10)]])
    assert ids == plain + tokenizer.convert_tokens_to_ids(["<", "x", ">"])


class Refuses:
    """A tokenizer that knows one special token and fails at any text."""

    is_fast = False
    eos_token_id = None
    all_special_ids = ()
    added_tokens_decoder = {3: AddedToken("<x>", special=True)}

    def __len__(self):
        return 4

    def encode(self, text, add_special_tokens):
        return [1]

    def __call__(self, texts, **_options):
        raise RuntimeError("no")


def test_a_text_that_cannot_be_read_is_shown_by_its_first_40_characters():
    text = "".join(chr(97 + i % 26) for i in range(60))
    with pytest.raises(CorpusError) as caught:
        encode_texts(Refuses(), [text], [()])
    assert f"the text {text[:40]!r}:" in str(caught.value)


class Readable(Refuses):
    """The same, but for its failing."""

    def __init__(self, answer):
        self._answer = answer

    def __call__(self, texts, **_options):
        return self._answer


def test_a_tokenizer_that_cannot_read_a_control_token_as_text_says_which():
    with pytest.raises(TemplateError, match=r"expected a fast tokenizer, found \['<x>'\]"):
        encode_texts(Readable({"input_ids": [[1]]}), ["a <x>"], [[(0, 5)]])


class AlwaysEnds:
    """A tokenizer without fast offsets that ends every text, whatever it is asked for."""

    eos_token_id = 9
    all_special_ids = (9,)
    is_fast = False

    def __len__(self):
        return 10

    def encode(self, text, add_special_tokens):
        return [*map(int, text.replace("a", "5")), 9]

    def __call__(self, texts, **_options):
        return {"input_ids": [self.encode(text, True) for text in texts]}


def test_an_end_that_a_tokenizer_always_writes_is_not_taken_for_one_it_appends():
    found = encode_texts(AlwaysEnds(), ["aa"], [()], add_special_tokens=True)
    assert found == [([5, 5, 9], None)]


def test_the_default_templates_are_valid():
    validate_av_template(DEFAULT_AV_TEMPLATE)
    validate_ar_template(DEFAULT_AR_TEMPLATE)


@pytest.mark.invariant("template-braces")
def test_an_av_template_holds_one_marker():
    with pytest.raises(TemplateError, match="expected 1, found 2"):
        validate_av_template("{injection_char} {injection_char}")


def test_an_ar_template_ends_behind_the_explanation():
    with pytest.raises(TemplateError, match="text behind"):
        validate_ar_template("Summary: {explanation}  ")


@pytest.mark.invariant("6")
def test_an_ar_prompt_has_one_bos_and_no_eos(make_tokenizer):
    ids = ar_prompt_ids(make_tokenizer(bos=True, appends_eos=True), "<{explanation}>.", "x")
    assert ids[0] == BOS
    assert ids.count(BOS) == 1
    assert EOS not in ids


def test_a_text_that_ends_with_the_eos_text_keeps_it(make_tokenizer):
    assert text_ids(make_tokenizer(), "a</s>")[-1] == EOS
    assert text_ids(make_tokenizer(appends_eos=True), "a</s>").count(EOS) == 1


@pytest.mark.invariant("6")
def test_a_chat_prompt_has_one_bos(make_tokenizer, chat_template):
    tokenizer = make_tokenizer(bos=True, chat_template=chat_template)
    ids = render_chat_ids(tokenizer, [{"role": "user", "content": "hi"}])
    assert ids.count(BOS) == 1
    assert tokenizer.decode(ids[1:]).replace(" ", "") == "[user]hi[assistant]"


@pytest.mark.invariant("6", "batch-encoding")
def test_a_chat_template_may_return_ids_or_a_mapping(make_tokenizer, chat_template):
    class OldTokenizer:
        bos_token_id, eos_token_id = None, None
        chat_template = "some"

        def __init__(self, answer):
            self.answer = answer

        def apply_chat_template(self, messages, **options):
            return self.answer

    messages = [{"role": "user", "content": "hi"}]
    for answer in ([5, 6], [[5, 6]], {"input_ids": [5, 6]}, {"input_ids": [[5, 6]]}):
        assert render_chat_ids(OldTokenizer(answer), messages) == [5, 6]


def test_without_a_chat_template_the_prompt_is_the_text_itself(make_tokenizer):
    tokenizer = make_tokenizer("㈎", bos=True)
    assert prompt_ids(tokenizer, "say {injection_char}!", "㈎") == text_ids(tokenizer, "say ㈎!")


@pytest.mark.invariant("6")
def test_a_marker_that_normalisation_rewrites_is_refused(make_tokenizer, nfkc):
    with pytest.raises(MarkerError, match="does not survive"):
        prompt_ids(make_tokenizer("㈎", normalizer=nfkc), "say {injection_char}!", "㈎")
