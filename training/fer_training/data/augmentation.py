"""How training faces are varied, landmarks along with them.

A whole batch is varied in one go, each face by its own draw: one affine resampling and a few tensor
operations for all faces. torchvision's transforms draw once per call and so must be called face by
face, which for faces this small costs more than the network's own training step on two cores.
"""

from __future__ import annotations

import math

import cv2
import torch
from torch.nn.functional import affine_grid, conv2d, grid_sample, interpolate, pad

from fer_training.data.crop_geometry import MeasuredGeometry
from fer_training.recipe import Recipe

_MIRRORED = [1, 0, 3, 2]


class Augmentation:
    """Varies a batch of faces as a recipe says.

    The crop's position and size vary as the detector's boxes do on the training faces: a uniform
    range of the same standard deviation, times ``recipe.jitter``. What comes in from beyond the
    edge repeats the edge pixels, as in the SDK's crops.
    """

    def __init__(self, recipe: Recipe, measured: MeasuredGeometry) -> None:
        self._recipe = recipe
        spread = math.sqrt(3) * recipe.jitter
        self._shift = (spread * measured.jitter_x, spread * measured.jitter_y)
        self._log_zoom = spread * measured.jitter_scale

    def __call__(
        self, faces: torch.Tensor, landmarks: torch.Tensor | None = None, *, size: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vary a batch.

        Args:
            faces: uint8 ``[N, S, S]``.
            landmarks: float32 ``[N, 4, 2]`` as fractions of the crop, which move along.
            size: side of the faces that come out.

        Returns:
            float32 ``[N, size, size]`` from 0 to 255, and the moved landmarks
            (None if none were given).
        """
        recipe = self._recipe
        varied = faces.to(torch.float32)
        if recipe.low_resolution:
            varied = self._lower_resolution(varied)
        if recipe.flip or recipe.rotation or recipe.jitter or size != faces.shape[-1]:
            varied, landmarks = self._move(varied, landmarks, size)
        if recipe.blur:
            varied = self._blurred(varied)
        if recipe.contrast:
            factor = _uniform(len(faces), 1 - recipe.contrast, 1 + recipe.contrast, faces.device)
            mean = varied.mean(dim=(1, 2), keepdim=True)
            varied = mean + (varied - mean) * factor[:, None, None]
        if recipe.brightness:
            factor = _uniform(
                len(faces), 1 - recipe.brightness, 1 + recipe.brightness, faces.device
            )
            varied = varied * factor[:, None, None]
        if recipe.gamma:
            exponent = torch.exp(_uniform(len(faces), -1, 1, faces.device) * recipe.gamma)
            varied = 255 * (varied.clamp(0, 255) / 255) ** exponent[:, None, None]
        if recipe.noise:
            sigma = _uniform(len(faces), 0, recipe.noise, faces.device)
            varied = varied + torch.randn_like(varied) * sigma[:, None, None]
        varied = varied.clamp(0, 255)
        if recipe.jpeg:
            varied = self._compressed(varied)
        if recipe.erasing:
            varied = self._erase(varied)
        return varied, landmarks

    def _move(
        self, faces: torch.Tensor, landmarks: torch.Tensor | None, size: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Mirror, rotate, shift, zoom and resize in one resampling."""
        n, device = len(faces), faces.device
        angle = _uniform(n, -1, 1, device) * math.radians(self._recipe.rotation)
        zoom = torch.exp(_uniform(n, -1, 1, device) * self._log_zoom)
        mirror = torch.where(
            torch.rand(n, device=device) < (0.5 if self._recipe.flip else 0.0), -1.0, 1.0
        )
        shift = torch.stack([_uniform(n, -2, 2, device) * by for by in self._shift], dim=1)
        cos, sin = torch.cos(angle), torch.sin(angle)
        # Where each pixel of the result comes from, in affine_grid's coordinates from -1 to 1.
        back = (
            torch.stack(
                [
                    torch.stack([mirror * cos, -sin], dim=1),
                    torch.stack([mirror * sin, cos], dim=1),
                ],
                dim=2,
            ).transpose(1, 2)
            / zoom[:, None, None]
        )
        theta = torch.cat([back, shift[:, :, None]], dim=2)
        grid = affine_grid(theta, [n, 1, size, size], align_corners=False)
        moved = grid_sample(
            faces[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
        )[:, 0]
        if landmarks is None:
            return moved, None
        centred = landmarks * 2 - 1 - shift[:, None, :]
        points = (centred @ torch.linalg.inv(back).transpose(1, 2) + 1) / 2
        return moved, torch.where((mirror < 0)[:, None, None], points[:, _MIRRORED], points)

    def _lower_resolution(self, faces: torch.Tensor) -> torch.Tensor:
        """Shrink a share of the faces, all to one size between half and all of theirs, and back."""
        chosen = torch.rand(len(faces), device=faces.device) < self._recipe.low_resolution
        if not bool(chosen.any()):
            return faces
        side = faces.shape[-1]
        small = max(8, round(side * (0.5 + 0.5 * float(torch.rand(())))))
        shrunken = interpolate(
            faces[chosen][:, None], size=(small, small), mode="bilinear", antialias=True
        )
        lowered = faces.clone()
        lowered[chosen] = interpolate(shrunken, size=(side, side), mode="bilinear")[:, 0]
        return lowered

    def _blurred(self, faces: torch.Tensor) -> torch.Tensor:
        """Blur each face by a Gaussian of its own width."""
        n, device = len(faces), faces.device
        sigma = _uniform(n, 0, self._recipe.blur, device).clamp(min=1e-3)
        reach = math.ceil(3 * self._recipe.blur)
        at = torch.arange(-reach, reach + 1, device=device)
        kernel = torch.exp(-((at / sigma[:, None]) ** 2) / 2)
        kernel = kernel / kernel.sum(dim=1, keepdim=True)
        blurred = pad(faces[None], (reach, reach, reach, reach), mode="replicate")
        blurred = conv2d(blurred, kernel[:, None, None, :], groups=n)
        return conv2d(blurred, kernel[:, None, :, None], groups=n)[0]

    def _compressed(self, faces: torch.Tensor) -> torch.Tensor:
        """Compress a share of the faces as JPEG, each by a quality of its own."""
        n = len(faces)
        chosen = torch.rand(n) < self._recipe.jpeg
        qualities = torch.randint(20, 91, (n,))
        after = faces.round().to("cpu", torch.uint8)
        for index in torch.nonzero(chosen).flatten().tolist():
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(qualities[index])]
            _, written = cv2.imencode(".jpg", after[index].numpy(), quality)
            after[index] = torch.from_numpy(cv2.imdecode(written, cv2.IMREAD_GRAYSCALE))
        return torch.where(chosen[:, None, None].to(faces.device), after.to(faces), faces)

    def _erase(self, faces: torch.Tensor) -> torch.Tensor:
        """Blot out a rectangle of 2 to 20 % of a share of the faces with a random gray.

        Zhong et al., "Random Erasing Data Augmentation", AAAI 2020.
        """
        n, side, device = len(faces), faces.shape[-1], faces.device
        area = _uniform(n, 0.02, 0.2, device)
        ratio = torch.exp(_uniform(n, -1, 1, device) * math.log(3.0))
        width, height = torch.sqrt(area * ratio).clamp(max=1), torch.sqrt(area / ratio).clamp(max=1)
        left = torch.rand(n, device=device) * (1 - width)
        top = torch.rand(n, device=device) * (1 - height)
        at = (torch.arange(side, device=device) + 0.5) / side
        columns = (at >= left[:, None]) & (at < (left + width)[:, None])
        rows = (at >= top[:, None]) & (at < (top + height)[:, None])
        chosen = torch.rand(n, device=device) < self._recipe.erasing
        blot = rows[:, :, None] & columns[:, None, :] & chosen[:, None, None]
        return torch.where(blot, _uniform(n, 0, 255, device)[:, None, None], faces)


def _uniform(n: int, low: float, high: float, device: torch.device) -> torch.Tensor:
    return torch.rand(n, device=device) * (high - low) + low
