"""What a file's metadata tell of its training, and what is no use in them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorapipe.formats.training import base_model, training_notes

KOHYA = {
    "ss_sd_model_name": "base.safetensors",
    "ss_base_model_version": "sdxl_base_v1-0",
    "ss_output_name": "my_char",
    "ss_steps": "2000",
    "ss_max_train_steps": "4000",
    "ss_epoch": "5",
    "ss_num_epochs": "10",
    "ss_resolution": "(1024, 1024)",
    "ss_batch_size_per_device": "4",
    "ss_training_finished_at": "1700003600.5",
    "ss_learning_rate": "0.0001",
    "ss_unet_lr": "0.0002",
    "ss_text_encoder_lr": "None",
    "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1)",
    "ss_lr_scheduler": "cosine",
    "ss_min_snr_gamma": "5.0",
    "ss_noise_offset": "None",
    "ss_clip_skip": "2",
    "ss_num_train_images": "1200",
    "ss_num_reg_images": "0",
    "ss_dataset_dirs": json.dumps({"10_char": {"n_repeats": 10, "img_count": 120}}),
    "ss_tag_frequency": json.dumps(
        {"a": {"1girl ": 3, "solo": 2}, "b": {"1girl": 4, **{f"t{n}": 1 for n in range(9)}}}
    ),
    "ss_network_module": "lycoris.kohya",
    "modelspec.author": "me",
    "modelspec.trigger_phrase": "mychar",
}


def test_a_file_of_kohyas_trainer_tells_all_this() -> None:
    assert training_notes(KOHYA) == {
        "title": "my_char, by me",
        "trained": "2000 of 4000 steps, epoch 5 of 10, 1024x1024, batch 4, 2023-11-14",
        "rates": "learning rate 0.0001, unet 0.0002, AdamW8bit(weight_decay=0.1), cosine, min SNR gamma 5.0,"
        " clip skip 2",
        "data": "1200 images an epoch, 10_char: 120 x 10",
        "tags": "1girl 7, solo 2, t0 1, t1 1, t2 1, t3 1, and 5 more",
        "words": "mychar",
        "made by": "lycoris.kohya",
    }
    assert base_model(KOHYA) == "base.safetensors, sdxl_base_v1-0"


def test_steps_that_all_were_made_are_said_once() -> None:
    told = training_notes(
        {"ss_steps": "10", "ss_max_train_steps": "10", "ss_epoch": "1", "ss_num_epochs": "1"}
    )
    assert told == {"trained": "10 steps, epoch 1"}


def test_ai_toolkits_numbers_and_peft_bases_are_understood() -> None:
    metadata = {
        "training_info": '{"step": 1500, "epoch": 3}',
        "software": '{"name": "ai-toolkit", "version": "0.1"}',
    }
    assert training_notes(metadata) == {"trained": "1500 steps, epoch 3", "made by": "ai-toolkit 0.1"}
    assert base_model({}, {"base_model_name_or_path": "org/model"}) == "org/model"


def test_a_file_that_lorapipe_built_says_how_to_get_its_recipe() -> None:
    assert training_notes({"lorapipe.provenance": "{}"}) == {
        "made by": "lorapipe; 'lorapipe recover' prints the recipe"
    }


def test_the_usual_network_is_not_worth_a_line() -> None:
    assert training_notes({"ss_network_module": "networks.lora"}) == {}


def test_of_a_file_that_tells_nothing_nothing_is_told() -> None:
    assert training_notes({}) == {}
    assert base_model({}) is None
    assert base_model({}, {"base_model_name_or_path": None}) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        '"a"',
        "{",
        "[" * 100_000,
        '{"a": 3}',
        '{"a": [1]}',
        '{"a": {"b": null, "c": "x", "d": {"e": 1}, "img_count": true}}',
        '{"a": {"b": ' + "9" * 6000 + "}}",
        '{"name": NaN, "step": 1e999, "epoch": -Infinity}',
    ],
    ids=lambda text: text[:12],
)
def test_json_that_is_not_what_it_should_be_is_passed_over(text: str) -> None:
    keys = ("ss_dataset_dirs", "ss_tag_frequency", "training_info", "software", "ss_training_finished_at")
    told = training_notes(dict.fromkeys(keys, text))
    assert all(isinstance(value, str) and len(value) < 100 for value in told.values())


@pytest.mark.parametrize("when", ["nan", "inf", "-1", "1e300", "9" * 400, "soon"])
def test_a_date_that_is_none_is_not_told(when: str) -> None:
    assert training_notes({"ss_training_finished_at": when}) == {}


KEYS = st.sampled_from([*KOHYA, "training_info", "software", "modelspec.date", "modelspec.title"])


@given(
    st.dictionaries(
        KEYS,
        st.text(max_size=20)
        | st.recursive(
            st.none() | st.integers() | st.floats() | st.text(max_size=4),
            lambda inner: (
                st.dictionaries(st.text(max_size=4), inner, max_size=3) | st.lists(inner, max_size=3)
            ),
            max_leaves=6,
        ).map(json.dumps),
    )
)
def test_nothing_in_metadata_is_an_error(metadata: dict[str, str]) -> None:
    assert all(training_notes(metadata).values())
    assert base_model(metadata) != ""
