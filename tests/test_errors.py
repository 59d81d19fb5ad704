"""One error or several: a caller need not ask which."""

from __future__ import annotations

import pickle

import pytest

from lorapipe.errors import BuildError, CheckFailed, InputError, LorapipeError, ManyErrors, Place, gathered


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


def test_an_error_says_the_same_in_another_process() -> None:
    place = Place(file="a.yaml", line=8, column=15, width=4, text="  two: {svd-resise: both}")
    one = BuildError("full", "no room", hint="make some", option="to", details=["a", "b"])
    one = one.located(where=place, step="two", module="lora_te_1")
    there = pickle.loads(pickle.dumps(one))
    assert type(there) is BuildError
    assert (vars(there), there.args, str(there)) == (vars(one), one.args, str(one))
    assert there.exit_status == 5


def test_a_group_of_errors_is_one_in_another_process_with_its_status() -> None:
    group = ManyErrors([CheckFailed("a", "b"), InputError("c", "d")])
    there: LorapipeError = pickle.loads(pickle.dumps(group))
    assert [type(part) for part in there.parts] == [CheckFailed, InputError]
    assert there.exit_status == InputError.exit_status
