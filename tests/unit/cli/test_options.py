"""Options are declared once: one name, one meaning, one type, and the defaults of the library."""

import inspect
from collections import defaultdict

import pytest
from typer.main import get_command

from gloss.cli.main import RENAMED, app
from gloss.cli.option_help import HELP, SPELLED
from gloss.evaluate import EvaluateConfig
from gloss.nla import NLA
from gloss.reading.explain import ExplainConfig
from gloss.reading.themes import find_themes
from gloss.serve.limits import Limits


def verbs(command, path=()):
    """Every verb of Gloss itself with its path."""
    if not hasattr(command, "commands"):
        return {" ".join(path): command}
    found = [verbs(child, (*path, name)) for name, child in command.commands.items()]
    return {path: verb for part in found for path, verb in part.items()}


VERBS = verbs(get_command(app))
PARAMETERS = [
    (verb, parameter)
    for verb, command in VERBS.items()
    for parameter in command.params
    if parameter.name != "help"
]


def parameter_of(verb, name):
    return next(parameter for parameter in VERBS[verb].params if parameter.name == name)


def test_there_are_ten_roots():
    assert len(get_command(app).commands) == 10
    assert not set(RENAMED) & set(get_command(app).commands)


def test_an_option_has_one_type_everywhere():
    types = defaultdict(set)
    for _, parameter in PARAMETERS:
        if parameter.param_type_name == "option":
            kind = parameter.type_descriptor.annotation
            types[parameter.opts[0]].add((str(kind), parameter.multiple))
    assert len(types) > 60
    several = {name: kinds for name, kinds in types.items() if len(kinds) > 1}
    # `serve --nla` is repeatable, and joint RL starts from two folders.
    assert set(several) == {"--nla", "--av", "--ar"}, several


def test_an_option_has_one_help_unless_a_verb_means_something_of_its_own():
    used = set()
    for verb, parameter in PARAMETERS:
        own = f"{verb.split()[-1]}.{parameter.name}"
        key = own if own in HELP else parameter.name
        assert parameter.help == HELP[key]
        used.add(key)
    assert used == set(HELP)
    assert set(SPELLED) <= {parameter.name for _, parameter in PARAMETERS}
    assert all(text.endswith(".") for text in HELP.values())


@pytest.mark.parametrize(
    ("verb", "method", "count"),
    [
        ("explain", NLA.explain, 9),
        ("steer", NLA.steer, 7),
        ("nla score", NLA.score, 1),
        ("nla trust", NLA.trust, 5),
        ("nla compare", NLA.compare, 2),
        ("nla continue", NLA.continue_text, 3),
        ("results themes", find_themes, 3),
    ],
)
def test_options_and_defaults_are_those_of_the_library(verb, method, count):
    ours = {parameter.name: parameter.default for parameter in VERBS[verb].params}
    shared = {
        name: parameter.default
        for name, parameter in inspect.signature(method).parameters.items()
        if name in ours and parameter.default is not parameter.empty and name != "alphas"
    }
    assert {name: str(ours[name]) for name in shared} == {n: str(d) for n, d in shared.items()}
    assert len(shared) >= count


def test_a_setting_of_a_config_keeps_its_words_and_default():
    described = EvaluateConfig.model_fields["max_rows"].description
    assert parameter_of("evaluate", "max_rows").help == described
    assert parameter_of("explain", "batch_size").default == ExplainConfig.batch_size
    for name in ("max_batch_rows", "max_queued_rows", "max_new_tokens", "grace_s"):
        assert parameter_of("serve", name).default == getattr(Limits, name)
