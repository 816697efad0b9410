"""Step ``train``: data-parallel training of the network by torchrun, gloo on CPUs and nccl on GPUs."""

import os
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from network import Inspector
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from modelfleet.runtime import train

SEED = 11
EPOCHS = int(os.environ.get("EPOCHS", "14"))
BATCH = 64
"""Images of a step over all processes, so that the result hardly depends on their number."""
LEARNING_RATE = 4e-3


def augmented(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return the batch, mirrored at random: a defect is one in every direction."""
    for axis in (2, 3):
        flipped = torch.rand(len(images), generator=random) < 0.5
        images = torch.where(flipped[:, None, None, None], images.flip(axis), images)
    return images


@torch.no_grad()
def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of right answers."""
    model.eval()
    right = (model(images).argmax(dim=1) == labels).float().mean().item()
    model.train()
    return right


def main() -> None:
    """Train and save the weights, as ``weights.pt``."""
    step = train.step(local="train")
    cuda = torch.cuda.is_available()
    torch.distributed.init_process_group(train.backend())
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)

    with np.load(step.inputs("preprocess").file("split.npz")) as split:
        images, labels = torch.from_numpy(split["train_images"]), torch.from_numpy(split["train_labels"])
        held_images = torch.from_numpy(split["validation_images"]).to(device)
        held_labels = torch.from_numpy(split["validation_labels"]).to(device)

    network = Inspector().to(device)
    model = DistributedDataParallel(network, device_ids=[device.index] if cuda else None)
    train.compress_gradients(model)
    rounds = len(images) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * rounds)
    lose = nn.CrossEntropyLoss()
    # Every process draws the same order and takes its own slice of each batch.
    random = torch.Generator().manual_seed(SEED)
    loss = torch.zeros(())

    def save(folder: Path) -> None:
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
        }
        torch.save(state | {"random": random.get_state(), "loss": loss}, folder / "state.pt")

    # With spec.checkpoint in the TrainingJob, an attempt goes on where the one before it was saved.
    begin, checkpoints = 0, step.checkpoints()
    if (saved := checkpoints.latest()) is not None:
        state = torch.load(saved.folder / "state.pt", map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        random.set_state(state["random"].cpu())
        begin, loss = saved.progress, state["loss"]
    held: float | None = None
    for epoch in range(begin, EPOCHS):
        order = torch.randperm(len(images), generator=random)
        for start in range(0, rounds * BATCH, BATCH):
            batch = order[start : start + BATCH]
            mixed = augmented(images[batch], random)[rank::world].to(device)
            optimizer.zero_grad()
            loss = lose(model(mixed), labels[batch][rank::world].to(device))
            loss.backward()
            optimizer.step()
            schedule.step()
        if rank == 0:
            held = accuracy(network, held_images, held_labels)
            step.progress(epoch + 1, of=EPOCHS, metrics={"loss": loss.item(), "validation_accuracy": held})
            print(f"epoch {epoch + 1}/{EPOCHS}: loss {loss.item():.4f}, validation accuracy {held:.4f}", flush=True)
        if checkpoints.due(held):
            checkpoints.save(epoch + 1, save, score=held)
        # With spec.termination in the TrainingJob, one that gets no better ends here, with its best epoch.
        if step.should_finish():
            break
    if step.should_finish() and (best := checkpoints.best()) is not None:
        state = torch.load(best.folder / "state.pt", map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        loss = state["loss"]

    held = accuracy(network, held_images, held_labels)
    path = step.folder / "weights.pt"
    torch.save({name: weight.cpu() for name, weight in network.state_dict().items()}, path)
    step.save_file("weights.pt", path)
    step.finish({"validation_accuracy": held, "train_loss": loss.item(), "processes": world})
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
