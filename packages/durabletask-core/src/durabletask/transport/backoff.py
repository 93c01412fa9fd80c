"""Random delays that keep a fleet of workers from coming back in lockstep."""

import random

_DOUBLINGS_THAT_FIT_A_FLOAT = 60


def full_jitter(base: float, cap: float, failures: int) -> float:
    """A delay in seconds drawn from ``[0, min(cap, base * 2**failures))``.

    Args:
        base: Bound of the delay after the first failure, in seconds.
        cap: Greatest bound of any delay, in seconds.
        failures: Failures in a row before the one that is waited for.
    """
    return random.random() * min(cap, base * 2.0 ** min(failures, _DOUBLINGS_THAT_FIT_A_FLOAT))
