"""Step ``preprocess``: scale the images to 0…1 and split them into train, validation and test, class by class."""

import numpy as np

from modelfleet.runtime import train

SEED = 7
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}


def main() -> None:
    """Write ``split.npz``: images as float32 [n, 1, 32, 32] and labels, for each part."""
    step = train.step(local="preprocess")
    with np.load(step.dataset()) as dataset:
        images, labels, classes = dataset["images"], dataset["labels"], dataset["classes"]
    random = np.random.default_rng(SEED)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in SHARES}
    for label in range(len(classes)):
        members = random.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum([round(share * len(members)) for share in SHARES.values()])[:-1]
        for name, chosen in zip(SHARES, np.split(members, ends), strict=True):
            parts[name].append(chosen)
    arrays = {"classes": classes}
    for name, chosen in parts.items():
        order = random.permutation(np.concatenate(chosen))
        arrays[f"{name}_images"] = (images[order].astype(np.float32) / 255)[:, np.newaxis]
        arrays[f"{name}_labels"] = labels[order]
    path = step.folder / "split.npz"
    np.savez(path, **arrays)
    step.save_file("split.npz", path)
    step.finish({f"{name}_images": len(arrays[f"{name}_labels"]) for name in SHARES})


if __name__ == "__main__":
    main()
