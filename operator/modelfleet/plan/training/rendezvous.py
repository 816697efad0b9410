"""How the pods of a distributed step find each other: names, the headless Service, and the variables that say so."""

from typing import Any, Final

from modelfleet.api import names
from modelfleet.api.training_job import Step, Trainer
from modelfleet.plan import job_state, naming
from modelfleet.plan.outcome import RawObject

JOB_NAME_LENGTH: Final = 60
"""Leaves room for ``-63``: a pod of an Indexed Job has the Job's name and its rank as host name, 63 at most."""

RENDEZVOUS_PORT: Final = 29500
"""torchrun's default."""

HOSTFILE_FOLDER: Final = "/job"
"""Where DeepSpeed's launcher looks for ``hostfile`` when it is not told another place."""


def job_name(training_job: str, step: str, attempt: int) -> str:
    """Name of the Job of one attempt at a step."""
    return naming.joined(training_job, step, str(attempt), limit=JOB_NAME_LENGTH)


def service_name(training_job: str) -> str:
    """Name of the headless Service of a training job; an EdgeDeployment of the same name has its own."""
    return naming.joined(training_job, "training")


def service(obj: RawObject) -> RawObject:
    """The headless Service that gives each pod of the training job a name before it is ready."""
    metadata = obj["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.TRAINING_JOB_LABEL: metadata["name"]},
            "ownerReferences": [naming.owner_reference(obj)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {names.TRAINING_JOB_LABEL: metadata["name"]},
            "ports": [
                {"name": "rendezvous", "port": RENDEZVOUS_PORT, "targetPort": RENDEZVOUS_PORT, "protocol": "TCP"}
            ],
        },
    }


def is_needed(step: Step) -> bool:
    """Whether the step's pods have to find each other."""
    return step.trainer is not None and step.trainer.num_nodes > 1


def variables(trainer: Trainer, training_job: str, step: str, attempt: int) -> list[dict[str, Any]]:
    """Where rank 0 is and who this pod is. torchrun takes each of its options from ``PET_<OPTION>``.

    Source: ``torch.distributed.run`` (``argparse_util.env``); with the static backend and no endpoint it meets at
    master address and port.
    """
    job = job_name(training_job, step, attempt)
    master = f"{job}-0.{service_name(training_job)}" if trainer.num_nodes > 1 else "localhost"
    counts = {"NNODES": trainer.num_nodes, "NPROC_PER_NODE": trainer.num_proc_per_node}
    common = {**counts, "MASTER_ADDR": master, "MASTER_PORT": RENDEZVOUS_PORT}
    rank = {"fieldRef": {"fieldPath": f"metadata.annotations['{job_state.COMPLETION_INDEX}']"}}
    found: list[dict[str, Any]] = []
    if trainer.framework in ("torch", "deepspeed"):
        torchrun = common | {"RDZV_BACKEND": "static", "RDZV_ID": job}
        found.append({"name": "PET_NODE_RANK", "valueFrom": rank})
        found += ({"name": f"PET_{name}", "value": str(value)} for name, value in torchrun.items())
    if trainer.framework in ("plain", "mpi", "deepspeed"):
        plain = common | {"WORLD_SIZE": trainer.num_nodes * trainer.num_proc_per_node}
        found.append({"name": "NODE_RANK", "valueFrom": rank})
        found += ({"name": name, "value": str(value)} for name, value in plain.items())
    return found


def hostfile(trainer: Trainer, training_job: str, step: str, attempt: int) -> str:
    """The nodes of a gang by rank, with their processes, as DeepSpeed's launcher reads them."""
    job, service_of = job_name(training_job, step, attempt), service_name(training_job)
    return "".join(
        f"{job}-{rank}.{service_of} slots={trainer.num_proc_per_node}\n" for rank in range(trainer.num_nodes)
    )
