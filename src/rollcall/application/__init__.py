"""The use cases, the two ports they need, and the pure work on bytes between them."""
