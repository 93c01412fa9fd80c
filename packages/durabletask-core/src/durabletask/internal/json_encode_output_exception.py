"""The failure of an orchestration whose result has no JSON form; its location is part of the API."""

from typing import Any

from durabletask.failures import shown


class JsonEncodeOutputException(Exception):
    """The value that an orchestrator returned could not be encoded.

    ``problem_object`` is that value; the encoder's own error is the ``__cause__``.
    """

    def __init__(self, problem_object: Any) -> None:
        super().__init__(problem_object)
        self.problem_object = problem_object

    def __str__(self) -> str:
        return (
            f"The orchestration result could not be encoded: {shown(self.problem_object)} "
            f"(of type {type(self.problem_object).__name__}). "
            "Return a value that the data converter can encode."
        )
