"""What is attested is what was built, and verification finds every file that is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import lorapipe
from lorapipe.build.proving.attestation import attest_output, attest_recipe, verify_attestation
from lorapipe.build.proving.statements import statement_bytes
from lorapipe.build.run import Options
from lorapipe.errors import CheckFailed, InputError, LockError, LorapipeError
from lorapipe.recipe.parsing import load_recipe

from ...bench import Bench
from ...formats.model_folders import hf_folder
from .test_statements import check_statement

_STEPS = "a: {load: a.safetensors}\nb: {load: b.safetensors}\nboth: {concat: {a: 1.0, b: $(w)}}\n"
_PARAMS = "params: {w: 0.5}\n"
_SHUFFLED = "s: {shuffle: both, seed: 4711}\nout: {save: s, to: out/o.safetensors}"


@pytest.fixture
def kitchen(bench: Bench) -> Bench:
    bench.lora("a")
    bench.lora("b", rank=6, seed=1)
    bench.lora("unused", seed=2)
    return bench


def built(bench: Bench, save: str = "out: {save: both, to: out/o.safetensors}") -> Path:
    recipe = bench.recipe(_STEPS + save, head=_PARAMS)
    lorapipe.run(recipe)
    return recipe


def attested(recipe: Path, options: Options | None = None, **more: Any) -> dict[str, Any]:
    return attest_recipe(load_recipe(recipe), options or Options(), **more)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(bench: Bench, made: dict[str, Any]) -> Path:
    path = bench.folder / "r.intoto.json"
    path.write_bytes(statement_bytes(made))
    return path


def test_a_recipe_that_saves_nothing_has_nothing_to_attest(kitchen: Bench) -> None:
    recipe = kitchen.recipe("a: {load: a.safetensors}")
    lorapipe.run(recipe)
    with pytest.raises(CheckFailed) as caught:
        attested(recipe)
    assert caught.value.code == "not-as-built"
    assert "saves nothing" in caught.value.message


def test_a_recipe_is_attested_with_everything_that_decided_its_output(kitchen: Bench) -> None:
    recipe = built(kitchen, "out: {save: both, to: out/o.safetensors}\nu: {load: unused.safetensors}")
    made = attested(recipe)

    check_statement(made)
    assert made["subject"] == [
        {"name": "out/o.safetensors", "digest": {"sha256": sha256(kitchen.folder / "out/o.safetensors")}}
    ]
    definition = made["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "recipe": {
            "name": "r.yaml",
            "digest": {"sha256": sha256(recipe)},
            "text": recipe.read_text(),
        },
        "params": {"w": 0.5},
    }
    assert definition["resolvedDependencies"] == [
        {"name": f"{name}.safetensors", "digest": {"sha256": sha256(kitchen.folder / f"{name}.safetensors")}}
        for name in "ab"
    ]
    assert definition["internalParameters"]["profile"]["compute"] == "float64"
    assert str(kitchen.folder) not in json.dumps(made)


def test_the_time_is_that_of_the_environment_or_none(kitchen: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = built(kitchen)
    assert statement_bytes(attested(recipe)) == statement_bytes(attested(recipe))
    assert "metadata" not in attested(recipe)["predicate"]["runDetails"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    lorapipe.run(recipe)
    details = attested(recipe, builder="https://ci.example.org/7")["predicate"]["runDetails"]
    assert details["metadata"] == {"finishedOn": "2001-09-09T01:46:40Z"}
    assert details["builder"]["id"] == "https://ci.example.org/7"


def test_params_of_the_command_line_are_told(kitchen: Bench) -> None:
    recipe = kitchen.recipe(_STEPS + "out: {save: both, to: o.safetensors}", head=_PARAMS)
    lorapipe.run(recipe, {"w": -1.5})

    with pytest.raises(LockError):
        attested(recipe)
    made = attest_recipe(load_recipe(recipe, {"w": -1.5}), Options())
    assert made["predicate"]["buildDefinition"]["externalParameters"]["params"] == {"w": -1.5}


def test_a_folder_is_attested_file_by_file(bench: Bench) -> None:
    hf_folder(bench.folder / "base")
    recipe = bench.recipe("base: {load: base/}\nout: {save: base, to: out/m/, shard-size: 100B}")
    (output,) = lorapipe.run(recipe).outputs
    made = attested(recipe)

    files = {p.relative_to(bench.folder).as_posix(): sha256(p) for p in output.path.rglob("*") if p.is_file()}
    assert len(files) > 4
    assert {s["name"]: s["digest"]["sha256"] for s in made["subject"]} == files
    inputs = made["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {i["name"]: i["digest"]["sha256"] for i in inputs} == {
        p.relative_to(bench.folder).as_posix(): sha256(p)
        for p in (bench.folder / "base").rglob("*")
        if p.is_file()
    }
    verify_attestation(written(bench, made))
    check_statement(attest_output(output.path))
    verify_attestation(written(bench, attest_output(output.path)), output.path.parent)


def test_after_a_shuffle_neither_recipe_nor_inputs_are_told(kitchen: Bench) -> None:
    recipe = built(kitchen, _SHUFFLED)
    made = attested(recipe)

    check_statement(made)
    text = json.dumps(made)
    for secret in ("r.yaml", "4711", "a.safetensors", "shuffle", sha256(recipe), '"w"'):
        assert secret not in text
    assert sha256(kitchen.folder / "a.safetensors") not in text

    told = attested(recipe, with_dependencies=True)
    assert told["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert "4711" in json.dumps(told)


def test_one_shuffled_output_hides_the_recipe_of_all(kitchen: Bench) -> None:
    recipe = built(kitchen, f"{_SHUFFLED}\nplain: {{save: both, to: out/p.safetensors}}")
    definition = attested(recipe)["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"withheld": True}
    assert "resolvedDependencies" not in definition


def test_what_is_not_as_built_is_not_attested(kitchen: Bench) -> None:
    recipe = kitchen.recipe(_STEPS + "out: {save: both, to: out/o.safetensors}", head=_PARAMS)
    with pytest.raises(LockError) as caught:
        attested(recipe)
    assert caught.value.code == "lock-missing"

    built(kitchen)
    output = kitchen.folder / "out/o.safetensors"
    content = output.read_bytes()
    for change in (lambda: output.write_bytes(content + b"x"), output.unlink):
        change()
        with pytest.raises(CheckFailed) as failed:
            attested(recipe)
        assert failed.value.message == "not what the lock says: out/o.safetensors"
    output.write_bytes(content)
    attested(recipe)

    kitchen.lora("a", seed=9)
    with pytest.raises(LockError) as drifted:
        attested(recipe)
    assert drifted.value.code == "lock-drift"


def test_under_another_root_the_names_begin_there(kitchen: Bench, tmp_path: Path) -> None:
    recipe = kitchen.recipe(_STEPS + "out: {save: both, to: out/o.safetensors}", head=_PARAMS)
    options = Options(output_root=tmp_path / "elsewhere", lock=tmp_path / "r.lock")
    lorapipe.run(recipe, options=options)
    made = attested(recipe, options)
    assert [subject["name"] for subject in made["subject"]] == ["out/o.safetensors"]
    verify_attestation(written(kitchen, made), tmp_path / "elsewhere")


def test_one_output_is_attested_by_what_it_tells(kitchen: Bench) -> None:
    built(kitchen)
    output = kitchen.folder / "out/o.safetensors"
    made = attest_output(output)

    check_statement(made)
    assert made["subject"] == [{"name": "o.safetensors", "digest": {"sha256": sha256(output)}}]
    definition = made["predicate"]["buildDefinition"]
    assert [each["name"] for each in definition["resolvedDependencies"]] == [
        "a.safetensors", "b.safetensors",
    ]  # fmt: skip
    recipe = definition["externalParameters"]["recipe"]
    assert recipe["digest"]["sha256"] == hashlib.sha256(recipe["text"].encode()).hexdigest()
    assert "concat: {load-1: 1.0, load-2: 0.5}" in recipe["text"]


def test_what_lorapipe_did_not_write_here_is_not_attested(kitchen: Bench) -> None:
    built(kitchen)
    copied = kitchen.folder / "copied.safetensors"
    copied.write_bytes((kitchen.folder / "out/o.safetensors").read_bytes())
    with pytest.raises(CheckFailed) as caught:
        attest_output(copied)
    assert caught.value.code == "not-ours"
    with pytest.raises(InputError) as foreign:
        attest_output(kitchen.folder / "a.safetensors")
    assert foreign.value.code == "no-provenance"


def test_an_attestation_holds_while_its_files_do(kitchen: Bench) -> None:
    path = written(kitchen, attested(built(kitchen, "out: {save: both, to: out/o.safetensors}\n"
        "two: {save: a, to: out/two.safetensors}")))  # fmt: skip
    found = verify_attestation(path)
    assert found.files == ("out/o.safetensors", "out/two.safetensors")
    assert not found.signed

    output = kitchen.folder / "out/o.safetensors"
    data = bytearray(output.read_bytes())
    data[-1] ^= 1
    output.write_bytes(data)
    (kitchen.folder / "out/two.safetensors").unlink()
    with pytest.raises(CheckFailed) as caught:
        verify_attestation(path)
    assert caught.value.message == "2 files are not what it says"
    assert caught.value.details[0].startswith("out/o.safetensors: has sha256 ")
    assert caught.value.details[1] == "out/two.safetensors: not there"


@pytest.mark.parametrize(
    "name", ["../a.safetensors", "/etc/passwd", "out/../../x", "a\0b", ".", "", "out/link"]
)
def test_a_subject_outside_the_folder_is_refused_and_not_read(name: str, kitchen: Bench) -> None:
    made = attested(built(kitchen))
    (kitchen.folder / "out/link").symlink_to("/etc/hostname")
    made["subject"][0]["name"] = name
    with pytest.raises(InputError) as caught:
        verify_attestation(written(kitchen, made))
    assert caught.value.code == "bad-subject"


_TEXTS = [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"{}", b'{"payload": 1}', b"null"]


@pytest.mark.parametrize("text", _TEXTS, ids=range(len(_TEXTS)))
def test_what_is_no_attestation_is_an_error_by_name(text: bytes, bench: Bench) -> None:
    path = bench.folder / "x.json"
    path.write_bytes(text)
    with pytest.raises(LorapipeError) as caught:
        verify_attestation(path)
    assert caught.value.exit_status == 4
    assert caught.value.hint
