// Piscina's part of benchmarks/pool.py: the same rows, printed as JSON. Arguments: workers, callers.
import { Piscina } from 'piscina';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { performance } from 'node:perf_hooks';

const [workers, callers] = process.argv.slice(2).map(Number);
const workerFile = fileURLToPath(new URL('./pool_piscina_worker.mjs', import.meta.url));
writeFileSync(workerFile, `
export const small = (number) => number + 1;
export const giveBack = (data) => data;
export const spin = (ms) => { const until = performance.now() + ms; while (performance.now() < until); };
export const die = () => process.exit(1);
`);

const open = () => new Piscina({ filename: workerFile, minThreads: workers, maxThreads: workers });
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

async function repeat(pool, count) {
  const start = performance.now();
  for (let i = 0; i < count; i++) await pool.run(i, { name: 'small' });
  return performance.now() - start;
}

async function payload(pool, size, count) {
  const times = [];
  for (let i = 0; i < count; i++) {
    const data = Buffer.alloc(size, 'x');
    const start = performance.now();
    await pool.run(data, { name: 'giveBack' });
    times.push(performance.now() - start);
  }
  return median(times);
}

async function light(pool) {
  let stop = false;
  const heavy = async () => { while (!stop) await pool.run(20, { name: 'spin' }); };
  const flood = Array.from({ length: 8 }, heavy);
  const times = [];
  for (let i = 0; i < 60; i++) {
    const start = performance.now();
    await pool.run(1, { name: 'small' });
    times.push(performance.now() - start);
    await new Promise((done) => setTimeout(done, 5));
  }
  stop = true;
  await Promise.all(flood);
  return times.sort((a, b) => a - b)[Math.ceil(0.99 * times.length) - 1];
}

async function recovery() {
  const pool = open();
  await Promise.all(Array.from({ length: workers }, () => pool.run(50, { name: 'spin' })));
  const start = performance.now();
  await pool.run(null, { name: 'die' }).catch(() => {});
  await Promise.all(Array.from({ length: workers }, () => pool.run(1, { name: 'small' })));
  const took = performance.now() - start;
  await pool.destroy();
  return took;
}

const pool = open();
await repeat(pool, 500);
const figures = { round_trip_us: await repeat(pool, 500) / 500 * 1e3 };
const start = performance.now();
await Promise.all(Array.from({ length: callers }, () => repeat(pool, 100)));
figures.tasks_per_s = callers * 100 / (performance.now() - start) * 1e3;
figures.mb_1_ms = await payload(pool, 1 << 20, 20);
figures.mb_64_ms = await payload(pool, 64 << 20, 3);
figures.light_p99_ms = await light(pool);
await pool.destroy();
figures.recovery_ms = await recovery();
console.log(JSON.stringify(figures));
