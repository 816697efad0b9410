"""Conditions as a tool reads them: transitions, and what an object says whose plan cannot be carried out."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from modelfleet.api.training_job import TrainingJobSpec
from modelfleet.plan import conditions
from modelfleet.plan.conditions import Condition

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def test_the_time_of_a_transition_is_kept_while_the_status_is() -> None:
    before = conditions.merge((), [Condition("Ready", "False", "Waiting")], 1, NOW)
    same = conditions.merge(before, [Condition("Ready", "False", "Failed")], 2, LATER)
    assert same[0]["lastTransitionTime"] == before[0]["lastTransitionTime"]
    other = conditions.merge(before, [Condition("Ready", "True", "Done")], 2, LATER)
    assert other[0]["lastTransitionTime"] == conditions.timestamp(LATER)


def test_an_object_that_is_stuck_says_so_and_keeps_the_rest() -> None:
    known = conditions.merge((), [Condition("Verified", "True", "Verified"), Condition("Ready", "True", "R")], 1, NOW)
    obj = {"metadata": {"generation": 2}, "status": {"stage": "Online", "conditions": known}}
    status = conditions.stuck(obj, "ReconcileError", "Service n/a exists", LATER)
    assert (status["stage"], status["observedGeneration"]) == ("Online", 2)
    assert conditions.find(status["conditions"], "Verified") == known[0]
    found = {each["type"]: each["status"] for each in status["conditions"]}
    assert found == {"Verified": "True", "Ready": "False", "Reconciling": "False", "Stalled": "True"}
    again = conditions.stuck({**obj, "status": status}, "ReconcileError", "Service n/a exists", LATER)
    assert again == status
    assert conditions.stuck({"metadata": {}}, "E", "m", NOW)["observedGeneration"] == 0


def test_an_error_about_a_spec_does_not_quote_it() -> None:
    """What users wrote may hold a password, and errors are told in logs and Events."""
    with pytest.raises(ValidationError) as caught:
        TrainingJobSpec.model_validate({"model": "m", "hunter2": {"value": "hunter3"}, "version": ["hunter4"]})
    assert "hunter3" not in repr(caught.value) + str(caught.value)
    assert "hunter4" not in repr(caught.value) + str(caught.value)
