"""The emotion model as a function of faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import ModelError
from fer_sdk.models.base import Model

# A score that underflowed to zero must not stay there when the label is raised.
_LEAST_SCORE = 1e-12


def shift_scores(
    scores: npt.NDArray[np.float32], shift: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Scores ``[N, L]`` by another convention: see ``ModelMetadata.conventions``."""
    if not any(shift):
        return scores
    weighed = np.maximum(scores, _LEAST_SCORE) * np.exp(np.array(shift, np.float32))
    return np.asarray(weighed / weighed.sum(axis=1, keepdims=True), np.float32)


class EmotionModel(Model):
    """Says how likely each emotion is."""

    task = "emotion"

    def scores(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities of the emotions.

        Args:
            faces: uint8 gray ``[N, S, S]`` with ``S = metadata.input_size``; N may be 0.

        Returns:
            float32 ``[N, L]`` in the order of ``metadata.labels``; each row sums to 1.

        Raises:
            ModelError: faces of another shape, or onnxruntime fails.
        """
        return shift_scores(self.graph_scores(faces), self.shift)

    def graph_scores(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """As ``scores``, by the training labels whatever the convention."""
        return self._run(faces)

    def _shape(self) -> tuple[int, ...]:
        return (len(self.metadata.labels),)

    def _check_values(self, output: npt.NDArray[np.float32]) -> None:
        if (output < 0).any() or (abs(output.sum(axis=1) - 1) > 0.001).any():
            raise ModelError(
                f"{self.source}: its scores must be probabilities that sum to 1, not "
                f"{output[0].tolist()}"
            )
