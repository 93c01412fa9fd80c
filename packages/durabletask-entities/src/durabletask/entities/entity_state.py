"""What the operations of one batch share, and what a failed one of them takes back."""

from durabletask_proto import orchestrator_service_pb2 as pb


class EntityState:
    """The state of an entity as JSON text, None for no state, and the actions of its operations.

    Kept as text, a state that no operation sets is written back byte for byte, and a value that
    user code has read and changed in place changes nothing.
    """

    def __init__(self, text: str | None) -> None:
        self.text = text
        self._actions: list[pb.OperationAction] = []
        self._committed_text = text
        self._committed_actions = 0

    @property
    def actions(self) -> list[pb.OperationAction]:
        """The actions of all operations that were not rolled back, in order."""
        return self._actions

    def add_action(self) -> pb.OperationAction:
        """A new action, numbered from 0 within the batch."""
        action = pb.OperationAction(id=len(self._actions))
        self._actions.append(action)
        return action

    def commit(self) -> None:
        """Keep what the operation did."""
        self._committed_text = self.text
        self._committed_actions = len(self._actions)

    def rollback(self) -> None:
        """Undo what the operation did."""
        self.text = self._committed_text
        del self._actions[self._committed_actions :]
