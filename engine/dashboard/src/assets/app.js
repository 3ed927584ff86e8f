// Starts the page: asks once what the pipeline is, then listens to what it does.

import { ask, by } from './dom.js';
import * as anomalies from './anomalies.js';
import * as counts from './counts.js';
import * as feed from './feed.js';
import * as letters from './letters.js';
import * as now from './now.js';
import * as picture from './picture.js';
import * as series from './series.js';

const views = { overview: [now, picture, anomalies, counts, feed], series: [series], letters: [letters] };
const all = Object.values(views).flat();
let pipeline = null;

/** The view that the address names, and its parameters: `#/series?detector=spikes`. */
function place() {
  const [path, query] = location.hash.replace(/^#\//, '').split('?');
  return { view: path in views ? path : 'overview', parameters: new URLSearchParams(query) };
}

function show() {
  const { view, parameters } = place();
  for (const name of Object.keys(views)) by(name).hidden = name !== view;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.view === view) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  for (const part of all) part.leave?.();
  if (pipeline) for (const part of views[view]) part.enter?.(pipeline, parameters);
}

/** What the server tells; null while nobody looks: a browser has six connections to a server, for all its tabs. */
let events = null;

function listen() {
  if (events || document.hidden) return;
  events = new EventSource('/api/live');
  const tell = (name, words) => events.addEventListener(name, (event) => {
    const told = JSON.parse(event.data);
    if (words) state(words);
    for (const part of all) part[name]?.(told, place().view);
  });
  tell('past', 'live');
  tell('pulse', 'live');
  tell('rows');
  events.onopen = refresh;
  events.onerror = () => {
    state('not connected: trying again …', 'bad');
    // A browser gives up for good when the answer is an error.
    if (events?.readyState === EventSource.CLOSED) { hush(); setTimeout(listen, 2000); }
  };
}

function hush() {
  events?.close();
  events = null;
}

/** Says how the page is connected; what has not changed is not said again, because it is read aloud. */
function state(words, name = 'quiet') {
  const connection = by('connection');
  connection.className = name;
  if (connection.textContent !== words) connection.textContent = words;
}

function look() {
  if (!document.hidden) return listen();
  hush();
  return state('paused while nobody looks');
}

document.addEventListener('visibilitychange', look);

/** After a restart another version may run, or another file. */
async function refresh() {
  try {
    const found = await ask('/api/pipeline');
    if (pipeline && pipeline.version !== found.version) return location.reload();
    if (JSON.stringify(found) === JSON.stringify(pipeline)) return undefined;
    pipeline = found;
    document.title = `${pipeline.name} · pipeline`;
    by('name').textContent = pipeline.name;
    for (const part of all) part.begin?.(pipeline);
    show();
  } catch (error) {
    state(error.message, 'bad');
  }
  return undefined;
}

const isDark = matchMedia('(prefers-color-scheme: dark)');

function paint() {
  const chosen = localStorage.getItem('theme');
  const theme = chosen ?? (isDark.matches ? 'dark' : 'light');
  document.documentElement.dataset.theme = theme;
  by('theme').setAttribute('aria-pressed', String(theme === 'dark'));
  for (const part of all) part.painted?.();
}

by('theme').addEventListener('click', () => {
  localStorage.setItem('theme', document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark');
  paint();
});
isDark.addEventListener('change', paint);
addEventListener('hashchange', () => { show(); by('main').focus(); });
paint();
look();
