"""Weight gradients of DCGAN's small maps, on CPUs: as a matrix product, which is what they are.

oneDNN's bfloat16 kernel for the gradient of a convolution's weights walks along the rows of a map.  In the layers
next to the latent rows are four or eight pixels long, and it is slow there.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad
from torch.overrides import TorchFunctionMode

# What nn.Conv2d and nn.ConvTranspose2d pass on after images and weights, for stride 2, padding 1 and no bias.
HALVING = (None, (2, 2), (1, 1), (1, 1), 1)
DOUBLING = (None, (2, 2), (1, 1), (0, 0), 1, (1, 1))
LARGEST = 8  # side of the smaller map up to which the product is the faster way


class SmallMaps(TorchFunctionMode):
    """While active, 4x4 convolutions that halve or double a small map have the gradients of `SmallMap`."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        halves, doubles = function is conv2d, function is conv_transpose2d
        if (halves or doubles) and args[2:] == (HALVING if halves else DOUBLING) and torch.is_grad_enabled():
            images, weight = args[:2]
            largest = 2 * LARGEST if halves else LARGEST
            whole = doubles or all(side % 2 == 0 for side in images.shape[2:])
            if weight.shape[2:] == (4, 4) and max(images.shape[2:]) <= largest and whole:
                return SmallMap.apply(images.bfloat16(), weight.bfloat16(), doubles)
        return function(*args, **(kwargs or {}))


class SmallMap(torch.autograd.Function):
    """A convolution with a weight (a, b, 4, 4), stride 2 and padding 1; differentiable at any order.

    It halves images (n, b, 2h, 2w) as conv2d does, or `doubles` images (n, a, h, w) as conv_transpose2d does: each is
    the other's gradient with respect to its images.
    """

    @staticmethod
    def forward(ctx, images: Tensor, weight: Tensor, doubles: bool) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.doubles = doubles
        return conv_transpose2d(images, weight, *DOUBLING) if doubles else conv2d(images, weight, *HALVING)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        small, large = (images, gradient) if ctx.doubles else (gradient, images)
        of_images = SmallMap.apply(gradient, weight, not ctx.doubles) if ctx.needs_input_grad[0] else None
        return of_images, patch_product(small, large) if ctx.needs_input_grad[1] else None, None


def patch_product(small: Tensor, large: Tensor) -> Tensor:
    """Pixels of `small` (n, a, h, w) times the 4x4 patches of `large` (n, b, 2h, 2w) around them: (a, b, 4, 4)."""
    rows = pad(large, (1, 1, 1, 1)).permute(0, 2, 3, 1).contiguous()
    patches = rows.unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3)  # (n, h, w, 4, 4, b)
    pixels = small.permute(0, 2, 3, 1).reshape(-1, small.shape[1])
    product = pixels.t() @ patches.reshape(len(pixels), -1)
    return product.view(small.shape[1], 4, 4, large.shape[1]).permute(0, 3, 1, 2)
