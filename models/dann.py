"""The domain-adversarial network of problem 3 (Ganin & Lempitsky 2015, arXiv:1409.7495), 28x28 digits."""

import torch
from torch import Tensor, nn


def can_pool_unevenly(device: torch.device) -> bool:
    """Whether AdaptiveAvgPool2d works there between sizes neither of which is a multiple of the other."""
    return device.type != "mps"  # https://github.com/pytorch/pytorch/issues/96056


class GRL(torch.autograd.Function):
    """Gradient reversal: identity forward, gradient times -alpha backward (alpha a float, usually in [0, 1])."""

    @staticmethod
    def forward(ctx, features: Tensor, alpha: float) -> Tensor:
        ctx.alpha = alpha
        return features.view_as(features)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.alpha * gradient, None


class DANN(nn.Module):
    """forward(x, alpha): x (batch, 3 or 1, 28, 28) to (task logits (batch, 10), domain logits (batch, 2)).

    Domain 0 is the source, 1 the target.  Grey input is expanded to three channels.
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 32, 5), nn.ReLU(), nn.MaxPool2d(2)), *(nn.Conv2d(32, 48, 5), nn.ReLU(), nn.MaxPool2d(2))
        )
        self.avgpool = nn.AdaptiveAvgPool2d((5, 5))
        self.task_classifier = nn.Sequential(
            nn.Linear(1200, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10)
        )
        self.domain_classifier = nn.Sequential(nn.Linear(1200, 100), nn.ReLU(), nn.Linear(100, 2))

    def extract(self, x: Tensor) -> Tensor:
        """The features (batch, 1200) that both heads read."""
        maps = self.features(x.expand(-1, 3, -1, -1))
        if can_pool_unevenly(maps.device):
            return self.avgpool(maps).flatten(1)
        return self.avgpool(maps.cpu()).to(maps.device).flatten(1)  # 4 x 4 to 5 x 5

    def forward(self, x: Tensor, alpha: float = 0.0) -> tuple[Tensor, Tensor]:
        features = self.extract(x)
        return self.task_classifier(features), self.domain_classifier(GRL.apply(features, alpha))
