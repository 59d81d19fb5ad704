"""Variants that would be one, or would write one file."""

from __future__ import annotations

import pytest

from .test_expansion import said_of

MATRIX = "{r: [1, 11], s: [1, 11]}"
USED = "  b: {svd-resize: a, rank: $(r)}\n  c: {scale: b, by: $(s)}\n"


@pytest.mark.parametrize(
    ("step", "errors"),
    [
        ("{save: c, to: out/$(r)-$(s).pt}", []),
        ("{save: b, to: out/$(r).pt}", []),
        ("{save: a, to: out/x.pt}", []),
        ("{save: b, to: out/x.pt}", ["20: error: 'to' lacks $(r): 'x[r=1]' and 'x[r=11]' write the same file - such as out/x-$(r).pt"]),
        ("{save: c, to: out/x-$(r).pt}", ["20: error: 'to' lacks $(s): 'x[r=1,s=1]' and 'x[r=1,s=11]' write the same file - such as out/x-$(r)-$(s).pt"]),
        ("{save: c, to: x.tar.pt}", ["20: error: 'to' lacks $(r) and $(s): 'x[r=1,s=1]' and 'x[r=1,s=11]' write the same file - such as x.tar-$(r)-$(s).pt"]),
        ("{save: b, to: out/x/}", ["20: error: 'to' lacks $(r): 'x[r=1]' and 'x[r=11]' write the same file - such as out/x-$(r)/"]),
        ("{save: c, to: out/$(r)$(s).pt}", ["20: error: 'x[r=1,s=11]' and 'x[r=11,s=1]' write the same file - put other characters between the values"]),
    ],
)  # fmt: skip
def test_variants_that_write_one_file_are_refused_with_the_axis_that_the_name_lacks(
    step: str, errors: list[str]
) -> None:
    assert said_of(MATRIX, f"{USED}  x: {step}\n") == [f"r.yaml:7:{error}" for error in errors]


def test_a_name_needs_no_axis_that_the_matrix_ties_to_another() -> None:
    """Of what is included alone, each strength has its rank."""
    matrix = "{r: [4], s: [1], include: [{r: 8, s: 2}, {r: 16, s: 3}]}"
    assert said_of(matrix, f"{USED}  x: {{save: c, to: out/$(s).pt}}\n") == []


def test_an_axis_that_no_step_has_is_refused() -> None:
    assert said_of("{r: [1, 2], t: [3]}", "  b: {svd-resize: a, rank: $(r)}\n") == [
        (
            "r.yaml:2:21: error: no step has $(t): its variants are one and the same"
            " - put $(t) where its values belong, or delete it"
        )
    ]


def test_collisions_are_said_beside_what_else_is_wrong() -> None:
    assert said_of(
        "{r: [1, x]}", "  b: {svd-resize: a, rank: $(r)}\n  x: {save: b, to: x.pt, dense: 5}\n"
    ) == [
        "r.yaml:5:28: error: 'rank' takes a whole number from 1, or $(name) - $(r) is 'x'",
        "r.yaml:6:20: error: 'to' lacks $(r): 'x[r=1]' and 'x[r=x]' write the same file - such as x-$(r).pt",
        "r.yaml:6:33: error: 'dense' takes true or false, or $(name), not 5",
    ]
