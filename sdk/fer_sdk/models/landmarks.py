"""The landmark model as a function of faces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ModelError
from fer_sdk.models.base import Model
from fer_sdk.types import LANDMARKS


class LandmarksModel(Model):
    """Says where the eyes and the lip corners are."""

    task = "landmarks"

    def landmarks(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Positions of the four landmarks.

        Args:
            faces: uint8 gray ``[N, S, S]`` with ``S = metadata.input_size``; N may be 0.

        Returns:
            float32 ``[N, 4, 2]``, x and y as fractions of the crop, in the order of
            ``fer_sdk.types.LANDMARKS``.

        Raises:
            ModelError: faces of another shape, or onnxruntime fails.
        """
        return self._run(faces)

    def _shape(self) -> tuple[int, ...]:
        return (4, 2)

    def _check_values(self, output: npt.NDArray[np.float32]) -> None:
        if self.metadata.labels != LANDMARKS:
            raise ModelError(
                f"{self.source}: its landmarks must be {', '.join(LANDMARKS)}, in that order, not "
                f"{', '.join(self.metadata.labels)}"
            )
