"""Which faces are trained on, which decide, which only measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError
from fer_training.data.faces import FaceSet
from fer_training.data.ground_truth import digest


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Positions in a face set.

    Attributes:
        train: what the weights learn from.
        holdout: training faces that choose (epoch, early stopping, calibration).
        dropped: training faces left out because the same picture is in PublicTest or PrivateTest.
    """

    train: npt.NDArray[np.int64]
    holdout: npt.NDArray[np.int64]
    dropped: npt.NDArray[np.int64]


def divide(faces: FaceSet, holdout: float, seed: int) -> Parts:
    """Divide the Training split.

    FER2013 holds many pictures more than once, hundreds of them in Training and in a test split.
    Those are dropped from training, and copies within Training stay on one side of the division.

    Args:
        faces: a whole set, all splits.
        holdout: share of the training faces, per label, that is held out.
        seed: of the division; the same faces and seed always give the same parts.

    Raises:
        DataError: fewer than two different training faces of a label.
    """
    digests = digest(faces.images)
    training = np.flatnonzero(faces.splits == "Training")
    elsewhere = digests[faces.splits != "Training"]
    leaked = np.isin(digests[training], elsewhere)
    usable = training[~leaked]
    held = np.zeros(len(faces), bool)
    random = np.random.default_rng(seed)
    for label, name in enumerate(faces.label_names):
        different = np.unique(digests[usable[faces.labels[usable] == label]])
        if len(different) < 2:
            raise DataError(f"the training faces hold {len(different)} of {name!r}: 2 are needed")
        count = min(max(1, round(holdout * len(different))), len(different) - 1)
        held |= np.isin(digests, random.choice(different, count, replace=False))
    return Parts(usable[~held[usable]], usable[held[usable]], training[leaked])
