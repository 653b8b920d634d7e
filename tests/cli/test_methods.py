import shlex

import pytest

from descend.cli.methods import _explained
from descend.constraints import CONDITIONS
from descend.recipe import Recipe
from descend.recipe.catalogue import entries


def test_the_table_holds_every_method(descend):
    lines = descend("methods").out.splitlines()
    for entry in entries():
        assert any(line.split()[:1] == [entry.name] and entry.card.row in line for line in lines), entry.name
    assert any(line.startswith("optimizer.name: which direction") for line in lines)


def test_json_lists_every_entry(descend):
    found = descend("methods", "--json").json["methods"]
    assert {(one["section"], one["key"], one["name"]) for one in found} == {
        (entry.section, entry.key, entry.name) for entry in entries()
    }
    for one in found:
        assert one["summary"]
        assert one["row"]
        assert one["topic"]
        assert one["shapes"] or one["key"] == "output"
        assert {"reference", "formula", "note", "parameters", "code"} <= set(one)
    adam = next(one for one in found if one["name"] == "adam")
    parameters = {one["name"]: one for one in adam["parameters"]}
    assert parameters["lr"]["default"] == 0.001
    assert parameters["lr"]["type"] == "a number above 0"
    assert parameters["betas"]["default"] == [0.9, 0.999]
    assert "rate" in parameters["lr"]["about"]
    assert "params" not in parameters


def test_arguments_that_the_builder_supplies_are_not_listed(descend):
    batch = next(one for one in descend("methods", "batch", "--json").json["methods"])
    assert "eps" in {one["name"] for one in batch["parameters"]}
    assert not {"features", "dims"} & {one["name"] for one in batch["parameters"]}


def test_one_method_is_explained(descend):
    text = descend("methods", "leaky_relu").out
    for words in (
        "row B5",
        "slope",
        "max(a x, x)",
        "negative_slope = 0.01",
        "a number >= 0",
        "torch.nn.LeakyReLU",
    ):
        assert words in text
    assert ">>>" not in text
    assert "``" not in text


def test_the_suggested_options_work():
    for entry in entries():
        if entry.name in ("sign", "zeros", "constant"):  # refused, or used with a warning
            continue
        use = next(line for line in _explained(entry).splitlines() if line.startswith("Use: "))
        alternatives = use.removeprefix("Use: ").split(", or ")
        for words in map(shlex.split, alternatives):
            if entry.key in CONDITIONS:  # an existing function in place of the placeholder
                words = [word.replace("package.module:function", "math:sqrt") for word in words]
            assert words[::2] == ["--set"] * (len(words) // 2)
            chosen = Recipe().with_assignments(words[1::2]).get(f"{entry.section}.{entry.key}")
            if entry.key in CONDITIONS:
                assert (chosen["function"] if isinstance(chosen, dict) else chosen) == "math:sqrt"
            elif entry.section == "optimizer" and entry.is_key:
                assert chosen in (0.05, 5, {"rho": 0.05, "adaptive": False}, {"steps": 5, "alpha": 0.5})
            elif entry.is_key:
                assert (chosen["pattern"] if isinstance(chosen, dict) else chosen) in (
                    "*",
                    0.01,
                    32,
                    "greedy",
                )
            else:
                assert (chosen["name"] if isinstance(chosen, dict) else chosen) == entry.name


def test_shapes_code_topic_and_note_are_shown(descend):
    text = " ".join(descend("methods", "D4").out.split())
    for words in (
        "v <- b v - a g; x <- x + v",
        "Shapes: parameters of any shapes",
        "momentum = 0.9",
        "descend.optim.momentum:HeavyBall",
        "Topic: Training algorithms, which method: Heavy ball method",
        "PyTorch's SGD keeps it outside of its buffer",
        "Source: Polyak 1964",
    ):
        assert words in text
    assert descend("methods", "D4").out == descend("methods", "heavy_ball").out


# Methods whose formula in other texts differs from PyTorch's or is wrong, and words of the note about it.
DIFFERENCES = {
    "bce": "a/2",
    "polynomial": "the exponents are [1, 2, 3]",
    "sgd": ["index sets run over {0, ..., m - 1}", "keeps the learning rate outside of the buffer"],
    "cross_entropy": ["Some texts", "is K e"],
    "adam": ["without bias correction", "eps under the root"],
    "adamw": ["bias correction", "decoupled", "2 w W"],
    "adagrad": "eps under the root",
    "rmsprop": "eps under the root",
    "batch": ["running averages of sigma", "unbiased variance"],
    "mlp": ["probability to drop", "probability to keep"],
    "convnet": ["probability to drop", "probability to keep"],
    "leaky_relu": ["0.1", "0.01"],
    "heavy_ball": ["the learning rate", "rate is constant"],
    "nesterov": "look-ahead points",
    # Any note will do.
    "gd": "",
    "pca": "",
    "whiten": "",
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_from_other_texts_are_noted_at_the_method(descend, name):
    cards = [entry.card for entry in entries() if entry.name == name]
    if not DIFFERENCES[name]:
        assert all(card.note for card in cards)
        return
    assert cards
    words = [DIFFERENCES[name]] if isinstance(DIFFERENCES[name], str) else DIFFERENCES[name]
    assert any(all(each in card.note for each in words) for card in cards), [card.note for card in cards]


def test_penalties_define_their_factor():
    from descend.cards import card
    from descend.regularization import l2_penalty, weight_decay

    assert "2 w W" in card(weight_decay).note
    assert "2 w W" in card(l2_penalty).note


@pytest.mark.parametrize("name", ["D6", "d6"])
def test_a_row_of_the_list(descend, name):
    text = descend("methods", name).out
    assert text.count("row D6 of the list of methods") == 6


def test_a_name_in_two_sections_shows_both(descend):
    found = descend("methods", "identity", "--json").json["methods"]
    assert {one["key"] for one in found} == {"activation", "output"}


def test_an_unknown_name(descend):
    result = descend("methods", "adm")
    assert (result.status, result.out) == (2, "")
    assert "did you mean 'adam'?" in result.err
