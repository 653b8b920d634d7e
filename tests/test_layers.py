"""The walls of the house: imports run downward, files stay small, nothing runs code it was handed."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import descend

SOURCE = Path(descend.__file__).parent
ARCHITECTURE = SOURCE.parents[1] / "docs" / "architecture.md"

LAYERS = [
    {"_version", "installation", "interface"},
    {"errors"},
    {"process"},
    {"files", "param_types", "arguments", "cards", "rng"},
    {"linalg"},
    {"data", "nn"},
    {"augmentation", "losses", "metrics", "schedules", "regularization", "constraints"},
    {"optim"},
    {"training"},
    {"recipe", "many.pack"},
    {"export", "report"},
    {"runs"},
    {"many"},
    {"api"},
    {"experiments", "gallery"},
    {"doctor"},
    {"estimators"},
    {"cli"},
    {"__main__"},
]
"""From the bottom to the top. A part imports from lower layers only, at the head of a file, within functions and for
type checkers alike. A pack is a layer below the rest of ``many``, at the height of recipes, so that it cannot know them."""

LOOSE_FILES = 12
"""The number of files at the top of the package, besides the type marker."""

LONG: dict[str, str] = {
    "descend.optim._kfac": "one method: formulas, documentation and step; its storage and recorder are files of their own"
}
"""Files of more than 400 lines, each with its reason."""


@dataclass
class Imports:
    """Of one file: at its head, within functions, and for type checkers alone."""

    head: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    types: set[str] = field(default_factory=set)


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


@functools.cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of every module, by name: parsed when a test needs it, not when tests are collected."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def imports_of(name: str, tree: ast.Module) -> Imports:
    found = Imports()
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]

    def visit(node: ast.AST, where: set[str]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                where.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    base = ".".join(
                        [*package.split(".")[: len(package.split(".")) - child.level + 1], base]
                    ).strip(".")
                for alias in child.names:
                    # "from descend.nn import activations" imports the module of that name.
                    full = f"{base}.{alias.name}"
                    where.add(full if full in FILES else base)
            elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                visit(child, found.late)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                visit(child, found.types)
            elif not isinstance(child, ast.expr):  # no import is inside an expression
                visit(child, where)

    visit(tree, found.head)
    return found


@functools.cache
def imports() -> dict[str, Imports]:
    return {name: imports_of(name, tree) for name, tree in trees().items()}


PARTS = {part for layer in LAYERS for part in layer}


def part_of(module: str) -> str | None:
    """The part of the package that a module belongs to; None for the package itself and for other packages."""
    parts = module.split(".")
    if parts[0] != "descend" or len(parts) == 1:
        return None
    inner = ".".join(parts[1:3])
    return inner if inner in PARTS else parts[1]


def rank(part: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


def between_parts(*kinds: str) -> set[tuple[str, str]]:
    return {
        (own, other)
        for module, each in imports().items()
        for kind in kinds
        for target in getattr(each, kind)
        if (own := part_of(module)) is not None and (other := part_of(target)) is not None and own != other
    }


EVERY_KIND = ("head", "late", "types")


class TestLayers:
    def test_every_part_has_one(self):
        parts = {part for module in FILES if (part := part_of(module)) is not None}
        listed = [part for layer in LAYERS for part in layer]
        assert sorted(listed) == sorted(parts)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", EVERY_KIND)
    def test_imports_run_downward(self, kind):
        assert not {(own, other) for own, other in between_parts(kind) if rank(other) >= rank(own)}

    def test_packs_know_nothing_of_recipes_and_runs(self):
        known = {other for own, other in between_parts(*EVERY_KIND) if own == "many.pack"}
        assert known
        assert not known & {"recipe", "runs", "many", "api"}

    def test_the_top_has_few_loose_files(self):
        assert len(list(SOURCE.glob("*.py"))) <= LOOSE_FILES

    def test_no_part_reaches_through_the_package_itself(self):
        through = {
            module
            for module, each in imports().items()
            if "descend" in each.head | each.late and part_of(module) is not None
        }
        assert not through

    def test_no_cycles_among_files(self):
        graph = {
            name: {each for each in found.head | found.late | found.types if each in FILES} - {name}
            for name, found in imports().items()
            if name != "descend"
        }
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError as cycle:
            pytest.fail(f"a cycle of imports: {' -> '.join(cycle.args[1])}")
        assert set(order) >= set(graph)

    def test_a_cycle_would_be_found(self):
        with pytest.raises(CycleError):
            list(TopologicalSorter({"a": {"b"}, "b": {"c"}, "c": {"a"}}).static_order())

    def test_what_is_read_from_the_files(self):
        assert "descend.errors" in imports()["descend.recipe.toml"].head
        assert "descend.nn.activations" in imports()["descend.nn._mlp"].head
        assert "descend.export" in imports()["descend.runs.run"].late
        assert "descend.runs.run" in imports()["descend"].types
        assert len(FILES) > 100

    def test_importing_the_package_imports_nothing_of_it(self):
        assert {each for each in imports()["descend"].head if each.startswith("descend")} == {
            "descend._version"
        }
        assert "torch" not in imports()["descend"].head

    @pytest.mark.skipif(not ARCHITECTURE.exists(), reason="the documents are not installed with the package")
    def test_the_map_in_the_documents_is_the_same(self):
        block = ARCHITECTURE.read_text(encoding="utf-8").split("```")[1]
        line_of: dict[str, int] = {}
        for number, line in enumerate(block.splitlines()):
            # Names stand in front of at least three spaces, what they hold behind.
            names = re.split(r" {3,}", line.strip())[0]
            for word in re.findall(r"[\w.]+/?", names):
                line_of.setdefault(word.rstrip("/"), number)
        public = {part for layer in LAYERS for part in layer if not part.startswith("_")}
        assert public <= set(line_of)
        assert not [(own, other) for own, other in between_parts(*EVERY_KIND)
                    if {own, other} <= public and line_of[own] <= line_of[other]]  # fmt: skip

    @pytest.mark.skipif(not ARCHITECTURE.exists(), reason="the documents are not installed with the package")
    def test_every_file_and_name_in_the_documents_exists(self):
        text = ARCHITECTURE.read_text(encoding="utf-8")
        root = ARCHITECTURE.parents[1]
        paths = re.findall(r"`([\w/]+/[\w./]+\.\w+)`", text)
        assert len(paths) > 15
        assert not [each for each in paths if not ((root / each).exists() or (SOURCE / each).exists())]
        dotted = [each for each in re.findall(r"`((?:[a-z_]+\.)+\w+)`", text) if each.split(".")[0] in PARTS]
        assert len(dotted) > 25
        assert not [each for each in dotted if not exists(f"descend.{each}")]


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    if name in FILES:
        return True
    module, _, attribute = name.rpartition(".")
    return module in FILES and hasattr(importlib.import_module(module), attribute)


class TestFiles:
    def test_are_short_or_have_a_reason(self):
        long = {
            name: count
            for name, path in FILES.items()
            if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
        }
        assert set(long) == set(LONG), long
        assert all(LONG.values())

    def test_say_what_they_are(self):
        assert not [name for name, tree in trees().items() if not ast.get_docstring(tree)]

    def test_name_what_is_public_and_it_is_there(self):
        modules = {name: importlib.import_module(name) for name in FILES if name != "descend.__main__"}
        public = {name: getattr(module, "__all__", []) for name, module in modules.items()}
        assert not [name for name, names in public.items() if len(set(names)) != len(names)]
        assert not [
            f"{name}.{each}"
            for name, names in public.items()
            for each in names
            if not hasattr(modules[name], each)
        ]


CODE_FROM_DATA = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "marshal",
    "shelve",
    "joblib",
    "jsonpickle",
    "yaml",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    "torch.load", "torch.save", "torch.export.load", "torch.jit.load", "torch.hub.load", "os.system",
    "torch.package.PackageImporter", "os.popen", "builtins.eval", "builtins.exec", "pd.read_pickle",
}  # fmt: skip


def faults(tree: ast.AST) -> list[str]:
    """Places where data could become code."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in CODE_FROM_DATA]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [module] if module.split(".")[0] in CODE_FROM_DATA else []
            found += [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in METHODS]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in BUILTINS or called in METHODS:
                found.append(called)
            said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in ("np.load", "numpy.load") and said.get("allow_pickle") != "False":
                found.append(f"{called} without allow_pickle=False")
            if said.get("allow_pickle", "False") != "False":
                found.append(f"{called} with allow_pickle")
            if said.get("shell", "False") != "False":
                found.append(f"{called} with a shell")
    return found


class TestNothingRunsWhatItReads:
    @pytest.mark.slow
    def test_in_any_file(self):
        assert not {name: found for name, tree in trees().items() if (found := faults(tree))}

    @pytest.mark.parametrize(
        "code",
        ["import pickle", "from pickle import loads", "import joblib.numpy_pickle", "eval('1')", "exec(text)",
         "torch.load(path)", "from torch import load", "np.load(path)", "np.load(path, allow_pickle=True)",
         "__import__('os')", "os.system('ls')", "subprocess.run('ls', shell=True)"],
    )  # fmt: skip
    def test_and_the_test_would_see_it(self, code):
        assert faults(ast.parse(code))

    @pytest.mark.parametrize(
        "code", ["model.eval()", "np.load(path, allow_pickle=False)", "re.compile('x')", "json.load(f)"]
    )
    def test_and_nothing_else(self, code):
        assert not faults(ast.parse(code))

    @pytest.mark.slow
    def test_modules_are_imported_by_name_in_few_places(self):
        """Where a text becomes code: names in the catalogue, functions that give data, the package's own parts."""
        places = {
            name
            for name, tree in trees().items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
        }
        assert places == {
            "descend.data",
            "descend.process.surroundings",
            "descend.errors",
            "descend.export",
            "descend.recipe.catalogue",
            "descend.data.compression",
            "descend.data.functions",
        }


class TestPublicNames:
    @pytest.mark.parametrize("name", [each for each in descend.__all__ if each != "__version__"])
    def test_are_explained(self, name):
        doc = inspect.getdoc(getattr(descend, name)) or ""
        assert len(doc) > 60
        assert name in dir(descend)

    @pytest.mark.parametrize("name", [each for each in descend.__all__ if each != "__version__"])
    def test_so_is_all_that_one_can_do_with_them(self, name):
        subject = getattr(descend, name)
        own = vars(subject).items() if inspect.isclass(subject) else []
        public = [value for each, value in own if not each.startswith("_") and inspect.isroutine(value)]
        assert not [value for value in public if not inspect.getdoc(value)]

    def test_the_version_is_one(self):
        assert re.fullmatch(r"\d+\.\d+\.\d+([a-z0-9.+-]*)", descend.__version__)

    def test_others_do_not_exist(self):
        with pytest.raises(AttributeError, match="module 'descend' has no attribute 'trian'"):
            descend.trian  # noqa: B018 - looking it up is what is tested
