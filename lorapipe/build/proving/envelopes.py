"""Signed statements: DSSE envelopes, by keys of the user's own.

*Source*: secure-systems-lab/dsse protocol.md and envelope.md, version 1.0. The protocol leaves
signatures to those who use it; as securesystemslib and cosign do, ECDSA's are DER, over SHA-256 on
P-256, SHA-384 on P-384 and SHA-512 on P-521, and a key id is the sha256 of the public key's
SubjectPublicKeyInfo.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorapipe.errors import CheckFailed, InputError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
    PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

__all__ = ["PAYLOAD_TYPE", "is_envelope", "pae", "payload_of", "private_key", "public_key", "sign", "verify"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"

_KEY_LIMIT = 1 << 16
_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
_SORTS = "a key is Ed25519, or ECDSA on P-256, P-384 or P-521, in PEM"


def pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and payload, each with its length in bytes.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, key: PrivateKey) -> bytes:
    """The envelope of an in-toto statement: the same bytes each time, where the key's library can."""
    signature = {"keyid": _key_id(key.public_key()), "sig": _text(_signed(pae(PAYLOAD_TYPE, payload), key))}
    envelope = {"payload": _text(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]}
    return (json.dumps(envelope, indent=2) + "\n").encode()


def is_envelope(found: Mapping[str, object]) -> bool:
    """Whether a JSON object means to be an envelope rather than a bare statement."""
    return "payload" in found or "signatures" in found


def payload_of(envelope: Mapping[str, Any], where: str) -> bytes:
    """The statement's bytes; nothing is verified. Raises :class:`InputError` ``envelope-malformed``."""
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise _malformed(f"is not of the type {PAYLOAD_TYPE}", where)
    return _bytes(envelope.get("payload"), where)


def verify(envelope: Mapping[str, Any], key: PublicKey, where: str) -> bytes:
    """The statement's bytes, of which one signature is by ``key``.

    Raises :class:`~lorapipe.errors.InputError` ``envelope-malformed`` and
    :class:`~lorapipe.errors.CheckFailed` ``bad-signature``.
    """
    payload = payload_of(envelope, where)
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or not all(isinstance(each, dict) for each in signatures):
        raise _malformed("has no list of signatures", where)
    # Key ids are hints that nobody signed: every signature is tried.
    for each in signatures:
        if _is_signature(_bytes(each.get("sig"), where), pae(PAYLOAD_TYPE, payload), key):
            return payload
    raise CheckFailed(
        "bad-signature",
        "it was not signed by this key, or was changed since",
        hint="ask its author which key it was signed by",
        where=where,
    )


def private_key(path: Path, password: str | None = None) -> PrivateKey:
    """The key of a PEM file; ``password`` opens one that is encrypted.

    Raises :class:`~lorapipe.errors.InputError`: ``key-unreadable``, ``bad-key``; and
    :class:`~lorapipe.errors.UsageError`: ``key-encrypted``, ``extra-missing``.
    """
    serialization = _library()
    from cryptography.exceptions import UnsupportedAlgorithm

    data = _read(path)
    try:
        key = serialization.load_pem_private_key(data, password.encode() if password else None)
    except TypeError as error:  # encrypted and no password, or the other way round
        raise UsageError(
            "key-encrypted",
            f"'{path.name}' {'is encrypted' if not password else 'is not encrypted'}",
            hint="LORAPIPE_KEY_PASSWORD in the environment is its password, if it has one",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key(path, "is no private key, or its password is another") from error
    known: PrivateKey = _known(key, path)
    return known


def public_key(path: Path) -> PublicKey:
    """The public key of a PEM file. Raises as :func:`private_key` does."""
    serialization = _library()
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = serialization.load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad_key(path, "is no public key") from error
    known: PublicKey = _known(key, path)
    return known


def _library() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise UsageError(
            "extra-missing",
            "signatures need the cryptography library",
            hint="pip install 'lorapipe[attest]'",
        ) from error
    return serialization


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_KEY_LIMIT)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError("key-unreadable", f"the key cannot be read: {reason}", where=str(path)) from error


def _known(key: Any, path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(key, (ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey)):
        return key
    ecdsa = isinstance(key, (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey))
    if not ecdsa or key.curve.name not in _HASHES:
        raise _bad_key(path, "is a key of another sort")
    return key


def _signed(message: bytes, key: PrivateKey) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(message)
    algorithm = _hash(key.curve.name)
    try:
        return key.sign(message, ec.ECDSA(algorithm, deterministic_signing=True))
    except UnsupportedAlgorithm:  # by an OpenSSL before 3.2: as good, and different each time
        return key.sign(message, ec.ECDSA(algorithm))


def _is_signature(signature: bytes, message: bytes, key: PublicKey) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(_hash(key.curve.name)))
    except InvalidSignature:
        return False
    return True


def _hash(curve: str) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    algorithm: HashAlgorithm = getattr(hashes, _HASHES[curve])()
    return algorithm


def _key_id(key: PublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: object, where: str) -> bytes:
    """Base64 of either alphabet, as a verifier has to take it."""
    if isinstance(text, str):
        try:
            return base64.b64decode(text.replace("-", "+").replace("_", "/").encode(), validate=True)
        except (binascii.Error, ValueError):
            pass
    raise _malformed("holds what is not base64", where)


def _malformed(what: str, where: str) -> InputError:
    return InputError("envelope-malformed", what, hint="it is no DSSE envelope, or damaged", where=where)


def _bad_key(path: Path, what: str) -> InputError:
    return InputError("bad-key", what, hint=_SORTS, where=str(path))
