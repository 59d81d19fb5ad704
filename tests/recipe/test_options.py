"""What is said of a step's options. The step begins at 5:6, its first key at 5:7."""

from __future__ import annotations

import pytest

from lorapipe.recipe.options import write

from .complaints import complaints, of_step, of_steps

RANK = "'rank' takes a whole number from 1, or $(name)"


@pytest.mark.parametrize(
    ("step", "error"),
    [
        # Unknown options.
        ("{svd-resize: a, rnak: 8}", "5:22: error: svd-resize has no option 'rnak' - did you mean 'rank'?"),
        ("{svd-resize: a, new_rank: 8}", "5:22: error: svd-resize has no option 'new_rank' - did you mean 'rank'?"),
        ("{save: a, path: x.pt}", "5:16: error: save has no option 'path' - did you mean 'to'?"),
        ("{shuffle: a, rank: 8}", "5:19: error: shuffle has no option 'rank' - 'rank' is an option of combine, svd-resize, extract-lora, check"),
        ("{shuffle: a, device: cpu}", "5:19: error: shuffle has no option 'device' - 'device' holds for the whole recipe, in 'defaults'"),
        ("{shuffle: a, when: now}", "5:19: error: shuffle has no option 'when' - it takes shuffle, seed, mode, description"),
        ("{concat: a, b: -0.4}", "5:18: error: concat has no option 'b' - 'b' is a step: weights go in braces, {concat: {a: 1.0, b: -0.4}}"),
        ("{concat: [a, a], b: 2}", "5:23: error: concat has no option 'b' - 'b' is a step: weights go in braces, {concat: {a: 1.0, b: 2}}"),
        ("{concat: {a: 0.5}, b: 2}", "5:25: error: concat has no option 'b' - 'b' is a step: weights go in braces, {concat: {a: 0.5, b: 2}}"),
        ("{merge-into-checkpoint: a, loras: b, x: 2}", "5:43: error: merge-into-checkpoint has no option 'x' - 'x' is a step: weights go in braces, {loras: {b: 1.0, x: 2}}"),
        ("{shuffle: a, b: 1}", "5:19: error: shuffle has no option 'b' - 'b' is a step: this takes one step"),
        ("{concat: [a, b], ratios: [1, 2]}", "5:23: error: concat has no option 'ratios' - weights go in braces, {concat: {a: 1.0, b: 1.0}}"),
        ("{load: my, file.pt}", "5:17: error: load has no option 'file.pt' - quote a value that holds a comma: 'my, file.pt'"),
        ("{scale: a, components: {unett: 1}}", "5:30: error: 'components' has no 'unett' - did you mean 'unet'?"),
        ("{scale: a, components: {vae: 1}}", "5:30: error: 'components' has no 'vae' - it takes unet, te, te1, te2, te3"),
        ("{scale: a, components: {text_encoder: 1}}", "5:30: error: 'components' has no 'text_encoder' - did you mean 'te'?"),
        # Missing options.
        ("{svd-resize: a}", "5:7: error: svd-resize needs 'rank' or 'score' - such as rank: 32"),
        ("{scale: a}", "5:7: error: scale needs 'by' or 'components' or 'blocks' or 'modules' - such as by: 0.8"),
        ("{merge-into-checkpoint: a}", "5:7: error: merge-into-checkpoint needs 'loras' - such as loras: {char: 0.8}"),
        ("{to: x.pt, dtype: bf16, save: }", "5:36: error: 'save' takes the id of one step, not nothing"),
        # Wrong values.
        ("{svd-resize: a, rank: four}", f"5:28: error: {RANK}, not 'four'"),
        ("{svd-resize: a, rank: '4'}", f"5:28: error: {RANK}, not '4'"),
        ("{svd-resize: a, rank: 4.5}", f"5:28: error: {RANK}, not 4.5"),
        ("{svd-resize: a, rank: 0}", f"5:28: error: {RANK}, not 0"),
        ("{svd-resize: a, rank: true}", f"5:28: error: {RANK}, not true"),
        ("{svd-resize: a, rank: }", f"5:28: error: {RANK}, not nothing"),
        ("{svd-resize: a, rank: .inf}", f"5:28: error: {RANK}, not .inf"),
        ("{svd-resize: a, rank: [4]}", f"5:28: error: {RANK}, not a list"),
        ("{svd-resize: a, rank: $$(r)}", f"5:28: error: {RANK}, not '$(r)'"),
        ("{scale: a, by: .nan}", "5:21: error: 'by' takes a number, or $(name), not .nan"),
        ("{scale: a, by: yes}", "5:21: error: 'by' takes a number, or $(name), not 'yes'"),
        ("{scale: a, components: {}}", "5:29: error: 'components' takes at least one, not an empty map"),
        ("{scale: a, components: {te: x}}", "5:34: error: 'te' takes a number, or $(name), not 'x'"),
        ("{load: 4}", "5:13: error: 'load' takes text, not 4 - quote it: '4'"),
        ("{load: ''}", "5:13: error: 'load' takes text, not ''"),
        ("{load: f, as: adapter}", "5:20: error: 'as' takes lora or checkpoint, or $(name), not 'adapter' - did you mean 'lora'?"),
        ("{load: f, sha256: 3f2a}", "5:24: error: 'sha256' takes 64 hexadecimal digits, or $(name), not '3f2a'"),
        ("{save: a, to: x.txt}", "5:20: error: an output file ends in .safetensors, .ckpt, .pt or .bin, a folder in /, not 'x.txt'"),
        ('{save: a, to: "x.pt\\n"}', "5:20: error: an output file ends in .safetensors, .ckpt, .pt or .bin, a folder in /, not 'x.pt\n'"),
        ("{save: a, to: x.pt, dtype: float16}", "5:33: error: 'dtype' takes keep, fp32, fp16, bf16, fp8_e4m3 or fp8_e5m2, or $(name), not 'float16' - did you mean 'fp16'?"),
        ("{save: a, to: x.pt, metadata: {k: 4}}", "5:40: error: 'k' takes text, not 4 - quote it: '4'"),
        ("{save: a, to: x.pt, metadata: {k: no, l: true}}", "5:47: error: 'l' takes text, not true - quote it: 'true'"),
        ("{shuffle: a, mode: rotat}", "5:25: error: 'mode' takes rotate or permute, or $(name), not 'rotat' - did you mean 'rotate'?"),
        ("{shuffle: a, description: 4}", "5:32: error: 'description' takes text, not 4 - quote it: '4'"),
        ("{svd-resize: a, rank: 4, dynamic: 0.9}", "5:40: error: 'dynamic' takes exactly one rule in braces, such as {sv-fro: 0.9}, not 0.9"),
        ("{svd-resize: a, rank: 4, dynamic: {}}", "5:40: error: 'dynamic' takes exactly one rule in braces, such as {sv-fro: 0.9}, not an empty map"),
        ("{svd-resize: a, rank: 4, dynamic: {sv-fro: 1, sv-ratio: 2}}", "5:40: error: 'dynamic' takes exactly one rule in braces, such as {sv-fro: 0.9}, not a map"),
        ("{svd-resize: a, rank: 4, dynamic: {sv_fro: 0.9}}", "5:41: error: 'dynamic' has no 'sv_fro' - did you mean 'sv-fro'?"),
        ("{svd-resize: a, rank: 4, dynamic: {sv-fro: 1.5}}", "5:49: error: 'sv-fro' takes a number above 0, at most 1, or $(name), not 1.5"),
        ("{svd-resize: a, rank: 4, dynamic: {sv-ratio: 0.5}}", "5:51: error: 'sv-ratio' takes a number from 1, or $(name), not 0.5"),
        ("{svd-resize: a, rank: 4, max-size: big}", "5:41: error: 'max-size' takes a size such as 100MB or 80MiB, a whole number of bytes, or $(name), not 'big'"),
        ("{svd-resize: a, rank: 4, max-size: 0}", "5:41: error: 'max-size' takes a size such as 100MB or 80MiB, a whole number of bytes, or $(name), not 0"),
        ("{svd-resize: a, dynamic: {sv-fro: 0.9}}", "5:7: error: svd-resize needs 'rank' or 'score' - such as rank: 32"),
        ("{check: a}", "5:7: error: check needs 'rank' or 'modules' or 'finite' or 'norm' or 'energy' or 'differs-from' - such as rank: {max: 32}"),
        ("{check: a, rank: 32}", "5:23: error: 'rank' takes limits in braces, such as {max: 32}, not 32"),
        ("{check: a, rank: {}}", "5:23: error: 'rank' takes limits in braces, such as {max: 32}, not an empty map"),
        ("{check: a, rank: {most: 32}}", "5:24: error: 'rank' has no 'most' - did you mean 'max'?"),
        ("{check: a, rank: {max: 0}}", "5:29: error: 'max' takes a whole number from 1, or $(name), not 0"),
        ("{check: a, rank: {min: 32, max: 4}}", "5:23: error: 'rank' leaves nothing: min 32 is above max 4 - exchange them"),
        ("{check: a, modules: 0}", "5:26: error: 'modules' takes a whole number from 1, or limits in braces, such as {min: 600}, or $(name), not 0"),
        ("{check: a, norm: {max: -1}}", "5:29: error: 'max' takes a number from 0, or $(name), not -1"),
        ("{check: a, norm: {max: .nan}}", "5:29: error: 'max' takes a number from 0, or $(name), not .nan"),
        ("{check: a, finite: yes}", "5:25: error: 'finite' takes true or false, or $(name), not 'yes'"),
        ("{check: a, energy: {min: 0.9}}", "5:25: error: 'energy' needs 'of'"),
        ("{check: a, energy: {of: b}}", "5:25: error: 'energy' needs 'min' or 'total'"),
        ("{check: a, energy: {of: b, min: 1.5}}", "5:38: error: 'min' takes a number up to 1, or $(name), not 1.5"),
        ("{check: a, energy: {of: [b], min: 1}}", "5:30: error: this takes the id of a step, such as char; a file is read by its own step, {load: FILE}, not a list"),
        ("{check: a, finit: true}", "5:17: error: check has no option 'finit' - did you mean 'finite'?"),
        # Ports.
        ("{shuffle: 4}", "5:16: error: 'shuffle' takes the id of one step, not 4"),
        ("{shuffle: [a, b]}", "5:16: error: 'shuffle' takes the id of one step, not a list - to use several at once, give them a step of their own"),
        ("{concat: 4}", "5:15: error: 'concat' takes a step's id, a list of ids, or a map id: weight, not 4"),
        ("{concat: []}", "5:15: error: 'concat' takes at least one step"),
        ("{concat: {}}", "5:15: error: 'concat' takes at least one step"),
        ("{concat: [a, 4]}", "5:19: error: 'concat' takes ids of steps, not 4"),
        ("{concat: [a, {b: 2}]}", "5:19: error: 'concat' takes ids of steps, not a map - weights go in braces, {concat: {a: 1.0, b: 2}}"),
        ("{concat: {a: x}}", "5:19: error: a weight is a number, or $(name), not 'x'"),
        ("{concat: {a: }}", "5:19: error: a weight is a number, or $(name), not nothing"),
        ("{concat: {a: true}}", "5:19: error: a weight is a number, or $(name), not true"),
        ("{concat: {a: .inf}}", "5:19: error: a weight is a number, or $(name), not .inf"),
        ("{concat: {a: 1e400}}", "5:19: error: a weight is a number, or $(name), not 1e400"),
        (f"{{concat: {{a: {'9' * 350}}}}}", f"5:19: error: a weight is a number, or $(name), not {'9' * 350}"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_said_whole(step: str, error: str) -> None:
    assert of_step(step) == [f"r.yaml:{error}"]


@pytest.mark.parametrize(
    "step",
    [
        "{load: f, as: lora, family: sd15, sha256: " + "aB" * 32 + ", description: d}",
        "{scale: a, by: -1}",
        "{check: a, modules: {min: 4, max: 4}, energy: {of: b, total: 0.5}, norm: {min: 0}, differs-from: b}",
        "{scale: a, components: {unet: 1, te: 0.5, te1: 0, te2: -1}}",
        "{scale: a, by: 2, components: {te: 0}}",
        "{concat: a}",
        "{concat: [a, a, b]}",
        "{concat: {a: 0, b: -1e-3}}",
        "{shuffle: a, seed: 9007199254740991, mode: permute}",
        "{svd-resize: a, rank: 1e3, conv-rank: 4.0, conv1x1-rank: 1}",
        "{merge-into-checkpoint: a, loras: [b], unmatched: ignore}",
        "{save: a, to: o/x.ckpt, dtype: bf16, metadata: {a.b: '1'}, provenance: none, layout: keep}",
    ],
)
def test_a_right_step_is_not_complained_of(step: str) -> None:
    assert of_step(step) == []


def test_all_errors_of_a_step_come_in_one_pass() -> None:
    assert of_step("{save: q, to: x.txt, dtype: x, metadata: {k: 1}, provenance: 4, other: 1}") == [
        "r.yaml:5:13: error: no step 'q'",
        "r.yaml:5:20: error: an output file ends in .safetensors, .ckpt, .pt or .bin, a folder in /, not 'x.txt'",
        "r.yaml:5:34: error: 'dtype' takes keep, fp32, fp16, bf16, fp8_e4m3 or fp8_e5m2, or $(name), not 'x'",
        "r.yaml:5:51: error: 'k' takes text, not 1 - quote it: '1'",
        "r.yaml:5:67: error: 'provenance' takes full, minimal or none, or $(name), not 4 - quote it: '4'",
        "r.yaml:5:70: error: save has no option 'other' - it takes save, to, dtype, shard-size, metadata, provenance, layout, dense, description",
    ]  # fmt: skip


def test_a_near_miss_of_a_required_option_silences_that_it_is_missing() -> None:
    assert len(of_step("{svd-resize: a, rnak: 8}")) == 1
    assert len(of_step("{svd-resize: a, seed: 8}")) == 2


def test_an_error_stands_at_the_hole_and_names_the_value() -> None:
    text = (
        "lorapipe: 1\nparams: {r: four, o: x, k: 2}\nsteps:\n  a: {load: f}\n"
        "  b: {svd-resize: a, rank: $(r)}\n"
        "  c: {save: a, to: out/$(o)}\n"
        "  d: {save: a, to: x.pt, metadata: {k: $(k), l: $(k)$(k)}}\n"
    )
    assert complaints(text) == [
        "r.yaml:5:28: error: 'rank' takes a whole number from 1, or $(name) - $(r) is 'four'",
        "r.yaml:6:24: error: an output file ends in .safetensors, .ckpt, .pt or .bin, a folder in /, not 'out/x' - $(o) is 'x'",
        "r.yaml:7:40: error: 'k' takes text - $(k) is 2",
    ]


def test_the_same_mistake_behind_an_alias_is_one_mistake() -> None:
    errors = of_steps("  x: {svd-resize: a, rank: &r four}\n  y: {svd-resize: b, rank: *r}")
    assert errors == [f"r.yaml:5:28: error: {RANK}, not 'four'"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1.0, "b": [True, None, "x y"]}, "{a: 1.0, b: [true, null, x y]}"),
        ((1, 2), "[1, 2]"),
        ({}, "{}"),
    ],
)
def test_write_gives_flow_style(value: object, text: str) -> None:
    assert write(value) == text
