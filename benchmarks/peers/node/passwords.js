// How this variant hashes: the one thing in which the variants differ.
import { cpus } from 'node:os';
import bcrypt from 'bcrypt';
import { Piscina } from 'piscina';

const cost = Number(process.env.BCRYPT_COST ?? 10);

// On the event loop: nobody else is answered meanwhile.
const blocking = {
  hash: async (password) => bcrypt.hashSync(password, cost),
  verify: async (password, hashed) => bcrypt.compareSync(password, hashed),
};

// In libuv's own threads, four to a process unless UV_THREADPOOL_SIZE says otherwise.
const native = {
  hash: (password) => bcrypt.hash(password, cost),
  verify: (password, hashed) => bcrypt.compare(password, hashed),
};

// In worker threads: each process has a pool of its own, as in the published design.
function pooled() {
  const pool = new Piscina({
    filename: new URL('./worker.js', import.meta.url).href,
    maxThreads: cpus().length,
  });
  return {
    hash: (password) => pool.run({ password, cost }, { name: 'hash' }),
    verify: (password, hashed) => pool.run({ password, hashed }, { name: 'verify' }),
  };
}

export function passwords(variant) {
  switch (variant) {
    case 'blocking': return blocking;
    case 'native': return native;
    case 'piscina': return pooled();
    default: throw new Error(`no variant ${variant}: blocking, native or piscina`);
  }
}
