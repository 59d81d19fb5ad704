"""Recipes whose inputs lie elsewhere: planned from headers, built to the bytes of a build from files here."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorapipe.build.run import Options, build, plan
from lorapipe.errors import InputError, LockError, LorapipeError, ManyErrors
from lorapipe.plan.files import Certainty
from lorapipe.plan.plan import Plan, Status
from lorapipe.recipe import load_recipe
from lorapipe.store.lockfile import LockFile, lock_path, read
from lorapipe.store.memo import FINE_NS

from ..bench import Bench
from .servers import Bucket, Faults, Files, Hub

Put = Callable[[Path], str]

MERGE = """
    base: {{load: {base}}}
    a: {{load: {a}}}
    small: {{svd-resize: a, rank: 2}}
    merged: {{merge-into-checkpoint: base, loras: {{small: 0.7}}}}
    out: {{save: merged, to: {to}.safetensors}}
"""


class Elsewhere:
    """A server, and how a file is laid on it."""

    def __init__(self, server: Any, put: Put, bodies: Callable[[], int]) -> None:
        self.server, self.put, self.bodies = server, put, bodies


@pytest.fixture(params=["web", "s3", "hub"])
def elsewhere(request: pytest.FixtureRequest) -> Elsewhere:
    server = request.getfixturevalue(request.param)
    if isinstance(server, Files) and not isinstance(server, Hub):
        return Elsewhere(server, lambda path: server.put(path.name, path.read_bytes()), lambda: server.sent)
    if isinstance(server, Bucket):
        return Elsewhere(server, lambda path: server.put(path.name, path.read_bytes()), lambda: server.sent)
    server.large = 500

    def put(path: Path) -> str:
        server.commit("org/repo", {path.name: path.read_bytes()})
        return f"hf://org/repo/{path.name}"

    return Elsewhere(server, put, lambda: server.sent + server.cdn.sent)


def made(bench: Bench, **options: Any) -> Plan:
    return plan(load_recipe(bench.folder / "r.yaml"), Options(**options))


def run(bench: Bench, **options: Any) -> dict[str, str]:
    built = build(load_recipe(bench.folder / "r.yaml"), Options(workers=2, **options))
    return {
        output.step: hashlib.sha256(Path(str(output.path)).read_bytes()).hexdigest()
        for output in built.outputs
    }


def lock(bench: Bench) -> LockFile:
    found = read(lock_path(bench.folder / "r.yaml"))
    assert found is not None
    return found


def refused(ask: Callable[[], object]) -> LorapipeError:
    with pytest.raises(LorapipeError) as caught:
        ask()
    error = caught.value
    return error.errors[0] if isinstance(error, ManyErrors) else error


def test_the_bytes_are_those_of_a_build_from_files_here(bench: Bench, elsewhere: Elsewhere) -> None:
    base, a = bench.checkpoint(), bench.lora("a")
    bench.recipe(MERGE.format(base=base.name, a=a.name, to="here"))
    here = run(bench)
    bench.recipe(MERGE.format(base=elsewhere.put(base), a=elsewhere.put(a), to="there"))
    base.unlink()
    a.unlink()
    assert run(bench) == here


def test_a_plan_reads_headers_and_says_what_is_not_hashed(bench: Bench, web: Files) -> None:
    bench.recipe(
        MERGE.format(
            base=web.put("b.safetensors", bench.checkpoint().read_bytes()), a="a.safetensors", to="o"
        )
    )
    bench.lora("a")
    steps = made(bench).steps
    source = steps["base"].source
    assert source is not None
    assert (source.sha256, source.certainty) == (None, Certainty.UNKNOWN)
    assert steps["out"].status is Status.UNDECIDED


def test_what_the_server_keeps_the_sha256_of_is_not_read_for_it(bench: Bench, s3: Bucket, hub: Hub) -> None:
    base, a = bench.checkpoint(), bench.lora("a")
    hub.large = 500
    hub.commit("org/repo", {"b.safetensors": base.read_bytes()})
    url = s3.put("a.safetensors", a.read_bytes(), ChecksumAlgorithm="SHA256")
    bench.recipe(MERGE.format(base="hf://org/repo/b.safetensors", a=url, to="o"))
    found = made(bench).steps
    for step, path in (("base", base), ("a", a)):
        source = found[step].source
        assert source is not None
        assert source.certainty is Certainty.STATED
        assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["out"].status is Status.RUN


def test_what_was_hashed_once_is_known_while_its_server_says_the_same(
    bench: Bench, web: Files, s3: Bucket
) -> None:
    a = bench.lora("a")
    for put in (web.put, s3.put):
        url = put("a.safetensors", a.read_bytes())
        bench.recipe(
            f"a: {{load: {url}}}\nsmall: {{svd-resize: a, rank: 2}}\nout: {{save: small, to: o.safetensors}}"
        )
        run(bench)
        source = made(bench).steps["a"].source
        assert source is not None
        assert source.certainty is Certainty.CHECKED
        put("a.safetensors", bench.lora("b", seed=3).read_bytes())
        source = made(bench).steps["a"].source
        assert source is not None
        assert source.sha256 is None, "another ETag is another file"


def test_a_wrong_pin_is_found_before_work(bench: Bench, elsewhere: Elsewhere) -> None:
    url = elsewhere.put(bench.lora("a"))
    bench.recipe(f"a: {{load: {url}, sha256: {'0a' * 32}}}\nout: {{save: a, to: o.safetensors}}")
    error = refused(lambda: run(bench))
    assert (error.code, error.exit_status) == ("sha256-mismatch", 4)


def test_a_pinned_file_of_the_model_folders_is_taken_instead(
    bench: Bench, web: Files, tmp_path: Path
) -> None:
    a = bench.lora("a")
    url = web.put("a.safetensors", a.read_bytes())
    digest = hashlib.sha256(a.read_bytes()).hexdigest()
    bench.recipe("a: {load: a.safetensors}\nout: {save: a, to: o.safetensors}")
    time.sleep(2 * FINE_NS / 1e9)  # younger files are not remembered
    run(bench)
    bench.recipe(f"a: {{load: {url}, sha256: {digest}}}\nout: {{save: a, to: o.safetensors}}")
    web.forget()
    assert made(bench, models=(bench.folder,)).steps["a"].files["load"] == a
    assert web.asked == []


def test_the_lock_has_url_etag_and_commit(bench: Bench, web: Files, hub: Hub) -> None:
    a, b = bench.lora("a"), bench.lora("b", seed=2)
    commit = hub.commit("org/repo", {"b.safetensors": b.read_bytes()})
    bench.recipe(
        f"""
        a: {{load: {web.put("a.safetensors", a.read_bytes())}}}
        b: {{load: hf://org/repo/b.safetensors}}
        both: {{concat: {{a: 1.0, b: 0.5}}}}
        out: {{save: both, to: o.safetensors}}
        """
    )
    run(bench)
    locked = lock(bench).inputs
    assert locked["a"].path == f"{web.address}/a.safetensors"
    assert locked["a"].etag == f'"{hashlib.md5(a.read_bytes(), usedforsecurity=False).hexdigest()}"'
    assert locked["b"].path == f"hf://org/repo@{commit}/b.safetensors"
    assert locked["b"].revision == commit
    assert locked["b"].sha256 == hashlib.sha256(b.read_bytes()).hexdigest()


@pytest.mark.parametrize("how", ["locked", "frozen"])
def test_a_held_build_reads_the_commit_of_the_lock(bench: Bench, hub: Hub, how: str) -> None:
    first = bench.lora("a").read_bytes()
    hub.commit("org/repo", {"a.safetensors": first})
    bench.recipe("a: {load: hf://org/repo/a.safetensors}\nout: {save: a, to: o.safetensors}")
    before = run(bench)
    hub.commit("org/repo", {"a.safetensors": bench.lora("a", seed=5).read_bytes()})
    (bench.folder / "o.safetensors").unlink()
    assert run(bench, **{how: True}) == before
    assert run(bench, force=True) != before, "a free build takes what the revision means now"


def test_a_held_build_of_a_file_that_is_another_now_is_refused(bench: Bench, web: Files) -> None:
    url = web.put("a.safetensors", bench.lora("a").read_bytes())
    bench.recipe(f"a: {{load: {url}}}\nout: {{save: a, to: o.safetensors}}")
    run(bench)
    web.put("a.safetensors", bench.lora("a", seed=4).read_bytes())
    with pytest.raises(LockError, match="another build"):
        run(bench, locked=True)


def test_a_frozen_build_hashes_beside_the_work(
    bench: Bench, web: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = bench.lora("a").read_bytes()
    url = web.put("a.safetensors", a)
    bench.recipe(f"a: {{load: {url}}}\nout: {{save: a, to: o.safetensors}}")
    before = run(bench)
    monkeypatch.setenv("LORAPIPE_STORE", str(bench.folder / "another-store"))
    (bench.folder / "o.safetensors").unlink()
    assert run(bench, frozen=True) == before
    text = lock_path(bench.folder / "r.yaml").read_text()
    digest = hashlib.sha256(a).hexdigest()
    lock_path(bench.folder / "r.yaml").write_text(text.replace(digest, "0a" * 32))
    monkeypatch.setenv("LORAPIPE_STORE", str(bench.folder / "a-third-store"))
    (bench.folder / "o.safetensors").unlink()
    error = refused(lambda: run(bench, frozen=True))
    assert error.code in ("input-changed", "lock-drift"), error
    assert not (bench.folder / "o.safetensors").exists()


def test_a_file_that_is_changed_while_it_is_built_with_is_noticed(
    bench: Bench, web: Files, s3: Bucket
) -> None:
    """The server has another file from the first read on that comes after the hashing."""
    old, new = bench.lora("a").read_bytes(), bench.lora("b", seed=8).read_bytes()
    for server in (web, s3):
        name = f"{type(server).__name__}.safetensors"
        url = server.put(name, old)
        bench.recipe(
            f"a: {{load: {url}}}\nsmall: {{svd-resize: a, rank: 2}}\nout: {{save: small, to: {name}}}"
        )
        seen: list[str] = []

        def change(event: object, name: str = name, server: Any = server, seen: list[str] = seen) -> None:
            if type(event).__name__ == "StepStarted" and not seen:
                seen.append("now")
                server.put(name, new)

        with pytest.raises(LorapipeError) as caught:
            build(load_recipe(bench.folder / "r.yaml"), Options(workers=1), listen=change)
        assert (caught.value.code, caught.value.exit_status) == ("input-changed", 4)
        assert not (bench.folder / name).exists()


def test_a_server_that_fails_in_passing_costs_time_and_nothing_else(
    bench: Bench, elsewhere: Elsewhere
) -> None:
    base, a = bench.checkpoint(), bench.lora("a")
    bench.recipe(MERGE.format(base=base.name, a=a.name, to="here"))
    here = run(bench)
    bench.recipe(MERGE.format(base=elsewhere.put(base), a=elsewhere.put(a), to="there"))
    server = elsewhere.server.cdn if isinstance(elsewhere.server, Hub) else elsewhere.server
    server.faults = Faults(drop_after=2_000, times=6, only=lambda method, path: method == "GET")
    assert run(bench) == here


def test_every_error_of_a_url_is_told_at_its_place(bench: Bench, web: Files, s3: Bucket) -> None:
    """All at once, each with the line of its step."""
    bench.recipe(
        f"""
        a: {{load: {web.address}/no.safetensors}}
        b: {{load: {s3.url("no.safetensors")}}}
        c: {{load: ftp://example.org/x.safetensors}}
        d: {{load: https://me:secret@example.org/x.safetensors}}
        e: {{load: http://example.org/x.safetensors}}
        f: {{load: https://example.org/x.safetensors?token=abc}}
        """
    )
    with pytest.raises(ManyErrors) as caught:
        made(bench)
    codes = [error.code for error in caught.value.errors]
    assert codes == [
        "remote-missing",
        "remote-missing",
        "unknown-scheme",
        "url-with-secret",
        "http-without-pin",
        "url-with-secret",
    ]
    assert "secret@" not in caught.value.errors[3].message
    assert [str(error.where).rpartition(":")[0].rpartition(":")[2] for error in caught.value.errors] == list(
        "345678"
    )


def test_what_is_no_file_of_weights_is_said_so(bench: Bench, web: Files) -> None:
    cases = {
        "page.safetensors": (b"<!doctype html><html>sign in</html>", "input-html"),
        "short.safetensors": (bench.lora("a").read_bytes()[:100], "safetensors-header-beyond-file"),
        "cut.safetensors": (bench.lora("a").read_bytes()[:-7], "safetensors-"),
    }
    for name, (data, code) in cases.items():
        url = web.put(name, data)
        bench.recipe(f"a: {{load: {url}}}\nout: {{save: a, to: o.safetensors}}")
        error = refused(lambda: made(bench))
        assert error.code.startswith(code), error
        assert error.exit_status in (3, 4)


def test_validate_opens_no_connection(bench: Bench, web: Files, s3: Bucket) -> None:
    bench.recipe(f"a: {{load: {web.address}/no.safetensors}}\nout: {{save: a, to: o.safetensors}}")
    load_recipe(bench.folder / "r.yaml")
    assert web.asked == []


def test_an_input_error_is_an_input_error(bench: Bench, web: Files) -> None:
    url = web.put("a.safetensors", bench.lora("a").read_bytes())
    web.faults = Faults(status=403)
    bench.recipe(f"a: {{load: {url}}}\nout: {{save: a, to: o.safetensors}}")
    error = refused(lambda: made(bench))
    assert isinstance(error, InputError)
    assert error.code == "remote-forbidden"


def test_what_an_address_without_a_files_name_gives_is_told_by_its_bytes(bench: Bench, web: Files) -> None:
    import torch
    from safetensors.torch import load_file

    a = bench.lora("a")
    torch.save(load_file(a), bench.folder / "a.pt")
    for path in (a, bench.folder / "a.pt"):
        url = web.put("download/130072", path.read_bytes())
        load = f"{{load: '{url}?type=Model', family: sd1}}"
        bench.recipe(f"a: {load}\nout: {{save: a, to: {path.name}.safetensors}}")
        run(bench)
        there = load_file(bench.folder / f"{path.name}.safetensors")
        assert there.keys() == load_file(a).keys()


def test_a_folder_that_lacks_its_slash_is_hinted_at(bench: Bench, s3: Bucket) -> None:
    s3.put("model/model.safetensors", bench.lora("a").read_bytes())
    bench.recipe(f"a: {{load: {s3.url('model')}}}\nout: {{save: a, to: o.safetensors}}")
    error = refused(lambda: made(bench))
    assert (error.code, "slash" in str(error.hint)) == ("remote-missing", True)
