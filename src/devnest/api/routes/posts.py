"""`/posts`: publish, read one, and page through all, newest first."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.datastructures import ResponseHeader
from litestar.openapi import ResponseSpec
from litestar.params import Parameter
from msgspec import UNSET

from devnest.api.http import patterns
from devnest.api.http.bodies import NAME, TAG, NewPost, PostChange
from devnest.api.http.cursors import Cursor, decode_cursor
from devnest.api.http.etags import entity_tag, read_conditions
from devnest.api.http.idempotency import read_claim
from devnest.api.http.pages import DEFAULT_LIMIT, MAX_PAGE_BYTES, Limit, encode_page
from devnest.api.http.problems import ProblemError
from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply
from devnest.api.openapi.documentation import BEARER, answers
from devnest.api.security.authentication import authenticate
from devnest.store import (
    Draft,
    Post,
    TagCount,
    change_post,
    create_post,
    delete_post,
    find_post,
    list_posts,
)

__all__ = ["ROUTES", "Page"]

NOT_MODIFIED = ResponseSpec(None, description="`If-None-Match` names the version that there is")
ETAG = [
    ResponseHeader(
        name="ETag",
        description="The post's version, for `If-Match` and `If-None-Match`",
        documentation_only=True,
    )
]


class Page(msgspec.Struct, frozen=True):
    """Some posts, and the cursor of the next page, null at the end."""

    items: list[Post]
    next_cursor: str | None


@post(
    "/posts", tags=["posts"], summary="Publish a post", security=BEARER, before_request=authenticate,
    responses=answers(400, 401, 408, 413, 415, 422, 503),
    response_headers=[ResponseHeader(name="Location", description="The post's path", documentation_only=True)],
)  # fmt: skip
async def publish(data: NewPost, request: ApiRequest) -> Reply[Post]:
    """The answer is sent after the post is on disk."""
    draft = Draft(
        request.principal.account_id, data.title, data.body, list(dict.fromkeys(data.tags))
    )
    if claim := read_claim(request, draft.author_id, data):
        published = await create_post(request.services.database, *draft, claim)
    else:
        published = await request.services.publisher(draft)
    return Reply(published, headers={"Location": f"/api/v1/posts/{published.id}"})


@get("/posts", tags=["posts"], summary="Read posts, newest first", responses=answers(400, 503))
async def read_page(
    request: ApiRequest,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    author: Annotated[str | None, Parameter(**NAME, description="A username")] = None,
    tag: Annotated[str | None, Parameter(**TAG, description="Posts that carry this tag")] = None,
    q: Annotated[
        str | None,
        Parameter(
            min_length=1,
            max_length=200,
            pattern=patterns.TEXT,
            description='Words; "a phrase", or, and -not are known. Between one or and the next is a word without -',
        ),
    ] = None,
) -> Reply[Page]:
    """Pages are stable: a post published meanwhile moves no other.

    A page has at most 1 MiB: one of large posts holds fewer than `limit`, and `next_cursor` goes on where it ends.
    """
    services = request.services
    before = None if cursor is None else decode_cursor(cursor)
    most = int(limit)
    asked: dict[str, Any] = {
        "max_bytes": MAX_PAGE_BYTES,
        "before": before,
        "author": author,
        "tag": tag,
    }
    if q is not None:
        search = services.searches.find(request.network, q, most + 1, **asked)
        return Reply(encode_page(await request.cancel_on_disconnect(search), most))

    async def encoded() -> bytes:
        return encode_page(await list_posts(services.database, most + 1, **asked), most)

    return Reply(await services.pages.get((limit, cursor, author, tag), encoded))


@get(
    "/posts/{post_id:uuid}",
    tags=["posts"],
    summary="Read a post",
    responses={304: NOT_MODIFIED, **answers(400, 404, 412, 503)},
    response_headers=ETAG,
)
async def read_post(post_id: UUID, request: ApiRequest) -> Reply[Post]:
    """One post by its id. With `If-None-Match`, only if it is another version than the one that you have."""
    wanted, known = read_conditions(request.scope["headers"])
    found = await find_post(request.services.database, post_id)
    if found is None:
        raise ProblemError(404, "there is no such post")
    tag = entity_tag(found.updated_at, found.author.username)
    if wanted is not None and not wanted.has(tag):
        raise _changed()
    if known is not None and known.has(tag):
        return Reply(b"", status=304, headers={"ETag": tag})
    return Reply(found, headers={"ETag": tag})


@patch(
    "/posts/{post_id:uuid}",
    tags=["posts"],
    summary="Change your post",
    security=BEARER,
    before_request=authenticate,
    responses=answers(400, 401, 403, 404, 412, 408, 413, 415, 422, 503),
    response_headers=ETAG,
)
async def edit_post(post_id: UUID, data: PostChange, request: ApiRequest) -> Reply[Post]:
    """With `If-Match`, only of the version that you read: no change of somewhere else is lost."""
    wanted = read_conditions(request.scope["headers"])
    if wanted.excludes_all:
        raise await _refusal(request, post_id)
    changed = await change_post(
        request.services.database,
        post_id,
        request.principal.account_id,
        wanted.allowed_versions,
        excluded_versions=wanted.excluded_versions,
        title=data.title or None,
        body=data.body or None,
        tags=None if data.tags is UNSET else list(dict.fromkeys(data.tags)),
    )
    if changed is None:
        raise await _refusal(request, post_id)
    return Reply(changed, headers={"ETag": entity_tag(changed.updated_at, changed.author.username)})


@delete(
    "/posts/{post_id:uuid}",
    status_code=204,
    tags=["posts"],
    summary="Delete your post",
    security=BEARER,
    before_request=authenticate,
    responses=answers(400, 401, 403, 404, 412, 503),
)
async def remove_post(post_id: UUID, request: ApiRequest) -> None:
    """Its comments go with it."""
    wanted = read_conditions(request.scope["headers"])
    account_id = request.principal.account_id
    if wanted.excludes_all or not await delete_post(
        request.services.database,
        post_id,
        account_id,
        wanted.allowed_versions,
        excluded_versions=wanted.excluded_versions,
    ):
        raise await _refusal(request, post_id)


async def _refusal(request: ApiRequest, post_id: UUID) -> ProblemError:
    """Why a post was not changed."""
    found = await find_post(request.services.database, post_id)
    if found is None:
        return ProblemError(404, "there is no such post")
    if found.author.id != request.principal.account_id:
        return ProblemError(403, "the post is another's")
    return _changed()


def _changed() -> ProblemError:
    return ProblemError(
        412, "the post is another version than the condition allows", kind="urn:devnest:changed"
    )


@get("/tags", tags=["posts"], summary="The tags in use", responses=answers(503))
async def read_tags(request: ApiRequest) -> Reply[list[TagCount]]:
    """The 200 most used, with the number of posts that carry each, as of some seconds ago."""
    return Reply(await request.services.tags.most_used())


ROUTES = [publish, read_page, read_post, edit_post, remove_post, read_tags]
