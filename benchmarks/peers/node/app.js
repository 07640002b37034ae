// Register, sign in, post, read: DevNest's routes as one would write them with Express.
import express from 'express';
import jwt from 'jsonwebtoken';
import { v7 as newId } from 'uuid';

const TOKEN_SECONDS = 15 * 60;
const FEED_LENGTH = 20;

function shown(row) {
  return {
    id: row.id,
    author: { id: row.author_id, username: row.username },
    title: row.title,
    body: row.body,
    tags: row.tags,
    created_at: row.created_at,
    updated_at: row.updated_at,
  };
}

const isText = (value, least, most) => typeof value === 'string' && value.length >= least && value.length <= most;
const refuse = (response, status, title) => response.status(status).type('application/problem+json').json({ status, title });

export function application({ store, passwords, secret }) {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.use(express.json({ limit: '256kb' }));

  function signedIn(request, response, next) {
    const [scheme, token] = (request.headers.authorization ?? '').split(' ');
    try {
      if (scheme !== 'Bearer') throw new Error('no bearer token');
      request.accountId = jwt.verify(token, secret, { algorithms: ['HS256'] }).sub;
    } catch {
      refuse(response, 401, 'Sign in first');
      return;
    }
    next();
  }

  app.get('/healthz', (request, response) => { response.json({ status: 'ok' }); });

  app.post('/api/v1/auth/register', async (request, response) => {
    const { username, email, password } = request.body ?? {};
    if (!isText(username, 3, 32) || !isText(email, 3, 254) || !isText(password, 8, 1024)) {
      refuse(response, 422, 'Invalid registration');
      return;
    }
    const hashed = await passwords.hash(password);
    const account = await store.addAccount({ id: newId(), username, email, hashed });
    if (account === undefined) refuse(response, 409, 'Taken');
    else response.status(201).json(account);
  });

  app.post('/api/v1/auth/login', async (request, response) => {
    const { email, password } = request.body ?? {};
    const account = isText(email, 3, 254) && isText(password, 1, 1024) ? await store.findAccount(email) : undefined;
    if (account === undefined || !(await passwords.verify(password, account.password_hash))) {
      refuse(response, 401, 'Wrong email or password');
      return;
    }
    const token = jwt.sign({ sub: account.id }, secret, { algorithm: 'HS256', expiresIn: TOKEN_SECONDS });
    response.json({ access_token: token, token_type: 'bearer', expires_in: TOKEN_SECONDS });
  });

  app.post('/api/v1/posts', signedIn, async (request, response) => {
    const { title, body, tags = [] } = request.body ?? {};
    if (!isText(title, 1, 200) || !isText(body, 1, 50_000) || !Array.isArray(tags) || !tags.every((tag) => isText(tag, 1, 32))) {
      refuse(response, 422, 'Invalid post');
      return;
    }
    const post = await store.addPost({ id: newId(), author: request.accountId, title, body, tags });
    response.status(201).location(`/api/v1/posts/${post.id}`).json(shown(post));
  });

  app.get('/api/v1/posts', async (request, response) => {
    const items = (await store.newestPosts(FEED_LENGTH)).map(shown);
    response.json({ items, next_cursor: items.length === FEED_LENGTH ? items.at(-1).id : null });
  });

  return app;
}
