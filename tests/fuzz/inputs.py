"""What to feed the readers: sound inputs, grammars of nearly sound ones, and bytes changed here and there.

Each input comes from a ``random.Random`` alone, so that a number gives it again.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from random import Random

__all__ = ["MAKERS", "recipe", "safetensors"]

_WORDS = (
    "lorapipe name description params defaults steps matrix x-a load scale concat shuffle svd-resize"
    " merge-into-checkpoint extract-lora save check filter combine by rank seed to loras base sha256 dtype"
    " layout metadata provenance device compute unmatched dynamic sv-fro components unet acme.blur << a b c"
    " $(w) w as family mode include exclude r $(r)"
).split()
_SCALARS = [
    *"1 1.0 -0.5 1e-4 1e999 012 0x1F .inf .nan true no null ~ a b c x.safetensors out/o.safetensors".split(),
    *"../o.safetensors out/ o.pt keep fp16 peft auto cpu float64 $(w) $( $$(w) $(none) '1' !x *a &a".split(),
    *('"\\u202e"', '"\\e"', "&a 1", "2001-01-01", "aa" * 32, "9" * 50, "", "\u00e9", "\U0001f3a8"),
    *(
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "#",
        "|",
        ">",
        "%",
        "\t",
        "\n",
        "'",
        '"',
        "a: b",
        "# c",
        "\u202e",
        "\x07",
    ),
]
_SOUND = [
    """\
lorapipe: 1
params: {w: 0.5}
steps:
  a: {load: x.safetensors}
  b: {load: y.safetensors}
  c: {concat: {a: $(w), b: -1.0}}
  d: {svd-resize: c, rank: 4, dynamic: {sv-fro: 0.9}}
  o: {save: d, to: out/o.safetensors, dtype: fp16, metadata: {k: v}}
""",
    """\
lorapipe: 1
defaults: {device: auto, compute: float32}
steps:
  base:
    load: m/
    family: sd1
  a: {load: a.safetensors}
  m: {merge-into-checkpoint: base, loras: [a], unmatched: warn}
  e: {extract-lora: m, base: base, rank: 8}
  s: {shuffle: e, seed: 7}
  o: {save: s, to: o.pt}
""",
    """\
# a comment
lorapipe: 1
x-a: &a [1, two, {three: 3.0}]
x-b: *a
name: "n \\u00e9"
steps:
  a: {load: 'it''s.safetensors', as: lora}
  b: {scale: a, components: {unet: 1, te: 0.5}}
  o: {save: b, to: 'out dir/', layout: peft}
""",
    """\
lorapipe: 1
params: {w: 8}
matrix:
  r: [4, $(w), 16]
  f: [a, "b c", true]
  exclude: [{r: 4, f: a}]
  include: [{r: 1, f: no}]
steps:
  a: {load: $(f).safetensors}
  b: {svd-resize: a, rank: $(r)}
  c: {check: b, rank: {max: $(r)}}
  o: {save: b, to: out/$(f)-$(r).pt, description: at $(w)}
""",
]
_TOKEN = re.compile(r"[\w.$()/-]+")


def recipe(random: Random) -> bytes:
    """A recipe's bytes, more or less."""
    choice = random.random()
    if choice < 0.1:
        return random.randbytes(random.randrange(200))
    if choice < 0.3:
        text = random.choice(_SOUND).encode()
        return _changed(random, text, [word.encode() for word in [*_WORDS, *_SCALARS]])
    if choice < 0.6:
        return _reworded(random, random.choice(_SOUND)).encode()
    if choice < 0.9:
        steps = {
            name: _flow(random, 0)
            for name in random.sample(["a", "b", "c", "d", "o"], random.randrange(1, 5))
        }
        lines = "".join(f"  {name}: {value}\n" for name, value in steps.items())
        head = random.choice(["lorapipe: 1\n", "lorapipe: 1\nparams: {w: 1}\n", "", "lorapipe: 2\n"])
        return f"{head}steps:\n{lines}".encode("utf-8", "surrogatepass")
    return _block(random, 0).encode("utf-8", "surrogatepass")


def _reworded(random: Random, text: str) -> str:
    """A sound recipe with a few of its words, keys or values, replaced."""
    words = list(_TOKEN.finditer(text))
    for found in sorted(random.sample(words, random.randrange(4)), key=lambda one: -one.start()):
        other = random.choice(_WORDS if random.random() < 0.5 else _SCALARS)
        text = text[: found.start()] + other + text[found.end() :]
    return text


def _flow(random: Random, depth: int) -> str:
    kind = random.random()
    if depth > 5 or kind < 0.4:
        return random.choice(_SCALARS) if random.random() < 0.6 else random.choice(_WORDS)
    items = [_flow(random, depth + 1) for _ in range(random.randrange(4))]
    if kind < 0.55:
        return "[" + ", ".join(items) + "]"
    return "{" + ", ".join(f"{random.choice(_WORDS)}: {item}" for item in items) + "}"


def _block(random: Random, depth: int) -> str:
    lines = []
    for _ in range(random.randrange(1, 5)):
        indent = " " * random.choice([depth * 2, depth * 2, random.randrange(8)])
        key = random.choice([*_WORDS, "- ", "? ", "- a"])
        if depth < 6 and random.random() < 0.5:
            lines.append(f"{indent}{key}:\n{_block(random, depth + 1)}")
        else:
            lines.append(f"{indent}{key}: {_flow(random, 4)}\n")
    return "".join(lines)


_DTYPES = [
    "F32",
    "F16",
    "BF16",
    "F64",
    "I64",
    "U8",
    "BOOL",
    "F8_E4M3",
    "F8_E5M2",
    "C64",
    "f32",
    "F31",
    "",
    None,
    4,
]
_NUMBERS = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    -1,
    1 << 31,
    (1 << 63) - 1,
    1 << 63,
    1 << 64,
    1.0,
    1e400,
    True,
    None,
    "4",
    [],
]
_NAMES = [
    *"a b lora_unet_x.lora_up.weight lora_unet_x.lora_down.weight lora_unet_x.alpha ../../x /".split(),
    *"__metadata__ x.lora_A.weight x.lora_B.weight x.hada_w1_a x.lokr_w1 x.oft_blocks x.dora_scale".split(),
    *"x.diff emb_params".split(),
    *"clip_g string_to_param model.diffusion_model.out.2.weight".split(),
    *("lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight", "", "a" * 300),
    *("\x1b[31m", "\u202e", "\ud800"),
]
_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}


def safetensors(random: Random) -> bytes:
    """A safetensors file's bytes, more or less."""
    choice = random.random()
    if choice < 0.1:
        return random.randbytes(random.randrange(200))
    header, size = _tensors(random)
    if choice < 0.55:  # sound but for a field or two
        for _ in range(random.randrange(3)):
            _spoil(random, header)
    raw = json.dumps(header, allow_nan=True).encode("utf-8", "surrogatepass")
    if choice > 0.8:
        raw = _changed(
            random, raw, [b"{", b"}", b'"', b"[", b"]", b"\\", b":", b",", b"-0", b"1e9", b"NaN", b"\xff"]
        )
    length = (
        len(raw)
        if random.random() < 0.85
        else random.choice([0, 1, len(raw) - 1, len(raw) + 1, 1 << 40, 2**64 - 1])
    )
    data = random.randbytes(size)
    if random.random() < 0.1:
        data = data[: random.randrange(size + 1)] + bytes(random.randrange(3))
    return struct.pack("<Q", max(0, length)) + raw + data


def _tensors(random: Random) -> tuple[dict[str, object], int]:
    """A header whose tensors tile their data, and the size of that."""
    header: dict[str, object] = {}
    position = 0
    for name in random.sample(_NAMES, random.randrange(6)):
        dtype = random.choice(list(_SIZES))
        shape = [random.randrange(4) for _ in range(random.randrange(4))]
        size = _SIZES[dtype]
        for one in shape:
            size *= one
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    if random.random() < 0.3:
        header["__metadata__"] = {
            random.choice(_NAMES): random.choice(_NAMES) for _ in range(random.randrange(4))
        }
    return header, position


def _spoil(random: Random, header: dict[str, object]) -> None:
    if not header or random.random() < 0.1:
        header[random.choice(_NAMES)] = random.choice([None, [], {}, "x", 1])
        return
    entry = header[random.choice(list(header))]
    if not isinstance(entry, dict):
        return
    field = random.choice(["dtype", "shape", "data_offsets", "extra"])
    numbers = [random.choice(_NUMBERS) for _ in range(random.randrange(4))]
    entry[field] = random.choice(_DTYPES) if field == "dtype" else numbers
    if random.random() < 0.1:
        entry.pop(random.choice(list(entry)))


def _changed(random: Random, data: bytes, pieces: list[bytes]) -> bytes:
    """Some bytes cut out, doubled, flipped, or pieces put in."""
    for _ in range(random.randrange(1, 6)):
        at, until = sorted(random.randrange(len(data) + 1) for _ in range(2))
        until = min(until, at + random.choice([1, 4, 30]))
        piece = random.choice([b"", data[at:until] * 2, random.choice(pieces), random.randbytes(1)])
        data = data[:at] + piece + data[until:]
    return data


MAKERS: Mapping[str, Callable[[Random], bytes]] = {"recipe": recipe, "safetensors": safetensors}
