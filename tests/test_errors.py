"""One error or several: a caller need not ask which."""

from __future__ import annotations

import pytest

from lorapipe.errors import BuildError, InputError, ManyErrors, gathered


def test_one_error_is_raised_as_it_is_and_several_as_a_group_in_their_order() -> None:
    one, two = BuildError("full", "no room"), InputError("gone", "no file")
    assert gathered([one]) is one
    both = gathered([one, two])
    assert isinstance(both, ManyErrors)
    assert both.errors == (one, two)
    assert both.exit_status == InputError.exit_status


def test_no_errors_cannot_be_gathered() -> None:
    with pytest.raises(ValueError, match="at least one"):
        gathered([])


def test_an_error_is_its_own_only_part_and_a_group_has_those_it_was_made_of() -> None:
    one, two = BuildError("full", "no room"), InputError("gone", "no file")
    assert one.parts == (one,)
    assert ManyErrors([one, two]).parts == (one, two)
    assert ManyErrors([ManyErrors([one]), two, ManyErrors([two, one])]).parts == (one, two, two, one)
