"""Draw the example's dataset: small grey images of a brushed-metal surface, whole or with a defect.

These are drawings, not photographs: a seeded random generator lays brush marks, uneven light and sensor noise, and
draws a scratch (a thin dark or bright line) or a pit (a small dark spot) on top. The same seed and the same NumPy give
the same bytes. Usage: ``python draw.py surfaces.npz``; it prints the file's sha256.
"""

import argparse
import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSES = ("ok", "scratch", "pit")
SIZE = 32
"""Pixels of an edge."""

Image = NDArray[np.float64]


def surface(random: np.random.Generator) -> Image:
    """Brushed metal under uneven light, with sensor noise; values around 0.5."""
    row, column = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    light = random.uniform(0.4, 0.6) + row * random.uniform(-0.25, 0.25) + column * random.uniform(-0.25, 0.25)
    brush = np.repeat(random.normal(0, 0.05, (SIZE, 1)), SIZE, axis=1)
    noise = random.normal(0, 0.04, (SIZE, SIZE))
    return light + brush + noise


def scratch(image: Image, random: np.random.Generator) -> None:
    """A straight line of any direction, brighter or darker than the surface."""
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    angle = random.uniform(0.2, np.pi - 0.2)
    middle = random.uniform(SIZE * 0.3, SIZE * 0.7, 2)
    along = (row - middle[0]) * np.sin(angle) + (column - middle[1]) * np.cos(angle)
    across = (row - middle[0]) * np.cos(angle) - (column - middle[1]) * np.sin(angle)
    line = np.exp(-((across / random.uniform(0.5, 0.9)) ** 2)) * (np.abs(along) < random.uniform(5, 11))
    image += random.choice((-1, 1)) * random.uniform(0.15, 0.35) * line


def pit(image: Image, random: np.random.Generator) -> None:
    """One to three small dark spots."""
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    for _ in range(random.integers(1, 4)):
        middle = random.uniform(4, SIZE - 4, 2)
        distance = (row - middle[0]) ** 2 + (column - middle[1]) ** 2
        image -= random.uniform(0.2, 0.4) * np.exp(-distance / random.uniform(1.0, 2.5) ** 2)


def draw(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return ``count`` images of each class, mixed, and their labels: indices into ``CLASSES``."""
    random = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(CLASSES)), count)
    random.shuffle(labels)
    images = np.empty((len(labels), SIZE, SIZE), np.uint8)
    for index, label in enumerate(labels):
        image = surface(random)
        if CLASSES[label] == "scratch":
            scratch(image, random)
        elif CLASSES[label] == "pit":
            pit(image, random)
        images[index] = np.clip(image * 255, 0, 255).astype(np.uint8)
    return images, labels


def save(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
    """Write an ``.npz`` whose bytes depend on its content alone (no times of day)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in (("images", images), ("labels", labels), ("classes", np.array(CLASSES))):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def main() -> int:
    """Draw, save, print the digest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="file to write, .npz")
    parser.add_argument("--count", type=int, default=1000, help="images of each class")
    parser.add_argument("--seed", type=int, default=20261101)
    options = parser.parse_args()
    save(options.path, *draw(options.count, options.seed))
    print(f"sha256:{hashlib.sha256(options.path.read_bytes()).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
