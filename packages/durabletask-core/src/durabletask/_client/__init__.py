"""What the synchronous and the asynchronous client share: calls, their requests and their answers."""
