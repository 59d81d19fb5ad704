"""Write the reference: a page on recipes and one a kind, all of it from the schemas and the recipes.

python docs/reference.py    # writes docs/recipe.md and docs/steps/; tests/test_docs.py holds them against it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lorapipe.recipe.language import KindSchema, Option, core_language
from lorapipe.recipe.options import write
from lorapipe.recipe.parsing import load_recipe
from lorapipe.views.language import example, option_takes

DOCS = Path(__file__).resolve().parent
RECIPES = DOCS.parent / "recipes"


def pages() -> dict[Path, str]:
    """Every page of the reference by its path."""
    kinds = core_language().kinds
    users = _users()
    folder = DOCS / "steps"
    index = ["# Steps", "", "One page a kind, written from the schemas that `lorapipe validate` uses.", ""]
    index += [f"- [{kind.name}]({kind.name}.md): {kind.summary}" for kind in kinds.values()]
    made = {folder / f"{kind.name}.md": _page(kind, users.get(kind.name, ())) for kind in kinds.values()}
    return {DOCS / "recipe.md": _recipe_page(), folder / "index.md": "\n".join(index) + "\n", **made}


def _recipe_page() -> str:
    top = core_language().top
    required = top["required"]
    keys = [Option(key, schema, key in required) for key, schema in top["properties"].items()]
    lines = ["# A recipe", "", top["description"], "", "| key | takes | |", "|---|---|---|"]
    lines += [row for key in keys for row in _rows(key)]
    lines += [f"| `x-...` | anything | {top['patternProperties']['^x-']['description']} |", ""]
    lines += ["What a step is, [each kind's page](steps/index.md) says.", ""]
    return "\n".join([*lines, *_recipe((RECIPES / "sweep.yaml",), "../recipes")]).rstrip() + "\n"


def _users() -> Mapping[str, tuple[Path, ...]]:
    """The recipes that use a kind, those with the fewest steps first."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(RECIPES.glob("*.yaml")):
        steps = load_recipe(path).steps.values()
        for kind in {step.kind for step in steps}:
            found.setdefault(kind, []).append((len(steps), path))
    return {kind: tuple(path for _, path in sorted(each)) for kind, each in found.items()}


def _page(kind: KindSchema, recipes: tuple[Path, ...]) -> str:
    lines = [f"# {kind.name}", "", f"{kind.summary}.", "", kind.description, ""]
    lines += ["```yaml", f"step: {example(kind)}", "```", ""]
    lines += ["| option | takes | |", "|---|---|---|"]
    lines += [row for option in kind.options.values() for row in _rows(option)]
    lines += ["", *_recipe(recipes)]
    return "\n".join(lines).rstrip() + "\n"


def _rows(option: Option) -> Iterator[str]:
    """An option's row, and those of the keys inside of it."""
    yield f"| `{option.name}` | {_cell(_takes(option))} | {_cell(option.description)} |"
    for part in option.parts:
        yield from _rows(part)


def _takes(option: Option) -> str:
    takes = write(option.schema["const"]) if "const" in option.schema else option_takes(option)
    if option.required:
        return f"{takes}; required"
    return f"{takes}; default `{write(option.default)}`" if "default" in option.schema else takes


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _recipe(recipes: tuple[Path, ...], folder: str = "../../recipes") -> Iterator[str]:
    if not recipes:
        return
    shown, *others = recipes
    yield f"## In a recipe: [{shown.name}]({folder}/{shown.name})"
    yield from ("", "```yaml", shown.read_text(encoding="utf-8").rstrip(), "```")
    if others:
        links = ", ".join(f"[{path.name}]({folder}/{path.name})" for path in others)
        yield from ("", f"Also in {links}.")


if __name__ == "__main__":
    for page, text in pages().items():
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
