"""For mkdocs: files of the repository that a page links to come along; links to folders become plain words.

On GitHub and in an editor the pages link to their neighbours (``../recipes/quickstart.yaml``). A site
holds ``docs/`` alone, so each file linked to is put into it, under the path that it has in the repository.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+[^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to and ``docs/`` does not hold."""
    for page in list(files.documentation_pages()):
        for _, target, _ in LINK.findall(page.content_string):
            path = _outside(page.src_uri, target)
            if path and (ROOT / path).is_file() and not files.get_file_from_path(_name(path)):
                files.append(File.generated(config, _name(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links that leave ``docs/`` to the files that came along."""

    def mended(found: re.Match[str]) -> str:
        path = _outside(page.file.src_uri, found[2])
        if path is None:
            return found[0]
        if not (ROOT / path).is_file():
            return found[1]
        return f"[{found[1]}]({relpath(_name(path), PurePosixPath(page.file.src_uri).parent)})"

    return LINK.sub(mended, markdown)


def _outside(page: str, target: str) -> str | None:
    """The path in the repository of what a page links to, if that is not in ``docs/``."""
    path = normpath(f"docs/{PurePosixPath(page).parent}/{target}")
    return None if path.startswith("docs/") else path


def _name(path: str) -> str:
    """Where a file lies in the site; as text, since a page would need its own links mended."""
    return f"files/{path}.txt"
