from descend.recipe.catalogue import entries
from descend.recipe.docstrings import about_arguments, about_method, plain


def test_several_names_share_an_explanation():
    class Shift:
        """Moves things.

        Args:
            mean, scale: a number x becomes
                (x - mean) / scale.
            count: how many. Default (0.9, 0.999). More follows.

        Raises:
            ValueError: never.

        >>> Shift()
        """

    assert about_arguments(Shift) == {
        "mean": "a number x becomes (x - mean) / scale.",
        "scale": "a number x becomes (x - mean) / scale.",
        "count": "how many. More follows.",
    }
    assert about_method(Shift) == "Moves things."


def test_marks_of_code_become_quotes():
    assert plain('``k`` of :func:`~a.b.topk`, or ``"auto"``') == "'k' of topk, or \"auto\""


def test_no_docstring():
    assert about_arguments(lambda: None) == {}
    assert about_method(lambda: None) == ""


def test_each_method_of_the_catalogue_reads_well():
    for entry in entries():
        text = about_method(entry.constructor)
        assert text, entry.name
        assert ":func:" not in text
        assert ":class:" not in text
        assert "Args:" not in text
