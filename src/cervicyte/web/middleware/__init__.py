"""Around every request: who asks, what is allowed, errors, slow connections, answers."""
