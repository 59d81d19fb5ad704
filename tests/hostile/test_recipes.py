"""Recipes made to hurt: each is refused by name, or read, in a moment and in little memory."""

from __future__ import annotations

import sys
import time
import tracemalloc

import pytest

from lorapipe.errors import LorapipeError
from lorapipe.recipe.compose import MAX_BYTES
from lorapipe.recipe.parsing import decode, parse

HEAD = "lorapipe: 1\nsteps:\n"
LAUGHS = "x-a: &a [l,l,l,l,l,l,l,l,l]\n" + "".join(
    f"x-{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)


def steps(line: str, count: int) -> str:
    """``count`` steps, ``{i}`` the number of each and ``{j}`` that of the one before."""
    return HEAD + "".join("  " + line.replace("{i}", str(i)).replace("{j}", str(i - 1)) for i in range(count))


def keys(line: str, count: int) -> str:
    return ", ".join(line.replace("{i}", str(i)) for i in range(count))


SCALE = "s{i}: {scale: s{j}, by: 1}\n"
HOLES = keys('s{i}: {load: "' + "$(a)" * 99 + '"}', 500)

TEXTS: dict[str, tuple[str | bytes, str | None]] = {
    "a bomb of aliases": (LAUGHS, "too-many-nodes"),
    "aliases of a long list": (f"x-a: &a [{'1,' * 1000}1]\nx-b: [{'*a,' * 60}]\n", "too-many-nodes"),
    "a bomb of holes": (
        f"lorapipe: 1\nparams: {{a: {'x' * 100_000}}}\nsteps: {{{HOLES}}}\n",
        "too-much-inserted",
    ),
    "10,000 holes in a value": (f'{HEAD}  a: {{load: "{"$(a)" * 10_000}"}}', "too-many-holes"),
    "100,000 brackets": ("[" * 100_000, "too-deep"),
    "100,000 braces": ("{a: " * 100_000, "too-deep"),
    "100,000 dashes": ("- " * 100_000, "too-deep"),
    "100,000 question marks": ("? " * 100_000, "too-deep"),
    "a thousand levels of indent": ("".join(" " * i + "a:\n" for i in range(1000)), "too-deep"),
    "10 MB in a scalar": (f"{HEAD}  a: {{load: {'x' * 10_000_000}}}\n", "recipe-too-long"),
    "10 MB of spaces": (" " * 10_000_000, "recipe-too-long"),
    "1 MB in a scalar": (f"{HEAD}  a: {{load: {'x' * 1_000_000}}}\n", None),
    "a million keys": ("".join(f"k{i}: 1\n" for i in range(1_000_000)), "recipe-too-long"),
    "90,000 keys": ("".join(f"k{i}: 1\n" for i in range(90_000)), "too-many-nodes"),
    "a key of half a megabyte": (f"lorapipe: 1\n{'k' * 500_000}: 1\n", "yaml-syntax"),
    "20,000 times a key": ("a: 1\n" * 20_000, "duplicate-key"),
    "20,000 anchors": ("".join(f"x-{i}: &a{i} 1\n" for i in range(10_000)), "missing-key"),
    "directives": ("%YAML 1.2\n" * 50_000 + "---\na", "yaml-directives"),
    "tag directives": ("".join(f"%TAG !a{i}! tag:x\n" for i in range(40_000)) + "---\na", "yaml-directives"),
    "documents": ("---\n" * 100_000, "second-document"),
    "comments": ("#\n" * 500_000, "recipe-empty"),
    "quotes": ("'" * 1_000_000, "recipe-not-map"),
    "tabs": ("\t" * 100_000, "yaml-syntax"),
    "a number of 100,000 digits": (f"{HEAD}  a: {{scale: a, by: {'9' * 100_000}}}", "number"),
    "an exponent beyond all": (f"{HEAD}  a: {{load: x}}\n  b: {{scale: a, by: 1e999999999}}", "bad-value"),
    "a Python object": (f"{HEAD}  a: !!python/object/apply:os.system ['true']\n", "yaml-tag"),
    "a tag of its own": ("!x {lorapipe: 1}", "yaml-tag"),
    "a tag by its address": (f"{HEAD}  a: !<tag:yaml.org,2002:python/name:os.system> x\n", "yaml-tag"),
    "a merge key": (f"x-a: &a {{load: x}}\n{HEAD}  a: {{<<: *a}}\n", "merge-key"),
    "a list in itself": ("x-a: &a [*a]\n", "endless-alias"),
    "a map in itself": ("&a {x-a: *a}\n", "endless-alias"),
    "a key that is a list": ("[a]: 1\n", "key-not-text"),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbfx-a: 1\n", "missing-key"),
    "UTF-16": ("lorapipe: 1\n".encode("utf-16"), "not-utf8"),
    "UTF-16 without a mark": ("lorapipe: 1\n".encode("utf-16-be"), "not-text"),
    "UTF-32": ("lorapipe: 1\n".encode("utf-32"), "not-utf8"),
    "a NUL": ("lorapipe: 1\0\n", "not-text"),
    "an escape sequence": ("lorapipe: 1\x1b[31m\n", "not-text"),
    "an escaped escape sequence": (f'{HEAD}  a: {{load: "\\e[31m"}}\n', "not-text"),
    "half a surrogate pair": (b"a: \xed\xa0\x80\n", "not-utf8"),
    "an overlong slash": (b"a: ..\xc0\xaf\n", "not-utf8"),
    "a cycle of 3,000 steps": (
        steps(SCALE, 3000).replace("s-1", "s2999"),
        "cycle",
    ),
    "a chain of 3,000 steps": (steps(SCALE, 3000) + "  s-1: {load: x}\n", None),
    "3,000 misspelt kinds": (steps("s{i}: {laod: x}\n", 3000), "unknown-kind"),
    "3,000 steps that are not there": (steps("s{i}: {scale: nope{i}, by: 1}\n", 3000), "unknown-step"),
    "1,500 long names nearly right": (
        steps("b" * 200 + "{i}: {scale: " + "b" * 200 + "{i}x, by: 1}\n", 1500),
        "unknown-step",
    ),
    "a step of 10,000 keys": (f"{HEAD}  a: {{{keys('o{i}: 1', 10_000)}}}\n", "unknown-kind"),
    "a step of 10,000 wrong options": (
        f"{HEAD}  a: {{load: x, {keys('o{i}: 1', 10_000)}}}\n",
        "unknown-option",
    ),
    "10,000 wrong metadata": (
        f"{HEAD}  a: {{load: x}}\n  o: {{save: a, to: o.pt, metadata: {{{keys('k{i}: 1', 10_000)}}}}}",
        "bad-value",
    ),
    "10,000 params": (f"lorapipe: 1\nparams: {{{keys('p{i}: 1', 10_000)}}}\nsteps: {{a: {{load: x}}}}", None),
    "7,000 wrong params": (
        f"lorapipe: 1\nparams: {{{keys('P{i}: [1]', 7000)}}}\nsteps: {{a: {{load: $(x)}}}}",
        "bad-name",
    ),
    "10,000 terms": (
        f"{HEAD}  a: {{load: x}}\n  b: {{concat: {{{keys('a{i}: 1', 10_000)}}}}}\n",
        "unknown-step",
    ),
    "git's conflicts": ("<<<<<<< a\n" * 30_000, "git-conflict"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_recipe_is_refused_or_read_in_a_moment(name: str) -> None:
    text, code = TEXTS[name]
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    start = time.process_time()
    codes = _codes(data)
    assert time.process_time() - start < (1.0 if sys.gettrace() is None else 10.0)
    assert codes == [] if code is None else code in codes


@pytest.mark.parametrize(
    "name", ["a bomb of aliases", "a bomb of holes", "10 MB in a scalar", "10,000 holes in a value"]
)
def test_a_bomb_takes_little_memory(name: str) -> None:
    text, _ = TEXTS[name]
    assert isinstance(text, str)
    data = text.encode()
    tracemalloc.start()
    try:
        _codes(data)
        assert tracemalloc.get_traced_memory()[1] < 64 * MAX_BYTES
    finally:
        tracemalloc.stop()


def _codes(data: bytes) -> list[str]:
    try:
        parse(decode(data, "r.yaml"), "r.yaml")
    except LorapipeError as error:
        return [one.code for one in error.parts]
    return []
