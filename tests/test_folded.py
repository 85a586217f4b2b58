"""Folded batch norms: the same outputs and gradients, and nothing left behind."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from headstart.training.folded import folded
from tiny import tiny


def randomised(module: nn.Module) -> nn.Module:
    """With statistics, scales and shifts that matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for one in module.modules():
            if isinstance(one, nn.BatchNorm2d):
                nn.init.uniform_(one.running_mean, -1, 1)
                nn.init.uniform_(one.running_var, 0.5, 2)
                nn.init.uniform_(one.weight, 0.5, 2)
                nn.init.uniform_(one.bias, -1, 1)
    return module.eval()


def networks() -> dict[str, nn.Module]:
    timm = pytest.importorskip("timm")
    torchvision = pytest.importorskip("torchvision")
    return {
        "plain": tiny(),
        "with a bias": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        "timm's, padded as TensorFlow does": timm.create_model("tf_efficientnet_lite0", num_classes=0),
        "torchvision's": torchvision.models.resnet18(weights=None),
    }


NUMBERS = {"plain": 4, "with a bias": 1, "timm's, padded as TensorFlow does": 49, "torchvision's": 20}


def outcome(module: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The output, and the gradient of each parameter."""
    module.zero_grad()
    output = module(pixels)
    (output.double() * torch.arange(output[0].numel()).reshape(output[0].shape)).sum().backward()
    return output.detach(), {name: one.grad.clone() for name, one in module.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("name", list(NUMBERS))
def test_outputs_and_gradients_are_the_same(name: str) -> None:
    module = randomised(networks()[name]).double()  # so that no kink of an activation is a matter of rounding
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    output, gradients = outcome(module, pixels)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with folded(module, pixels) as number:
        assert number == NUMBERS[name]
        again, others = outcome(module, pixels)
        assert list(module.state_dict()) == list(before)
        copied = copy.deepcopy(module)
    assert torch.allclose(output, again, rtol=0, atol=1e-9 * float(output.abs().max()))
    assert gradients.keys() == others.keys()
    for key, value in gradients.items():
        assert torch.allclose(value, others[key], rtol=0, atol=1e-8 * float(value.abs().max())), key
    assert all("forward" not in vars(one) for one in module.modules())
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in before.items())
    assert torch.equal(module(pixels).detach(), output)
    # A copy that was made meanwhile follows its own parameters.
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert torch.equal(module(pixels).detach(), output)


class Twice(nn.Module):
    """Uses the output of a convolution beside the norm too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.convolution(x)
        return self.norm(y) + y


class Shared(nn.Module):
    """One norm after two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> Any:
        return self.norm(self.first(x)) * self.norm(self.second(x))


@pytest.mark.parametrize("network", [Twice, Shared])
def test_what_would_change_the_output_is_left(network: type[nn.Module]) -> None:
    module = randomised(network())
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = module(pixels)
    with folded(module, pixels) as number:
        assert number == 0
        assert torch.equal(module(pixels), before)
    assert all("forward" not in vars(one) for one in module.modules())


def test_it_is_undone_after_an_error() -> None:
    module = randomised(tiny())
    with pytest.raises(KeyError), folded(module, torch.zeros(2, 3, 32, 32)):
        raise KeyError
    assert all("forward" not in vars(one) for one in module.modules())
