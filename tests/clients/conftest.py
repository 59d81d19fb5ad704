"""What all tests against other programs need: the programs, quiet, or a skip that says what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from .kit import Client
from .pipelines import KINDS, Targets, Train, Trained, trained

HERE = Path(__file__).resolve().parent

# A file's tests need what its name says: test_peft_lora.py needs peft.
NEEDS = {
    "peft": ("peft", "transformers", "accelerate"),
    "diffusers": ("diffusers", "peft", "transformers"),
    "lycoris": ("lycoris",),
    "mergekit": ("mergekit",),
    "transformers": ("transformers",),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what has no program; let the programs warn as they like, but lorapipe not."""
    for item in items:
        if item.path.parent != HERE:
            continue
        needs = next((n for key, n in NEEDS.items() if item.path.stem.startswith(f"test_{key}")), ())
        missing = [name for name in needs if find_spec(name) is None]
        if missing:
            reason = f"{', '.join(missing)} not installed: pip install '.[clients]'"
            item.add_marker(pytest.mark.skip(reason=reason))
        # Of filters that fit, the last decides.
        item.add_marker(pytest.mark.filterwarnings("ignore", "error:::lorapipe"))


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small take longer with two threads, several times so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    """A LoRA that diffusers trains and fuses, made when first asked for."""
    made: dict[str, Trained] = {}

    def once(kind: str, targets: Targets, parts: tuple[str, ...] = (), **options: Any) -> Trained:
        chosen = parts or (KINDS[kind].denoiser, *KINDS[kind].text_encoders)
        key = repr((kind, targets.__name__, chosen, sorted(options.items(), key=str)))
        if key not in made:
            made[key] = trained(kind, tmp_path_factory.mktemp(kind), targets, chosen, **options)
        return made[key]

    return once


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """lorapipe as a user has it: files in, files out, a store that no other test sees."""
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Client(tmp_path)
