from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_training.data.augmentation import Augmentation
from fer_training.data.crop_geometry import MeasuredGeometry
from fer_training.recipe import EmotionRecipe, LandmarksRecipe

MEASURED = MeasuredGeometry.load()
STILL = dict.fromkeys(
    ("rotation", "jitter", "brightness", "contrast", "noise", "low_resolution"), "0"
) | {"flip": "false"}


def _blobs(centres: torch.Tensor, side: int) -> torch.Tensor:
    """Bright dots at ``centres`` (fractions), one to a face."""
    at = (torch.arange(side) + 0.5) / side
    squared = (at[None, None, :] - centres[:, 0, None, None]) ** 2 + (
        at[None, :, None] - centres[:, 1, None, None]
    ) ** 2
    return (255 * torch.exp(-squared / (2 * (2.5 / side) ** 2))).to(torch.uint8)


def _centroids(faces: torch.Tensor) -> torch.Tensor:
    at = (torch.arange(faces.shape[-1]) + 0.5) / faces.shape[-1]
    total = faces.sum(dim=(1, 2))
    return (
        torch.stack(
            [(faces * at[None, None, :]).sum((1, 2)), (faces * at[None, :, None]).sum((1, 2))],
            dim=1,
        )
        / total[:, None]
    )


@pytest.mark.parametrize("size", [48, 32])
@pytest.mark.parametrize("point", range(4))
def test_landmarks_stay_on_what_they_mark(point: int, size: int) -> None:
    """The dot under each landmark is found, in the moved picture, where the landmark went."""
    torch.manual_seed(7)
    recipe = LandmarksRecipe.load(
        None, STILL | {"flip": "true", "rotation": "20.0", "jitter": "1.0"}
    )
    points = torch.rand(400, 4, 2) * 0.4 + 0.3
    faces = _blobs(points[:, point], 48)

    moved, landmarks = Augmentation(recipe, MEASURED)(faces, points, size=size)

    assert landmarks is not None
    found = _centroids(moved)
    mirrored = [1, 0, 3, 2][point]
    inside = ((landmarks > 0.2) & (landmarks < 0.8)).all(dim=2).all(dim=1)
    straight = (found - landmarks[:, point]).norm(dim=1)[inside]
    swapped = (found - landmarks[:, mirrored]).norm(dim=1)[inside]
    assert inside.sum() > 100
    assert torch.minimum(straight, swapped).max() < 0.1 / 48
    # Half of the faces are mirrored, and in those left and right have changed names.
    assert 0.35 < (swapped < straight).float().mean() < 0.65


def test_a_recipe_that_varies_nothing_gives_the_faces_back() -> None:
    faces = torch.randint(0, 256, (8, 48, 48), dtype=torch.uint8)
    points = torch.rand(8, 4, 2)
    same, landmarks = Augmentation(LandmarksRecipe.load(None, STILL), MEASURED)(
        faces, points, size=48
    )
    assert torch.equal(same, faces.float())
    assert landmarks is points


def test_the_crop_strays_as_far_as_the_detector_does() -> None:
    torch.manual_seed(0)
    recipe = LandmarksRecipe.load(None, STILL | {"jitter": "1.0"})
    middle = torch.full((4000, 4, 2), 0.5)
    _, moved = Augmentation(recipe, MEASURED)(
        torch.zeros((4000, 48, 48), dtype=torch.uint8), middle, size=48
    )
    assert moved is not None
    # Where the middle of the face went, undoing the zoom that the four equal points hide.
    spread = moved[:, 0].std(dim=0).numpy()
    expected = np.array([MEASURED.jitter_x, MEASURED.jitter_y])
    assert np.allclose(spread, expected * np.exp(MEASURED.jitter_scale**2), rtol=0.1)


def test_every_variation_keeps_gray_levels_and_shape() -> None:
    torch.manual_seed(1)
    recipe = EmotionRecipe.load(
        None, {"erasing": "1.0", "noise": "20", "low_resolution": "0.5", "brightness": "0.9"}
    )
    faces = torch.randint(0, 256, (64, 48, 48), dtype=torch.uint8)
    varied, none = Augmentation(recipe, MEASURED)(faces, size=32)
    assert none is None
    assert varied.shape == (64, 32, 32)
    assert varied.dtype == torch.float32
    assert varied.min() >= 0
    assert varied.max() <= 255


def test_erasing_blots_out_the_area_that_it_says() -> None:
    torch.manual_seed(2)
    recipe = EmotionRecipe.load(None, STILL | {"erasing": "1.0"})
    faces = torch.zeros((2000, 48, 48), dtype=torch.uint8)
    varied, _ = Augmentation(recipe, MEASURED)(faces, size=48)
    share = (varied != 0).float().mean(dim=(1, 2))
    assert 0.09 < share.mean() < 0.13  # half way between 2 and 20 %, less what a corner cuts off
    assert share.max() < 0.25


def _varied(**settings: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth noise before and after one variation alone."""
    torch.manual_seed(4)
    faces = torch.nn.functional.interpolate(torch.rand(200, 1, 12, 12), size=48, mode="bicubic")
    faces = (255 * faces[:, 0]).clamp(0, 255).to(torch.uint8)
    recipe = EmotionRecipe.load(None, STILL | {"erasing": "0"} | settings)
    return faces.float(), Augmentation(recipe, MEASURED)(faces, size=48)[0]


def _sharpness(faces: torch.Tensor) -> torch.Tensor:
    return faces.diff(dim=2).abs().mean(dim=(1, 2))


def test_blur_takes_detail_and_keeps_the_light() -> None:
    before, after = _varied(blur="2.0")
    assert (after.mean(dim=(1, 2)) - before.mean(dim=(1, 2))).abs().max() < 3
    ratio = _sharpness(after) / _sharpness(before)
    assert ratio.min() < 0.8
    assert 0.95 < ratio.max() < 1.001


def test_gamma_makes_half_of_the_faces_darker_and_keeps_black_and_white() -> None:
    before, after = _varied(gamma="0.5")
    darker = (after.mean(dim=(1, 2)) < before.mean(dim=(1, 2))).float().mean()
    assert 0.35 < darker < 0.65
    torch.testing.assert_close(after[before == 0], before[before == 0])
    torch.testing.assert_close(after[before == 255], before[before == 255])


def test_compression_changes_its_share_of_the_faces_a_little() -> None:
    before, after = _varied(jpeg="0.5")
    change = (after - before).abs().mean(dim=(1, 2))
    assert 0.35 < (change > 0).float().mean() < 0.65
    assert change.max() < 15


def test_each_face_is_varied_by_its_own_draw() -> None:
    torch.manual_seed(3)
    face = torch.randint(0, 256, (1, 48, 48), dtype=torch.uint8)
    varied, _ = Augmentation(EmotionRecipe.load(None), MEASURED)(face.repeat(16, 1, 1), size=48)
    assert len(torch.unique(varied.reshape(16, -1), dim=0)) == 16
