"""Hashes and verifies passwords, and tells when a stored hash should be replaced."""

from devnest.passwords.errors import UnusableHash
from devnest.passwords.hasher import Hasher, PasswordHasher, SyncPasswordHasher
from devnest.passwords.policy import BreachedFile, BreachedPasswords, Policy, WeakPassword
from devnest.passwords.runners import InlineRunner, PoolRunner, Runner, ThreadRunner, Work
from devnest.passwords.scheme import (
    Guess,
    NewPassword,
    Scheme,
    Verdict,
    compute,
    compute_all,
    hash_password,
    is_known,
    needs_rehash,
    verify_password,
)
from devnest.passwords.stored import MAX_COST, MIN_COST

__all__ = [
    "MAX_COST",
    "MIN_COST",
    "BreachedFile",
    "BreachedPasswords",
    "Guess",
    "Hasher",
    "InlineRunner",
    "NewPassword",
    "PasswordHasher",
    "Policy",
    "PoolRunner",
    "Runner",
    "Scheme",
    "SyncPasswordHasher",
    "ThreadRunner",
    "UnusableHash",
    "Verdict",
    "WeakPassword",
    "Work",
    "compute",
    "compute_all",
    "hash_password",
    "is_known",
    "needs_rehash",
    "verify_password",
]
