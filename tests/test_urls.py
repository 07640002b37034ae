"""URLs with passwords: read whole or not at all, and quoted nowhere."""

from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.load import BadPlan
from devnest.load.target import Target
from devnest.mail import SmtpTransport
from devnest.store import connection_options
from devnest.urls import BadUrl, Host, parse_url

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
PIECES = st.text("abc019:/?#[]@!$&'()*+,;=%.~ -\\\"é", max_size=12)
SECRET = "geheim"


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_every_text_can_be_said(username: str, password: str, path: str, value: str) -> None:
    """Percent-encoded, each part comes out as it went in."""
    text = f"x://{quote(username, '')}:{quote(password, '')}@h:1/{quote(path, '')}?a={quote(value, '')}"
    url = parse_url(text, ("x",))
    assert (url.username, url.password, url.path, url.options) == (
        username,
        password,
        f"/{path}",
        {"a": value},
    )
    assert url.hosts == (Host("h", 1),)


def test_a_url_shows_no_password() -> None:
    """Where somebody prints it."""
    url = parse_url(f"x://user:{SECRET}@h?sslpassword={SECRET}", ("x",))
    assert SECRET not in f"{url} {url!r}"


@given(PIECES, PIECES, st.sampled_from(["postgresql", "smtp", "smtps", "http", "https"]), PIECES)
def test_what_is_wrong_is_said_and_not_quoted(
    before: str, after: str, scheme: str, rest: str
) -> None:
    """Whatever stands around the secret: it is refused in words, or understood."""
    text = f"{scheme}://u:{before}{SECRET}{after}@{rest}"
    for read in (connection_options, SmtpTransport, Target.parse):
        error = refusal(read, text)
        if error is not None:
            assert SECRET not in str(error)
            assert error.__cause__ is None
            assert error.__suppress_context__ or error.__context__ is None


def refusal(read: Callable[[str], object], text: str) -> Exception | None:
    try:
        read(text)
    except (BadUrl, BadPlan) as error:
        return error
    return None


@pytest.mark.parametrize("character", "#/?@%")
@pytest.mark.parametrize("place", ["{0}pass", "pass{0}", "pa{0}ss", "12{0}ss"])
def test_reserved_characters_have_to_be_encoded(character: str, place: str) -> None:
    """The URL would be another one."""
    password = place.format(character)
    for scheme, read in (("postgresql", connection_options), ("smtps", SmtpTransport)):
        with pytest.raises(BadUrl):
            read(f"{scheme}://user:{password}@host")
    arguments = connection_options(f"postgresql://user:{quote(password, '')}@host/name")
    assert arguments == {"user": "user", "password": password, "host": ["host"], "database": "name"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u@/", {}),
        ("postgres://u@h", {"host": ["h"]}),
        ("POSTGRESQL://u@h", {"host": ["h"]}),
        ("postgresql://u@h/d", {"host": ["h"], "database": "d"}),
        ("postgresql://u:@h", {"host": ["h"], "password": ""}),
        ("postgresql://u:a:b@h", {"host": ["h"], "password": "a:b"}),
        ("postgresql://u@h:5433", {"host": ["h"], "port": [5433]}),
        ("postgresql://u@h:", {"host": ["h"]}),
        ("postgresql://u@[::1]:5433/d", {"host": ["::1"], "port": [5433], "database": "d"}),
        ("postgresql://u@a,b:1/d", {"host": ["a", "b"], "port": [5432, 1], "database": "d"}),
        ("postgresql://u@%2Fvar%2Frun/d", {"host": ["/var/run"], "database": "d"}),
        ("postgresql://u@/d?host=/var/run", {"host": ["/var/run"], "database": "d"}),
        ("postgresql://u@/d?host=/a,/b&port=1,2", {"host": ["/a", "/b"], "port": [1, 2], "database": "d"}),
        ("postgresql://u@a,b/d?port=7", {"host": ["a", "b"], "port": [7, 7], "database": "d"}),
        ("postgresql://?host=h&user=u&dbname=d&password=p", {"host": ["h"], "database": "d", "password": "p"}),
        ("postgresql://u@h?target_session_attrs=read-write", {"host": ["h"], "target_session_attrs": "read-write"}),
        ("postgresql://u@h?connect_timeout=3", {"host": ["h"], "timeout": 3.0}),
        ("postgresql://u@h?options=-ca%3Db", {"host": ["h"], "server_settings": {"options": "-ca=b"}}),
        (
            "postgresql://u@h?sslmode=verify-full&sslrootcert=/a%26b",
            {"host": ["h"], "dsn": "postgresql://?sslmode=verify-full&sslrootcert=%2Fa%26b"},
        ),
    ],
)  # fmt: skip
def test_what_a_database_url_means(url: str, expected: dict[str, object]) -> None:
    """As libpq reads it."""
    assert connection_options(url) == {"user": "u", **expected}


@pytest.mark.parametrize(
    "url",
    [
        "", "postgresql", "postgresql:", "postgresql:/u@h", "mysql://u@h", "sqlite:///x", "postgresql+asyncpg://u@h",
        "postgresql://u@h:99999", "postgresql://u@h:0", "postgresql://u@h:port", "postgresql://u@h:+1",
        "postgresql://u@h:5432:5432", "postgresql://u@h,:1", "postgresql://u@,", "postgresql://u@h h", "postgresql://u@h\n",
        "postgresql://u@[::1", "postgresql://u@[::x]", "postgresql://u@::1", "postgresql://u@h?nonsense=1",
        "postgresql://u@h?sslmode", "postgresql://u@h?sslmode=perhaps", "postgresql://u@h?sslmode=", "postgresql://u@h?=x",
        "postgresql://u@h?sslmode=require&sslmode=disable", "postgresql://u@h?target_session_attrs=best",
        "postgresql://u@h?sslnegotiation=direct", "postgresql://u@h?ssl_min_protocol_version=SSLv3",
        "postgresql://u@h?connect_timeout=soon", "postgresql://u@h?connect_timeout=0", "postgresql://u@h?gsslib=x",
        "postgresql://u@h?channel_binding=require", "postgresql://u@h?user=v", "postgresql://u@h?host=g",
        "postgresql://u@h/d?dbname=e", "postgresql://u@h:1?port=2", "postgresql://u@a,b,c?port=1,2", "postgresql://u%00@h",
        "postgresql://u%ff@h", "postgresql://u%2@h", "postgresql://ü@h", "postgresql://u@h#d",
    ],
)  # fmt: skip
def test_what_no_database_url_is(url: str) -> None:
    """Told at the option, before anything is started."""
    with pytest.raises(BadUrl):
        connection_options(url)


def test_a_user_without_a_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that runs as any number."""
    for name in ("PGUSER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    with pytest.raises(BadUrl, match="names no user"):
        connection_options("postgresql://h/d")
    monkeypatch.setenv("PGUSER", "u")
    assert connection_options("postgresql://h/d")["user"] == "u"
