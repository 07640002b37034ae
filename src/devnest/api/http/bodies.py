"""Request bodies: what they may hold, and how they are read.

A body is decoded straight into its type by msgspec, strictly: a number is no string, an unknown field is an error.
msgspec stops at what does not fit, so nothing deeper than the types, which have two levels, is ever built. But it
builds a list whole before it counts it, and to name all mistakes every field is built. So what is expensive is counted
first: strings before anything is decoded, brackets before mistakes are named. A small body pays one count of a byte.
"""

from array import array
from contextlib import suppress
from functools import cache
from itertools import accumulate
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from devnest.api.http import patterns
from devnest.api.http.problems import FieldError, ProblemError

__all__ = [
    "NAME",
    "TAG",
    "AccountChange",
    "AddressProof",
    "EmailAddress",
    "Farewell",
    "Forgotten",
    "Login",
    "NewComment",
    "NewPost",
    "Password",
    "PasswordChange",
    "PasswordReset",
    "PostChange",
    "RefreshToken",
    "Registration",
    "Tag",
    "Tokens",
    "Username",
    "read",
]

MAX_BODY_BYTES = 1024 * 1024  # the longest post, every character escaped, is 600 kB
MAX_STRINGS = 256  # of a body, names of fields included: ten times what the largest has, so that mistakes are named
MAX_BRACKETS = 1024  # of a body that does not fit, outside strings; one that does has four
MAX_DEPTH = 32  # levels of a body that does not fit; one that does has two
BRACKETS = b"[{]}"
STEPS = bytes.maketrans(BRACKETS, b"\x01\x01\xff\xff")  # as signed bytes 1 and -1
NOT_BRACKETS = bytes(set(range(256)) - set(BRACKETS))

NAME: dict[str, Any] = {"min_length": 3, "max_length": 32, "pattern": patterns.NAME}
TAG: dict[str, Any] = {"min_length": 1, "max_length": 32, "pattern": patterns.TAG}
Username = Annotated[str, Meta(**NAME, examples=["ada"])]
Tag = Annotated[str, Meta(**TAG, examples=["python"])]
EmailAddress = Annotated[
    str, Meta(max_length=254, pattern=patterns.EMAIL, examples=["ada@example.org"])
]
Password = Annotated[
    str, Meta(min_length=8, max_length=1024, examples=["correct horse battery staple"])
]
AnyPassword = Annotated[str, Meta(max_length=1024, examples=["correct horse battery staple"])]
TokenText = Annotated[
    str, Meta(max_length=128, examples=["8h2kCq3n0aYb7cF1mZrT5wXvL9sJ4dGpQeUoIyHtNkE"])
]
DeviceToken = Annotated[
    str, Meta(examples=["AQcAAAAAaZxmAFVn0bH7v3k9m1c6T8rX2yJ4sQwEzL5pNhKdGfUoIaRt"])
]
Title = Annotated[
    str, Meta(min_length=1, max_length=200, pattern=patterns.LINE, examples=["Hello"])
]
Body = Annotated[
    str, Meta(min_length=1, max_length=50_000, pattern=patterns.TEXT, examples=["A first post."])
]


class Registration(Struct, frozen=True, forbid_unknown_fields=True):
    """A new account. Names are unique whatever their case; a password may be any text of 8 to 1024 characters
    that is not easily guessed.
    """

    username: Username
    email: EmailAddress
    password: Password


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """Who signs in: `email` or `username`, one of them, and the password. `device_token`: what the last sign-in on this
    device answered.
    """

    password: AnyPassword
    email: EmailAddress | UnsetType = UNSET
    username: Username | UnsetType = UNSET
    device_token: DeviceToken | None = None

    def __post_init__(self) -> None:
        if (self.email is UNSET) == (self.username is UNSET):
            raise ValueError("give email or username, one of them")

    @property
    def name(self) -> str:
        """Whichever was given."""
        return self.email or self.username or ""


class RefreshToken(Struct, frozen=True, forbid_unknown_fields=True):
    """The newest refresh token of a session."""

    refresh_token: TokenText


class PasswordChange(Struct, frozen=True, forbid_unknown_fields=True):
    """The password that is, and the one that will be."""

    current: AnyPassword
    new: Password


class AccountChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change of your account; the rest stays. Either change needs the current password."""

    username: Username | UnsetType = UNSET
    email: EmailAddress | UnsetType = UNSET
    password: AnyPassword | UnsetType = UNSET


class Farewell(Struct, frozen=True, forbid_unknown_fields=True):
    """Your current password, to show that it is you who wants to go."""

    password: AnyPassword


class Forgotten(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose password is forgotten."""

    email: EmailAddress


class PasswordReset(Struct, frozen=True, forbid_unknown_fields=True):
    """A mailed token, and the password that will be."""

    token: TokenText
    new: Password


class AddressProof(Struct, frozen=True, forbid_unknown_fields=True):
    """A token from a mail. `password` is the one that will be, where the token comes from outside a session."""

    token: TokenText
    password: Password | UnsetType = UNSET


class NewPost(Struct, frozen=True, forbid_unknown_fields=True):
    """A post to publish. A tag given twice counts once."""

    title: Title
    body: Body
    tags: Annotated[list[Tag], Meta(max_length=10)] = []


class PostChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change of a post; the rest stays."""

    title: Title | UnsetType = UNSET
    body: Body | UnsetType = UNSET
    tags: Annotated[list[Tag], Meta(max_length=10)] | UnsetType = UNSET


class NewComment(Struct, frozen=True, forbid_unknown_fields=True):
    """A comment to write."""

    body: Annotated[
        str, Meta(min_length=1, max_length=5_000, pattern=patterns.TEXT, examples=["Well said."])
    ]


class Tokens(msgspec.Struct, frozen=True):
    """A new session. Send `access_token` as `Authorization: Bearer …`; it ends after `expires_in` seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str


def read(body: bytes, of: Any) -> Any:
    """Decode a body.

    Args:
        body: As it was sent.
        of: The type it is to have.

    Raises:
        ProblemError: 400 where it is no JSON or nested too deep, else 422 with every wrong field, or with none where
            there is too much to tell.
    """
    try:
        if body.count(b'"') > 2 * MAX_STRINGS:
            _check_shape(body)
        try:
            return _decoder(of).decode(body)
        except msgspec.ValidationError as error:
            if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
                _check_shape(body)
            errors = _field_errors(body, of) or [FieldError("", patterns.in_words(str(error)))]
            raise _invalid(errors) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(
            400, f"the body is not JSON: {error}", kind="urn:devnest:malformed"
        ) from None


@cache
def _decoder(of: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(of)


def _check_shape(body: bytes) -> None:
    """Raise what is wrong with a body that is nested too deep, or has too many strings or brackets.

    Nothing is looked at beyond as many as there may be, so what comes later is too much, not too deep.
    """
    # Between two quotes that are not escaped is a string; one piece more than there may be is what is not looked at.
    pieces = body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"', 2 * MAX_STRINGS + 1)
    outside_strings = b"".join(pieces[: 2 * MAX_STRINGS + 1 : 2])
    steps = outside_strings.translate(STEPS, NOT_BRACKETS)
    if MAX_DEPTH + 1 in accumulate(array("b", steps[:MAX_BRACKETS])):
        detail = f"the body is nested deeper than {MAX_DEPTH} levels"
        raise ProblemError(400, detail, kind="urn:devnest:depth")
    if len(pieces) > 2 * MAX_STRINGS + 1:
        detail = f"more than {MAX_STRINGS} strings, names of fields included"
    elif len(steps) > MAX_BRACKETS:
        detail = f"more than {MAX_BRACKETS // 2} arrays and objects"
    else:
        return
    with suppress(RecursionError):
        msgspec.json.decode(body, type=msgspec.Raw)  # what is no JSON is told so
    raise _invalid([FieldError("", detail)])


def _invalid(errors: list[FieldError]) -> ProblemError:
    return ProblemError(422, "the body is not valid", kind="urn:devnest:invalid", errors=errors)


def _field_errors(body: bytes, of: type[Struct]) -> list[FieldError]:
    """Every wrong field; msgspec itself stops at the first."""
    try:
        given = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:  # no object; nothing at all, it may turn out here
        msgspec.json.decode(body, type=msgspec.Raw)
        return []
    fields = {field.encode_name: field for field in msgspec.structs.fields(of)}
    errors = [FieldError(name[:64], "unknown field") for name in given.keys() - fields.keys()][:10]
    for name, field in fields.items():
        if name not in given:
            if field.required:
                errors.append(FieldError(name, "missing"))
            continue
        try:
            msgspec.json.decode(given[name], type=field.type)
        except msgspec.ValidationError as error:
            errors.append(FieldError(name, patterns.in_words(str(error))))
    return sorted(errors, key=lambda error: error.field)
