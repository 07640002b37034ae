"""`/posts/{id}/comments`: reading, publishing and deleting comments."""

from uuid import UUID

import msgspec
from litestar import delete, get, post

from devnest.api.http.bodies import NewComment
from devnest.api.http.cursors import Cursor, decode_cursor
from devnest.api.http.idempotency import read_claim
from devnest.api.http.pages import DEFAULT_LIMIT, MAX_PAGE_BYTES, Limit, encode_page
from devnest.api.http.problems import ProblemError
from devnest.api.http.request import ApiRequest
from devnest.api.http.response import Reply
from devnest.api.openapi.documentation import BEARER, problems
from devnest.api.security.authentication import authenticate
from devnest.store import Comment, create_comment, delete_comment, list_comments

__all__ = ["ROUTES"]


class CommentPage(msgspec.Struct, frozen=True):
    """A page of comments. `next_cursor` leads to the next page, and is null on the last one."""

    items: list[Comment]
    next_cursor: str | None


@post(
    "/posts/{post_id:uuid}/comments",
    tags=["comments"],
    summary="Comment on a post",
    security=BEARER,
    before_request=authenticate,
    responses=problems(400, 401, 404, 408, 413, 415, 422, 503),
    operation_id="createComment",
)
async def write_comment(post_id: UUID, data: NewComment, request: ApiRequest) -> Reply[Comment]:
    """Publishes a comment. The response is sent after the comment is stored on disk."""
    author_id = request.principal.account_id
    claim = read_claim(request, author_id, data)
    written = await create_comment(request.services.database, post_id, author_id, data.body, claim)
    if written is None:
        raise ProblemError(404, "there is no such post")
    return Reply(written)


@get(
    "/posts/{post_id:uuid}/comments",
    tags=["comments"],
    summary="Read a post's comments",
    responses=problems(400, 404, 503),
    operation_id="listComments",
)
async def read_comments(
    post_id: UUID,
    request: ApiRequest,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Reply[CommentPage]:
    """Returns the comments of a post, oldest first.

    A page has at most 1 MiB, so a page of long comments may have fewer than `limit`.
    """
    after = None if cursor is None else decode_cursor(cursor)
    max_items = int(limit)
    database = request.services.database
    found = await list_comments(
        database, post_id, max_items + 1, max_bytes=MAX_PAGE_BYTES, after=after
    )
    if found is None:
        raise ProblemError(404, "there is no such post")
    return Reply(encode_page(found, max_items))


@delete(
    "/posts/{post_id:uuid}/comments/{comment_id:uuid}",
    status_code=204,
    tags=["comments"],
    summary="Delete your comment",
    security=BEARER,
    before_request=authenticate,
    responses=problems(401, 403, 404, 503),
    operation_id="deleteComment",
)
async def remove_comment(post_id: UUID, comment_id: UUID, request: ApiRequest) -> None:
    """Deletes a comment. Only its author can do that."""
    own = await delete_comment(
        request.services.database, post_id, comment_id, request.principal.account_id
    )
    if own is None:
        raise ProblemError(404, "there is no such comment")
    if not own:
        raise ProblemError(403, "the comment belongs to another account")


ROUTES = [write_comment, read_comments, remove_comment]
