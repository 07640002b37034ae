"""What the pool does in the world: its event loop, its worker processes and threads."""
