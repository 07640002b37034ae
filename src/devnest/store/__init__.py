"""The store: an embedded PostgreSQL or any other, its schema, and every query DevNest asks."""

from devnest.store.accounts import (
    Account,
    Credentials,
    Login,
    change_password,
    create_account,
    find_account,
    find_credentials,
    find_login,
    find_resettable,
    taken_field,
)
from devnest.store.audit import Event, record_event
from devnest.store.database import Database
from devnest.store.datadir import DataDirectory, default_data_dir
from devnest.store.embedded import EmbeddedPostgres
from devnest.store.errors import (
    AlreadyTaken,
    AuthorGone,
    DatabaseUnavailable,
    DataDirectoryError,
    DataDirectoryInUse,
    PostgresFailed,
    PostgresNotFound,
    RefreshRefused,
    SchemaBehind,
    StoreError,
    Throttled,
    VersionMismatch,
)
from devnest.store.housekeeping import Housekeeper, purge
from devnest.store.mailed_tokens import (
    Purpose,
    ResetTarget,
    create_mailed_token,
    find_reset_target,
    reset_password,
    verify_email,
)
from devnest.store.migrate import ensure_database, migrate
from devnest.store.posts import Post, create_post, find_post, list_posts
from devnest.store.revocations import RevokedSessions
from devnest.store.sessions import (
    Refreshed,
    Session,
    create_session,
    end_session,
    end_sessions,
    has_signed_in_from,
    list_sessions,
    refresh_session,
)
from devnest.store.throttles import Rule, Subject, charge, clear_charges, pay_back

__all__ = [
    "Account",
    "AlreadyTaken",
    "AuthorGone",
    "Credentials",
    "DataDirectory",
    "DataDirectoryError",
    "DataDirectoryInUse",
    "Database",
    "DatabaseUnavailable",
    "EmbeddedPostgres",
    "Event",
    "Housekeeper",
    "Login",
    "Post",
    "PostgresFailed",
    "PostgresNotFound",
    "Purpose",
    "RefreshRefused",
    "Refreshed",
    "ResetTarget",
    "RevokedSessions",
    "Rule",
    "SchemaBehind",
    "Session",
    "StoreError",
    "Subject",
    "Throttled",
    "VersionMismatch",
    "change_password",
    "charge",
    "clear_charges",
    "create_account",
    "create_mailed_token",
    "create_post",
    "create_session",
    "default_data_dir",
    "end_session",
    "end_sessions",
    "ensure_database",
    "find_account",
    "find_credentials",
    "find_login",
    "find_post",
    "find_reset_target",
    "find_resettable",
    "has_signed_in_from",
    "list_posts",
    "list_sessions",
    "migrate",
    "pay_back",
    "purge",
    "record_event",
    "refresh_session",
    "reset_password",
    "taken_field",
    "verify_email",
]
