"""The order of a training job's steps: who may run now, and whose word counts last."""

from collections.abc import Collection, Sequence

from modelfleet.api.training_job import Step, TrainingJobSpec

SHORT_FORM_STEP = "train"
"""Name of the one step that a TrainingJob in the short form (``spec.trainer``) has."""


class InvalidDagError(ValueError):
    """The steps cannot be ordered; the message names those at fault and the remedy."""


def steps_of(spec: TrainingJobSpec) -> list[Step]:
    """The steps as written; the short form is one distributed step."""
    if spec.trainer is not None:
        return [Step(name=SHORT_FORM_STEP, trainer=spec.trainer)]
    return list(spec.steps)


def ordered(steps: Sequence[Step]) -> list[Step]:
    """The steps so that each comes after those it depends on; among equals, in the order they were written.

    Raises :class:`InvalidDagError` for a cycle (which it names) or an unknown name.
    """
    known = {step.name for step in steps}
    for step in steps:
        for dependency in step.depends_on:
            if dependency.name not in known:
                raise InvalidDagError(
                    f"steps[{step.name}].dependsOn names {dependency.name}, which is no step of this job"
                )
    left, done, result = list(steps), set[str](), list[Step]()
    while left:
        ready = next((step for step in left if is_ready(step, done)), None)
        if ready is None:
            cycle = _cycle(left)
            raise InvalidDagError(
                f"steps[].dependsOn has a cycle: {' -> '.join(cycle)};"
                " create a new TrainingJob in which one of them does not wait for the other"
            )
        left.remove(ready)
        done.add(ready.name)
        result.append(ready)
    return result


def is_ready(step: Step, done: Collection[str]) -> bool:
    """Whether all that the step waits for is done."""
    return all(dependency.name in done for dependency in step.depends_on)


def waits_for(step: Step, done: Collection[str], up: Collection[str]) -> str:
    """What the step still waits for, in words; empty: nothing. ``up``: the steps whose pods are all ready.

    As in a JobSet (``dependsOn[].status``), what is done counts as ready, too: a server may have ended before this
    step was looked at.
    """
    waits = [
        dependency.name if dependency.status == "Complete" else f"{dependency.name} to be ready"
        for dependency in step.depends_on
        if dependency.name not in done and (dependency.status == "Complete" or dependency.name not in up)
    ]
    return ", ".join(waits)


def is_first(step: Step) -> bool:
    """Whether the step takes nothing from others: what the job brings along is for it."""
    return all(dependency.status == "Ready" for dependency in step.depends_on)


def _cycle(left: Sequence[Step]) -> list[str]:
    """One cycle among steps of which each waits for another of them, its first name repeated at the end."""
    waits = {step.name: [item.name for item in step.depends_on] for step in left}
    path = [left[0].name]
    while True:
        following = next(name for name in waits[path[-1]] if name in waits)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)
