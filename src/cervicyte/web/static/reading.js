// Reading with one hand on the keys: a verdict is one press, the next cell is there at once, nothing decided is lost.
// Pages are fetched and their content swapped in, so that a lost connection leaves the cell and the comment in place.

import { enhance, fetchPage } from './app.js';

const KEYS = { ArrowRight: 'next', j: 'next', ArrowLeft: 'previous', k: 'previous', n: 'open' };
const main = () => document.getElementById('main');
let busy = false;

/** What is remembered in this browser only: map, opacity, whether keys work. */
const remembered = {
  get: (name) => {
    try {
      return localStorage.getItem(`cervicyte.${name}`);
    } catch {
      return null;
    }
  },
  set: (name, value) => {
    try {
      localStorage.setItem(`cervicyte.${name}`, value);
    } catch {
      /* private windows forget */
    }
  },
};

function say(text) {
  const place = document.querySelector('[data-saying]');
  if (place) place.textContent = text;
}

/** Load a page in place of this one: another cell is swapped in, anything else is gone to. */
async function visit(address, { options = {}, push = true } = {}) {
  if (busy) return;
  busy = true;
  try {
    const { answer, page } = await fetchPage(address, options);
    const fresh = page.getElementById('main');
    if (answer.status === 503 || answer.status === 429) {
      say('The server is busy. Nothing was saved; press again in a moment.');
    } else if (fresh?.matches('[data-reading]')) {
      show(page, fresh);
      const posted = (options.method ?? 'GET') !== 'GET';
      if (push && answer.ok && (answer.redirected || !posted)) history.pushState(null, '', answer.url);
    } else if (options.method && page.querySelector('input[autocomplete="current-password"]')) {
      say('Your session has ended and nothing was saved. Copy your comment, then load the page again.');
    } else if (answer.ok) {
      location.assign(answer.url);
    } else {
      say(page.querySelector('h1')?.textContent ?? `That did not work (${answer.status}).`);
    }
  } catch {
    say('No connection. Nothing was saved; your verdict and comment are still here: press again.');
  } finally {
    busy = false;
  }
}

function show(page, fresh) {
  const folds = [...document.querySelectorAll('details.fold')].map((fold) => fold.open);
  document.title = page.title;
  main().replaceWith(document.adoptNode(fresh));
  // What was unfolded for one cell is wanted for the next; a page of another shape starts folded.
  const now = document.querySelectorAll('details.fold');
  if (now.length === folds.length) now.forEach((fold, i) => (fold.open = folds[i]));
  start();
  fresh.focus({ preventScroll: true });
}

function start() {
  enhance(document);
  const map = document.querySelector('[data-map-on]');
  if (map) map.checked = remembered.get('map') === 'on';
  const opacity = document.querySelector('[data-opacity]');
  if (opacity) opacity.value = remembered.get('opacity') ?? opacity.value;
  const keys = document.querySelector('[data-keys-on]');
  if (keys) keys.checked = remembered.get('keys') !== 'off';
  paint();
  document.querySelector('.strip [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
  const next = main().dataset.nextImage;
  if (next) new Image().src = next;
}

/** The map's opacity; a property set by script, which the security policy allows where it forbids style attributes. */
function paint() {
  const map = document.querySelector('[data-map]');
  if (!map) return;
  const on = document.querySelector('[data-map-on]').checked;
  map.style.opacity = on ? String(Number(document.querySelector('[data-opacity]').value) / 100) : '0';
}

document.addEventListener('input', (event) => {
  if (event.target.matches('[data-opacity]')) {
    document.querySelector('[data-map-on]').checked = true;
    remembered.set('map', 'on');
    remembered.set('opacity', event.target.value);
    paint();
  } else if (event.target.matches('[data-map-on]')) {
    remembered.set('map', event.target.checked ? 'on' : 'off');
    paint();
  } else if (event.target.matches('[data-keys-on]')) {
    remembered.set('keys', event.target.checked ? 'on' : 'off');
  }
});

document.addEventListener(
  'submit',
  (event) => {
    const form = event.target;
    if (!form.matches('[data-decide]')) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // before app.js counts it as sent: it may have to be sent again
    const body = new URLSearchParams(new FormData(form, event.submitter));
    visit(form.action, { options: { method: 'POST', body } });
  },
  true,
);

document.addEventListener('click', (event) => {
  const link = event.target.closest('a[href]');
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (!link.matches('[data-key], .strip a')) return;
  event.preventDefault();
  visit(link.href);
});

addEventListener('popstate', () => visit(location.href, { push: false }));

document.addEventListener('keydown', (event) => {
  const typing = event.target.closest('input, textarea, select');
  if (event.key === 'Escape' && typing) return typing.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
  if (typing && !typing.matches('[type="checkbox"]')) return;
  if (document.querySelector('[data-keys-on]')?.checked === false) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === 'c') document.querySelector('[data-comment]')?.focus();
  else if (key === 'm') document.querySelector('[data-map-on]')?.click();
  else if (key === '?') help();
  else {
    const target = document.querySelector(`[data-key="${CSS.escape(KEYS[key] ?? key)}"]`);
    if (!target) return;
    if (target.matches('a')) visit(target.href);
    else target.form.requestSubmit(target);
  }
  event.preventDefault();
});

function help() {
  const fold = document.querySelector('[data-help]');
  fold.open = !fold.open;
  if (fold.open) {
    fold.querySelector('summary').focus();
    fold.scrollIntoView({ block: 'nearest' });
  }
}

start();
