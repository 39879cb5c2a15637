"""The course's digit classifier, the judge of problem 2: 28x28 RGB scaled to [-1, 1] to ten logits."""

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
