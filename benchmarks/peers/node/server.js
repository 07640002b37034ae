// Forks PROCESSES servers with cluster and keeps that many; with one, serves in this process.
import cluster from 'node:cluster';
import { application } from './app.js';
import { passwords } from './passwords.js';
import { open } from './store.js';

const processes = Number(process.env.PROCESSES ?? 1);
const port = Number(process.env.PORT ?? 8000);
const CONNECTIONS = 10;

if (cluster.isPrimary && processes > 1) {
  for (let count = 0; count < processes; count += 1) cluster.fork();
  let stopping = false;
  cluster.on('exit', () => { if (!stopping) cluster.fork(); });
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => {
      stopping = true;
      for (const worker of Object.values(cluster.workers)) worker.kill();
      cluster.disconnect(() => process.exit(0));
    });
  }
} else {
  const store = await open(process.env.DATABASE_URL, CONNECTIONS);
  const app = application({
    store,
    passwords: passwords(process.env.VARIANT ?? 'piscina'),
    secret: process.env.JWT_SECRET ?? 'only for measuring on this machine',
  });
  const server = app.listen({ port, host: '127.0.0.1', backlog: 4096 });
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => { server.close(); process.exit(0); });
}
