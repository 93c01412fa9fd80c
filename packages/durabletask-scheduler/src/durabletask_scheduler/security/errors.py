"""What can be wrong with the security of a scheduler, and with a caller's credentials."""

from __future__ import annotations


class SecurityError(Exception):
    """The security settings cannot be used; the message says why and what to do. It never holds a secret."""


class Rejected(Exception):
    """A token is not accepted.

    The message is for the operator's log and never holds the token; callers are told only that their credentials
    are not valid.
    """


class KeysPending(Exception):
    """A token names a signing key that is being fetched; the caller is to try again soon."""
