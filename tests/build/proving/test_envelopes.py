"""DSSE envelopes: the specification's own vector, signatures of every sort of key, forgeries."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorapipe.build.proving import envelopes
from lorapipe.build.proving.envelopes import (
    PAYLOAD_TYPE,
    pae,
    payload_of,
    private_key,
    public_key,
    sign,
    verify,
)
from lorapipe.errors import CheckFailed, InputError, UsageError

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils

_CURVES = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}
_PAYLOAD = b'{"_type": "x"}'


def make(sort: str) -> Any:
    if sort == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if sort == "k256":
        return ec.generate_private_key(ec.SECP256K1())
    return (
        ed25519.Ed25519PrivateKey.generate()
        if sort == "ed25519"
        else ec.generate_private_key(_CURVES[sort]())
    )


def write(folder: Path, key: Any, password: str | None = None) -> tuple[Path, Path]:
    """The private and the public PEM of a key."""
    secret, public = folder / "key.pem", folder / "pub.pem"
    encryption = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password.encode())
    )
    pem = serialization.Encoding.PEM
    secret.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return secret, public


def test_what_is_signed_is_the_specifications_test_vector() -> None:
    """protocol.md, "Test Vectors": the encoding, and a signature over it by the key given there."""
    message = pae("http://example.com/HelloWorld", b"hello world")
    assert message == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"

    x = 46950820868899156662930047687818585632848591499744589407958293238635476079160
    y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
    signature = base64.b64decode(
        "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="
    )
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))


def test_lengths_are_of_bytes_not_of_characters() -> None:
    assert pae("é", "日本".encode()) == "DSSEv1 2 é 6 日本".encode()
    assert pae("", b"") == b"DSSEv1 0  0 "


@pytest.mark.parametrize("sort", ["ed25519", *_CURVES])
def test_an_envelope_is_verified_by_the_public_key(sort: str, tmp_path: Path) -> None:
    key = make(sort)
    secret, public = write(tmp_path, key)
    envelope = json.loads(sign(_PAYLOAD, private_key(secret)))

    assert envelope.keys() == {"payload", "payloadType", "signatures"}
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(envelope["payload"]) == _PAYLOAD
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert envelope["signatures"][0]["keyid"] == hashlib.sha256(spki).hexdigest()
    assert verify(envelope, public_key(public), "x") == _PAYLOAD


@pytest.mark.parametrize("sort", ["ed25519", "p256"])
def test_a_signature_is_the_same_each_time(sort: str, tmp_path: Path) -> None:
    secret, _ = write(tmp_path, make(sort))
    assert sign(_PAYLOAD, private_key(secret)) == sign(_PAYLOAD, private_key(secret))


def test_the_librarys_own_signature_is_accepted_in_either_base64(tmp_path: Path) -> None:
    key = make("p384")
    _, public = write(tmp_path, key)
    for number in range(8):  # some of them hold + or /
        payload = json.dumps({"n": number, "t": "ÿ?>"}, ensure_ascii=False).encode()
        signature = key.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA384()))
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            envelope = {
                "payload": encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": "AAAA"}, {"sig": encode(signature).decode()}],
            }
            assert verify(envelope, public_key(public), "x") == payload


Forge = Callable[[dict[str, Any]], object]


def _flip(envelope: dict[str, Any]) -> None:
    signature = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    signature[-1] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()


_FORGED: list[Forge] = [
    lambda e: e.update(payload=base64.b64encode(b'{"_type": "y"}').decode()),
    _flip,
    lambda e: e.update(signatures=[]),
    lambda e: e["signatures"][0].update(sig=""),
]


@pytest.mark.parametrize("forge", _FORGED, ids=range(len(_FORGED)))
@pytest.mark.parametrize("sort", ["ed25519", "p256"])
def test_a_forgery_is_found(sort: str, forge: Forge, tmp_path: Path) -> None:
    secret, public = write(tmp_path, make(sort))
    envelope = json.loads(sign(_PAYLOAD, private_key(secret)))
    forge(envelope)
    with pytest.raises(CheckFailed) as caught:
        verify(envelope, public_key(public), "x")
    assert str(caught.value) == (
        "x: error: it was not signed by this key, or was changed since - ask its author which key it was"
        " signed by"
    )


def test_another_key_does_not_verify_whatever_the_key_id_says(tmp_path: Path) -> None:
    secret, _ = write(tmp_path, make("ed25519"))
    envelope = json.loads(sign(_PAYLOAD, private_key(secret)))
    _, other = write(tmp_path, make("ed25519"))
    with pytest.raises(CheckFailed):
        verify(envelope, public_key(other), "x")
    _, sort = write(tmp_path, make("p256"))
    with pytest.raises(CheckFailed):
        verify(envelope, public_key(sort), "x")


_MALFORMED: list[dict[str, Any]] = [
    {},
    {"payload": "AAAA", "payloadType": "application/json", "signatures": []},
    {"payload": "AAAA", "signatures": []},
    {"payload": None, "payloadType": PAYLOAD_TYPE, "signatures": []},
    {"payload": "?", "payloadType": PAYLOAD_TYPE, "signatures": []},
    {"payload": "é", "payloadType": PAYLOAD_TYPE, "signatures": []},
    {"payload": "AAAA", "payloadType": PAYLOAD_TYPE},
    {"payload": "AAAA", "payloadType": PAYLOAD_TYPE, "signatures": {}},
    {"payload": "AAAA", "payloadType": PAYLOAD_TYPE, "signatures": ["x"]},
    {"payload": "AAAA", "payloadType": PAYLOAD_TYPE, "signatures": [{}]},
    {"payload": "AAAA", "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": "A A"}]},
]


@pytest.mark.parametrize("envelope", _MALFORMED, ids=range(len(_MALFORMED)))
def test_what_is_no_envelope_is_refused_by_name(envelope: dict[str, Any], tmp_path: Path) -> None:
    _, public = write(tmp_path, make("ed25519"))
    with pytest.raises(InputError) as caught:
        verify(envelope, public_key(public), "x")
    assert caught.value.code == "envelope-malformed"
    if envelope.get("payloadType") == "application/json":
        with pytest.raises(InputError):
            payload_of(envelope, "x")


@pytest.mark.parametrize("sort", ["rsa", "k256"])
def test_a_key_of_another_sort_is_refused(sort: str, tmp_path: Path) -> None:
    secret, public = write(tmp_path, make(sort))
    for read, path in ((private_key, secret), (public_key, public)):
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path}: error: is a key of another sort - a key is Ed25519, or ECDSA on P-256, P-384 or"
            " P-521, in PEM"
        )


def test_keys_that_are_mixed_up_or_missing_are_refused(tmp_path: Path) -> None:
    secret, public = write(tmp_path, make("ed25519"))
    (tmp_path / "text").write_text("hello")
    for read, path, code in (
        (private_key, public, "bad-key"),
        (public_key, secret, "bad-key"),
        (private_key, tmp_path / "text", "bad-key"),
        (public_key, tmp_path / "text", "bad-key"),
        (private_key, tmp_path / "none", "key-unreadable"),
        (public_key, tmp_path, "key-unreadable"),
    ):
        with pytest.raises(InputError) as caught:
            read(path)
        assert caught.value.code == code


def test_an_encrypted_key_takes_its_password(tmp_path: Path) -> None:
    secret, public = write(tmp_path, make("p256"), "open sesame")
    envelope = json.loads(sign(_PAYLOAD, private_key(secret, "open sesame")))
    assert verify(envelope, public_key(public), "x") == _PAYLOAD
    with pytest.raises(UsageError) as caught:
        private_key(secret)
    assert caught.value.code == "key-encrypted"
    with pytest.raises(InputError) as wrong:
        private_key(secret, "other")
    assert wrong.value.code == "bad-key"
    plain, _ = write(tmp_path, make("p256"))
    with pytest.raises(UsageError):
        private_key(plain, "open sesame")


def test_without_the_library_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, _ = write(tmp_path, make("ed25519"))
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(UsageError) as caught:
        envelopes.private_key(secret)
    assert str(caught.value) == (
        "error: signatures need the cryptography library - pip install 'lorapipe[attest]'"
    )
