"""LoRA files as adapters: the right module, shape, rank and scale, and a name for every fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lorapipe.errors import InputError, ManyErrors, RecipeError
from lorapipe.formats.adapters.read import bind_adapter, detect, is_adapter, read_adapter, read_adapter_spec
from lorapipe.formats.files import open_tensors
from lorapipe.weights.specs import ModuleId, ModuleSpec, Spelling, TensorSpec

from ..sources import HeaderSource, MemorySource, dense, factors, seeded

DOWN = "model.diffusion_model.input_blocks.1."
TO_Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
TO_K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
PROJ = "lora_unet_down_blocks_0_attentions_0_proj_in"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
TE = "lora_te_text_model_encoder_layers_0_mlp_fc1"


def sd1(**changed: Tensor | None) -> dict[str, Tensor]:
    """A LoCon of SD1.x with a module of each kind; ``attn2.to_k`` has SD1's width."""
    values = {
        **factors(TO_Q, (320, 4), (4, 320), 2.0, seed=1),
        **factors(TO_K, (320, 4), (4, 768), seed=2),
        **factors(PROJ, (320, 4, 1, 1), (4, 320, 1, 1), 4.0, seed=3),
        **factors(CONV, (320, 8, 1, 1), (8, 320, 3, 3), 1.0, seed=4),
        **factors(TE, (3072, 4), (4, 768), 4.0, seed=5),
    }
    return {k: v for k, v in {**values, **changed}.items() if v is not None}


# ---- what is read ------------------------------------------------------------------------------------


def test_modules_have_their_reference_keys_shapes_and_ranks() -> None:
    spec = read_adapter_spec(MemorySource(sd1()))
    unet = "model.diffusion_model.input_blocks.1"
    assert spec.family == "sd1"
    assert dict(spec.modules) == {
        ModuleId("unet", f"{unet}.1.transformer_blocks.0.attn1.to_q.weight"): ModuleSpec(
            (320, 320), 4, Spelling(TO_Q)
        ),
        ModuleId("unet", f"{unet}.1.transformer_blocks.0.attn2.to_k.weight"): ModuleSpec(
            (320, 768), 4, Spelling(TO_K)
        ),
        ModuleId("unet", f"{unet}.1.proj_in.weight"): ModuleSpec((320, 320, 1, 1), 4, Spelling(PROJ)),
        ModuleId("unet", f"{unet}.0.in_layers.2.weight"): ModuleSpec((320, 320, 3, 3), 8, Spelling(CONV)),
        ModuleId("te", "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"): ModuleSpec(
            (3072, 768), 4, Spelling(TE)
        ),
    }
    assert [known.spelling.stem for known in spec.modules.values()] == [TO_Q, TO_K, PROJ, CONV, TE]


def test_the_delta_is_alpha_over_rank_times_up_times_down() -> None:
    values = sd1()
    adapter = read_adapter(MemorySource(values))
    adapter.check(read_adapter_spec(MemorySource(values)))
    scales = {TO_Q: 0.5, TO_K: 1.0, PROJ: 1.0, CONV: 0.125, TE: 1.0}
    for module, known in adapter.spec.modules.items():
        stem, delta = known.spelling.stem, adapter.modules[module]
        (term,) = delta.terms
        assert term.coefficient == scales[stem]
        assert torch.equal(delta.dense(torch.float64), dense(values, stem, scales[stem]))


@pytest.mark.parametrize(
    ("up", "down", "shape"),
    [
        ((320, 4), (4, 320), (320, 320)),
        ((320, 4, 1, 1), (4, 320, 1, 1), (320, 320, 1, 1)),
        ((320, 4), (4, 320, 1, 1), (320, 320, 1, 1)),
        ((320, 4, 1, 1), (4, 320), (320, 320, 1, 1)),
        ((320, 4), (4, 320, 3, 3), (320, 320, 3, 3)),
        ((320, 4, 1, 1), (4, 320, 3, 1), (320, 320, 3, 1)),
        ((320, 4, 1), (4, 320, 3), (320, 320, 3)),
    ],
)
def test_factors_with_and_without_kernel_axes_mix(
    up: tuple[int, ...], down: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    values = sd1() | factors(PROJ, up, down, 4.0, seed=3)
    adapter = read_adapter(MemorySource(values))
    (module,) = [m for m, known in adapter.spec.modules.items() if known.spelling.stem == PROJ]
    assert adapter.spec.modules[module].shape == shape
    assert adapter.modules[module].shape == shape
    assert torch.equal(adapter.modules[module].dense(torch.float64), dense(values, PROJ, 1.0))


@pytest.mark.parametrize(
    "alpha",
    [
        torch.tensor(3.0, dtype=torch.float16),
        torch.tensor(3.0, dtype=torch.bfloat16),
        torch.tensor(3.0, dtype=torch.float64),
        torch.tensor(3, dtype=torch.int64),
        torch.tensor([3.0]),
        torch.tensor([[3]], dtype=torch.int32),
    ],
)
def test_alpha_may_be_of_any_type(alpha: Tensor) -> None:
    adapter = read_adapter(MemorySource(sd1(**{f"{TO_Q}.alpha": alpha})))
    assert next(iter(adapter.modules.values())).terms[0].coefficient == 0.75


def test_a_negative_alpha_is_a_negative_scale() -> None:
    adapter = read_adapter(MemorySource(sd1(**{f"{TO_Q}.alpha": torch.tensor(-4.0)})))
    assert next(iter(adapter.modules.values())).terms[0].coefficient == -1.0


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_factors_keep_their_own_bytes(dtype: torch.dtype) -> None:
    values = {k: v.to(dtype) for k, v in sd1().items()}
    adapter = read_adapter(MemorySource(values))
    for module, known in adapter.spec.modules.items():
        factors_ = adapter.modules[module].terms[0].structure.load()
        up = values[f"{known.spelling.stem}.lora_up.weight"]
        assert factors_.up.dtype == dtype
        assert torch.equal(factors_.up.view(torch.uint8), up.flatten(1).view(torch.uint8))


@pytest.mark.parametrize(
    ("changed", "dtype"),
    [
        ({}, "F16"),
        ({f"{TO_Q}.alpha": torch.tensor(2.0)}, "F16"),
        ({f"{TO_Q}.lora_up.weight": torch.ones(320, 4)}, "F32"),
        ({f"{TO_Q}.lora_up.weight": torch.ones(320, 4).bfloat16()}, "F32"),
    ],
)
def test_the_dtype_is_the_factors_common_one_else_fp32(changed: dict[str, Tensor], dtype: str) -> None:
    values = {k: v.half() for k, v in sd1().items()} | changed
    assert read_adapter_spec(MemorySource(values)).dtype == dtype


def test_metadata_and_embeddings_pass_through() -> None:
    values = sd1(**{"bundle_emb.tok.string_to_param.*": seeded(2, 768, seed=9)})
    source = MemorySource(values, {"ss_v2": "False", "note": "é"})
    adapter = read_adapter(source)
    name = "bundle_emb.tok.string_to_param.*"
    assert dict(adapter.spec.metadata) == {"ss_v2": "False", "note": "é"}
    assert dict(adapter.spec.extras) == {name: TensorSpec("F32", (2, 768))}
    assert torch.equal(adapter.extras[name], values[name])


def test_openclip_modules_are_rows_of_the_fused_weight() -> None:
    stem = "lora_te2_text_model_encoder_layers_3_self_attn_{}_proj"
    values = {k: v for c in "qkv" for k, v in factors(stem.format(c), (1280, 2), (2, 1280)).items()}
    spec = read_adapter_spec(MemorySource(values), "sdxl")
    key = "conditioner.embedders.1.model.transformer.resblocks.3.attn.in_proj_weight"
    assert list(spec.modules) == [
        ModuleId("te2", key, (0, 1280)),
        ModuleId("te2", key, (1280, 2560)),
        ModuleId("te2", key, (2560, 3840)),
    ]


def test_rows_follow_from_the_files_own_shapes() -> None:
    stem = "lora_te2_text_model_encoder_layers_3_self_attn_v_proj"
    spec = read_adapter_spec(MemorySource(factors(stem, (10, 2), (2, 20))), "sdxl")
    assert [module.rows for module in spec.modules] == [(20, 30)]


def test_a_transposed_weight_takes_the_transposed_delta() -> None:
    stem = "lora_te2_text_projection"
    values = factors(stem, (6, 2), (2, 5), 1.0)
    # SD3 has a module of this name, too.
    adapter = read_adapter(MemorySource(values), read_adapter_spec(MemorySource(values), "sdxl"))
    ((module, known),) = adapter.spec.modules.items()
    assert module.key == "conditioner.embedders.1.model.text_projection"
    assert (known.shape, known.spelling) == ((5, 6), Spelling(stem, transposed=True))
    assert torch.equal(adapter.modules[module].dense(torch.float64), dense(values, stem, 0.5).T)


@pytest.mark.parametrize(("layout", "family"), [("sd15", "sd1"), ("sd21", "sd2"), ("sdxl", "sdxl")])
def test_every_module_of_a_layout_finds_its_key_and_rows(
    shared: Callable[[str], Path], layout: str, family: str
) -> None:
    described = json.loads(shared(f"layouts/{layout}.lora-map.json").read_text())
    tensors: dict[str, TensorSpec] = {}
    expected: dict[ModuleId, tuple[int, ...]] = {}
    for stem, (key, shape, _kind, _flag, *rows) in described["modules"].items():
        tensors[f"{stem}.lora_up.weight"] = TensorSpec("F16", (shape[0], 4, *[1] * len(shape[2:])))
        tensors[f"{stem}.lora_down.weight"] = TensorSpec("F16", (4, *shape[1:]))
        tensors[f"{stem}.alpha"] = TensorSpec("F16", ())
        expected[ModuleId("", key, tuple(rows[0]) if rows else None)] = tuple(shape)
    spec = read_adapter_spec(HeaderSource(tensors))
    assert spec.family == family
    assert {ModuleId("", m.key, m.rows): known.shape for m, known in spec.modules.items()} == expected


def test_both_paths_of_sdxl_meet_on_the_same_modules(shared: Callable[[str], Path]) -> None:
    paths = json.loads(shared("layouts/sdxl.lora-map-diffusers-path.json").read_text())["modules"]
    sgm = json.loads(shared("layouts/sdxl.lora-map.json").read_text())["modules"]
    by_key = {described[0]: stem for stem, described in sgm.items() if len(described) == 4}
    pairs = [(stem, by_key[described[0]]) for stem, described in paths.items() if described[0] in by_key]
    assert len(pairs) > 700
    for stem, other in pairs[::25]:
        shape = sgm[other][1]
        one, two = (
            read_adapter_spec(
                HeaderSource(
                    {
                        f"{name}.lora_up.weight": TensorSpec("F16", (shape[0], 2)),
                        f"{name}.lora_down.weight": TensorSpec("F16", (2, *shape[1:])),
                    }
                ),
                "sdxl",
            )
            for name in (stem, other)
        )
        assert list(one.modules) == list(two.modules)


def test_reading_a_spec_imports_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(sd1(), path)
    code = (
        "import sys, pathlib\n"
        "from lorapipe.formats.adapters.read import detect, read_adapter_spec\n"
        "from lorapipe.formats.files import open_tensors\n"
        f"source = open_tensors(pathlib.Path({str(path)!r}))\n"
        "print(detect(source), read_adapter_spec(source).family)\n"
        "print(sorted({'torch', 'numpy', 'networkx'} & set(sys.modules)))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["lora sd1", "[]"]


# ---- what kind of file -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "is_lora"),
    [
        ("x.lora_up.weight", True),
        ("x.lora_down.weight", True),
        ("transformer.blocks.0.lora_A.weight", True),
        ("base_model.model.x.lora_B.default.weight", True),
        ("unet.down.processor.to_q_lora.up.weight", True),
        ("text_encoder.x.lora_linear_layer.down.weight", True),
        ("lora_unet_x.hada_w1_a", True),
        ("lora_unet_x.lokr_w2", True),
        ("base_model.model.x.vera_lambda_b", True),
        ("double_blocks.0.processor.qkv_lora1.down.weight", True),
        ("unet:3:up", True),
        ("model.diffusion_model.input_blocks.0.0.weight", False),
        ("x.alpha", False),
        ("resnet.diff", False),
        ("explora_A.weight", False),
        ("unet:x:up", False),
    ],
)
def test_a_lora_is_known_by_its_names(name: str, is_lora: bool) -> None:
    source = HeaderSource({"other.weight": TensorSpec("F32", (1,)), name: TensorSpec("F32", (1, 1))})
    assert is_adapter(source) is is_lora
    assert detect(source) == ("lora" if is_lora else "checkpoint")


# ---- families ----------------------------------------------------------------------------------------

# SD1 and SD2 name their U-Nets alike; without an attn2 nothing tells them apart.
AMBIGUOUS = factors(TO_Q, (320, 4), (4, 320))


def test_an_ambiguous_family_must_be_said() -> None:
    with pytest.raises(RecipeError) as caught:
        read_adapter_spec(MemorySource(AMBIGUOUS))
    assert caught.value.code == "family-ambiguous"
    assert str(caught.value) == (
        "error: its modules fit SD1.x and SD2.x alike - say `family: sd1` or `family: sd2`"
    )


@pytest.mark.parametrize("family", ["sd1", "sd2", "SD2.x"])
def test_a_family_that_is_said_settles_it(family: str) -> None:
    assert read_adapter_spec(MemorySource(AMBIGUOUS), family).family == family.lower()[:3]


def test_metadata_settles_it_too() -> None:
    source = MemorySource(AMBIGUOUS, {"ss_base_model_version": "sd_v1"})
    assert read_adapter_spec(source).family == "sd1"


def test_a_family_that_the_names_contradict_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        read_adapter_spec(MemorySource(sd1()), "sdxl")
    assert (caught.value.code, caught.value.option) == ("family-contradicted", "family")
    assert str(caught.value) == (
        "error: it is not for SDXL: its module names are those of SD1.x - say `family: sd1`, or leave it out"
    )


def test_a_family_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        read_adapter_spec(MemorySource(sd1()), "sd1x")
    assert caught.value.code == "unknown-family"


def test_modules_of_an_unknown_family_keep_their_names() -> None:
    values = factors("lora_unet_blocks_7_attn_qkv", (12, 2), (2, 4), 1.0)
    spec = read_adapter_spec(MemorySource(values))
    assert spec.family is None
    assert dict(spec.modules) == {
        ModuleId("", "lora_unet_blocks_7_attn_qkv"): ModuleSpec(
            (12, 4), 2, Spelling("lora_unet_blocks_7_attn_qkv")
        )
    }


# ---- faults ------------------------------------------------------------------------------------------

SHAPES = "1 module whose factors have shapes that no LoRA has"
READS = "docs/formats.md lists what lorapipe reads"
OTHER = "is it a LoRA for another model? then say which: `family:`"
AGAIN = "the file is incomplete or damaged: copy or download it again"
UP, LOW, ALPHA = f"{TO_Q}.lora_up.weight", f"{TO_Q}.lora_down.weight", f"{TO_Q}.alpha"
NONSENSE = factors(f"{TO_Q[:-1]}x", (320, 4), (4, 320))

FAULTS: dict[str, tuple[dict[str, Tensor | None], str, str]] = {
    "no down": (
        {LOW: None, ALPHA: None}, "up-without-down", f"1 module with an up but no down: {TO_Q} - {AGAIN}",
    ),
    "no up": ({UP: None}, "down-without-up", f"1 module with a down but no up: {TO_Q} - {AGAIN}"),
    "alpha alone": (
        {UP: None, LOW: None}, "alpha-without-factors",
        f"1 module with an alpha but no factors: {TO_Q} - {AGAIN}",
    ),
    "ranks": (
        {LOW: torch.ones(8, 320)}, "ranks-disagree",
        f"1 module whose up and down have different ranks: {TO_Q} (up [320, 4], down [8, 320]) - {AGAIN}",
    ),
    "a vector": (
        {UP: torch.ones(320)}, "bad-factor-shape",
        f"{SHAPES}: {TO_Q} (up [320], down [4, 320]) - {AGAIN}",
    ),
    "a kernel in up": (
        {UP: torch.ones(320, 4, 3, 3)}, "bad-factor-shape",
        f"{SHAPES}: {TO_Q} (up [320, 4, 3, 3], down [4, 320]) - {AGAIN}",
    ),
    "rank 0": (
        {UP: torch.ones(320, 0), LOW: torch.ones(0, 320)}, "bad-factor-shape",
        f"{SHAPES}: {TO_Q} (up [320, 0], down [0, 320]) - {AGAIN}",
    ),
    "integers": (
        {UP: torch.ones(320, 4, dtype=torch.int64)}, "factors-not-floating",
        f"1 tensor of factors whose numbers are not floating: {UP} (I64) - {AGAIN}",
    ),
    "many alphas": (
        {ALPHA: torch.ones(2)}, "alpha-not-scalar",
        f"1 alpha of more or less than one number: {ALPHA} [2] - {AGAIN}",
    ),
    "VeRA": (
        {f"{TO_Q}.vera_lambda_d": torch.ones(4)}, "unsupported-kind",
        f"1 tensor of VeRA, not supported: {TO_Q}.vera_lambda_d - {READS}",
    ),
    "a stranger": (
        {"epoch": torch.ones(1)}, "unknown-tensors",
        "1 tensor of no LoRA module: epoch - a checkpoint? say `as: checkpoint`",
    ),
    "no such module": (
        NONSENSE, "unknown-modules",
        f"1 module that SD1.x does not have: {TO_Q[:-1]}x (nearest is {TO_Q[:-1]}v) - {OTHER}",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changed", "code", "text"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_that_names_and_shapes_show_is_told(
    changed: dict[str, Tensor | None], code: str, text: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_adapter_spec(MemorySource(sd1(**changed)))
    assert caught.value.code == code
    assert str(caught.value) == f"error: {text}"


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf"), float("-inf")])
def test_an_alpha_of_nothing_is_told_when_it_is_read(bad: float) -> None:
    source = MemorySource(sd1(**{ALPHA: torch.tensor(bad)}))
    spec = read_adapter_spec(source)
    with pytest.raises(InputError) as caught:
        read_adapter(source, spec)
    assert caught.value.code == "bad-alpha"
    assert str(caught.value) == (
        f"error: 1 alpha of 0, NaN or Inf: {ALPHA} ({bad}) - the training failed, or the file is damaged"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_nan_in_factors_is_told_with_the_tensors_counted(dtype: torch.dtype) -> None:
    values = {k: v.to(dtype) for k, v in sd1().items()}
    for name in (UP, f"{CONV}.lora_down.weight", f"{TE}.lora_up.weight", f"{PROJ}.lora_up.weight"):
        broken = values[name].to(torch.float32).clone()
        broken.view(-1)[3] = float("nan")
        values[name] = broken.to(dtype)
    with pytest.raises(InputError) as caught:
        read_adapter(MemorySource(values))
    assert caught.value.code == "not-finite"
    assert str(caught.value) == (
        f"error: 4 tensors with NaN or Inf: {UP}, {PROJ}.lora_up.weight, {CONV}.lora_down.weight "
        "and 1 more - the training failed, or the file is damaged"
    )


def test_infinity_is_as_bad_as_nan() -> None:
    values = sd1()
    values[LOW].view(-1)[0] = float("-inf")
    with pytest.raises(InputError, match="1 tensor with NaN or Inf"):
        read_adapter(MemorySource(values))


def test_one_module_under_two_names_is_refused() -> None:
    sgm = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    path = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    values = factors(sgm, (640, 2), (2, 640)) | factors(path, (640, 2), (2, 640))
    with pytest.raises(InputError) as caught:
        read_adapter_spec(MemorySource(values))
    assert str(caught.value) == (
        f"error: 1 module written under two names: {sgm} and {path} - remove one of the two"
    )


def test_no_modules_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="it holds no LoRA module") as caught:
        read_adapter_spec(MemorySource({"bundle_emb.a.string_to_param.*": torch.ones(1, 768)}))
    assert caught.value.code == "empty-adapter"


def test_kinds_are_named_and_do_not_cascade() -> None:
    vera = {f"{TO_Q}.vera_lambda_{part}": torch.ones(4) for part in "bd"}
    values = sd1(**{UP: None, LOW: None}) | vera  # its alpha is left: no fault of its own
    with pytest.raises(InputError, match="2 tensors of VeRA, not supported"):
        read_adapter_spec(MemorySource(values))


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(sd1(**{UP: None, f"{CONV}.lora_down.weight": None, "x": torch.ones(1)}), path)
    with open_tensors(path) as source, pytest.raises(ManyErrors) as caught:
        read_adapter_spec(source)
    assert {error.code for error in caught.value.errors} == {
        "down-without-up", "up-without-down", "unknown-tensors",
    }  # fmt: skip
    assert caught.value.exit_status == 4
    assert all(error.where == str(path) for error in caught.value.errors)


def test_many_unknown_modules_are_counted_and_few_are_looked_up() -> None:
    values = sd1()
    for i in range(20):
        values |= factors(f"lora_unet_down_blocks_0_attentions_0_x{i}", (2, 1), (1, 2))
    with pytest.raises(InputError, match=r"20 modules that SD1\.x does not have: .* and 17 more") as caught:
        read_adapter_spec(MemorySource(values), "sd1")
    assert len(str(caught.value)) < 900


def test_a_bound_adapter_says_which_tensors_make_a_module() -> None:
    bound = bind_adapter(MemorySource(sd1()))
    first = next(iter(bound.placed.values())).found
    assert dict(first.tensors) == {".lora_up.weight": UP, ".lora_down.weight": LOW}
    assert first.scale.alpha == ALPHA
    assert bound.placed.keys() == bound.spec.modules.keys()


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pt", ".bin"])
def test_a_lora_reads_alike_from_every_format(tmp_path: Path, suffix: str) -> None:
    path, values = tmp_path / f"x{suffix}", sd1()
    if suffix == ".safetensors":
        save_file(values, path)
    else:
        torch.save({"state_dict": values}, path)
    expected = read_adapter(MemorySource(values))
    with open_tensors(path) as source:
        found = read_adapter(source)
        assert found.modules.keys() == expected.modules.keys()
        for module, delta in expected.modules.items():
            assert torch.equal(found.modules[module].dense(torch.float64), delta.dense(torch.float64))


def test_on_the_cpu_factors_stay_in_the_file() -> None:
    values = sd1()
    source = MemorySource(values)
    adapter = read_adapter(source)
    values[f"{TO_Q}.lora_up.weight"] *= 2

    (delta,) = (
        delta for m, delta in adapter.modules.items() if adapter.spec.modules[m].spelling.stem == TO_Q
    )

    assert torch.equal(delta.terms[0].structure.load().up, values[f"{TO_Q}.lora_up.weight"].flatten(1))


# ---- what other programs write -----------------------------------------------------------------------


def test_a_control_lora_of_flux_sets_norms_and_adds_biases() -> None:
    """Black Forest Labs' own: factors and biases in PEFT's words, and whole scales of norms."""
    values = {
        "img_in.lora_A.weight": seeded(2, 128, seed=1),
        "img_in.lora_B.weight": seeded(3072, 2, seed=2),
        "img_in.lora_B.bias": seeded(3072, seed=3),
        "single_blocks.0.linear1.lora_A.weight": seeded(2, 3072, seed=4),
        "single_blocks.0.linear1.lora_B.weight": seeded(21504, 2, seed=5),
        "single_blocks.0.norm.key_norm.scale": seeded(128, seed=6),
    }
    spec = read_adapter_spec(MemorySource(values), "flux1")
    assert {str(module): known.form and known.form.name for module, known in spec.modules.items()} == {
        "img_in.weight": None,
        "img_in.bias": "full difference",
        "single_blocks.0.linear1.weight": None,
        "single_blocks.0.norm.key_norm.scale": "full weight",
    }


def test_a_tensor_of_the_model_that_no_lora_carries_is_told() -> None:
    values = {
        "img_in.lora_A.weight": seeded(2, 128, seed=1),
        "img_in.lora_B.weight": seeded(3072, 2, seed=2),
        "txt_in.weight": seeded(3072, 4, seed=3),
    }
    with pytest.raises(InputError, match=r"1 tensor of no LoRA module: txt_in\.weight"):
        read_adapter_spec(MemorySource(values), "flux1")


def test_a_numbered_projection_of_xlabs_is_rows_of_the_first_linear() -> None:
    values = {
        "single_blocks.0.processor.qkv_lora.up.weight": seeded(9216, 2, seed=1),
        "single_blocks.0.processor.qkv_lora.down.weight": seeded(2, 3072, seed=2),
        "double_blocks.0.processor.qkv_lora1.up.weight": seeded(9216, 2, seed=3),
        "double_blocks.0.processor.qkv_lora1.down.weight": seeded(2, 3072, seed=4),
    }
    assert is_adapter(MemorySource(values))
    assert list(read_adapter_spec(MemorySource(values), "flux1").modules) == [
        ModuleId("dit", "single_blocks.0.linear1.weight", (0, 9216)),
        ModuleId("dit", "double_blocks.0.img_attn.qkv.weight"),
    ]


def test_pefts_own_files_of_a_known_model_find_their_modules(tmp_path: Path) -> None:
    path = "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {
        f"{path}.lora_A.weight": seeded(4, 2048, seed=1),
        f"{path}.lora_B.weight": seeded(640, 4, seed=2),
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 8}')
    with open_tensors(tmp_path) as source:
        adapter = read_adapter(source)
        ((module, delta),) = adapter.modules.items()
        assert adapter.spec.family == "sdxl"
        assert module.key == "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
        expected = 2.0 * tensors[f"{path}.lora_B.weight"].double() @ tensors[f"{path}.lora_A.weight"].double()
        torch.testing.assert_close(delta.dense(torch.float64), expected)


def test_a_folder_of_pefts_that_holds_no_adapter_we_read_is_no_checkpoint(tmp_path: Path) -> None:
    save_file({"base_model.model.x.weight": torch.ones(2, 2)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LN_TUNING"}')
    with open_tensors(tmp_path) as source:
        assert detect(source) == "lora"
        with pytest.raises(InputError, match="has 'peft_type' LN_TUNING, which lorapipe does not read"):
            read_adapter_spec(source)
