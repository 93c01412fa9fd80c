"""What the client and the worker share: tokens, request headers, and the rule for plaintext channels."""
