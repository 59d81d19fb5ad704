"""What commands of a recipe share: one value for what is asked, options in the order written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lorapipe.build.planning import Options
from lorapipe.cli.options import Asked, build_options, together
from lorapipe.errors import UsageError


def asked_by(*words: str) -> tuple[Asked, bool]:
    """What a command is handed for the words of a line, with an option of its own."""

    @click.command()
    @build_options
    @click.option("--own", is_flag=True)
    def command(asked: Asked, own: bool) -> tuple[Asked, bool]:
        return asked, own

    handed = CliRunner().invoke(command, words, standalone_mode=False).return_value
    assert isinstance(handed, tuple)
    return handed


def test_a_command_is_handed_what_is_asked_as_one_value_beside_its_own_options() -> None:
    words = "r.yaml --set a=1 --set b=x --models m --models n --output-root out --lock l --device cpu --own"
    assert asked_by(*words.split()) == (
        Asked(
            Path("r.yaml"),
            ("a=1", "b=x"),
            device="cpu",
            models=(Path("m"), Path("n")),
            output_root=Path("out"),
            lock=Path("l"),
        ),
        True,
    )


def test_what_is_not_said_is_left_to_the_recipe() -> None:
    assert asked_by("r.yaml") == (Asked(Path("r.yaml")), False)
    assert Asked(Path("r.yaml")).options() == Options()


def test_options_say_where_files_are_and_what_a_command_adds() -> None:
    where = {"device": "cuda:1", "models": (Path("m"),), "output_root": Path("out"), "lock": Path("l")}
    asked, files = Asked(Path("r.yaml"), **where), Options(**where)
    assert asked.options() == files
    assert asked.options(workers=3, force=True) == replace(files, workers=3, force=True)


def test_a_recipe_is_loaded_with_what_is_set(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("lorapipe: 1\nparams: {strength: 0.7}\nsteps: {one: {load: a.pt}}\n", encoding="utf-8")
    assert Asked(path).load().params == {"strength": 0.7}
    assert Asked(path, ("strength=0.5",)).load().params == {"strength": 0.5}
    with pytest.raises(UsageError) as caught:
        Asked(path, ("strength",)).load()
    assert caught.value.code == "bad-setting"


def test_options_stand_in_the_help_as_they_are_written() -> None:
    @click.command()
    @together(click.option("--first"), click.option("--second"), click.option("--third"))
    def command(**_: str) -> None:
        pass

    assert [option.name for option in command.params] == ["first", "second", "third"]
