// The three profiles of `devnest load` as a k6 script: see README.md beside this file.
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import http from 'k6/http';
import { check, sleep } from 'k6';
import { randomBytes } from 'k6/crypto';

const TARGET = __ENV.TARGET || 'http://127.0.0.1:8000';
const PROFILE = __ENV.PROFILE || 'experiment';
const API = `${TARGET}/api/v1`;
const TAGS = ['python', 'postgres', 'asyncio', 'testing'];

const number = (name, otherwise) => Number(__ENV[name] || otherwise);

const VUS = number('VUS', 5000);
const RAMP_S = number('RAMP_S', 120);
const HOLD_S = number('HOLD_S', 25);
const FLOOD_S = number('FLOOD_S', 60);
const CAPACITY = number('CAPACITY', 100); // sign-ins a second; k6 cannot measure it before it starts
const MULTIPLE = number('MULTIPLE', 10);
const STAGES = (__ENV.STAGES || '10s:50,20s:100,12s:0').split(',').map((stage) => {
  const found = /^\s*([\d.]+s):(\d+)\s*$/.exec(stage);
  if (!found) throw new Error(`not a stage: '${stage}' (write SECONDSs:VUS, as in 10s:50,20s:100,12s:0)`);
  return { duration: found[1], target: Number(found[2]) };
});

const ramp = (exec_, stages) => ({ executor: 'ramping-vus', exec: exec_, startVUs: 0, stages });
const constant = (exec_, vus) => ({ executor: 'constant-vus', exec: exec_, vus, duration: `${FLOOD_S}s` });

const SCENARIOS = {
  experiment: {
    default: ramp('experiment', STAGES),
  },
  stress: {
    crowd: ramp('stress', [
      { duration: `${RAMP_S}s`, target: VUS }, { duration: `${HOLD_S}s`, target: VUS }, { duration: '5s', target: 0 },
    ]),
  },
  flood: {
    attack: {
      executor: 'constant-arrival-rate',
      exec: 'attack',
      rate: Math.ceil(CAPACITY * MULTIPLE),
      duration: `${FLOOD_S}s`,
      preAllocatedVUs: 1000,
      maxVUs: 1000,
    },
    honest: constant('honest', 2),
    readers: constant('reader', 20),
    posters: constant('poster', 10),
  },
};

if (!(PROFILE in SCENARIOS)) throw new Error(`PROFILE is experiment, stress or flood, not ${PROFILE}`);

// k6 tells of the requests of one name only where a threshold asks for it. These hold always: as with `devnest load`,
// a run fails by no threshold of its own.
const NAMES = {
  experiment: ['register', 'login', 'post'],
  stress: ['prepare', 'login', 'feed', 'post'],
  flood: ['prepare', 'attack', 'login', 'feed', 'post'],
}[PROFILE];
const ALWAYS = { http_req_duration: 'p(95)>=0', http_reqs: 'count>=0', http_req_failed: 'rate>=0' };
const thresholds = {};
for (const metric of Object.keys(ALWAYS)) {
  for (const name of NAMES) thresholds[`${metric}{name:${name}}`] = [ALWAYS[metric]];
}

export const options = {
  scenarios: SCENARIOS[PROFILE],
  thresholds,
  summaryTrendStats: ['avg', 'min', 'med', 'max', 'p(90)', 'p(95)', 'p(99)'],
  setupTimeout: '20m',
};

const ACCOUNTS = { experiment: 0, stress: VUS, flood: 50 }[PROFILE];
const SETUP_BATCH = 20;

// Each VU runs this module for itself, so these belong to one VU.
let token = '';
let made = 0;

const random = (count) => Array.from(new Uint8Array(randomBytes(count)), (byte) => byte.toString(16).padStart(2, '0')).join('');
const RUN = random(4);

function headers(expected) {
  const result = { 'Content-Type': 'application/json', Accept: 'application/json' };
  if (token) result.Authorization = `Bearer ${token}`;
  return { headers: result, tags: { name: expected.name }, responseCallback: http.expectedStatuses(...expected.statuses) };
}

function send(name, method, path, body, statuses) {
  const payload = body === null ? null : JSON.stringify(body);
  const answer = http.request(method, `${API}${path}`, payload, headers({ name, statuses }));
  check(answer, { [`${name} has the right status`]: (found) => statuses.includes(found.status) });
  return answer;
}

function think(seconds) {
  sleep(seconds * (0.5 + Math.random()));
}

function newAccount(tag) {
  made += 1;
  const username = `k${RUN}${tag}n${made}`;
  return { username, email: `${username}@load.example`, password: `Lo4d!${random(8)}` };
}

function register() {
  const account = newAccount(exec.vu.idInTest);
  const answer = send('register', 'POST', '/auth/register', account, [201]);
  if (answer.status !== 201) return null;
  const { id, username } = answer.json() || {};
  if (!check(id, { 'register has the right body': (found) => typeof found === 'string' })) return null;
  return check(username, { 'register answers own account': (found) => found === account.username }) ? { ...account, id } : null;
}

function subject(jwt) {
  return JSON.parse(encoding.b64decode(jwt.split('.')[1], 'rawurl', 's')).sub;
}

function login(account, name, statuses) {
  const { email, password } = account;
  const answer = send(name, 'POST', '/auth/login', { email, password }, statuses);
  if (answer.status !== 200) return false;
  const found = answer.json('access_token');
  if (!check(found, { [`${name} has the right body`]: (jwt) => typeof jwt === 'string' })) return false;
  if (!check(found, { [`${name} answers own token`]: (jwt) => subject(jwt) === account.id })) return false;
  token = found;
  return true;
}

function post(account) {
  const title = `k6 ${random(4)}`;
  const body = { title, body: 'nobody waits for long '.repeat(12).trim(), tags: TAGS.slice(0, 2) };
  const answer = send('post', 'POST', '/posts', body, [201]);
  if (answer.status !== 201) return false;
  const found = answer.json();
  if (!check(found, { 'post has the right body': (its) => Boolean(its && its.author) })) return false;
  return check(found, { 'post answers own post': ({ title: its, author }) => its === title && author.id === account.id });
}

function feed() {
  const answer = send('feed', 'GET', '/posts', null, [200]);
  if (answer.status !== 200) return false;
  return check(answer, { 'feed has the right body': (found) => Array.isArray(found.json('items')) });
}

// Runs once, before the clock of the scenarios starts.
export function setup() {
  const accounts = [];
  while (accounts.length < ACCOUNTS) {
    const batch = Array.from({ length: Math.min(SETUP_BATCH, ACCOUNTS - accounts.length) }, () => newAccount('s'));
    const parameters = headers({ name: 'prepare', statuses: [201] });
    const answers = http.batch(batch.map((account) => ['POST', `${API}/auth/register`, JSON.stringify(account), parameters]));
    answers.forEach((answer, index) => {
      if (answer.status !== 201) throw new Error(`cannot make the accounts: status ${answer.status}`);
      accounts.push({ ...batch[index], id: answer.json('id') });
    });
  }
  return accounts;
}

export function experiment() {
  token = '';
  const account = register();
  think(0.2);
  if (account === null) return;
  const signedIn = login(account, 'login', [200]);
  think(0.2);
  if (!signedIn) return;
  post(account);
  think(0.2);
}

const own = (accounts) => accounts[exec.vu.idInTest % accounts.length];

export function stress(accounts) {
  const account = own(accounts);
  if (!token) {
    login(account, 'login', [200]);
  } else if (Math.random() < 0.7) {
    feed();
  } else {
    post(account);
  }
  think(2.4);
}

export function attack(accounts) {
  login(own(accounts), 'attack', [200, 429, 503]);
}

export function honest(accounts) {
  login(own(accounts), 'login', [200]);
  think(2);
}

export function reader() {
  feed();
  think(0.2);
}

export function poster(accounts) {
  const account = own(accounts);
  if (token) post(account);
  else login(account, 'login', [200]);
  think(0.2);
}
