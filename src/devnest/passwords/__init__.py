"""Passwords: hash, verify, and tell when a stored hash should be replaced."""

from devnest.passwords.errors import UnusableHash
from devnest.passwords.hasher import Hasher, InlineRunner, Runner, ThreadRunner, Work
from devnest.passwords.policy import BreachedFile, BreachedPasswords, Policy, WeakPassword
from devnest.passwords.scheme import (
    MAXIMUM_COST,
    MINIMUM_COST,
    Scheme,
    hash_password,
    hash_passwords,
    is_interleaved,
    needs_rehash,
    verify_password,
    verify_passwords,
)

__all__ = [
    "MAXIMUM_COST",
    "MINIMUM_COST",
    "BreachedFile",
    "BreachedPasswords",
    "Hasher",
    "InlineRunner",
    "Policy",
    "Runner",
    "Scheme",
    "ThreadRunner",
    "UnusableHash",
    "WeakPassword",
    "Work",
    "hash_password",
    "hash_passwords",
    "is_interleaved",
    "needs_rehash",
    "verify_password",
    "verify_passwords",
]
