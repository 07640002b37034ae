"""Request bodies: their types, and the function that decodes them.

msgspec decodes a body straight into its type, and strictly: a number is not accepted as a string,
and an unknown field is an error. Decoding stops at the first value that does not fit. The types
have two levels, so nothing deeper is ever built.

Two steps could still be expensive. msgspec builds a list completely before it checks the length,
and this module decodes every field to report all mistakes at once. So it counts first: strings
before anything is decoded, and brackets before mistakes are reported. A small body costs one count
of a byte.
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
    "AccountDeletion",
    "EmailConfirmation",
    "ForgottenPassword",
    "Login",
    "NewComment",
    "NewPost",
    "Password",
    "PasswordChange",
    "PasswordReset",
    "PostChange",
    "RefreshToken",
    "Registration",
    "Tokens",
    "Username",
    "decode_body",
]

# The body of any request. The longest post has 600 kB with every character escaped.
MAX_BODY_BYTES = 1024 * 1024
# The strings in a body, names of fields included. A valid body has 15 at most (a post with ten
# tags). The limit is far above, so that a client with too many learns which field is wrong.
MAX_STRINGS = 256
# The brackets outside strings in a body that is not valid. With more, its mistakes are not
# listed. A valid body has 4 at most.
MAX_BRACKETS = 1024
MAX_DEPTH = 32  # levels of a body that is not valid; a valid one has 2
BRACKETS = b"[{]}"
DEPTH_STEPS = bytes.maketrans(BRACKETS, b"\x01\x01\xff\xff")  # as signed bytes: 1 and -1
NOT_BRACKETS = bytes(set(range(256)) - set(BRACKETS))

NAME: dict[str, Any] = {"min_length": 3, "max_length": 32, "pattern": patterns.NAME}
TAG: dict[str, Any] = {"min_length": 1, "max_length": 32, "pattern": patterns.TAG}
Username = Annotated[str, Meta(**NAME, examples=["ada"])]
Tag = Annotated[str, Meta(**TAG, examples=["python"])]
MAX_TAGS = 10  # of a post
Tags = Annotated[list[Tag], Meta(max_length=MAX_TAGS)]
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
    """A new account. Usernames and e-mail addresses are unique regardless of case. A password may
    be any text of 8 to 1024 characters that is not easy to guess.
    """

    username: Username
    email: EmailAddress
    password: Password


class Login(Struct, frozen=True, forbid_unknown_fields=True):
    """The credentials of a sign-in: either `email` or `username`, and the password. `device_token`
    is the token that the previous sign-in on this device returned, if there was one.
    """

    password: AnyPassword
    email: EmailAddress | UnsetType = UNSET
    username: Username | UnsetType = UNSET
    device_token: DeviceToken | None = None

    def __post_init__(self) -> None:
        if (self.email is UNSET) == (self.username is UNSET):
            raise ValueError("give either email or username")

    @property
    def name(self) -> str:
        """The e-mail address or the username, whichever was given."""
        return self.email or self.username or ""


class RefreshToken(Struct, frozen=True, forbid_unknown_fields=True):
    """The newest refresh token of your session."""

    refresh_token: TokenText


class PasswordChange(Struct, frozen=True, forbid_unknown_fields=True):
    """Your current password, and the new one."""

    current: AnyPassword
    new: Password


class AccountChange(Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of your account to change. A field that you leave out stays as it is. Changing the
    username or the e-mail address requires `password`, your current password.
    """

    username: Username | UnsetType = UNSET
    email: EmailAddress | UnsetType = UNSET
    password: AnyPassword | UnsetType = UNSET


class AccountDeletion(Struct, frozen=True, forbid_unknown_fields=True):
    """Your current password, which confirms the deletion of your account."""

    password: AnyPassword


class ForgottenPassword(Struct, frozen=True, forbid_unknown_fields=True):
    """The e-mail address of the account whose password is forgotten."""

    email: EmailAddress


class PasswordReset(Struct, frozen=True, forbid_unknown_fields=True):
    """The token from a mail, and the new password."""

    token: TokenText
    new: Password


class EmailConfirmation(Struct, frozen=True, forbid_unknown_fields=True):
    """The token from a mail. `password` is the new password of the account. It is required when an
    address is confirmed for the first time without an access token of the account.
    """

    token: TokenText
    password: Password | UnsetType = UNSET


class NewPost(Struct, frozen=True, forbid_unknown_fields=True):
    """A post to publish. A tag that is listed twice counts once."""

    title: Title
    body: Body
    tags: Tags = []


class PostChange(Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of a post to change. A field that you leave out stays as it is."""

    title: Title | UnsetType = UNSET
    body: Body | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET


class NewComment(Struct, frozen=True, forbid_unknown_fields=True):
    """A comment to publish."""

    body: Annotated[
        str, Meta(min_length=1, max_length=5_000, pattern=patterns.TEXT, examples=["Well said."])
    ]


class Tokens(msgspec.Struct, frozen=True):
    """The tokens of a session. Send `access_token` in the header `Authorization: Bearer …`. It
    expires after `expires_in` seconds. `/auth/refresh` exchanges `refresh_token` for a new pair.
    """

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str


def decode_body(body: bytes, expected: Any) -> Any:
    """Decode a body.

    Args:
        body: The body as it was sent.
        expected: The type that it has to have.

    Returns:
        A value of that type.

    Raises:
        ProblemError: 400 if the body is not JSON or is nested too deeply. 422 if it does not fit
            the type; the problem lists every wrong field, unless the body has too many parts.
    """
    try:
        if body.count(b'"') > 2 * MAX_STRINGS:
            _check_shape(body)
        try:
            return _decoder(expected).decode(body)
        except msgspec.ValidationError as error:
            if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
                _check_shape(body)
            errors = _field_errors(body, expected) or [
                FieldError("", patterns.describe_patterns(str(error)))
            ]
            raise _invalid(errors) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(
            400, f"the body is not JSON: {error}", kind="urn:devnest:malformed"
        ) from None


@cache
def _decoder(expected: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(expected)


def _check_shape(body: bytes) -> None:
    """Raise the problem of a body that is nested too deeply or has too many strings or brackets.

    The check stops at the limits, so in a body with too many parts the depth of the later ones is
    not known.
    """
    # Unescaped quotes alternate between the beginning and the end of a string, so every second
    # piece is outside strings. The piece after the limit holds the rest of the body.
    pieces = body.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"', 2 * MAX_STRINGS + 1)
    outside_strings = b"".join(pieces[: 2 * MAX_STRINGS + 1 : 2])
    steps = outside_strings.translate(DEPTH_STEPS, NOT_BRACKETS)
    if MAX_DEPTH + 1 in accumulate(array("b", steps[:MAX_BRACKETS])):
        detail = f"the body is nested more than {MAX_DEPTH} levels deep"
        raise ProblemError(400, detail, kind="urn:devnest:depth")
    if len(pieces) > 2 * MAX_STRINGS + 1:
        detail = f"more than {MAX_STRINGS} strings, names of fields included"
    elif len(steps) > MAX_BRACKETS:
        detail = f"more than {MAX_BRACKETS // 2} arrays and objects"
    else:
        return
    with suppress(RecursionError):
        msgspec.json.decode(body, type=msgspec.Raw)  # raises if the body is not JSON
    raise _invalid([FieldError("", detail)])


def _invalid(errors: list[FieldError]) -> ProblemError:
    return ProblemError(422, "the body is not valid", kind="urn:devnest:invalid", errors=errors)


def _field_errors(body: bytes, expected: type[Struct]) -> list[FieldError]:
    """List every wrong field; msgspec itself stops at the first one."""
    try:
        given = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:  # not an object, or not JSON, for which the next line raises
        msgspec.json.decode(body, type=msgspec.Raw)
        return []
    fields = {field.encode_name: field for field in msgspec.structs.fields(expected)}
    errors = [FieldError(name[:64], "unknown field") for name in given.keys() - fields.keys()][:10]
    for name, field in fields.items():
        if name not in given:
            if field.required:
                errors.append(FieldError(name, "missing"))
            continue
        try:
            msgspec.json.decode(given[name], type=field.type)
        except msgspec.ValidationError as error:
            errors.append(FieldError(name, patterns.describe_patterns(str(error))))
    return sorted(errors, key=lambda error: error.field)
