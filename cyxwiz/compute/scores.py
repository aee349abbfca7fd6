"""How good answers are: of classes and of numbers, counted batch by batch.

Precision of a class is the share of its predictions that are right, recall the share of its samples that were found, F1
their harmonic mean; each is 0 where it has nothing to count. Macro is the plain mean over the classes that occur, in
the labels or in the predictions. MAE is the mean |error|, RMSE the root of the mean squared error, R^2 is 1 less the
squared error over the variance about the mean, for several targets the mean over them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

MAX_MATRIX = 2000  # classes of which the whole confusion matrix is kept
MAX_NAMED = 50  # classes whose own figures are among the metrics


class ClassScores:
    """Rows of the confusion matrix are the true classes, columns the predicted ones."""

    def __init__(self, classes: int) -> None:
        import numpy as np

        self.classes = classes
        self._matrix: Array | None = np.zeros((classes, classes), np.int64) if classes <= MAX_MATRIX else None
        self._right = np.zeros(classes, np.int64)
        self._true = np.zeros(classes, np.int64)
        self._said = np.zeros(classes, np.int64)

    def add(self, labels: Array, predicted: Array) -> None:
        import numpy as np

        labels, predicted = labels.reshape(-1), predicted.reshape(-1)
        count = self.classes
        self._right += np.bincount(labels[labels == predicted], minlength=count)
        self._true += np.bincount(labels, minlength=count)
        self._said += np.bincount(predicted, minlength=count)
        if self._matrix is not None:
            self._matrix += np.bincount(labels * count + predicted, minlength=count * count).reshape(count, count)

    def metrics(self) -> dict[str, float]:
        precision, recall, f1 = self._each()
        there = (self._true + self._said) > 0
        made = {
            "accuracy": float(self._right.sum() / max(1, self._true.sum())),
            "precision_macro": float(precision[there].mean()),
            "recall_macro": float(recall[there].mean()),
            "f1_macro": float(f1[there].mean()),
        }
        if self.classes <= MAX_NAMED:
            for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
                made |= {f"{name}_class_{number}": float(value) for number, value in enumerate(values)}
        return made

    def _each(self) -> tuple[Array, Array, Array]:
        import numpy as np

        precision = self._right / np.maximum(1, self._said)
        recall = self._right / np.maximum(1, self._true)
        return precision, recall, 2 * self._right / np.maximum(1, self._said + self._true)

    def document(self, names: tuple[str, ...]) -> dict[str, Any]:
        """What `evaluation.json` says of classes; the matrix is null where there are too many."""
        precision, recall, f1 = self._each()
        each = [
            {
                "class": number,
                **({"name": names[number]} if number < len(names) else {}),
                "precision": float(precision[number]),
                "recall": float(recall[number]),
                "f1": float(f1[number]),
                "support": int(self._true[number]),
                "predicted": int(self._said[number]),
            }
            for number in range(self.classes)
        ]
        matrix = None if self._matrix is None else self._matrix.tolist()
        return {"classes": each, "confusion_matrix": matrix}


class NumberScores:
    """Targets are rows of one or several numbers, of which all are known before: their variance is needed."""

    def __init__(self, targets: Array) -> None:
        import numpy as np

        exact = targets.astype(np.float64).reshape(len(targets), -1)
        self._spread = ((exact - exact.mean(0)) ** 2).sum(0)
        self._absolute = np.zeros(exact.shape[1])
        self._squared = np.zeros(exact.shape[1])
        self._count = 0

    def add(self, targets: Array, outputs: Array) -> None:
        import numpy as np

        error = outputs.astype(np.float64).reshape(len(outputs), -1) - targets.reshape(len(targets), -1)
        self._absolute += np.abs(error).sum(0)
        self._squared += (error**2).sum(0)
        self._count += len(error)

    def _r2(self) -> list[float | None]:
        """None for a target that never varies."""
        pairs = zip(self._squared.tolist(), self._spread.tolist(), strict=True)
        return [1.0 - squared / spread if spread > 0 else None for squared, spread in pairs]

    def metrics(self) -> dict[str, float]:
        made = {
            "mae": float(self._absolute.mean() / self._count),
            "rmse": math.sqrt(float(self._squared.mean()) / self._count),
        }
        known = [value for value in self._r2() if value is not None]
        return made if not known else {**made, "r2": sum(known) / len(known)}

    def document(self) -> dict[str, Any]:
        """What `evaluation.json` says of numbers."""
        return {
            "targets": [
                {
                    "target": number,
                    "mae": float(self._absolute[number] / self._count),
                    "rmse": math.sqrt(float(self._squared[number]) / self._count),
                    "r2": r2,
                }
                for number, r2 in enumerate(self._r2())
            ]
        }
