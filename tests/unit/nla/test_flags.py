import pytest

from gloss.nla.flags import activation_flags

USUAL = {"p99": 10.0}


def test_nothing_is_flagged_about_a_usual_activation():
    assert activation_flags(norm=20.0, norm_statistics=USUAL, position=10, min_position=10) == ()
    assert activation_flags(norm=1e9, norm_statistics={}) == ()


@pytest.mark.invariant("3")
def test_every_reason_is_named():
    found = activation_flags(
        norm=20.1, norm_statistics=USUAL, position=9, min_position=0, special=True
    )
    assert found == ("early position", "special token", "norm outlier")
    assert activation_flags(norm=1.0, norm_statistics=USUAL, position=49, min_position=50) == (
        "early position",
    )
