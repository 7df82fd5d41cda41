// Reading with one hand on the keys: a verdict is one press, the next cell is there at once, nothing decided is lost.
// Pages are fetched and their content swapped in, so that a lost connection leaves the cell and the comment in place.

import { csrf, enhance, fetchPage } from './app.js';

const KEYS = { ArrowRight: 'next', j: 'next', ArrowLeft: 'previous', k: 'previous', n: 'open' };
const main = () => document.getElementById('main');
const rest = () => main().focus({ preventScroll: true });
/** Milliseconds for which a page that the browser leaves for may take. */
const PATIENCE = 8000;
/** A page is on its way, or the browser is leaving this one. */
let busy = false;
/** The timer of a page that the browser leaves for. */
let leaving = 0;
/** Keys that were pressed meanwhile, in their order: who types fast means the cells that follow. */
const kept = [];

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

/** Say what went wrong; what was typed after it was meant for cells that do not come now. */
function fail(text) {
  kept.length = 0;
  const place = document.querySelector('[data-saying]');
  if (place) place.textContent = text;
}

/** Say what is good to know. */
function tell(text) {
  const place = document.querySelector('[data-told]');
  if (place) place.textContent = text;
}

/** Load a page in place of this one: another cell is swapped in, anything else is gone to. */
async function visit(address, { options = {}, push = true } = {}) {
  if (busy) return;
  busy = true;
  try {
    busy = await load(address, options, push);
  } catch {
    busy = false;
    fail(`No connection. ${lost(address, options)}`);
  }
  while (!busy && kept.length) {
    const key = kept.shift();
    if (!press(key)) kept.length = 0; // what follows was meant for another cell
  }
}

/** What to do where no answer came: a verdict that is sent twice is stored once, but who takes back twice takes two. */
function lost(address, options) {
  if (!options.method) return 'Your comment is still here: press again.';
  if (new URL(address, location.href).pathname === main().dataset.undo) {
    return 'Your last verdict may be taken back or not: load the page again and look.';
  }
  return 'Your verdict may not be saved; it and your comment are still here: press again.';
}

/** Go to another page. The browser does not say that it was stopped, so after a while keys mean this page again. */
function leave(address) {
  kept.length = 0;
  location.assign(address);
  leaving = setTimeout(() => {
    busy = false;
    fail('The next page does not come. Load it again, or go on here.');
  }, PATIENCE);
}

/** Fetch a page and show it, or say why not; true where the browser leaves for it. */
async function load(address, options, push) {
  const { answer, page } = await fetchPage(address, options);
  const fresh = page.getElementById('main');
  const told = [...page.querySelectorAll('.notes .note')].map((note) => note.textContent.trim()).join(' ');
  if (answer.status === 503 || answer.status === 429) {
    fail('The server is busy. Nothing was saved; press again in a moment.');
  } else if (fresh?.matches('[data-reading]')) {
    show(page, fresh);
    if (!answer.ok) kept.length = 0;
    const posted = (options.method ?? 'GET') !== 'GET';
    if (push && answer.ok && (answer.redirected || !posted)) history.pushState(null, '', answer.url);
  } else if (options.method && page.querySelector('input[autocomplete="current-password"]')) {
    fail('Your session has ended and nothing was saved. Copy your comment, then load the page again.');
  } else if (!answer.ok) {
    fail(page.querySelector('h1')?.textContent ?? `That did not work (${answer.status}).`);
  } else if (told) {
    tell(told); // a page says it once: loaded again, it would not
  } else if (kept[0]?.toLowerCase() !== 'z') {
    leave(answer.url);
    return true;
  } // else the last verdict of the case is to be taken back, from here
  return false;
}

function show(page, fresh) {
  const folds = [...document.querySelectorAll('details.fold')].map((fold) => fold.open);
  document.title = page.title;
  main().replaceWith(document.adoptNode(fresh));
  // What was unfolded for one cell is wanted for the next; a page of another shape starts folded.
  const now = document.querySelectorAll('details.fold');
  if (now.length === folds.length) now.forEach((fold, i) => (fold.open = folds[i]));
  start();
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
  if (document.activeElement === document.body) rest();
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
addEventListener('pageshow', (event) => {
  if (!event.persisted) return;
  clearTimeout(leaving); // it was left, and one came back
  busy = false;
  kept.length = 0;
});

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.closest('input, textarea, select');
  if (event.key === 'Escape' && typing) return rest();
  if (typing && !typing.matches('[type="checkbox"]')) return;
  if (document.querySelector('[data-keys-on]')?.checked === false) return;
  if (busy ? keep(event) : !event.repeat && press(event.key)) event.preventDefault();
});

/** Keep a key for the page that is on its way; false for those that mean nothing here. */
function keep(event) {
  const inComment = kept.slice(kept.lastIndexOf('Escape') + 1).some((key) => key.toLowerCase() === 'c');
  const known = [...event.key].length === 1 || event.key in KEYS || event.key === 'Escape';
  if (!known && !(inComment && ['Enter', 'Backspace'].includes(event.key))) return false;
  if (!event.repeat || inComment) kept.push(event.key);
  return true;
}

/** Do what a key says; false where it says nothing here. */
function press(pressed) {
  const comment = document.querySelector('[data-comment]');
  if (comment && document.activeElement === comment) return write(comment, pressed);
  const key = pressed.length === 1 ? pressed.toLowerCase() : pressed;
  if (key === 'Escape') return true;
  if (key === '?') return help();
  if (key === 'c' && comment) {
    comment.focus();
    comment.setSelectionRange(comment.value.length, comment.value.length);
    return true;
  }
  if (key === 'm' && document.querySelector('[data-map-on]')) {
    document.querySelector('[data-map-on]').click();
    return true;
  }
  if (key === 'z' && main().dataset.undo) {
    // Asked of the server even where nothing seems to be there to take back: it knows, and it says so.
    visit(main().dataset.undo, { options: { method: 'POST', body: new URLSearchParams({ csrf: csrf() }) } });
    return true;
  }
  const target = document.querySelector(`[data-key="${CSS.escape(KEYS[key] ?? key)}"]`);
  if (!target) {
    if (/^[a-z0-9]$/.test(key) || key in KEYS) tell(`The key ${pressed.toUpperCase()} does nothing on this cell.`);
    return false;
  }
  if (target.matches('a')) visit(target.href);
  else target.form.requestSubmit(target);
  return true;
}

/** A kept key as text of the comment; the others the browser writes itself. */
function write(comment, key) {
  const { selectionStart: from, selectionEnd: to } = comment;
  if (key === 'Escape') rest();
  else if (key === 'Backspace') comment.setRangeText('', from === to ? Math.max(0, from - 1) : from, to, 'end');
  else if (key === 'Enter') comment.setRangeText('\n', from, to, 'end');
  else if ([...key].length === 1) comment.setRangeText(key, from, to, 'end');
  return true;
}

function help() {
  const fold = document.querySelector('[data-help]');
  fold.open = !fold.open;
  if (fold.open) {
    fold.querySelector('summary').focus();
    fold.scrollIntoView({ block: 'nearest' });
  }
  return true;
}

start();
