"""Where a step's pods may run, what its node pool adds to them, and that no node is such a one."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from modelfleet.api.training_job import Step, TrainingJobSpec
from modelfleet.plan.installation import Installation, NodePool
from modelfleet.plan.job_state import Trouble

_GPU = "nvidia.com/gpu"


class UnknownNodePoolError(ValueError):
    """``nodePool`` names none of the installation's; the message lists those there are."""


def pool_of(spec: TrainingJobSpec, step: Step | None, installation: Installation) -> NodePool:
    """The step's node pool, else the job's, else one that asks for nothing. Raises :class:`UnknownNodePoolError`."""
    name = (step.node_pool if step is not None else None) or spec.node_pool
    if name is None:
        return NodePool()
    try:
        return installation.node_pools[name]
    except KeyError:
        known = ", ".join(sorted(installation.node_pools)) or "none"
        raise UnknownNodePoolError(
            f"nodePool {name} is not one of this installation's (known: {known});"
            " add it to the chart's nodePools or use nodeSelector"
        ) from None


def fields(spec: TrainingJobSpec, pool: NodePool) -> dict[str, Any]:
    """Fields of the pod: the pool's selector and tolerations with those of the job on top."""
    selector = {**pool.node_selector, **spec.node_selector}
    tolerations = [
        *(dict(toleration) for toleration in pool.tolerations),
        *(toleration.model_dump(by_alias=True, exclude_none=True) for toleration in spec.tolerations),
    ]
    placement: dict[str, Any] = {}
    if selector:
        placement["nodeSelector"] = selector
    if tolerations:
        placement["tolerations"] = tolerations
    return placement


def communication(step: Step, pool: NodePool) -> dict[str, str]:
    """Environment of a distributed step: what its processes talk by, and what the pool's network needs for it."""
    if step.trainer is None:
        return {}
    resources = step.trainer.resources_per_node
    by_resources = "nccl" if resources is not None and _GPU in resources.limits else "gloo"
    return {"DISTRIBUTED_BACKEND": pool.backend or by_resources, **pool.env}


def explained(unschedulable: Trouble, job: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> Trouble:
    """The trouble, with a plain word where a pod asks for labels that no node has.

    The scheduler's own sentence counts nodes and predicates; a misspelt label is one of many in it.
    """
    selector = job["spec"]["template"]["spec"].get("nodeSelector") or {}
    if any(selector.items() <= (node["metadata"].get("labels") or {}).items() for node in nodes) or not selector:
        return unschedulable
    wanted = ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
    what, _, why = unschedulable.message.partition(": ")
    return replace(
        unschedulable, message=f"{what}: no node has the labels {wanted} of its nodePool or nodeSelector: {why}"
    )
