"""`/posts` and `/tags`: publishing, reading, searching, changing and deleting posts."""

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
from devnest.api.openapi.documentation import BEARER, problems
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

NOT_MODIFIED = ResponseSpec(None, description="`If-None-Match` lists the current version.")
ETAG = [
    ResponseHeader(
        name="ETag",
        description="The version of the post, for `If-Match` and `If-None-Match`.",
        documentation_only=True,
    )
]


class Page(msgspec.Struct, frozen=True):
    """A page of posts. `next_cursor` leads to the next page, and is null on the last one."""

    items: list[Post]
    next_cursor: str | None


@post(
    "/posts",
    tags=["posts"],
    summary="Publish a post",
    security=BEARER,
    before_request=authenticate,
    responses=problems(400, 401, 408, 413, 415, 422, 503),
    response_headers=[
        ResponseHeader(
            name="Location", description="The path of the post.", documentation_only=True
        )
    ],
    operation_id="createPost",
)
async def publish(data: NewPost, request: ApiRequest) -> Reply[Post]:
    """Publishes a post. The response is sent after the post is stored on disk."""
    draft = Draft(
        request.principal.account_id, data.title, data.body, list(dict.fromkeys(data.tags))
    )
    if claim := read_claim(request, draft.author_id, data):
        published = await create_post(request.services.database, *draft, claim)
    else:
        published = await request.services.publisher(draft)
    return Reply(published, headers={"Location": f"/api/v1/posts/{published.id}"})


@get(
    "/posts",
    tags=["posts"],
    summary="Read posts, newest first",
    responses=problems(400, 503),
    operation_id="listPosts",
)
async def read_page(
    request: ApiRequest,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    author: Annotated[
        str | None, Parameter(**NAME, description="Only posts of this username.")
    ] = None,
    tag: Annotated[str | None, Parameter(**TAG, description="Only posts with this tag.")] = None,
    q: Annotated[
        str | None,
        Parameter(
            min_length=1,
            max_length=200,
            pattern=patterns.TEXT,
            description="Only posts that match this search. `word other` finds posts with both "
            'words, `"a phrase"` finds words in this order, `word or other` finds posts with '
            "either, and `-word` excludes posts. Each side of `or` needs a word or phrase without "
            "`-`.",
        ),
    ] = None,
) -> Reply[Page]:
    """Returns posts, newest first. A post that is published while you read does not move others
    from one page to another.

    A page has at most 1 MiB, so a page of large posts may have fewer than `limit`. `next_cursor`
    continues after its last post.
    """
    services = request.services
    before = None if cursor is None else decode_cursor(cursor)
    max_items = int(limit)
    filters: dict[str, Any] = {
        "max_bytes": MAX_PAGE_BYTES,
        "before": before,
        "author": author,
        "tag": tag,
    }
    if q is not None:
        search = services.searches.find(request.network, q, max_items + 1, **filters)
        return Reply(encode_page(await request.cancel_on_disconnect(search), max_items))

    async def load() -> bytes:
        return encode_page(await list_posts(services.database, max_items + 1, **filters), max_items)

    return Reply(await services.pages.get((limit, cursor, author, tag), load))


@get(
    "/posts/{post_id:uuid}",
    tags=["posts"],
    summary="Read a post",
    responses={304: NOT_MODIFIED, **problems(400, 404, 412, 503)},
    response_headers=ETAG,
    operation_id="readPost",
)
async def read_post(post_id: UUID, request: ApiRequest) -> Reply[Post]:
    """Returns a post by its id. If `If-None-Match` lists the current version, the response is 304
    without a body.
    """
    if_match, if_none_match = read_conditions(request.scope["headers"])
    found = await find_post(request.services.database, post_id)
    if found is None:
        raise ProblemError(404, "there is no such post")
    tag = entity_tag(found.updated_at, found.author.username)
    if if_match is not None and not if_match.has(tag):
        raise _precondition_failed()
    if if_none_match is not None and if_none_match.has(tag):
        return Reply(b"", status=304, headers={"ETag": tag})
    return Reply(found, headers={"ETag": tag})


@patch(
    "/posts/{post_id:uuid}",
    tags=["posts"],
    summary="Change your post",
    security=BEARER,
    before_request=authenticate,
    responses=problems(400, 401, 403, 404, 412, 408, 413, 415, 422, 503),
    response_headers=ETAG,
    operation_id="changePost",
)
async def edit_post(post_id: UUID, data: PostChange, request: ApiRequest) -> Reply[Post]:
    """Changes a post. Only its author can do that. Send the `ETag` of the version that you have
    read as `If-Match`, so that you do not overwrite another change.
    """
    conditions = read_conditions(request.scope["headers"])
    if conditions.excludes_all:
        raise await _refusal(request, post_id)
    changed = await change_post(
        request.services.database,
        post_id,
        request.principal.account_id,
        conditions.allowed_versions,
        excluded_versions=conditions.excluded_versions,
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
    responses=problems(400, 401, 403, 404, 412, 503),
    operation_id="deletePost",
)
async def remove_post(post_id: UUID, request: ApiRequest) -> None:
    """Deletes a post and its comments. Only its author can do that."""
    conditions = read_conditions(request.scope["headers"])
    account_id = request.principal.account_id
    if conditions.excludes_all or not await delete_post(
        request.services.database,
        post_id,
        account_id,
        conditions.allowed_versions,
        excluded_versions=conditions.excluded_versions,
    ):
        raise await _refusal(request, post_id)


async def _refusal(request: ApiRequest, post_id: UUID) -> ProblemError:
    """Find out why a post was not changed."""
    found = await find_post(request.services.database, post_id)
    if found is None:
        return ProblemError(404, "there is no such post")
    if found.author.id != request.principal.account_id:
        return ProblemError(403, "the post belongs to another account")
    return _precondition_failed()


def _precondition_failed() -> ProblemError:
    return ProblemError(
        412, "the condition does not allow the current version", kind="urn:devnest:changed"
    )


@get(
    "/tags",
    tags=["posts"],
    summary="Read the most used tags",
    responses=problems(503),
    operation_id="listTags",
)
async def read_tags(request: ApiRequest) -> Reply[list[TagCount]]:
    """Returns the 200 most used tags with their numbers of posts, as they were some seconds ago."""
    return Reply(await request.services.tags.most_used())


ROUTES = [publish, read_page, read_post, edit_post, remove_post, read_tags]
