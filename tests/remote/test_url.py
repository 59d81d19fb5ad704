"""URLs as values: one spelling each, walked like paths, and nothing in them that a lock must not hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.errors import RecipeError
from lorapipe.remote.url import Url, is_url, parse_url

SOUND = {
    "s3://bucket/a/b.safetensors": "s3://bucket/a/b.safetensors",
    "S3://bucket/Key with spaces%20.bin": "s3://bucket/Key with spaces%20.bin",
    "s3://bucket": "s3://bucket/",
    "gs://my-bucket/m/": "gs://my-bucket/m/",
    "hf://org/repo/f.bin": "hf://org/repo/f.bin",
    "hf://org/repo@main/sub/f.bin": "hf://org/repo@main/sub/f.bin",
    "hf://org/repo@refs/pr/7/sub/f.bin": "hf://org/repo@refs%2Fpr%2F7/sub/f.bin",
    "hf://org/repo@refs%2Fpr%2F7/sub/f.bin": "hf://org/repo@refs%2Fpr%2F7/sub/f.bin",
    "hf://datasets/org/data/f.bin": "hf://datasets/org/data/f.bin",
    "hf://org/repo/a@b.bin": "hf://org/repo/a@b.bin",
    "https://Example.ORG:443/A/b c.bin": "https://example.org/A/b%20c.bin",
    "https://example.org:8443/x?type=Model&format=SafeTensor": "https://example.org:8443/x?type=Model&format=SafeTensor",
    "http://127.0.0.1:80/x": "http://127.0.0.1/x",
    "https://[::1]:444/x": "https://[::1]:444/x",
}


@pytest.mark.parametrize("text", SOUND)
def test_a_url_has_one_spelling(text: str) -> None:
    url = parse_url(text)
    assert str(url) == url.as_posix() == SOUND[text]
    assert parse_url(str(url)) == url


REFUSED = {
    "ftp://host/x": "unknown-scheme",
    "file:///etc/passwd": "unknown-scheme",
    "s3a://bucket/x": "unknown-scheme",
    "https://user:password@host/x": "url-with-secret",
    "https://token@host/x": "url-with-secret",
    "s3://key:secret@bucket/x": "url-with-secret",
    "https://host/x?token=abc": "url-with-secret",
    "https://host/x?a=1&X-Amz-Signature=abc": "url-with-secret",
    "https://host/x?x-goog-signature=abc": "url-with-secret",
    "https://host/x?api_key=": "url-with-secret",
    "https://host/x#part": "bad-url",
    "https://host/../x": "bad-url",
    "https://host/a/%2e%2e/x": "bad-url",
    "https://host/a\\b": "bad-url",
    "https:///x": "bad-url",
    "https://ho st/x": "bad-url",
    "https://host/\nx": "bad-url",
    "https://host/\x1b[31mx": "bad-url",
    "https://host/\u202ex": "bad-url",
    "https://host/" + "x" * 3000: "bad-url",
    "s3:///x": "bad-url",
    "s3://b/x": "bad-url",
    "s3://bucket//x": "bad-url",
    "s3://bucket/../x": "bad-url",
    "s3://bucket/x?versionId=1": "bad-url",
    "hf://org": "bad-url",
    "hf://org/": "bad-url",
    "hf://org/repo@/x": "bad-url",
    "hf://org/repo@../x": "bad-url",
    "hf://o@rg/repo/x": "bad-url",
    "hf://org/../x": "bad-url",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_url_to_load_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_url(text)
    assert caught.value.code == REFUSED[text]
    assert caught.value.hint
    assert "password" not in caught.value.message.replace("user", "")
    assert "secret" not in caught.value.message


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_an_error(text: str) -> None:
    for scheme in ("s3://", "hf://", "https://", ""):
        try:
            url = parse_url(scheme + text)
        except RecipeError:
            continue
        assert parse_url(str(url)) == url
        assert "@" not in url.root or url.scheme == "hf"


def test_a_path_is_no_url() -> None:
    assert not any(map(is_url, ("a.safetensors", "C:/x", "c://x", "/a/b", "a:b", "")))
    assert is_url("s3://x")
    assert is_url("magnet://x")


def test_a_url_is_walked_like_a_path() -> None:
    url = parse_url("s3://bucket/a/b/model.fp16.safetensors")
    assert (url.name, url.stem, url.suffix) == ("model.fp16.safetensors", "model.fp16", ".safetensors")
    assert [str(above) for above in url.parents] == ["s3://bucket/a/b/", "s3://bucket/a/", "s3://bucket/"]
    assert url.parent / "x y.json" == parse_url("s3://bucket/a/b/x y.json")
    assert (url.is_folder, url.parent.is_folder, parse_url("hf://org/repo").is_folder) == (False, True, True)
    assert parse_url("s3://bucket/m").as_folder() == parse_url("s3://bucket/m/")
    assert parse_url("hf://org/repo@v1").name == "repo@v1"


def test_names_on_the_web_are_quoted_and_shown_unquoted() -> None:
    url = parse_url("https://host/m/") / "a b#1?.bin"
    assert str(url) == "https://host/m/a%20b%231%3F.bin"
    assert url.name == "a b#1?.bin"
    assert url.relative_to(parse_url("https://host/m/")).as_posix() == "a b#1?.bin"


def test_what_lies_in_what() -> None:
    folder, inside = parse_url("s3://bucket/a"), parse_url("s3://bucket/a/b")
    assert inside.is_relative_to(folder)
    assert folder.is_relative_to(folder)
    assert not parse_url("s3://bucket/ab").is_relative_to(folder)
    assert not parse_url("gs://bucket/a/b").is_relative_to(folder)
    assert not inside.is_relative_to(Path("/a"))
    assert inside.relative_to(folder).as_posix() == "b"
    with pytest.raises(ValueError, match="not in"):
        folder.relative_to(inside)


def test_urls_are_sorted_and_are_keys() -> None:
    one, two = parse_url("https://a/x"), parse_url("s3://bucket/x")
    assert sorted([two, one]) == [one, two]
    assert {one: 1}[Url("https", "a", "x")] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8000/x", True),
        ("http://localhost/x", True),
        ("http://[::1]/x", True),
        ("http://10.0.0.1/x", False),
        ("https://localhost.example.org/x", False),
        ("s3://localhost/x", False),
    ],
)
def test_what_is_this_machine(text: str, expected: bool) -> None:
    assert parse_url(text).loopback is expected
