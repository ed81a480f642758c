"""The validator of hdmf, with each group and dataset of a file validated once by each definition.

hdmf validates a child by its own type, by the type that its parent asks for, and by what the parent says of it: three
times for each level, so that a table four groups deep is validated dozens of times. What is found is the same.
"""

from __future__ import annotations

from typing import Any

from hdmf.spec import Spec
from hdmf.validate import ValidatorMap


class QuickValidatorMap(ValidatorMap):
    """A `ValidatorMap` that finds what it does, faster."""

    def __init__(self, namespace: Any) -> None:
        self._quick: dict[str, _Once] = {}
        self._types: dict[str, tuple[Any, ...]] = {}
        super().__init__(namespace=namespace)

    def get_validator(self, data_type: Any) -> Any:
        """The validator of a type, which keeps what it found."""
        if isinstance(data_type, Spec):
            data_type = data_type.data_type_def or data_type.data_type_inc
        if data_type not in self._quick:
            self._quick[data_type] = _Once(super().get_validator(data_type))
        return self._quick[data_type]

    def valid_types(self, spec: Any) -> Any:
        """The validators of a type and of all that inherit from it."""
        if isinstance(spec, Spec):
            spec = spec.data_type_def
        if spec not in self._types:
            self._types[spec] = super().valid_types(spec)
        return self._types[spec]

    def validate_once(self, builder: Any) -> list[Any]:
        """What `validate` finds; each group and dataset is validated once by each type."""
        try:
            return list(self.validate(builder))
        finally:
            for validator in self._quick.values():
                validator.found.clear()


class _Once:
    """A validator that validates each builder once."""

    def __init__(self, validator: Any) -> None:
        self.spec, self._validate = validator.spec, validator.validate
        self.found: dict[
            int, tuple[Any, list[Any]]
        ] = {}  # by the id of a builder, which is kept so that the id stays its

    def validate(self, builder: Any) -> list[Any]:
        if id(builder) not in self.found:
            self.found[id(builder)] = builder, self._validate(builder)
        return self.found[id(builder)][1]
