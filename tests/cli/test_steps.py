"""``lorapipe steps``."""

from __future__ import annotations

import importlib.metadata
from types import SimpleNamespace

import pytest

from lorapipe.cli import main
from lorapipe.recipe.language import core_language
from lorapipe.views.language import kind_page, kind_table

KNOWN = (
    "load, scale, concat, combine, shuffle, svd-resize, merge-into-checkpoint, extract-lora, check,"
    " dylora-slice, ema, filter, save"
)


def test_all_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steps"]) == 0
    assert capsys.readouterr().out == kind_table(core_language().kinds.values()) + "\n"


@pytest.mark.parametrize("name", core_language().kinds)
def test_one_kind_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steps", name]) == 0
    assert capsys.readouterr().out == kind_page(core_language().kind(name)) + "\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("svd-resise", "did you mean 'svd-resize'?"),
        ("merge", "did you mean 'concat'?"),
        ("zzz", f"the kinds are {KNOWN}"),
    ],
)
def test_an_unknown_kind_is_a_usage_error(name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steps", name]) == 2
    assert capsys.readouterr().err == f"error: no step kind '{name}' - {hint}\n"


def test_installed_kinds_are_listed_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"title": "Blur a LoRA", "properties": {"acme.blur": {"type": "string"}}}
    entry = SimpleNamespace(name="acme.blur", value="acme:blur", load=lambda: SimpleNamespace(schema=schema))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    assert main(["steps"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["acme.blur", "Blur", "a", "LoRA"]
