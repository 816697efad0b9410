"""The network: three small convolutions, with the pixels' normalisation inside, so that a gateway sends raw images."""

import torch
from torch import nn

CLASSES = 3


class Inspector(nn.Module):
    """Takes images [n, 1, 32, 32] of values 0…1, gives logits [n, 3] for ok, scratch and pit."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.features = nn.Sequential(
            self._block(1, 16),
            self._block(16, 32),
            self._block(32, 64),
        )
        self.classify = nn.Linear(2 * 64, CLASSES)

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        features = self.features((image - 0.5) / 0.15)
        # A defect is a few pixels: the strongest answer counts as much as the mean one.
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return self.classify(pooled)
