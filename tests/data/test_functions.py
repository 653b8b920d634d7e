import sys

import pytest

from descend.data.functions import call, is_function_path
from descend.errors import DataError


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_function_in_the_current_directory_is_called(here):
    (here / "mine_a.py").write_text("def load():\n    import helper_a\n    return helper_a.VALUE\nx = 3\n")
    (here / "helper_a.py").write_text("VALUE = 7\n")
    path = list(sys.path)
    assert call("mine_a:load") == 7
    assert sys.path == path


def test_packages_and_attributes_of_classes(here):
    (here / "pack_b").mkdir()
    (here / "pack_b" / "__init__.py").write_text("")
    (here / "pack_b" / "deep.py").write_text(
        "class Data:\n    @staticmethod\n    def load():\n        return 'here'\n"
    )
    assert call("pack_b.deep:Data.load") == "here"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent_c:load", r"no module 'absent_c'"),
        ("mine_d:load", r"did you mean 'mine_c'\?"),
        ("mine_c:lod", r"no function 'lod'; did you mean 'load'\?"),
        ("mine_c:value", r"expected a function, got an object of type int"),
        ("mine_c:load", r"failed with KeyError: 'the key' \(mine_c\.py, line 4\)"),
        ("mine_c:leave", r"failed with SystemExit: 5"),
        ("mine_c:needs", r"failed with TypeError.*argument"),
        ("broken_c:load", r"importing broken_c failed with SyntaxError"),
        ("lacks_c:load", r"importing lacks_c failed: No module named 'nowhere_c'"),
    ],
)
def test_failures_are_reported_with_place_and_message(here, path, message):
    (here / "mine_c.py").write_text(
        "import sys\nvalue = 3\ndef load():\n    return {}['the key']\n"
        "def leave():\n    sys.exit(5)\ndef needs(argument):\n    pass\n"
    )
    (here / "broken_c.py").write_text("def load(:\n")
    (here / "lacks_c.py").write_text("import nowhere_c\n")
    with pytest.raises(DataError, match=message) as caught:
        call(path)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    "text", ["data.csv", "a:b:c", "C:/x.csv", "C:\\x.csv", "a b:c", ":f", "m:", "1m:f", "m:f.csv/x"]
)
def test_other_strings_are_not_function_paths(text):
    assert not is_function_path(text)
