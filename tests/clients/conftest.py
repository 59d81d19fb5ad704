"""What all tests against other programs need: the programs, quiet, or a skip that says what is missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from .kit import Client

HERE = Path(__file__).resolve().parent

# A file's tests need what its name says: test_peft_lora.py needs peft.
NEEDS = {
    "peft": ("peft", "transformers", "accelerate"),
    "diffusers": ("diffusers", "peft", "transformers"),
    "lycoris": ("lycoris",),
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


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """lorapipe as a user has it: files in, files out, a store that no other test sees."""
    monkeypatch.setenv("LORAPIPE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return Client(tmp_path)
