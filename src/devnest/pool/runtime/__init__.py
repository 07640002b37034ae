"""Effects: the event loop, and the processes and threads that run tasks."""
