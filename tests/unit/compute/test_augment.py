"""The Augmentation node, by what it does to pictures whose every cell is known."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from cyxwiz.compute.augment import make_augment
from cyxwiz.domain.errors import CyxError
from cyxwiz.graph import check_model_fits, parse

PICTURE = torch.arange(1.0, 17.0).reshape(4, 4)


def changed(params: dict[str, Any], x: Tensor, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    graph = parse(json.dumps({"layers": [{"type": "augmentation", **params}, "dense"]}))
    augment = make_augment(graph.augment, shape)
    assert augment is not None
    return augment(x, torch.Generator().manual_seed(seed))


def batch(*shape: int) -> Tensor:
    return PICTURE.reshape(1, *shape).repeat(64, *(1,) * len(shape))


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1)])
@pytest.mark.parametrize(
    ("params", "made"),
    [
        ({"horizontal_flip": True}, [PICTURE, PICTURE.flip(1)]),
        ({"vertical_flip": "true"}, [PICTURE, PICTURE.flip(0)]),
        ({"rotate90": True}, [PICTURE.rot90(quarter) for quarter in range(4)]),
    ],
)
def test_every_change_of_a_kind_occurs_and_no_other(
    shape: tuple[int, ...], params: dict[str, Any], made: list[Tensor]
) -> None:
    x = changed(params, batch(*shape), shape)
    assert x.shape == (64, *shape)
    seen = {next(i for i, one in enumerate(made) if torch.equal(one, sample.reshape(4, 4))) for sample in x}
    assert seen == set(range(len(made)))


def test_a_picture_that_is_not_square_is_turned_by_half() -> None:
    x = torch.arange(6.0).reshape(1, 2, 3).repeat(32, 1, 1)
    turned = changed({"rotate90": True}, x, (2, 3))
    assert {tuple(sample.flatten().tolist()) for sample in turned} == {(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0)}


def test_a_crop_shifts_and_lets_zeros_in() -> None:
    seen = set()
    for sample in changed({"crop_padding": 1}, batch(4, 4), (4, 4)):
        padded = torch.nn.functional.pad(PICTURE, (1, 1, 1, 1))
        places = [(i, j) for i in range(3) for j in range(3) if torch.equal(padded[i : i + 4, j : j + 4], sample)]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 9


def test_a_cutout_is_one_square_of_zeros() -> None:
    for sample in changed({"cutout": 2}, batch(4, 4, 1), (4, 4, 1)):
        rows, columns = (sample[..., 0] == 0).nonzero(as_tuple=True)
        assert 1 <= len(rows) <= 4
        assert int(rows.max() - rows.min()) <= 1
        assert int(columns.max() - columns.min()) <= 1


def test_noise_brightness_and_contrast_have_their_size() -> None:
    zeros = torch.zeros(200, 50)
    assert changed({"noise_std": 0.5}, zeros, (50,)).std().item() == pytest.approx(0.5, rel=0.05)
    bright = changed({"brightness": 0.5}, zeros, (50,))
    assert (bright == bright[:, :1]).all()
    assert 0.4 < bright.abs().max().item() <= 0.5
    stretched = changed({"contrast": 0.5}, batch(4, 4), (4, 4))
    assert torch.allclose(stretched.flatten(1).mean(1), PICTURE.mean())
    factors = stretched.flatten(1).std(1) / PICTURE.std()
    assert 0.5 <= factors.min().item() < 0.7
    assert 1.3 < factors.max().item() <= 1.5


def test_the_generator_decides_and_flattened_samples_stay_flat() -> None:
    params = {"horizontal_flip": True, "noise_std": 0.1, "crop_padding": 1}
    x = batch(16)
    one, again, other = (changed(params, x, (4, 4), seed) for seed in (1, 1, 2))
    assert one.shape == (64, 16)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_nothing_to_do_is_none_and_a_table_has_no_sides() -> None:
    assert make_augment(None, (4,)) is None
    assert make_augment(parse('{"layers": ["augmentation", "dense"]}').augment, (4,)) is None
    with pytest.raises(CyxError, match=r"horizontal_flip needs samples of \(H, W\)"):
        changed({"horizontal_flip": True}, torch.zeros(1, 4), (4,))


def test_pictures_are_asked_for_before_anything_runs() -> None:
    graph = parse(json.dumps({"layers": [{"type": "augmentation", "horizontal_flip": True}, "dense"]}))
    with pytest.raises(CyxError, match="state input_shape"):
        check_model_fits(graph, "builtin:wine")
