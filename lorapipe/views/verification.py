"""Outputs held against the lock, and built again: as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from lorapipe.views.tables import headed_table, print_table
from lorapipe.views.text import bytes_text, json_number, path_text, visible

if TYPE_CHECKING:
    from lorapipe.build.proving.comparing import Comparison, TensorDifference
    from lorapipe.build.proving.rebuild import Rebuilt, Remade
    from lorapipe.build.proving.verify import Verified

__all__ = ["print_verification", "verification_json"]

_GOOD = ("ok", "same bytes")
_MOST = 20
"""Tensors that are shown of an output, those farthest apart."""


def print_verification(
    outputs: Iterable[Verified], again: Rebuilt | None, folder: Path, console: Console
) -> None:
    """A row an output: what the lock has of it, whether that is there, and how it came out ``again``.

    Below, for each that came out otherwise, how far its tensors are apart.
    """
    remade = {} if again is None else {output.before.step: output for output in again.outputs}
    drawn = headed_table("output", "size", "sha256", "", *(["built again"] if again else []))
    for output in outputs:
        words = [output.state.value, *([remade[output.step].again.value] if again else [])]
        drawn.add_row(*_row(output, folder), *map(_state, words))
    print_table(drawn, console)
    for step, other in remade.items():
        if other.comparison is not None:
            _print_comparison(step, other.comparison, console)
    for line in again.machine if again else ():
        console.print(Text(f"the lock was made with another: {visible(line)}"), soft_wrap=True)


def _row(output: Verified, folder: Path) -> tuple[Text, Text, Text]:
    locked = output.locked
    size, sha256 = ("", "") if locked is None else (bytes_text(locked.size), locked.sha256[:12])
    return Text(visible(path_text(output.path, folder))), Text(size), Text(sha256)


def _state(word: str) -> Text:
    return Text(word, style="green" if word in _GOOD else "yellow" if word == "same numbers" else "red")


def _print_comparison(step: str, comparison: Comparison, console: Console) -> None:
    for line in (*comparison.structure, *(f"{what} differs" for what in comparison.besides)):
        console.print(Text(f"{step}: {visible(line)}"), soft_wrap=True)
    if not comparison.differing:
        return
    count = f"{len(comparison.differing)} of {comparison.tensors} tensors"
    console.print(Text(f"{step}: {count} differ"), soft_wrap=True)
    drawn = headed_table("tensor", "dtype", "values that differ", "max abs", "max rel", "max ulps")
    farthest = sorted(comparison.differing, key=lambda each: (-each.closeness.max_ulps, each.name))
    for each in farthest[:_MOST]:
        drawn.add_row(*_difference(each))
    print_table(drawn, console)
    if len(farthest) > _MOST:
        console.print(Text(f"and {len(farthest) - _MOST} more; --json lists all"))


def _difference(each: TensorDifference) -> tuple[Text, ...]:
    found = each.closeness
    of = f"{found.differing} of {found.values}"
    figures = (f"{found.max_abs:.3g}", f"{found.max_rel:.3g}", f"{found.max_ulps:.6g}")
    return tuple(Text(text) for text in (visible(each.name), each.spec.dtype, of, *figures))


def verification_json(outputs: Iterable[Verified], again: Rebuilt | None, folder: Path) -> dict[str, Any]:
    """A JSON-ready dict with all differences, infinite ones as null.

    Paths are relative to ``folder`` where they are in it.
    """
    told: dict[str, Any] = {"version": 1, "outputs": [_output_json(output, folder) for output in outputs]}
    if again is not None:
        told["machine"] = list(again.machine)
        for row, remade in zip(told["outputs"], again.outputs, strict=True):
            row["rebuilt"] = _remade_json(remade)
    return told


def _output_json(output: Verified, folder: Path) -> dict[str, Any]:
    locked = output.locked
    return {
        "step": output.step,
        "path": path_text(output.path, folder),
        "state": output.state.value,
        "sha256": output.sha256,
        "locked": None if locked is None else {"sha256": locked.sha256, "size": locked.size},
    }


def _remade_json(output: Remade) -> dict[str, Any]:
    found = output.comparison
    told: dict[str, Any] = {"sha256": output.sha256, "result": output.again.value}
    if found is not None:
        told |= {
            "tensors": found.tensors,
            "structure": list(found.structure),
            "besides": list(found.besides),
            "differing": [_difference_json(each) for each in found.differing],
        }
    return told


def _difference_json(each: TensorDifference) -> dict[str, Any]:
    found = each.closeness
    return {
        "tensor": each.name,
        "dtype": each.spec.dtype,
        "shape": list(each.spec.shape),
        "values": found.values,
        "differing": found.differing,
        "max-abs": json_number(found.max_abs),
        "max-rel": json_number(found.max_rel),
        "max-ulps": json_number(found.max_ulps),
    }
