// The same tables and queries as every peer, over node-postgres.
import pg from 'pg';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS accounts (
    id uuid PRIMARY KEY, username text NOT NULL UNIQUE, email text NOT NULL UNIQUE,
    password_hash text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
  CREATE TABLE IF NOT EXISTS posts (
    id uuid PRIMARY KEY, author_id uuid NOT NULL REFERENCES accounts (id), title text NOT NULL, body text NOT NULL,
    tags text[] NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());`;
const SCHEMA_LOCK = 7301;

// A URL of a Unix socket, postgresql://user@/name?host=/directory, is one that pg's own parser reads wrongly.
function settings(url) {
  const parsed = new URL(url.replace(/^postgres(ql)?:\/\/([^/@]*@)?\//, 'postgresql://$2localhost/'));
  return {
    user: decodeURIComponent(parsed.username) || undefined,
    password: decodeURIComponent(parsed.password) || undefined,
    host: parsed.searchParams.get('host') ?? parsed.hostname,
    port: Number(parsed.searchParams.get('port') ?? (parsed.port || 5432)),
    database: parsed.pathname.slice(1) || 'postgres',
  };
}

export async function open(url, connections) {
  const pool = new pg.Pool({ ...settings(url), max: connections });
  const client = await pool.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [SCHEMA_LOCK]); // one process at a time makes the tables
    await client.query(SCHEMA);
    await client.query('SELECT pg_advisory_unlock($1)', [SCHEMA_LOCK]);
  } finally {
    client.release();
  }
  // Named statements are prepared once for each connection.
  const one = async (name, text, values) => (await pool.query({ name, text, values })).rows[0];
  return {
    addAccount: ({ id, username, email, hashed }) => one(
      'add_account',
      'INSERT INTO accounts (id, username, email, password_hash) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING id, username, email, created_at',
      [id, username, email, hashed],
    ),
    findAccount: (email) => one(
      'find_account', 'SELECT id, username, password_hash FROM accounts WHERE email = $1', [email],
    ),
    addPost: ({ id, author, title, body, tags }) => one(
      'add_post',
      `WITH post AS (INSERT INTO posts (id, author_id, title, body, tags) VALUES ($1, $2, $3, $4, $5) RETURNING *)
       SELECT post.*, accounts.username FROM post JOIN accounts ON accounts.id = post.author_id`,
      [id, author, title, body, tags],
    ),
    newestPosts: async (limit) => (await pool.query({
      name: 'newest_posts',
      text: `SELECT posts.*, accounts.username FROM posts JOIN accounts ON accounts.id = posts.author_id
             ORDER BY posts.id DESC LIMIT $1`,
      values: [limit],
    })).rows,
  };
}
