"""``python -m lorapipe``."""

from __future__ import annotations

from lorapipe.cli.main import program

if __name__ == "__main__":
    program()
