"""The training that tests disturb: what a pod runs. Seeded, so that the same epochs end in the very same loss.

A two-layer network on drawn images of 8 by 8 pixels, in plain numpy; started by torchrun or as MPI ranks it is a gang,
whose processes each take a part of every batch and add their gradients up over gloo or MPI. Everything the rest of a
training depends on is in its checkpoints: weights, momentum, and the generator that shuffles.

Process 0 writes each epoch it has run into ``RECORD``, a file on the volume that outlives all pods, as
``<attempt> <epoch>``. ``HOLDS`` names, attempt by attempt, the epoch after which it waits for the file
``RECORD.go-<attempt>``: so a test knows where a training is when it strikes. With ``SAVE_WHEN_STOPPED`` it saves once
more when its pod is told to end, while it waits too.
"""

import json
import os
import pathlib
import time

import numpy as np

from modelfleet.runtime import train

EPOCHS = 16
PACE_SECONDS = 0.3
"""Least time an epoch takes: with an interval of a second, some are between two checkpoints."""
BATCH = 32
MODEL = bytes.fromhex(os.environ["MODEL"])
"""What is saved as the model; no test looks into it."""

step = train.step()
attempt = step.order.attempt
world = int(os.environ.get("WORLD_SIZE", "1"))
record = pathlib.Path(os.environ["RECORD"])
holds = [int(epoch) for epoch in os.environ.get("HOLDS", "").split()]
hold = holds[attempt - 1] if attempt <= len(holds) else 0

over_mpi = "PMI_RANK" in os.environ
if over_mpi:
    from mpi4py import MPI
elif world > 1:
    import torch
    import torch.distributed

    torch.set_num_threads(1)
    torch.distributed.init_process_group(train.backend())


def summed(gradient: np.ndarray) -> np.ndarray:
    """The sum over all processes."""
    if over_mpi:
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, gradient)
    elif world > 1:
        torch.distributed.all_reduce(torch.from_numpy(gradient))
    return gradient


def waits() -> bool:
    """Whether process 0 is told to wait, in every process."""
    told = [step.rank == 0 and not record.with_name(f"{record.name}.go-{attempt}").exists()]
    if over_mpi:
        told = MPI.COMM_WORLD.bcast(told)
    elif world > 1:
        torch.distributed.broadcast_object_list(told, src=0)
    return bool(told[0])


drawn = np.random.default_rng(20261121)
images = drawn.normal(size=(512, 64)).astype(np.float32)
labels = (images @ drawn.normal(size=64) > 0).astype(np.float32)
weights = [
    drawn.normal(scale=0.1, size=(64, 24)).astype(np.float32),
    drawn.normal(scale=0.1, size=(24, 1)).astype(np.float32),
]
momenta = [np.zeros_like(each) for each in weights]
shuffles = np.random.default_rng(7)
loss = 0.0

stops_with_checkpoint = "SAVE_WHEN_STOPPED" in os.environ
checkpoints = step.checkpoints(save_when_stopped=stops_with_checkpoint)
begin = 0
if (found := checkpoints.latest()) is not None:
    with np.load(found.folder / "state.npz") as state:
        weights = [state[f"weight{index}"] for index in range(2)]
        momenta = [state[f"momentum{index}"] for index in range(2)]
        loss = float(state["loss"])
        shuffles.bit_generator.state = json.loads(str(state["shuffles"]))
    begin = found.progress


def save(folder: pathlib.Path) -> None:
    """Write the checkpoint of this moment."""
    state = {f"weight{index}": each for index, each in enumerate(weights)}
    state |= {f"momentum{index}": each for index, each in enumerate(momenta)}
    np.savez(folder / "state.npz", loss=loss, shuffles=json.dumps(shuffles.bit_generator.state), **state)


for epoch in range(begin + 1, EPOCHS + 1):
    ends = time.monotonic() + PACE_SECONDS
    order = shuffles.permutation(len(images))
    losses = []
    for start in range(0, len(images), BATCH):
        mine = order[start : start + BATCH][step.rank :: world]
        hidden = np.tanh(images[mine] @ weights[0])
        probability = 1 / (1 + np.exp(-(hidden @ weights[1])[:, 0]))
        error = ((probability - labels[mine]) / BATCH)[:, None]
        back = error @ weights[1].T * (1 - hidden**2)
        gradients = [summed(images[mine].T @ back), summed(hidden.T @ error)]
        momenta = [0.9 * momentum - 0.3 * gradient for momentum, gradient in zip(momenta, gradients, strict=True)]
        weights = [(weight + momentum).astype(np.float32) for weight, momentum in zip(weights, momenta, strict=True)]
        losses.append(summed(np.array([np.square(error).sum()], dtype=np.float32)))
    loss = float(np.mean(losses))
    time.sleep(max(ends - time.monotonic(), 0))
    if step.rank == 0:
        with record.open("a") as file:
            print(attempt, epoch, file=file)
    if checkpoints.due():
        checkpoints.save(epoch, save)
    while epoch == hold and waits():
        time.sleep(0.1)
        if stops_with_checkpoint and checkpoints.due():
            checkpoints.save(epoch, save)

path = step.folder / "model.onnx"
path.write_bytes(MODEL)
step.save_artifact("raw", path, precision="fp32")
step.finish({"loss": loss, "begun_at": begin})
if world > 1 and not over_mpi:
    torch.distributed.destroy_process_group()
