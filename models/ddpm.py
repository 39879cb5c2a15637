"""The class-conditional diffusion network of problem 2: ContextUnet, 28x28 RGB, ten digits.

The layers follow TeaPearce/Conditional_Diffusion_MNIST.  Class and time enter only the decoder, so
`encode` is exact to share between the conditional and the unconditional prediction.  The schedule,
the loss and the samplers are in `models/diffusion.py`.
"""

import torch
from torch import Tensor, nn

IMAGE_SHAPE = (3, 28, 28)
NUM_CLASSES = 10
N_FEAT = 128  # channels at full resolution


class ResidualConvBlock(nn.Module):
    """Two 3x3 convolutions, (batch, i, h, w) to (batch, o, h, w); the residual kind adds a skip."""

    def __init__(self, in_channels: int, out_channels: int, is_res: bool = False):
        super().__init__()
        self.same_channels = in_channels == out_channels
        self.is_res = is_res
        self.conv1, self.conv2 = (
            nn.Sequential(nn.Conv2d(channels, out_channels, 3, 1, 1), nn.BatchNorm2d(out_channels), nn.GELU())
            for channels in (in_channels, out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(x)
        output = self.conv2(hidden)
        if not self.is_res:
            return output
        return ((x if self.same_channels else hidden) + output) / 2**0.5


class UnetDown(nn.Module):
    """Halve the resolution: (batch, i, h, w) to (batch, o, h/2, w/2)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.model = nn.Sequential(ResidualConvBlock(in_channels, out_channels), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class UnetUp(nn.Module):
    """Double the resolution of the concatenation of `x` and `skip`: (batch, i, h, w) to (batch, o, 2h, 2w)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.model = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 2, 2),
            ResidualConvBlock(out_channels, out_channels),
            ResidualConvBlock(out_channels, out_channels),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.model(torch.cat((x, skip), 1))


class EmbedFC(nn.Module):
    """A vector (batch, i) to a feature map (batch, e, 1, 1)."""

    def __init__(self, input_dim: int, emb_dim: int):
        super().__init__()
        self.input_dim = input_dim
        self.model = nn.Sequential(nn.Linear(input_dim, emb_dim), nn.GELU(), nn.Linear(emb_dim, emb_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.view(-1, self.input_dim))[:, :, None, None]


class ContextUnet(nn.Module):
    """Predict the noise (batch, 3, 28, 28) in `x` of that shape, about [-1, 1] plus noise.

    label_onehot (batch, 10) is all zeros for "no class"; t (batch,) in (0, 1] is the step divided by T.
    """

    def __init__(self):
        super().__init__()
        n_feat = N_FEAT
        self.init_conv = ResidualConvBlock(3, n_feat, is_res=True)
        self.down1 = UnetDown(n_feat, n_feat)
        self.down2 = UnetDown(n_feat, 2 * n_feat)
        self.to_vec = nn.Sequential(nn.AvgPool2d(7), nn.GELU())
        self.timeembed1 = EmbedFC(1, 2 * n_feat)
        self.timeembed2 = EmbedFC(1, n_feat)
        self.contextembed1 = EmbedFC(NUM_CLASSES, 2 * n_feat)
        self.contextembed2 = EmbedFC(NUM_CLASSES, n_feat)
        self.up0 = nn.Sequential(
            nn.ConvTranspose2d(2 * n_feat, 2 * n_feat, 7, 7), nn.GroupNorm(8, 2 * n_feat), nn.ReLU()
        )
        self.up1 = UnetUp(4 * n_feat, n_feat)
        self.up2 = UnetUp(2 * n_feat, n_feat)
        self.out = nn.Sequential(
            nn.Conv2d(2 * n_feat, n_feat, 3, 1, 1), nn.GroupNorm(8, n_feat), nn.ReLU(), nn.Conv2d(n_feat, 3, 3, 1, 1)
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The part that knows neither class nor time: (init_conv, down1, down2, up0) outputs of `x`."""
        x = self.init_conv(x)
        down1 = self.down1(x)
        down2 = self.down2(down1)
        return x, down1, down2, self.up0(self.to_vec(down2))

    def decode(self, encoded: tuple[Tensor, Tensor, Tensor, Tensor], label_onehot: Tensor, t: Tensor) -> Tensor:
        """The prediction (batch, 3, 28, 28) from what `encode` returned."""
        x, down1, down2, up0 = encoded
        up1 = self.up1(self.contextembed1(label_onehot) * up0 + self.timeembed1(t), down2)
        up2 = self.up2(self.contextembed2(label_onehot) * up1 + self.timeembed2(t), down1)
        return self.out(torch.cat((up2, x), 1))

    def forward(self, x: Tensor, label_onehot: Tensor, t: Tensor) -> Tensor:
        return self.decode(self.encode(x), label_onehot, t)


class DDPM(nn.Module):
    """The homework's container: the network and its loss.  `loss_mse` averages over every element."""

    def __init__(self, nn_model: ContextUnet | None = None):
        super().__init__()
        self.nn_model = nn_model if nn_model is not None else ContextUnet()
        self.loss_mse = nn.MSELoss()

    def forward(self, x: Tensor, label_onehot: Tensor, t: Tensor) -> Tensor:
        return self.nn_model(x, label_onehot, t)
