from dataclasses import replace

import pytest
import torch
from hub_stand_in import hub, hub_cache  # noqa: F401
from tiny_nla import write_nla

from gloss.models import load_ar, save_ar


@pytest.fixture
def nla_folder(tmp_path, lab_tokenizer):
    """A folder ``nla`` with ``target``, ``av`` and ``ar``, whose head is near the identity and
    whose suffix is recorded.
    """
    folder = write_nla(tmp_path / "nla", lab_tokenizer)
    ar = load_ar(folder / "ar")
    ar.head.weight.data += 0.05 * torch.randn(
        ar.head.weight.shape, generator=torch.Generator().manual_seed(1)
    )
    suffix = tuple(lab_tokenizer.encode("</text> <activation>", add_special_tokens=False))
    ar.sidecar = replace(ar.sidecar, ar_suffix_ids=suffix)
    save_ar(ar, folder / "ar")
    return folder
