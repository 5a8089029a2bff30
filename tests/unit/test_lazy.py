"""Packages import what they name on first use."""

import subprocess
import sys

import pytest

LAZY = ("data", "engines", "evaluate", "models", "nla", "reading", "target_model", "train")


@pytest.mark.parametrize("package", LAZY)
def test_a_package_lists_every_name_it_gives_and_loads_no_torch_itself(package):
    code = (
        f"import sys, gloss.{package} as p; assert 'torch' not in sys.modules\n"
        "assert len(p._homes) > 3\n"
        "missing = [name for name in p._homes if getattr(p, name, None) is None]\n"
        "assert not missing, missing"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_function_stands_before_the_submodule_of_its_name():
    code = (
        "from gloss.data.split import assign\nfrom gloss.data import split\n"
        "import gloss.data.split as again\nassert callable(split) and again is split"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_an_unknown_name_is_an_error_of_python():
    with pytest.raises(AttributeError, match=r"'gloss\.data' has no attribute 'nothing'"):
        __import__("gloss.data").data.nothing  # noqa: B018


def test_settings_are_read_without_torch_and_parquet():
    code = (
        "import sys, gloss.pipeline.run_config, gloss.nla.place\n"
        "assert not {'torch', 'transformers', 'pyarrow', 'numpy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
