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


_MATRIX = """\
## A matrix

```yaml
lorapipe: 1
params: {least: 2}
matrix:
  strength: [0.4, 0.8]
  rank: [$(least), 4, 8]  # a value may come from a param
  exclude: [{strength: 0.4, rank: 8}]
  include: [{strength: 1.2, rank: 6}]
steps:
  char:  {load: data/lantern-char.safetensors}
  other: {scale: char, by: $(strength)}
  small: {svd-resize: other, rank: $(rank)}
  lora:  {save: small, to: out/char-s$(strength)-r$(rank).safetensors}
```

- Axes are named as params are, and a name is one or the other. Values are numbers, texts, true and false,
  each once.
- `exclude` takes away the combinations that have the values it names, on some axes or on all. `include`
  then adds one that has a value on every axis, be it one of the axis' own or not.
- `$(axis)` stands in steps alone, in any value: a weight, a file to load, the id of a step. Every value is
  tried before anything runs; a mistake is said at the hole, with the value that makes it.
- A step stands once for each combination of the values that it depends on, by its own holes or by the steps
  that it takes. Then its id is `small[strength=0.4,rank=4]`, the values as they are written.
  `lorapipe explain RECIPE 'small[rank=4]'` explains all that have this one.
- Refused are an axis that no step names, an `exclude` that excludes nothing, an `include` that is there
  already, two variants that write one file (`'to' lacks $(rank)`), more than 4096 combinations, and more
  than 20,000 steps in all.
- `--only axis=value` takes the variants with that value: of one axis any of several, of several axes all.
  What depends on no axis belongs to every variant. Files of other variants need not be there, and what the
  lock has of them stays as long as it is right.

[How to try strengths and ranks](how-to/sweep.md) goes through one, [sweep.yaml](../recipes/sweep.yaml) is to
start from.""".splitlines()
"""What the schema cannot say."""


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
    lines += ["What a step is, [each kind's page](steps/index.md) says.", "", *_MATRIX, ""]
    return "\n".join(lines).rstrip() + "\n"


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


def _recipe(recipes: tuple[Path, ...]) -> Iterator[str]:
    if not recipes:
        return
    shown, *others = recipes
    yield f"## In a recipe: [{shown.name}](../../recipes/{shown.name})"
    yield from ("", "```yaml", shown.read_text(encoding="utf-8").rstrip(), "```")
    if others:
        links = ", ".join(f"[{path.name}](../../recipes/{path.name})" for path in others)
        yield from ("", f"Also in {links}.")


if __name__ == "__main__":
    for page, text in pages().items():
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
