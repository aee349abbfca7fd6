"""`make_augment`: what the Augmentation node does to a batch, drawn from the generator that the trainer hands in.

Every sample is changed by draws of its own. Flips, quarter turns, crops and cutouts are for pictures (H, W) or
(H, W, C); noise, brightness and contrast for any shape. The same generator state gives the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cyxwiz.graph import Part, Shape
from cyxwiz.graph.fit import PICTURE_CHANGES, check_augmentation

Augment = Callable[[Tensor, torch.Generator], Tensor]


def make_augment(part: Part | None, shape: Shape) -> Augment | None:
    """The function from a batch (N, …) to a changed batch of the same shape; None when nothing is to be changed.

    Args:
        part: the Augmentation of the graph.
        shape: what a sample is, as the model's input states it; the batch may come flattened.

    Raises:
        CyxError: INVALID for a change of pictures on samples that are none.
    """
    if part is None:
        return None
    check_augmentation(part, shape)
    numbers = {name: float(value) for name, value in part.params.items() if isinstance(value, int | float)}
    if not any(numbers.get(name) for name in (*PICTURE_CHANGES, "noise_std", "brightness", "contrast")):
        return None
    return _Augmentation(numbers, shape)


@dataclass(frozen=True, slots=True)
class _Augmentation:
    numbers: dict[str, float]
    shape: Shape

    def __call__(self, x: Tensor, draw: torch.Generator) -> Tensor:
        given = x.shape
        x = x.reshape(len(x), *self.shape)
        n = self.numbers
        chance = n.get("probability", 0.5)
        if n.get("horizontal_flip"):
            x = _where(self._happens(x, draw, chance), x.flip(2), x)
        if n.get("vertical_flip"):
            x = _where(self._happens(x, draw, chance), x.flip(1), x)
        if n.get("rotate90"):
            x = self._turn(x, draw)
        if n.get("crop_padding"):
            x = self._shift(x, draw, int(n["crop_padding"]))
        if n.get("contrast"):
            mean = x.flatten(1).mean(1).reshape(-1, *(1,) * len(self.shape))
            x = mean + (x - mean) * (1 + n["contrast"] * self._between(x, draw))
        if n.get("brightness"):
            x = x + n["brightness"] * self._between(x, draw)
        if n.get("noise_std"):
            x = x + n["noise_std"] * torch.randn(x.shape, generator=draw, device=draw.device).to(x)
        if n.get("cutout"):
            x = self._cut(x, draw, int(n["cutout"]))
        return x.reshape(given)

    def _happens(self, x: Tensor, draw: torch.Generator, chance: float) -> Tensor:
        return (torch.rand(len(x), generator=draw, device=draw.device) < chance).to(x.device)

    def _between(self, x: Tensor, draw: torch.Generator) -> Tensor:
        """One number from -1 to 1 for every sample."""
        made = torch.rand(len(x), *(1,) * len(self.shape), generator=draw, device=draw.device) * 2 - 1
        return made.to(x)

    def _whole(self, x: Tensor, draw: torch.Generator, below: int) -> Tensor:
        return torch.randint(below, (len(x),), generator=draw, device=draw.device).to(x.device)

    def _turn(self, x: Tensor, draw: torch.Generator) -> Tensor:
        """By a multiple of 90 degrees, of 180 where height and width differ."""
        square = self.shape[0] == self.shape[1]
        quarters = self._whole(x, draw, 4 if square else 2) * (1 if square else 2)
        made = x
        for count in (1, 2, 3) if square else (2,):
            made = _where(quarters == count, x.rot90(count, (1, 2)), made)
        return made

    def _shift(self, x: Tensor, draw: torch.Generator, padding: int) -> Tensor:
        """A window of the size of the picture out of the padded picture."""
        height, width = self.shape[:2]
        pads = (padding,) * 4 if len(self.shape) == 2 else (0, 0, padding, padding, padding, padding)
        padded = functional.pad(x, pads)
        top, left = self._whole(x, draw, 2 * padding + 1), self._whole(x, draw, 2 * padding + 1)
        rows = top[:, None] + torch.arange(height, device=x.device)
        columns = left[:, None] + torch.arange(width, device=x.device)
        samples = torch.arange(len(x), device=x.device)[:, None, None]
        return padded[samples, rows[:, :, None], columns[:, None, :]]

    def _cut(self, x: Tensor, draw: torch.Generator, side: int) -> Tensor:
        """A square of zeros around a place of the picture (DeVries and Taylor 2017)."""
        masks: list[Tensor] = []
        for size in self.shape[:2]:
            start = self._whole(x, draw, size)[:, None] - side // 2
            places = torch.arange(size, device=x.device)
            masks.append((places >= start) & (places < start + side))
        inside = masks[0][:, :, None] & masks[1][:, None, :]
        return x.masked_fill(inside if len(self.shape) == 2 else inside[..., None], 0.0)


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *(1,) * (yes.dim() - 1)), yes, no)
