"""``python -m lorapipe``."""

from __future__ import annotations

import sys

from lorapipe.cli import main

if __name__ == "__main__":
    sys.exit(main())
