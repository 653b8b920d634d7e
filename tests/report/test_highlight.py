from __future__ import annotations

import re
import tomllib
from html import unescape

from hypothesis import given
from hypothesis import strategies as st
from tests.support import run_folders

from descend.report.highlight import toml

RECIPE = run_folders.RECIPE.format(loss="mse")


def plain(markup: str) -> str:
    return unescape(re.sub(r"</?span[^>]*>", "", markup))


def pieces(markup: str, kind: str) -> list[str]:
    return [unescape(match) for match in re.findall(rf'<span class="{kind}">(.*?)</span>', markup, re.DOTALL)]


def test_a_recipe_is_unchanged() -> None:
    assert plain(toml(RECIPE)) == RECIPE


TOKENS = st.sampled_from(
    ["#", '"', "'", '"""', "'''", "[", "]", "=", "\n", "\\", " ", "a", "1", ".", "<", "&", "true"]
)


@given(st.lists(TOKENS | st.text(max_size=2), max_size=30).map("".join))
def test_any_text_is_unchanged(source: str) -> None:
    assert plain(toml(source)) == source


def test_keys_and_tables_match_a_parser() -> None:
    markup = toml(RECIPE)
    read = tomllib.loads(RECIPE)
    assert [name.strip("[]") for name in pieces(markup, "table")] == [*read, "data.columns"]
    keys = [key for section in read.values() for key in section if key != "columns"]
    assert [name.strip('"') for name in pieces(markup, "key")] == [*keys, "alcalinity of ash"]


def test_strings_do_not_contain_comments_or_tables() -> None:
    markup = toml("""a = "# no" # yes\nb = '''\n[no]\n# no\n''' # yes""")
    assert pieces(markup, "comment") == ["# yes", "# yes"]
    assert pieces(markup, "table") == []
    assert pieces(markup, "key") == ["a", "b"]


def test_values() -> None:
    source = "a = 1e-3\nb = [true, -2, 0x1F, inf]\nc = 1979-05-27T07:32:00"
    assert pieces(toml(source), "value") == ["1e-3", "true", "-2", "0x1F", "inf", "1979-05-27T07:32:00"]
