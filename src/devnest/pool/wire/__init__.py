"""The bytes that processes of a pool exchange."""
