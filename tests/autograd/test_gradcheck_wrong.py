"""Every wrong function is refused, and its diagnosis holds the right words."""

from __future__ import annotations

import pytest

from tinynet.autograd.gradcheck import GradcheckError, gradcheck

from .wrong_functions import CASES


@pytest.mark.parametrize("function, inputs, words", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_wrong_function_is_refused_with_its_diagnosis(function, inputs, words):
    with pytest.raises(GradcheckError) as caught:
        gradcheck(function, inputs)
    message = str(caught.value)
    for word in words:
        assert word in message, message


def test_there_are_enough_of_them_and_the_names_are_unique():
    names = [case[0] for case in CASES]
    assert len(set(names)) == len(names) >= 50
