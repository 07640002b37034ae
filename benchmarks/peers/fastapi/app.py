"""DevNest's main routes, written with FastAPI and SQLAlchemy as their tutorials do."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import bcrypt
import jwt
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ARRAY, DateTime, ForeignKey, Text, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, joinedload, mapped_column, relationship
from uuid_utils.compat import uuid7

COST = int(os.environ.get("BCRYPT_COST", "10"))
SECRET = os.environ.get("JWT_SECRET", "only for measuring on this machine")
TOKEN_LIFE = timedelta(minutes=15)
FEED_LENGTH = 20
SCHEMA_LOCK = 7301

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1),
    pool_size=10,
    max_overflow=0,
)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True)}  # noqa: RUF012 - SQLAlchemy's own way


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    username: Mapped[str] = mapped_column(Text, unique=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    password_hash: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Post(Base):
    __tablename__ = "posts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    author_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id"))
    title: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    author: Mapped[Account] = relationship()


class Registration(BaseModel):
    username: Annotated[str, Field(min_length=3, max_length=32)]
    email: Annotated[str, Field(min_length=3, max_length=254)]
    password: Annotated[str, Field(min_length=8, max_length=1024)]


class Login(BaseModel):
    email: Annotated[str, Field(max_length=254)]
    password: Annotated[str, Field(max_length=1024)]


class NewPost(BaseModel):
    title: Annotated[str, Field(min_length=1, max_length=200)]
    body: Annotated[str, Field(min_length=1, max_length=50_000)]
    tags: list[Annotated[str, Field(min_length=1, max_length=32)]] = []


class Author(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    username: str


class OwnAccount(Author):
    email: str
    created_at: datetime


class ShownPost(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    author: Author
    title: str
    body: str
    tags: list[str]
    created_at: datetime
    updated_at: datetime


class Page(BaseModel):
    items: list[ShownPost]
    next_cursor: str | None


class Tokens(BaseModel):
    access_token: str
    token_type: str = "bearer"
    expires_in: int = int(TOKEN_LIFE.total_seconds())


async def session() -> AsyncIterator[AsyncSession]:
    async with new_session() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


async def signed_in(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
) -> uuid.UUID:
    try:
        return uuid.UUID(jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"])["sub"])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Sign in first") from None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.execute(
            text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
        )  # one process at a time
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/api/v1/auth/register", status_code=201)
async def register(body: Registration, session: Session) -> OwnAccount:
    hashed = await asyncio.to_thread(
        bcrypt.hashpw, body.password.encode()[:72], bcrypt.gensalt(COST)
    )
    account = Account(username=body.username, email=body.email, password_hash=hashed.decode())
    session.add(account)
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(409, "Taken") from None
    return OwnAccount.model_validate(account)


@app.post("/api/v1/auth/login")
async def login(body: Login, session: Session) -> Tokens:
    query = select(Account.id, Account.password_hash).where(Account.email == body.email)
    account = (await session.execute(query)).one_or_none()
    await session.rollback()  # gives the connection back before the hash
    if account is None or not await asyncio.to_thread(
        bcrypt.checkpw, body.password.encode()[:72], account.password_hash.encode()
    ):
        raise HTTPException(401, "Wrong email or password")
    claims = {"sub": str(account.id), "exp": datetime.now(UTC) + TOKEN_LIFE}
    return Tokens(access_token=jwt.encode(claims, SECRET, algorithm="HS256"))


@app.post("/api/v1/posts", status_code=201)
async def add_post(
    body: NewPost,
    session: Session,
    response: Response,
    account_id: Annotated[uuid.UUID, Depends(signed_in)],
) -> ShownPost:
    post = Post(author_id=account_id, **body.model_dump())
    session.add(post)
    await session.commit()
    await session.refresh(post, ["author"])
    response.headers["Location"] = f"/api/v1/posts/{post.id}"
    return ShownPost.model_validate(post)


@app.get("/api/v1/posts")
async def newest_posts(session: Session) -> Page:
    query = (
        select(Post).options(joinedload(Post.author)).order_by(Post.id.desc()).limit(FEED_LENGTH)
    )
    items = [ShownPost.model_validate(post) for post in await session.scalars(query)]
    return Page(items=items, next_cursor=str(items[-1].id) if len(items) == FEED_LENGTH else None)
