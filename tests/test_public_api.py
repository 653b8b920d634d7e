"""The public names and their signatures change on purpose only."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil

import pytest
from tests.support import public_api

import descend


def test_the_list_is_that_of_the_code():
    listed = public_api.FILE.read_text(encoding="utf-8").splitlines()
    current = public_api.text().splitlines()
    changes = list(difflib.unified_diff(listed, current, "docs/public_api.txt", "the code", lineterm="", n=0))
    assert not changes, "run `make api` if the change is intended:\n" + "\n".join(changes)


@pytest.mark.parametrize("module", public_api.MODULES)
def test_every_public_module_has_a_docstring_and_a_list(module):
    found = importlib.import_module(module)
    assert inspect.getdoc(found)
    assert found.__all__


def test_a_changed_signature_would_be_seen():
    def before(a, *, b=1):
        """A function."""

    def after(a, *, b=2):
        """The same with another default."""

    assert public_api.signature(before) != public_api.signature(after)


def test_a_module_and_a_function_or_class_never_share_an_import_path():
    shared = {}
    for package in pkgutil.walk_packages(descend.__path__, "descend."):
        if package.ispkg:
            module = importlib.import_module(package.name)
            inner = {each.name for each in pkgutil.iter_modules(module.__path__)}
            both = {name for name in inner if not inspect.ismodule(getattr(module, name, module))}
            if both:
                shared[package.name] = both
    assert not shared
