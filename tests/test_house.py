"""The rules of the house: where things stand, what may import what, and what must go together."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

import lorapipe
import lorapipe.api
import lorapipe.errors
from lorapipe.recipe.schemas import find_schemas
from lorapipe.steps import KINDS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(lorapipe.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def top_level_imports(node: ast.AST) -> Iterator[str]:
    """What is imported when a module is: not in functions, not for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield child.module or ""
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from top_level_imports(child)


def importers(package: str) -> set[str]:
    """The modules that import a package when they are imported themselves."""
    return {
        name_of(path)
        for path in MODULES
        if any(name.split(".")[0] == package for name in top_level_imports(tree(path)))
    }


# --- imports ----------------------------------------------------------------------------


def test_imports_run_one_way() -> None:
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which(
        "lint-imports"
    )
    if program is None:
        pytest.skip("import-linter is not installed")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("this is no checkout")
    done = subprocess.run([program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_siblings_do_not_import_each_other() -> None:
    siblings = {"weights", "architectures", "store", "recipe"}
    for path in MODULES:
        home = path.relative_to(PACKAGE).parts[0]
        if home in siblings:
            for node in ast.walk(tree(path)):
                found = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                other = found.removeprefix("lorapipe.").split(".")[0]
                assert other not in siblings - {home}, f"{name_of(path)} imports {found}"


# Reading and writing numbers is arithmetic's neighbour: these are imported inside functions only.
BESIDE_WEIGHTS = {"lorapipe.formats.adapters.values"}
TORCH_FREE = {"lorapipe.weights.specs", "lorapipe.weights.sources"}


def test_only_arithmetic_imports_torch_when_it_is_imported() -> None:
    found = importers("torch")
    assert "lorapipe.weights.structures.delta" in found
    assert {name for name in found if not name.startswith("lorapipe.weights.")} <= BESIDE_WEIGHTS
    assert not found & TORCH_FREE
    assert not {name for name in found if name.startswith("lorapipe.weights.inference.")}


def test_nobody_imports_the_modules_of_arithmetic_before_they_are_due() -> None:
    slow = importers("torch")
    for path in MODULES:
        if name_of(path) not in slow and "weights" not in path.parts:
            assert not slow & set(top_level_imports(tree(path))), name_of(path)


def test_networkx_is_the_plans_alone() -> None:
    assert importers("networkx") == {"lorapipe.plan.graph"}


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("rich", {"lorapipe.views"}),
        ("click", {"lorapipe.cli"}),
        ("sqlite3", {"lorapipe.store"}),
        ("yaml", {"lorapipe.recipe", "lorapipe.store", "lorapipe.architectures", "lorapipe.drafts"}),
        ("filelock", {"lorapipe.store"}),
        ("jsonschema", {"lorapipe.recipe"}),
        ("fsspec", {"lorapipe.remote", "lorapipe.store"}),
        ("aiohttp", {"lorapipe.remote"}),
        ("huggingface_hub", {"lorapipe.remote"}),
        ("pickle", set()),
        ("safetensors", set()),
    ],
)
def test_each_library_has_its_folder(package: str, homes: set[str]) -> None:
    folders = {".".join(name.split(".")[:2]) for name in importers(package)}
    assert folders <= homes


def test_the_libraries_that_are_imported_are_those_that_are_declared() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = set(
        re.findall(r'^    "([a-z]+)>=', text[: text.index("[project.optional-dependencies]")], re.M)
    )
    # Asked for by an option of a command, or by a URL. What fsspec imports, none of ours does.
    extras = re.findall(r"^(?:attest|dask|gs|hf|http|plot|s3) = \[(.*)\]", text, re.M)
    named = {name.replace("-", "_") for extra in extras for name in re.findall(r'"([a-z0-9-]+)[>\[]', extra)}
    declared |= named - {"gcsfs", "s3fs"}
    imported = {
        (node.module or "").split(".")[0]
        if isinstance(node, ast.ImportFrom)
        else node.names[0].name.split(".")[0]
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    foreign = imported - set(sys.stdlib_module_names) - {"lorapipe", "typing_extensions"}
    assert {{"yaml": "pyyaml"}.get(name, name) for name in foreign} == declared


# --- kinds ------------------------------------------------------------------------------


def test_a_kind_is_a_row_a_schema_a_function_a_module_and_a_test() -> None:
    kinds = set(KINDS)
    assert list(KINDS) == sorted(KINDS)
    assert {path.name.removesuffix(".schema.json") for path in (find_schemas() / "steps").iterdir()} == kinds
    functions = {
        name.replace("_", "-")
        for name in lorapipe.api.__all__
        if inspect.isfunction(getattr(lorapipe.api, name))
    }
    assert functions - {"run", "make-plan"} == kinds
    tests = {
        path.stem.removeprefix("test_").replace("_", "-") for path in (ROOT / "tests/steps").glob("test_*.py")
    }
    beside = {path.stem for path in (ROOT / "lorapipe/steps").glob("*.py")} - {
        k.replace("-", "_") for k in kinds
    }
    assert tests - {"kinds", *beside} == kinds
    for kind, module in KINDS.items():
        assert module == f"lorapipe.steps.{kind.replace('-', '_')}"


def test_no_kind_is_known_outside_of_its_module_and_the_table() -> None:
    """A comparison with a kind's name is knowledge that belongs into the kind."""
    allowed = {
        "lorapipe.api",  # its functions are the kinds
        "lorapipe.build.single",  # a file is loaded outside of a recipe
        "lorapipe.views.bindings",  # what a merge binds is shown of merges
    }
    for path in MODULES:
        if name_of(path) in allowed or path.parent.name == "steps":
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Compare):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                told = ast.unparse(node)
                assert not (constants & set(KINDS) and "kind" in told), f"{name_of(path)}: {told}"


def test_no_family_is_known_outside_of_its_table() -> None:
    families = {path.stem for path in (PACKAGE / "architectures" / "tables").glob("*.yaml")}
    assert len(families) >= 3
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Compare):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                assert not constants & families, f"{name_of(path)}: {ast.unparse(node)}"


# --- every module -----------------------------------------------------------------------


def offenders(rule: Callable[[Path], bool]) -> list[str]:
    """The modules that break a rule."""
    return [name_of(path) for path in MODULES if not rule(path)]


def test_every_module_says_what_it_is() -> None:
    assert offenders(lambda path: bool(ast.get_docstring(tree(path)))) == []


def exported(path: Path) -> list[list[str]]:
    return [
        ast.literal_eval(node.value)
        for node in tree(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]


def test_every_module_says_what_it_offers_sorted_and_has_it() -> None:
    for path in MODULES:
        if path.name == "__main__.py" or not tree(path).body[1:]:
            continue
        (names,) = exported(path) or ([],)
        assert names, f"{name_of(path)} has no __all__"
        assert names == sorted(names, key=_all_order), name_of(path)
        module = import_module(name_of(path))
        assert [name for name in names if not hasattr(module, name)] == [], name_of(path)


def _all_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, each in order of their names: what ruff keeps ``__all__`` in."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_annotations_are_never_evaluated() -> None:
    def rule(path: Path) -> bool:
        body = tree(path).body
        annotated = any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AnnAssign) for node in body)
        return not annotated or "from __future__ import annotations" in map(ast.unparse, body)

    assert offenders(rule) == []


def calls(path: Path) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}


def test_the_library_neither_prints_nor_exits() -> None:
    def rule(path: Path) -> bool:
        line = path.relative_to(PACKAGE).parts[0] in ("cli", "__main__.py")
        return line or not calls(path) & {
            "print",
            "sys.exit",
            "exit",
            "quit",
            "os._exit",
            "input",
            "click.echo",
        }

    assert offenders(rule) == []


def test_no_code_of_others_is_run() -> None:
    forbidden = {"eval", "exec", "pickle.load", "pickle.loads", "torch.load", "os.system", "yaml.unsafe_load"}
    assert offenders(lambda path: not calls(path) & forbidden) == []


NO_REMEDY = {
    "architecture-table": "a fault of lorapipe",
    "bad-param": "what is taken is the message",
    "bad-value": "what is taken is the message",
    "differs": "the answer that was asked for",
    "hole-in-key": "what is taken is the message",
    "internal-wrong-order": "a fault of lorapipe",
    "internal-wrong-size": "a fault of lorapipe",
    "missing-option": "what is needed is the message",
    "no-space": "what is needed is the message",
    "self-reference": "what is wrong is the word under the caret",
    "spec-not-kept": "a fault of lorapipe",
    "too-many-holes": "what is taken is the message",
    "version": "what is taken is the message",
    "yaml-syntax": "what is wrong is said in the words of recipes",
}


def raised_without_hint() -> Iterator[tuple[str, str]]:
    """Where an error is made that says no remedy by itself, and its code."""
    classes = {cls.__name__ for cls in vars(lorapipe.errors).values() if is_error(cls)} - {"ManyErrors"}
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call) or any(word.arg in ("hint", None) for word in node.keywords):
                continue
            called = ast.unparse(node.func)
            noted = called.endswith(("report.add", "report.fatal")) and len(node.args) < 4
            if noted or called in classes:
                yield f"{name_of(path)}:{node.lineno}", ast.literal_eval(node.args[0])


def is_error(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, lorapipe.errors.LorapipeError)


def test_every_error_has_a_remedy() -> None:
    made = dict(raised_without_hint())
    assert {
        where: code for where, code in made.items() if code not in {*NO_REMEDY, *lorapipe.errors.REMEDIES}
    } == {}
    unused = {*lorapipe.errors.REMEDIES} - {*made.values()}
    assert unused == {"bad-rank", "unmatched-modules"}, "these have a hint in some cases alone"
    assert {*NO_REMEDY} <= {*made.values()}


def test_a_module_is_of_a_size_that_one_reads() -> None:
    assert offenders(lambda path: len(path.read_text("utf-8").splitlines()) <= 360) == []


def test_every_ignore_names_its_rule_and_says_why() -> None:
    ignore = re.compile(r"#\s*(?:noqa|type: ignore)(.*)")
    reasoned = re.compile(r"(?:: [A-Z0-9, ]+|\[[a-z, -]+\])\s*(?:#|-)\s*\S")
    found = [
        f"{name_of(path)}: {line.strip()}"
        for path in MODULES
        for line in path.read_text("utf-8").splitlines()
        for comment in [ignore.search(line)]
        if comment and not reasoned.match(comment[1])
    ]
    assert found == []


def test_nothing_speaks_of_the_place_where_it_was_made() -> None:
    words = re.compile(r"/(?:work|tmp|root)/|\bTODO\b|\bFIXME\b")
    for folder in ("lorapipe", "schemas", "recipes"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".json", ".yaml", ".md"):
                assert not words.search(path.read_text(encoding="utf-8")), path


def test_each_folder_of_the_package_has_one_of_tests() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders <= {path.name for path in (ROOT / "tests").iterdir()}
