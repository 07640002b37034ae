"""`/posts`: publish, read one, and page through all, newest first."""

import base64
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.params import Parameter

from devnest.api.bodies import NAME, NOT_AT_THE_END, TAG, NewPost
from devnest.api.documentation import BEARER, answers
from devnest.api.problems import ProblemError
from devnest.api.requests import ApiRequest, authenticate
from devnest.store import Post, create_post, find_post, list_posts

__all__ = ["Page", "publish", "read_page", "read_post"]

DEFAULT_LIMIT = 20
MAXIMUM_LIMIT = 100
# The 16 bytes of a UUID in base64url without padding: the last of 22 characters carries 2 bits.
CURSOR = f"^[A-Za-z0-9_-]{{21}}[AQgw]{NOT_AT_THE_END}"


class Page(msgspec.Struct, frozen=True):
    """Some posts, and the cursor of the next page, null at the end."""

    items: list[Post]
    next_cursor: str | None


@post(
    "/posts", tags=["posts"], summary="Publish a post", security=BEARER, guards=[authenticate],
    responses=answers(400, 401, 413, 415, 422, 503),
    response_headers=[ResponseHeader(name="Location", description="The post's path", documentation_only=True)],
)  # fmt: skip
async def publish(data: NewPost, request: ApiRequest) -> Response[Post]:
    """The answer is sent after the post is on disk."""
    tags = list(dict.fromkeys(data.tags))
    published = await create_post(request.services.database, request.principal.account_id, data.title, data.body, tags)
    return Response(published, headers={"Location": f"/api/v1/posts/{published.id}"})


@get("/posts", tags=["posts"], summary="Read posts, newest first", responses=answers(400, 503))
async def read_page(
    request: ApiRequest,
    limit: Annotated[int, Parameter(ge=1, le=MAXIMUM_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Parameter(pattern=CURSOR, description="`next_cursor` of the page before")] = None,
    author: Annotated[str | None, Parameter(**NAME, description="A username")] = None,
    tag: Annotated[str | None, Parameter(**TAG, description="Posts that carry this tag")] = None,
) -> Page:
    """Pages are stable: a post published meanwhile moves no other."""
    before = None if cursor is None else _decode(cursor)
    posts = await list_posts(request.services.database, limit + 1, before=before, author=author, tag=tag)
    more = len(posts) > limit
    return Page(posts[:limit], _encode(posts[limit - 1].id) if more else None)


@get("/posts/{post_id:uuid}", tags=["posts"], summary="Read a post", responses=answers(404, 503))
async def read_post(post_id: UUID, request: ApiRequest) -> Post:
    """One post by its id."""
    found = await find_post(request.services.database, post_id)
    if found is None:
        raise ProblemError(404, "there is no such post")
    return found


def _encode(post_id: UUID) -> str:
    return base64.urlsafe_b64encode(post_id.bytes).rstrip(b"=").decode("ascii")


def _decode(cursor: str) -> UUID:
    return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
