"""Classifiers of 28x28 digits, the judges of problem 2: the course's LeNet and a small ResNet of our own."""

from torch import Tensor, nn


class Classifier(nn.Module):
    """A LeNet: images (batch, 3, 28, 28) in [-1, 1] to logits (batch, 10)."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(256, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        pool = nn.functional.max_pool2d
        hidden = pool(self.conv1(images).relu(), 2)
        hidden = pool(self.conv2(hidden).relu(), 2).flatten(1)
        return self.fc3(self.fc2(self.fc1(hidden).relu()).relu())


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with BatchNorm beside a shortcut (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.shortcut(x)).relu()


class Judge(nn.Module):
    """A second, stronger judge: a small ResNet, images (batch, 3, 28, 28) in [-1, 1] to logits (batch, 10)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
            *(ResidualBlock(32, 32), ResidualBlock(32, 64, 2), ResidualBlock(64, 128, 2), ResidualBlock(128, 128)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        )
        self.head = nn.Linear(128, 10)

    def features(self, images: Tensor) -> Tensor:
        """What the head reads, (batch, 128): a space in which digits of one class are near."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))
