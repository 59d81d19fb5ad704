"""Folders elsewhere: shards, pipelines and adapters are what they are on a disk; large ones stay there."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from lorapipe.build.run import Options, build, plan
from lorapipe.errors import LorapipeError, ManyErrors
from lorapipe.formats.files import open_tensors
from lorapipe.formats.folders.survey import survey
from lorapipe.plan.files import Certainty
from lorapipe.recipe import load_recipe
from lorapipe.remote.url import parse_url
from lorapipe.store.lockfile import lock_path, read

from ..bench import Bench
from ..formats.model_folders import diffusers_folder, hf_folder, hf_tensors, peft_folder
from ..formats.sources import seeded
from .servers import Bucket, Faults, Files, Hub, Zeros

UNET = {"down_blocks.0.attentions.0.proj_in.weight": seeded(4, 4, seed=1)}
PEFT = {
    "base_model.model.q_proj.lora_A.weight": seeded(2, 6, seed=1),
    "base_model.model.q_proj.lora_B.weight": seeded(4, 2, seed=2),
}
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(params=["s3", "hub"])
def upload(request: pytest.FixtureRequest) -> Any:
    """Lays a folder on a server that lists; gives its URL."""
    server = request.getfixturevalue(request.param)

    def s3(folder: Path) -> str:
        for name, data in contents(folder).items():
            server.put(f"{folder.name}/{name}", data)
        return str(server.url(f"{folder.name}/"))

    def hub(folder: Path) -> str:
        server.commit("org/repo", {f"{folder.name}/{name}": data for name, data in contents(folder).items()})
        return f"hf://org/repo/{folder.name}/"

    return s3 if isinstance(server, Bucket) else hub


FOLDERS = {
    "sharded": lambda path: hf_folder(path, count=3),
    "single": lambda path: hf_folder(path, count=1),
    "pipeline": lambda path: diffusers_folder(path, {"unet": UNET, "vae": UNET}),
    "peft": lambda path: peft_folder(path, PEFT, CONFIG),
}


@pytest.mark.parametrize("sort", FOLDERS)
def test_a_folder_is_surveyed_and_read_as_on_a_disk(tmp_path: Path, upload: Any, sort: str) -> None:
    folder = FOLDERS[sort](tmp_path / "model")
    (folder / ".hidden").write_text("no part of it")
    (folder / "old").mkdir()
    (folder / "old" / "pytorch_model.bin").write_bytes(b"weights of another time")
    url = parse_url(upload(folder))
    here, there = survey(folder), survey(url)
    assert (there.names, there.weights, there.carried) == (here.names, here.weights, here.carried)
    assert (there.size, there.left_out, there.config) == (here.size, here.left_out, here.config)
    assert there.states.keys() == set(here.names)
    with open_tensors(folder) as local, open_tensors(url) as remote:
        assert remote.tensors == local.tensors
        assert remote.metadata == local.metadata
        for name in local.tensors:
            assert remote.read(name) == local.read(name)


def test_an_index_on_a_web_server_stands_for_its_shards(tmp_path: Path, web: Files) -> None:
    folder = hf_folder(tmp_path / "model", count=4)
    for name, data in contents(folder).items():
        web.put(f"m/{name}", data)
    url = parse_url(f"{web.address}/m/model.safetensors.index.json")
    with open_tensors(url) as remote, open_tensors(folder) as local:
        assert remote.tensors == local.tensors
        assert all(remote.read(name) == local.read(name) for name in local.tensors)
    del web.files["m/model-00002-of-00004.safetensors"]
    with pytest.raises(LorapipeError, match="1 of 4 files that the index names are missing"):
        survey(url)


def test_a_web_servers_folder_cannot_be_looked_into(web: Files) -> None:
    with pytest.raises(LorapipeError) as caught:
        survey(parse_url(f"{web.address}/m/"))
    assert caught.value.code == "folder-not-listed"


def test_a_folder_that_is_not_there_or_holds_nothing_is_said_so(s3: Bucket, hub: Hub) -> None:
    s3.put("docs/readme.md", b"nothing else")
    hub.commit("org/repo", {"a.txt": b"x"})
    cases = {
        s3.url("none/"): "remote-missing",
        "s3://no-such-bucket-here/m/": "remote-missing",
        s3.url("docs/"): "folder-without-weights",
        "hf://org/repo/none/": "remote-missing",
        "hf://org/none/": "remote-missing",
        "hf://org/repo/": "folder-without-weights",
    }
    for url, code in cases.items():
        with pytest.raises(LorapipeError) as caught:
            survey(parse_url(url))
        assert caught.value.code == code, url


def test_a_checkpoint_of_shards_is_built_to_the_bytes_of_one_here(bench: Bench, upload: Any) -> None:
    folder = hf_folder(bench.folder / "model", count=3)
    (folder / "note.txt").write_text("goes along")
    bench.recipe("base: {load: model/}\nout: {save: base, to: here/}")
    build(load_recipe(bench.folder / "r.yaml"), Options(workers=2))
    bench.recipe(f"base: {{load: {upload(folder)}}}\nout: {{save: base, to: there/}}")
    build(load_recipe(bench.folder / "r.yaml"), Options(workers=2))
    assert contents(bench.folder / "there") == contents(bench.folder / "here")


def test_the_hub_knows_the_digests_of_a_folder_and_nothing_is_read_for_them(bench: Bench, hub: Hub) -> None:
    hub.large = 1
    folder = hf_folder(bench.folder / "model", count=3)
    hub.commit("org/repo", contents(folder))
    bench.recipe("base: {load: hf://org/repo}\nout: {save: base, to: o/}")
    source = plan(load_recipe(bench.folder / "r.yaml"), Options()).steps["base"].source
    assert source is not None
    assert source.certainty is Certainty.STATED
    lines = sorted(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents(folder).items())
    lines.sort(key=lambda line: line[66:])
    assert source.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_lock_has_the_commit_of_a_folder_and_a_held_build_reads_there(bench: Bench, hub: Hub) -> None:
    first = contents(hf_folder(bench.folder / "model", count=2))
    commit = hub.commit("org/repo", first)
    bench.recipe("base: {load: hf://org/repo/}\nout: {save: base, to: o/}")
    build(load_recipe(bench.folder / "r.yaml"), Options(workers=1))
    lock = read(lock_path(bench.folder / "r.yaml"))
    assert lock is not None
    assert (lock.inputs["base"].path, lock.inputs["base"].revision) == (f"hf://org/repo@{commit}/", commit)
    before = contents(bench.folder / "o")
    hub.commit("org/repo", contents(hf_folder(bench.folder / "model2", hf_tensors(6), count=2)))
    build(
        load_recipe(bench.folder / "r.yaml"),
        Options(workers=1, locked=True, output_root=bench.folder / "again"),
    )
    assert contents(bench.folder / "again" / "o") == before


GIB = 1 << 30


def sharded(server: Files, count: int, size: int, tensors: int) -> str:
    """A checkpoint of ``count`` shards of ``size`` bytes: true headers and indices, zeros for weights."""
    places = {}
    for number in range(1, count + 1):
        name = f"model-{number:05d}-of-{count:05d}.safetensors"
        each = size // tensors // 2
        header = {}
        for i in range(tensors):
            tensor = f"model.layers.{number}.block{i}.mlp.down_proj.weight"
            span = [i * 2 * each, (i + 1) * 2 * each]
            header[tensor] = {"dtype": "BF16", "shape": [each], "data_offsets": span}
            places[tensor] = name
        raw = json.dumps(header).encode()
        raw += b" " * (-len(raw) % 8)
        head = len(raw).to_bytes(8, "little") + raw
        server.put(f"big/{name}", Zeros(head, len(head) + tensors * 2 * each))
    text = json.dumps({"metadata": {"total_size": count * size}, "weight_map": places}).encode()
    return server.put("big/model.safetensors.index.json", text)


def test_a_plan_of_40_gb_reads_a_few_hundred_kb_and_does_not_wait_for_one_shard_after_the_other(
    bench: Bench, web: Files
) -> None:
    url = sharded(web, count=10, size=4 * GIB, tensors=100)
    bench.recipe(f"base: {{load: {url}}}\nout: {{save: base, to: o/}}")
    recipe = load_recipe(bench.folder / "r.yaml")
    web.faults = Faults(latency=0.05)
    begun = time.monotonic()
    made = plan(recipe, Options())
    took = time.monotonic() - begun
    source = made.steps["base"].source
    assert source is not None
    assert source.size > 40 * GIB
    assert web.sent < 600_000
    assert len(web.asked) <= 2 * 10 + 6
    assert took < 2


def test_a_plan_of_a_repository_of_40_gb_asks_the_hub_once_for_all_that_lies_in_it(
    bench: Bench, hub: Hub
) -> None:
    server = Files()
    try:
        sharded(server, count=10, size=4 * GIB, tensors=100)
    finally:
        server.close()
    hub.commit("org/repo", {name.removeprefix("big/"): content for name, content in server.files.items()})
    bench.recipe("base: {load: hf://org/repo/}\nout: {save: base, to: o/}")
    recipe = load_recipe(bench.folder / "r.yaml")
    hub.faults = hub.cdn.faults = Faults(latency=0.05)
    begun = time.monotonic()
    made = plan(recipe, Options())
    took = time.monotonic() - begun
    source = made.steps["base"].source
    assert source is not None
    assert (source.certainty, source.size > 40 * GIB) == (Certainty.STATED, True)
    assert hub.sent + hub.cdn.sent < 600_000
    assert took < 2


def test_errors_of_a_folder_are_told_at_the_step(bench: Bench, s3: Bucket) -> None:
    bench.recipe(f"base: {{load: {s3.url('none/')}}}\nout: {{save: base, to: o/}}")
    with pytest.raises(ManyErrors) as caught:
        plan(load_recipe(bench.folder / "r.yaml"), Options())
    (error,) = caught.value.errors
    assert (error.code, error.step) == ("remote-missing", "base")
