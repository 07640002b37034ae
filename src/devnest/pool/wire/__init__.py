"""The protocol between the processes of a pool."""
