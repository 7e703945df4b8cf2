"""A run while it goes on: one writer, what stands beside GNU parallel, and the words at the end."""
