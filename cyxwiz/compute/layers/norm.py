"""Normalisations on samples with channels last."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from cyxwiz.compute.layers.typing import Builder, channels_first, channels_last
from cyxwiz.graph.layers.norm import groups, normalized
from cyxwiz.graph.rule import Site


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the batch and all places, for a sample of any rank.

    A batch with one number per channel has no variance: there the running statistics are used, also in training.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch names it so
        pass

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it so
        if self.training and input.numel() == input.shape[-1]:
            made = functional.batch_norm(
                channels_first(input), self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
            return channels_last(made)
        return channels_last(super().forward(channels_first(input)))


class GroupNorm(nn.GroupNorm):
    """nn.GroupNorm with channels last.

    All places become one axis: torch 2.13 crashes in the backward pass over images with channels last when their own
    gradient is not asked for, as behind the model's input.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it so
        if input.dim() == 2:
            return super().forward(input)
        made = super().forward(input.flatten(1, -2).transpose(1, 2))
        return made.transpose(1, 2).reshape(input.shape)


class InstanceNorm(nn.InstanceNorm1d):
    """Every channel of every sample by its own mean and variance over all places."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it so
        made = super().forward(input.flatten(1, -2).transpose(1, 2))
        return made.transpose(1, 2).reshape(input.shape)


def _batch(site: Site) -> nn.Module:
    return BatchNorm(site.given[-1], site.number("eps"), site.number("momentum"), site.flag("affine"))


BUILDERS: dict[str, Builder] = {
    "BatchNorm": lambda site, made: _batch(site),
    "LayerNorm": lambda site, made: nn.LayerNorm(list(normalized(site)), site.number("eps"), site.flag("affine")),
    "GroupNorm": lambda site, made: GroupNorm(groups(site), made[-1], site.number("eps"), site.flag("affine")),
    "InstanceNorm": lambda site, made: InstanceNorm(made[-1], site.number("eps"), affine=site.flag("affine")),
}
