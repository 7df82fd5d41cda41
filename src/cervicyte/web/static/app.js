// What every page gains from JavaScript. Without it each page still works: forms post, links lead, nothing is hidden.

export const csrf = () => document.querySelector('meta[name="csrf"]').content;

/** Wait some milliseconds. */
export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Seconds that an answer asks to wait (Retry-After as seconds or as a date), or what is given. */
export function retryAfter(text, otherwise) {
  if (!text) return otherwise;
  const seconds = /^\d+$/.test(text.trim()) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 300) : otherwise;
}

/** A page of this site as a document that is not shown and whose scripts do not run. */
export async function fetchPage(address, options = {}) {
  const answer = await fetch(address, { credentials: 'same-origin', headers: { Accept: 'text/html' }, ...options });
  const text = await answer.text();
  return { answer, page: new DOMParser().parseFromString(text, 'text/html') };
}

/** Show what only works with JavaScript, in the document or a part of it. */
export function enhance(root) {
  for (const element of root.querySelectorAll('[data-script-only]')) element.hidden = false;
}

// --- Colours: the form posts without JavaScript; with it nothing is loaded again. ---

document.addEventListener('submit', (event) => {
  const form = event.target;
  if (!form.matches('[data-theme-form]')) return;
  event.preventDefault();
  const theme = event.submitter ? event.submitter.value : '';
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  const secure = location.protocol === 'https:' ? '; Secure' : '';
  document.cookie = `theme=${theme}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
  for (const button of form.querySelectorAll('button')) {
    button.setAttribute('aria-pressed', String(button.value === theme));
  }
});

// --- One press is one post; after a while, or when the page comes back from the browser's memory, one may press again. ---

const sent = new WeakSet();
document.addEventListener('submit', (event) => {
  if (event.defaultPrevented || event.target.method !== 'post') return;
  if (sent.has(event.target)) event.preventDefault();
  sent.add(event.target);
  setTimeout(() => sent.delete(event.target), 8000);
});
addEventListener('pageshow', (event) => {
  if (event.persisted) for (const form of document.forms) sent.delete(form);
});

// --- Menus close with Escape and a press elsewhere. ---

addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  for (const menu of document.querySelectorAll('[data-menu][open]')) {
    menu.open = false;
    menu.querySelector('summary').focus();
  }
});
addEventListener('click', (event) => {
  for (const menu of document.querySelectorAll('[data-menu][open]')) if (!menu.contains(event.target)) menu.open = false;
});

// --- Small buttons. ---

document.addEventListener('click', async (event) => {
  const button = event.target.closest('[data-copy], [data-print]');
  if (!button) return;
  if (button.matches('[data-print]')) return print();
  const input = document.getElementById(button.dataset.copy);
  input.select();
  try {
    await navigator.clipboard.writeText(input.value);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Press Ctrl+C'; // the text is selected: no clipboard without HTTPS
  }
});

// --- A page that said "later" counts down. ---

for (const element of document.querySelectorAll('[data-wait]')) {
  const until = Date.now() + 1000 * Number(element.dataset.wait);
  const left = element.querySelector('[data-wait-left]');
  element.removeAttribute('role'); // it was read once; a countdown is not read each second
  const timer = setInterval(() => {
    const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    left.textContent = seconds === 1 ? '1 second' : `${seconds} seconds`;
    if (seconds > 0) return;
    clearInterval(timer);
    element.textContent = 'You can try again now.';
  }, 1000);
}

// --- Results as they come: the page is fetched again and its live parts take the places of the old ones. ---

/** Fetch this page and replace its parts with data-live; what has the keyboard keeps it. */
export async function refresh() {
  const { answer, page } = await fetchPage(location.href);
  if (!answer.ok || answer.redirected) return;
  for (const old of document.querySelectorAll('[data-live][id]')) {
    const fresh = page.getElementById(old.id);
    if (!fresh || fresh.isEqualNode(old)) continue;
    const active = document.activeElement;
    const focused = old.contains(active) && active.id;
    old.replaceWith(document.adoptNode(fresh));
    enhance(fresh);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
}

async function follow() {
  let wait = 0;
  for (;;) {
    const every = document.querySelector('[data-live-every]');
    if (!every) return;
    await pause(1000 * Number(every.dataset.liveEvery) + wait);
    if (document.hidden) {
      await new Promise((done) => document.addEventListener('visibilitychange', done, { once: true }));
    }
    try {
      await refresh();
      wait = 0;
    } catch {
      wait = Math.min(30000, 2 * wait + 2000); // no connection: ask less often
    }
  }
}

enhance(document);
let following = false;
/** Watch for results until none is awaited; called again after an upload. */
export async function watch() {
  if (following) return;
  following = true;
  try {
    await follow();
  } finally {
    following = false;
  }
}
watch();
