"""What the figures were measured on, in words that hold no name or folder of the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

__all__ = ["facts"]


def facts(data: Path) -> dict[str, str]:
    """CPU, cores, memory, the disk under ``data``, and versions."""
    found = {
        "CPU": _cpu(),
        "cores": str(_cores()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "disk": _disk(data),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "Python": platform.python_version(),
    }
    return found | {name: _version(name) for name in ("torch", "numpy", "safetensors")}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    widest = next((name for name in ("avx512f", "avx2") if name in named.get("flags", "").split()), "")
    model = named.get("model name", platform.machine()).replace("(R)", "").replace("(TM)", "")
    return f"{model}{', ' + widest.rstrip('f').upper() if widest else ''}"


def _disk(path: Path) -> str:
    """File system and kind of device, as Linux tells them."""
    number = path.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    name = device.resolve().name if device.exists() else ""
    kinds = {"vd": "virtual disk", "xvd": "virtual disk", "nvme": "NVMe", "sd": "SATA or SCSI disk"}
    kind = next((words for start, words in kinds.items() if name.startswith(start)), "disk of unknown kind")
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return kind
    here = f"{os.major(number)}:{os.minor(number)}"
    system = next((line.split(" - ")[1].split()[0] for line in mounts if line.split()[2] == here), "")
    return f"{kind}, {system}" if system else kind


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
