"""Every verb refuses a mistyped place or option before PyTorch or Transformers are loaded."""

import os
import subprocess
import sys

import pytest
from test_options import VERBS

from gloss.pipeline.run_config import preset_path

TIMES_THE_YARDSTICK = 4.0  # measured 2.2; with PyTorch loaded it would be above 8
YARDSTICK = (
    "import numpy, pyarrow, pydantic"  # machines differ threefold: a limit in seconds would too
)
CODE = """
import sys
from gloss.cli.main import main
try:
    main()
finally:
    print("loaded:", sorted({"torch", "transformers", "sklearn", "fastapi"} & set(sys.modules)))
"""
SMOKE = ("--config", str(preset_path("smoke")))
NOWHERE = "no such dataset: expected a Parquet file"
CASES = [
    ("quickstart --preset huge", "unknown preset"),
    ("run nowhere.toml", "cannot be read"),
    (f"run {preset_path('smoke')} --set joint.stepz=4", "unknown key 'joint.stepz'"),
    (f"run {preset_path('smoke')} --set target=no/such/model", "no such model folder"),
    (f"run {preset_path('smoke')} --set corpus.source=nowhere.txt", "no such corpus"),
    ("evaluate nowhere", "no finished run here"),
    ("explain x --nla nowhere", "nowhere: no NLA here"),
    ("explain x --nla no/where", "no/where-av: not in the cache"),
    ("explain x --nla {nla} --engine tpu", "unknown engine"),
    ("explain x --nla {nla} --dtype int4", "unknown dtype"),
    ("explain x --nla {nla} --target no/such/model", "no such model folder"),
    ("explain x --tokens some", "cannot read the selection of tokens"),
    ("explain x --positions 7-", "cannot read positions"),
    ("explain --chat nowhere.json", "nowhere.json: cannot be read"),
    ("explain --activations nowhere.npy --nla {nla}", "no such file of activations"),
    ("explain --activations nowhere.safetensors --nla {nla}", "no such file of activations"),
    ("explain --activations nowhere.parquet --nla {nla}", NOWHERE),
    ("steer x --edit nothing", "cannot read --edit"),
    ("steer x --edit a=>b --nla nowhere", "nowhere: no NLA here"),
    ("serve --nla nowhere", "nowhere: no NLA here"),
    ("serve --nla {nla} --host 0.0.0.0", "--secret-env"),
    ("serve --nla {nla} --runs nowhere", "nowhere: no such folder"),
    (f"data extract {' '.join(SMOKE)} --out x --set extract.layr=1", "unknown key 'extract.layr'"),
    (f"data split {' '.join(SMOKE)} --activations nowhere --out x", NOWHERE),
    (f"data label nowhere.parquet {' '.join(SMOKE)} --out x", NOWHERE),
    (f"data build rl=nowhere.parquet {' '.join(SMOKE)} --out x", NOWHERE),
    (f"train ar {' '.join(SMOKE)} --dataset nowhere.parquet --out x", NOWHERE),
    (f"train av {' '.join(SMOKE)} --dataset nowhere.parquet --out x", NOWHERE),
    (
        f"train joint {' '.join(SMOKE)} --av /no/where --ar x --dataset x --out x",
        "/no/where: no such model folder",
    ),
    ("nla tokens x --nla nowhere", "nowhere: no NLA here"),
    ("nla reconstruct x --nla nowhere", "nowhere: no NLA here"),
    ("nla score --explanation x --activations nowhere.npy", "no such file of activations"),
    ("nla score x --explanation y --nla nowhere", "nowhere: no NLA here"),
    ("nla trust x --nla nowhere", "nowhere: no NLA here"),
    ("nla compare x y --nla nowhere", "nowhere: no NLA here"),
    ("nla compare x", "nothing to compare with"),
    ("nla compare --activations nowhere.parquet", NOWHERE),
    ("nla continue x --nla nowhere", "nowhere: no NLA here"),
    ("nla inspect nowhere", "nowhere: no NLA here"),
    ("nla validate nowhere", "nowhere: no NLA here"),
    ("nla validate {nla} --target no/such/model", "no such model folder"),
    ("nla convert nowhere out", "nowhere: no NLA here"),
    ("nla convert {nla} out --dtype int4", "unknown dtype"),
    ("nla card nowhere", "nowhere: no NLA here"),
    ("nla push nowhere me/nla", "nowhere: no such folder"),
    ("nla pull nowhere", "nowhere: no NLA here"),
    ("results search x nowhere.parquet", "no such file of explanations"),
    ("results themes nowhere.parquet", "no such file of explanations"),
    ("results report nowhere", "nowhere: no such folder"),
    ("results import nowhere.json --out x.parquet", "nowhere.json: cannot be read"),
    ("results export nowhere.parquet --out x.json", "no such file of explanations"),
]


@pytest.fixture(scope="module")
def nla(tmp_path_factory, lab_tokenizer):
    from speaking_nla import save_speaking_nla

    return save_speaking_nla(tmp_path_factory.mktemp("refusals") / "nla", lab_tokenizer)


def refused(line, folder):
    """What a command that must be refused says, what it loaded, and its CPU seconds."""
    code, seconds = run_python(CODE, line.split(), folder)
    assert code == 2
    return (folder / "err").read_text(), (folder / "out").read_text(), seconds


def run_python(code, arguments, folder):
    """Its exit code and CPU seconds; what it writes goes to ``out`` and ``err``."""
    with (folder / "err").open("w") as err, (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize(("line", "message"), CASES, ids=[line[:60] for line, _ in CASES])
def test_what_is_mistyped_is_refused_before_torch_is_loaded(line, message, nla, tmp_path):
    ratios = []
    while not ratios or (min(ratios) > TIMES_THE_YARDSTICK and len(ratios) < 3):
        said, loaded, taken = refused(line.format(nla=nla), tmp_path)
        assert message in said
        assert said.startswith("gloss: ")
        assert said.count("\n") == 1
        assert loaded == "loaded: []\n"
        code, yardstick = run_python(YARDSTICK, (), tmp_path)
        assert code == 0
        ratios.append(taken / yardstick)
    assert min(ratios) <= TIMES_THE_YARDSTICK


def test_every_verb_has_a_refusal():
    tried = {verb for verb in VERBS for line, _ in CASES if f"{line} ".startswith(f"{verb} ")}
    assert tried == set(VERBS)
