"""One small but real run of the whole pipeline on the shipped lab target, shared by the tests here."""

import pytest

from gloss.pipeline.config import preset_path, read_config
from gloss.pipeline.run import run

SMALL = [
    "corpus.max_documents=700",
    "ar_sft.steps=150",
    "av_sft.steps=60",
    "joint.steps=4",
    "joint.prompts_per_step=8",
    "joint.group_size=4",
    "joint.evaluate_rows=32",
    "joint.checkpoint_every=2",
    "evaluate.max_rows=120",
    "evaluate.probe_rows=800",
]


@pytest.fixture(scope="session")
def small_config():
    return read_config(preset_path("smoke"), SMALL)


@pytest.fixture(scope="session")
def small_run(small_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run(small_config, folder)
    return folder


@pytest.fixture(scope="session")
def nla(small_run):
    import gloss

    return gloss.load(small_run)
