import io
import json
import os
import sys

import pytest

from descend.cli.output import LastingStream, answering, json_ready, write_json


def test_a_broken_pipe_swallows_what_follows():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as pipe:
        stream = LastingStream(pipe)
        for _ in range(3):
            assert stream.write("x" * 100_000) == 100_000
            stream.flush()
    assert pipe.closed  # closing, too, raised nothing


def test_other_errors_are_not_swallowed():
    stream = LastingStream(io.StringIO())
    stream._stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.write("x")


@pytest.mark.parametrize("as_json", [True, False])
def test_the_answer_is_alone_on_standard_output(capsys, as_json):
    with answering(as_json) as answer:
        print("words")
        answer({"a": 1})
    out, err = capsys.readouterr()
    assert (out, err) == (('{"a": 1}\n', "words\n") if as_json else ("words\n", ""))


def test_an_error_leaves_no_answer(capsys):
    def fail(answer):
        answer({"a": 1})
        raise KeyError

    with pytest.raises(KeyError), answering(True) as answer:
        fail(answer)
    assert capsys.readouterr().out == ""
    assert sys.stdout is not sys.stderr


def test_numbers_that_json_lacks_become_null(capsys):
    write_json({"r2": float("nan"), "inner": [float("inf"), 1.5, (True, None)]})
    assert json.loads(capsys.readouterr().out) == {"r2": None, "inner": [None, 1.5, [True, None]]}


def test_classes_are_named_by_their_path():
    assert json_ready({"name": json.JSONDecoder}) == {"name": "json.decoder:JSONDecoder"}
