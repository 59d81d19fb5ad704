"""What a file's metadata tell of its making: the model, the training, the pictures, the words.

The keys are those that kohya-ss/sd-scripts 48d368f writes (``ss_*``), the ModelSpec standard
1.0.1 (``modelspec.*``) and ostris/ai-toolkit's ``training_info``. Nothing in them is taken for granted:
what is not what it should be is left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from math import isfinite

__all__ = ["base_model", "training_notes"]

_TAGS = 6
"""Tags that are told, the most frequent first."""

_NONE = ("", "None", "null", "{}", "[]")

Metadata = Mapping[str, str]


def base_model(metadata: Metadata, config: Mapping[str, object] | None = None) -> str | None:
    """The model that a LoRA was trained on, as its metadata or its PEFT ``config`` call it.

    >>> base_model({"ss_base_model_version": "sdxl_base_v1-0", "ss_sd_model_name": "pony.safetensors"})
    'pony.safetensors, sdxl_base_v1-0'
    """
    named = None if config is None else config.get("base_model_name_or_path")
    told = [named] if isinstance(named, str) and named else []
    keys = ("ss_sd_model_name", "ss_base_model_version", "modelspec.architecture")
    told += [text for key in keys if (text := _said(metadata, key))]
    return ", ".join(dict.fromkeys(told[:2])) or None


def training_notes(metadata: Metadata) -> dict[str, str]:
    """What is worth knowing of a training, in words by topic; empty where nothing is told."""
    topics = {
        "title": _title,
        "trained": _trained,
        "rates": _rates,
        "data": _data,
        "tags": _tags,
        "words": _words,
        "made by": _made_by,
    }
    told = {topic: ", ".join(find(metadata)) for topic, find in topics.items()}
    return {topic: text for topic, text in told.items() if text}


def _title(metadata: Metadata) -> Iterator[str]:
    title = _said(metadata, "modelspec.title") or _said(metadata, "ss_output_name")
    if title:
        yield title
    if author := _said(metadata, "modelspec.author"):
        yield f"by {author}"
    if license_ := _said(metadata, "modelspec.license"):
        yield license_


def _trained(metadata: Metadata) -> Iterator[str]:
    info = _map(metadata, "training_info")
    steps = _said(metadata, "ss_steps") or _plain(info.get("step"))
    if steps:
        most = _said(metadata, "ss_max_train_steps")
        yield f"{steps} of {most} steps" if most and most != steps else f"{steps} steps"
    epoch = _said(metadata, "ss_epoch") or _plain(info.get("epoch"))
    if epoch:
        most = _said(metadata, "ss_num_epochs")
        yield f"epoch {epoch} of {most}" if most and most != epoch else f"epoch {epoch}"
    if size := _said(metadata, "ss_resolution") or _said(metadata, "modelspec.resolution"):
        yield size.strip("()").replace(", ", "x")
    batch = _said(metadata, "ss_total_batch_size") or _said(metadata, "ss_batch_size_per_device")
    if batch:
        yield f"batch {batch}"
    if when := _date(metadata):
        yield when


def _rates(metadata: Metadata) -> Iterator[str]:
    if rate := _said(metadata, "ss_learning_rate"):
        yield f"learning rate {rate}"
    for key, name in (("ss_unet_lr", "unet"), ("ss_text_encoder_lr", "te")):
        if rate := _said(metadata, key):
            yield f"{name} {rate}"
    if optimizer := _said(metadata, "ss_optimizer"):
        name, bracket, options = optimizer.partition("(")
        yield name.rpartition(".")[2] + bracket + options
    if scheduler := _said(metadata, "ss_lr_scheduler"):
        yield scheduler
    for key, name in (("ss_min_snr_gamma", "min SNR gamma"), ("ss_noise_offset", "noise offset")):
        if value := _said(metadata, key):
            yield f"{name} {value}"
    if (skip := _said(metadata, "ss_clip_skip")) and skip != "1":
        yield f"clip skip {skip}"


def _data(metadata: Metadata) -> Iterator[str]:
    if images := _said(metadata, "ss_num_train_images"):
        yield f"{images} images an epoch"
    if (images := _said(metadata, "ss_num_reg_images")) and images != "0":
        yield f"{images} for regularisation"
    for name, folder in _map(metadata, "ss_dataset_dirs").items():
        if isinstance(folder, dict):
            count, repeats = _plain(folder.get("img_count")), _plain(folder.get("n_repeats"))
            yield f"{name}: {count or '?'} x {repeats or '?'}"


def _tags(metadata: Metadata) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for folder in _map(metadata, "ss_tag_frequency").values():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            if isinstance(count, int):
                counts[tag.strip()] += count
    yield from (f"{tag} {_plain(count)}" for tag, count in counts.most_common(_TAGS))
    if len(counts) > _TAGS:
        yield f"and {len(counts) - _TAGS} more"


def _words(metadata: Metadata) -> Iterator[str]:
    for key in ("modelspec.trigger_phrase", "modelspec.usage_hint", "ss_training_comment"):
        if text := _said(metadata, key):
            yield text


def _made_by(metadata: Metadata) -> Iterator[str]:
    software = _map(metadata, "software")
    if name := _plain(software.get("name")):
        yield f"{name} {_plain(software.get('version'))}".strip()
    if (module := _said(metadata, "ss_network_module")) and module != "networks.lora":  # the usual one
        yield module
    if "lorapipe.provenance" in metadata:
        yield "lorapipe; 'lorapipe recover' prints the recipe"


def _date(metadata: Metadata) -> str:
    if date := _said(metadata, "modelspec.date"):
        return date[:10]
    try:
        ended = float(metadata.get("ss_training_finished_at", ""))
        return datetime.fromtimestamp(ended, timezone.utc).date().isoformat() if ended > 0.0 else ""
    except (ValueError, OverflowError, OSError):
        return ""


def _said(metadata: Metadata, key: str) -> str:
    text = metadata.get(key, "").strip()
    return "" if text in _NONE else text


def _map(metadata: Metadata, key: str) -> dict[str, object]:
    """The map that a text is as JSON; empty for any other."""
    try:
        value = json.loads(metadata.get(key, ""))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _plain(value: object) -> str:
    """A text or a number of JSON as a text; nothing for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, int) and abs(value) >= 1 << 64:  # which takes long to write out, or is refused
        return ""
    return f"{value:g}" if isinstance(value, float) and isfinite(value) else str(value)
