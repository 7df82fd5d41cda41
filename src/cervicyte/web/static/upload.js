// Files go one after another, so that a large set neither fills the server nor is lost with one connection.
// A server that is busy is asked again when it says so; a lost connection is waited for; one bad file stops no other.
// A dropped folder is opened and what lies in it is sent; a file that is gone when its turn comes is named and passed over.

import { csrf, pause, refresh, retryAfter, watch } from './app.js';

const form = document.querySelector('[data-upload]');
const list = document.querySelector('[data-sending]');
const said = document.querySelector('[data-sending-said]');
const queue = [];
// How often a connection may break on one file while the server answers otherwise.
const MOST_BREAKS = 5;
let working = false;

/** A row of the list: name, bar, state. All text is set as text. */
function addRow(label) {
  const row = document.createElement('li');
  const name = document.createElement('bdi');
  name.className = 'break';
  name.textContent = label.replace(/[\p{Cc}\p{Cf}]/gu, '\uFFFD');
  const bar = document.createElement('progress');
  bar.max = 1;
  bar.value = 0;
  bar.setAttribute('aria-label', name.textContent);
  const state = document.createElement('span');
  state.className = 'state';
  state.textContent = 'waiting';
  row.append(name, bar, state);
  list.append(row);
  list.hidden = false;
  return { row, bar, state };
}

/** Post one file once; XMLHttpRequest, because fetch tells nothing of how far it is. */
function post(file, key, bar) {
  return new Promise((done) => {
    const request = new XMLHttpRequest();
    request.open('POST', form.action);
    request.setRequestHeader('Accept', 'application/json');
    request.setRequestHeader('X-CSRF-Token', csrf());
    request.setRequestHeader('Idempotency-Key', key);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) bar.value = event.loaded / event.total;
    };
    request.onload = () => done({ status: request.status, wait: request.getResponseHeader('Retry-After'), body: read(request) });
    request.onerror = request.ontimeout = () => done({ status: 0, wait: null, body: {} });
    const body = new FormData();
    body.append('csrf', csrf());
    body.append('images', file, file.name);
    request.send(body);
  });
}

function read(request) {
  try {
    return JSON.parse(request.responseText) ?? {};
  } catch {
    return {};
  }
}

/** Whether the browser can still read a file: it cannot when the file was moved, deleted or changed since it was chosen. */
async function readable(file) {
  try {
    // Not slice: of a file that is gone, it gives nothing instead of an error.
    const reader = file.stream().getReader();
    await reader.read();
    await reader.cancel();
    return true;
  } catch {
    return false;
  }
}

/** Whether the server answers at all. */
async function reachable() {
  try {
    await fetch('/healthz', { cache: 'no-store' });
    return true;
  } catch {
    return false;
  }
}

function fail({ row, state }, why) {
  row.classList.add('bad');
  state.textContent = why;
}

async function online() {
  if (!navigator.onLine) await new Promise((done) => addEventListener('online', done, { once: true }));
}

/** Send one file until the server has taken or refused it. */
async function send(item) {
  const { file, bar, state } = item;
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
  let breaks = 0;
  for (let attempt = 1; ; attempt += 1) {
    if (!(await readable(file))) {
      return fail(item, 'the file can no longer be read: it was moved, deleted or changed; choose it again');
    }
    state.textContent = 'sending';
    const { status, wait, body } = await post(file, key, bar);
    if (status >= 200 && status < 300) return finish(item, body);
    const again = status === 0 || status === 429 || status === 502 || status === 503 || status === 504;
    if (!again) return fail(item, reason(status, body));
    if (status === 0 && (await reachable())) breaks += 1;
    if (breaks >= MOST_BREAKS) return fail(item, `the connection broke ${breaks} times on this file; choose it again`);
    bar.value = 0;
    const seconds = retryAfter(wait, Math.min(60, 2 ** attempt));
    state.textContent = status === 0 ? 'no connection, goes on by itself' : `busy, again in ${Math.ceil(seconds)} s`;
    await Promise.all([pause(1000 * seconds), status === 0 ? online() : null]);
  }
}

function finish({ row, bar, state }, body) {
  bar.value = 1;
  const refused = Array.isArray(body.refused) ? body.refused : [];
  const parts = [`${Number(body.accepted) || 0} taken`];
  if (refused.length) parts.push(`${refused.length} refused`);
  if (body.passed_over) parts.push(`${Number(body.passed_over)} passed over`);
  state.textContent = parts.join(', ');
  for (const { name, reason } of refused.slice(0, 50)) {
    const line = document.createElement('li');
    line.className = 'bad';
    const what = document.createElement('bdi');
    what.className = 'break';
    what.textContent = String(name);
    const why = document.createElement('span');
    why.className = 'state';
    why.textContent = String(reason);
    line.append(what, document.createElement('span'), why);
    row.after(line);
  }
  if (refused.length && !body.accepted) row.classList.add('bad');
}

function reason(status, body) {
  if (typeof body.error?.what === 'string') return body.error.what;
  if (status === 413) return `too large; at most ${form.dataset.maxMb} MB`;
  if (status === 401 || status === 403) return 'your session has ended: load the page again';
  return `refused (${status})`;
}

async function work() {
  if (working) return;
  working = true;
  let done = 0;
  try {
    while (queue.length) {
      const item = queue.shift();
      await send(item);
      done += 1;
      await refresh().catch(() => {});
      watch();
    }
  } finally {
    working = false;
  }
  said.textContent = `${done} ${done === 1 ? 'file' : 'files'} sent`;
}

function take(files) {
  for (const file of files) queue.push({ file, ...addRow(file.name) });
  work();
}

/** All entries of a folder; a browser gives them in parts. */
async function entriesOf(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const part = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!part.length) return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    entries.push(...part);
  }
}

/** Queue the files of a dropped file or folder; what cannot be opened gets a line that says so. */
async function takeEntry(entry) {
  try {
    if (entry.isFile) return take([await new Promise((done, failed) => entry.file(done, failed))]);
    const entries = await entriesOf(entry);
    if (!entries.length) fail(addRow(`${entry.name}/`), 'the folder is empty');
    for (const inner of entries) {
      // Files that no person sees (.DS_Store and its kin) are no pictures.
      if (!inner.name.startsWith('.')) await takeEntry(inner);
    }
  } catch {
    fail(addRow(entry.name), `the ${entry.isFile ? 'file' : 'folder'} cannot be read: choose its files instead`);
  }
}

/** What was dropped: folders are opened where the browser can do that, else they get a line. */
async function takeDropped(data) {
  // Entries and files must be asked for at once: after the event both lists are empty.
  const items = [...data.items].filter((item) => item.kind === 'file');
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null);
  const files = items.map((item) => item.getAsFile());
  for (const [i, entry] of entries.entries()) {
    if (entry) await takeEntry(entry);
    else if (files[i]) take([files[i]]);
  }
  if (!items.length) said.textContent = 'Nothing was dropped that is a file.';
}

if (form) {
  const input = form.querySelector('input[type="file"]');
  form.querySelector('[data-upload-button]').hidden = true; // choosing is enough
  input.addEventListener('change', () => {
    take([...input.files]);
    input.value = '';
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    take([...input.files]);
    input.value = '';
  });
  for (const kind of ['dragenter', 'dragover']) {
    form.addEventListener(kind, (event) => {
      event.preventDefault();
      form.classList.add('over');
    });
  }
  for (const kind of ['dragleave', 'drop']) form.addEventListener(kind, () => form.classList.remove('over'));
  form.addEventListener('drop', (event) => {
    event.preventDefault();
    takeDropped(event.dataTransfer);
  });
  // A file dropped beside the zone must not replace the page.
  for (const kind of ['dragover', 'drop']) addEventListener(kind, (event) => event.preventDefault());
  addEventListener('beforeunload', (event) => {
    if (working) event.preventDefault();
  });
}
