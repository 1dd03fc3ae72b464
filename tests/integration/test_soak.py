"""A short soak of a real node: every answer right, and the node at rest in the end.

Memory and greedy answers are for a long one to judge: in seconds the caches still fill, and near-ties are few or many.
"""

from __future__ import annotations

import pytest

from benchmark.soak import arguments, soaked
from tests.kit.smollm2 import smollm2_path

pytestmark = [pytest.mark.model, pytest.mark.slow]


def test_a_node_answers_rightly_under_a_crowd_that_comes_and_leaves() -> None:
    model = smollm2_path()
    flags = ["--minutes", "0.25", "--clients", "6", "--stock", "3", "--threads", "1", "--model", str(model)]
    checks = soaked(arguments(flags))
    assert checks.faults == []
    assert checks.asked.total() > 0
    assert checks.rest
    assert not any(checks.rest.values())
