"""The autoencoder of tiny-shapes: 64 px pictures to 4 latent channels of 8 x 8 and back."""

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

LATENT_CHANNELS = 4
DOWNSCALE = 8
WIDTHS = (16, 32, 64, 80)

LATENT_NOISE = 0.1
"""Standard deviation of the noise in training, in units of each channel's own deviation."""

POSTERIOR_STD = 0.02
"""Standard deviation that the finished encoder declares for its whitened latents."""

EDGE_WEIGHT = 4.0
SLOPE_WEIGHT = 0.5
POOLED_WEIGHT = 0.1


def build_vae() -> AutoencoderKL:
    """Build the untrained autoencoder, its `scaling_factor` 1."""
    depth = len(WIDTHS)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=DOWNSCALE * 8,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def encode_mean(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Encode pictures (B, 3, H, W), -1 to 1, to the means of their latents (B, 4, H/8, W/8)."""
    moments = vae.quant_conv(vae.encoder(pictures))
    mean: Tensor = moments[:, :LATENT_CHANNELS]
    return mean


def autoencoding_loss(vae: AutoencoderKL, pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Return the loss of encoding and decoding the pictures (B, 3, H, W), -1 to 1.

    The noise on the latents grows with their own deviation, so the encoder cannot escape it by larger latents. The
    first three channels are drawn towards a pooled picture: training starts faster, and a linear map of them is a
    preview.
    """
    latents = encode_mean(vae, pictures)
    deviation = latents.detach().std(dim=(0, 2, 3), keepdim=True)
    noise = torch.randn(latents.shape, generator=rng)
    restored = vae.decode(latents + LATENT_NOISE * deviation * noise).sample
    pooled = functional.mse_loss(latents[:, :3], functional.avg_pool2d(pictures, DOWNSCALE))
    return picture_loss(restored, pictures) + POOLED_WEIGHT * pooled


def picture_loss(restored: Tensor, pictures: Tensor) -> Tensor:
    """Return the absolute plus squared error, heavier at edges, plus the absolute error of the slopes."""
    error = restored - pictures
    weight = 1 + EDGE_WEIGHT * _edges(pictures)
    slopes = sum(difference.abs().mean() for difference in _slopes(error))
    return (weight * (error.abs() + error.square())).mean() + SLOPE_WEIGHT * slopes


def _slopes(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.diff(dim=-1), values.diff(dim=-2)


def _edges(pictures: Tensor) -> Tensor:
    """Return 1 within a pixel of an edge and 0 elsewhere, shape (B, 1, H, W)."""
    across, down = (slope.abs().amax(dim=1, keepdim=True) for slope in _slopes(pictures))
    steep = functional.pad(across, (0, 1)) + functional.pad(down, (0, 0, 0, 1))
    return functional.max_pool2d((steep > 0.1).float(), kernel_size=3, stride=1, padding=1)


@torch.no_grad()
def whiten(vae: AutoencoderKL, latents: Tensor) -> None:
    """Fold an affine map into the 1 x 1 convolutions so that each latent channel has mean 0 and deviation 1.

    `latents` (N, 4, h, w) are means that the autoencoder gives now. What it restores does not change. The declared
    deviation of the posterior becomes `POSTERIOR_STD` everywhere.
    """
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    encode, decode = vae.quant_conv, vae.post_quant_conv
    encode.weight[:LATENT_CHANNELS] /= std[:, None, None, None]
    encode.bias[:LATENT_CHANNELS] = (encode.bias[:LATENT_CHANNELS] - mean) / std
    encode.weight[LATENT_CHANNELS:] = 0
    encode.bias[LATENT_CHANNELS:] = 2 * torch.log(torch.tensor(POSTERIOR_STD))
    decode.bias += decode.weight[:, :, 0, 0] @ mean
    decode.weight *= std[None, :, None, None]
