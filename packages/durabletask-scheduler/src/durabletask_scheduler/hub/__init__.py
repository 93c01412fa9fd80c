"""The hub: the pure rules of a durable scheduler.

What arrives (a client's request, a worker's answer, a message of another instance, a due timer)
meets the state of one instance and becomes a :class:`~durabletask_scheduler.hub.model.Commit`.
Nothing here waits, logs, locks, reads a clock or draws a random number: the shell passes time and
ids in a :class:`~durabletask_scheduler.hub.model.Context`.
"""
