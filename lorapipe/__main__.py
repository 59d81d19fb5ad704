"""The program: ``lorapipe``, and ``python -m lorapipe``."""

from __future__ import annotations

import os
import signal

__all__ = ["program"]

_INTERRUPTED = 130


def program() -> None:
    """Run the command line, and end the process.

    Ctrl-C is heard before the rest is imported, which takes most of the first 0.05 s. There is nothing
    to clean up until :func:`~lorapipe.cli.stopping.stoppable` hears it instead. Where it is ignored, as
    a shell's background jobs ignore it, it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    from lorapipe.cli.main import main
    from lorapipe.cli.stopping import leave

    leave(main())


def _interrupted(number: int, frame: object) -> None:  # noqa: ARG001  # the signal module's signature
    try:
        os.write(2, b"interrupted\n")
    finally:  # even if the shell closed it: 2>&-
        os._exit(_INTERRUPTED)


if __name__ == "__main__":
    program()
