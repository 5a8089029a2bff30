import gloss


def test_the_public_face_is_pinned():
    assert gloss.__all__ == ["NLA", "GlossError", "__version__", "connect", "load"]
    for name in gloss.__all__:
        assert getattr(gloss, name) is not None
