"""``python -m benchmarks``: measure, and write down."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.chart import svg
from benchmarks.machine import facts
from benchmarks.peers import PEERS, Place, find, install
from benchmarks.report import markdown
from benchmarks.rounds import run_work
from benchmarks.work import Setting
from benchmarks.works import WORKS

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the works that are asked for; a peer that is missing is a row that says so."""
    asked = _parser().parse_args(arguments)
    cache = asked.data or _cache()
    if asked.install_peers:
        _tell("\n".join(install(cache / "peers")))
        return 0
    data = cache / ("small" if asked.small else "full")
    data.mkdir(parents=True, exist_ok=True)
    folder = asked.out or (None if asked.small or asked.only else Path(__file__).parent)
    results = _earlier(folder, small=asked.small) | {"small": asked.small}
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=cache) as scratch:
        setting = _setting(asked, cache, data, Path(scratch))
        results["machine"] = facts(data) | _versions(setting)
        for name in asked.only or WORKS:
            load = os.getloadavg()[0]
            work = WORKS[name](setting)
            rows = run_work(work, setting, asked.runs, _tell)
            results["works"][name] = {
                "title": work.title,
                "note": work.note,
                "date": asked.date,
                "load": load,
                "goals": [asdict(goal) for goal in work.goals],
                "rows": rows,
            }
            _keep(folder, results)
    if folder is None:
        sys.stdout.write(markdown(results))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--small", action="store_true", help="tiny models: tests the harness in seconds")
    add("--only", action="append", choices=list(WORKS), help="this work; may be given several times")
    add("--runs", type=int, default=5, help="rounds (default: 5)")
    add(
        "--kohya",
        type=Path,
        metavar="PATH",
        help="checkout of kohya-ss/sd-scripts, its environment in venv/ or .venv/",
    )
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="write RESULTS.md, results.svg, results.json there; works not run now are kept",
    )
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="files and environments (30 GB for all works; default: the user's cache)",
    )
    add("--date", default=_today(), help="date of the figures (default: SOURCE_DATE_EPOCH, else today)")
    add("--install-peers", action="store_true", help="make an environment for each peer under DATA, and stop")
    return parser


def _today() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    return (
        (datetime.datetime.fromtimestamp(int(epoch), tz=datetime.timezone.utc) if epoch else now)
        .date()
        .isoformat()
    )


def _cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("lorapipe")) / "benchmarks"


def _setting(asked: argparse.Namespace, cache: Path, data: Path, scratch: Path) -> Setting:
    peers = {name: find(name, cache / "peers") for name in PEERS}
    if asked.kohya is None:
        return Setting(asked.small, data, scratch, peers)
    folder = asked.kohya.resolve()
    pythons = [folder / name / "bin" / "python" for name in ("venv", ".venv")]
    python = next((str(path) for path in pythons if path.exists()), sys.executable)
    return Setting(asked.small, data, scratch, peers, Place(python), folder)


def _versions(setting: Setting) -> dict[str, str]:
    from lorapipe.version import __version__

    found = {"lorapipe": __version__}
    for name, place in setting.peers.items():
        found[name] = place.missing or f"{place.version} (torch {place.torch})"
    return found | {"kohya": setting.kohya.missing or _commit(setting.kohya_folder)}


def _commit(folder: Path | None) -> str:
    head = (folder or Path()) / ".git" / "HEAD"
    if not head.exists():
        return "sd-scripts, commit unknown"
    text = head.read_text(encoding="ascii").strip()
    ref = head.parent / text.removeprefix("ref: ")
    return "sd-scripts " + (ref.read_text(encoding="ascii") if ref.exists() else text)[:12]


def _earlier(folder: Path | None, *, small: bool) -> dict[str, Any]:
    path = folder / "results.json" if folder else None
    if path is None or not path.exists():
        return {"works": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found if found["small"] == small else {"works": {}}


def _keep(folder: Path | None, results: dict[str, Any]) -> None:
    results["works"] = {name: results["works"][name] for name in WORKS if name in results["works"]}
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text(markdown(results), encoding="utf-8")
    (folder / "results.svg").write_text(svg(results), encoding="utf-8")


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
