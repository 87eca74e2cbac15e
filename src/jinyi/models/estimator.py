"""scikit-learn's conventions for a classifier of texts: parameters by name, copies by `clone`, accuracy, tags."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from jinyi.errors import InputError
from jinyi.models.common import as_list

if TYPE_CHECKING:
    from typing_extensions import Self


class TextEstimator(ABC):
    """A classifier of texts that scikit-learn's tools can hold: grids, cross-validation, pipelines.

    Every argument of the class's constructor is an attribute of the same name, unchanged until somebody sets it.
    """

    _estimator_type = "classifier"

    @abstractmethod
    def predict(self, X: Any) -> Any:
        """Return the label of each text."""

    @abstractmethod
    def _forget(self) -> None:
        """Let go of everything that was made with other parameters."""

    def score(self, X: Iterable[str], y: Iterable[Any]) -> float:
        """Return the accuracy on labelled texts.

        Args:
            X: as in `predict`.
            y: as many labels.

        Returns:
            the share of texts whose label `predict` gives, from 0 to 1.

        Raises:
            InputError: as `predict`, or texts and labels differ in number, or there are none.
            NotFittedError: as `predict`.
        """
        labels, predicted = as_list(y, "labels"), self.predict(as_list(X, "texts"))
        if not labels or len(labels) != len(predicted):
            raise InputError(
                found=f"{len(predicted)} texts and {len(labels)} labels",
                expected="one label for each text, one text at least",
                fix="Check that both come from the same rows.",
            )
        return float(np.mean(predicted == np.asarray(labels)))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments.

        Args:
            deep: ignored; scikit-learn passes it.

        Returns:
            their values by name.
        """
        return {name: getattr(self, name) for name in self._parameters()}

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments; what was fitted is lost, and the model is opened anew when it is next needed.

        Args:
            **params: arguments of the constructor; their values are checked when the model is opened.

        Returns:
            this object.

        Raises:
            InputError: an argument that the constructor does not have.
        """
        known = self._parameters()
        for name, value in params.items():
            if name not in known:
                raise InputError(
                    found=f"parameter {name}",
                    expected=f"one of {', '.join(known)}",
                    fix="Correct the name.",
                )
            setattr(self, name, value)
        self._forget()
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(string=True, two_d_array=False),
        )

    @classmethod
    def _parameters(cls) -> list[str]:
        return list(signature(cls).parameters)
