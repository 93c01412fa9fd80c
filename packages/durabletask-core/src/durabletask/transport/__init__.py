"""Talking to a task hub: channels, the work-item stream and the delivery of completions."""
