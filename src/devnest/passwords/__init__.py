"""Passwords: hash, verify, and tell when a stored hash should be replaced."""

from devnest.passwords.hasher import Hasher, InlineRunner, Runner, ThreadRunner, Work
from devnest.passwords.scheme import (
    MAXIMUM_COST,
    MINIMUM_COST,
    UnusableHash,
    hash_password,
    hash_passwords,
    needs_rehash,
    verify_password,
    verify_passwords,
)

__all__ = [
    "MAXIMUM_COST",
    "MINIMUM_COST",
    "Hasher",
    "InlineRunner",
    "Runner",
    "ThreadRunner",
    "UnusableHash",
    "Work",
    "hash_password",
    "hash_passwords",
    "needs_rehash",
    "verify_password",
    "verify_passwords",
]
