"""Hashes and verifies passwords, and tells when a stored hash should be replaced."""

from devnest.passwords.errors import UnusableHash
from devnest.passwords.hasher import Hasher, InlineRunner, Runner, ThreadRunner, Work
from devnest.passwords.policy import BreachedFile, BreachedPasswords, Policy, WeakPassword
from devnest.passwords.scheme import (
    MAX_COST,
    MIN_COST,
    Guess,
    NewPassword,
    Scheme,
    compute,
    compute_all,
    hash_password,
    needs_rehash,
    verify_password,
)

__all__ = [
    "MAX_COST",
    "MIN_COST",
    "BreachedFile",
    "BreachedPasswords",
    "Guess",
    "Hasher",
    "InlineRunner",
    "NewPassword",
    "Policy",
    "Runner",
    "Scheme",
    "ThreadRunner",
    "UnusableHash",
    "WeakPassword",
    "Work",
    "compute",
    "compute_all",
    "hash_password",
    "needs_rehash",
    "verify_password",
]
