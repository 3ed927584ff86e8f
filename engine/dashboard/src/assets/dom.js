// Building the page. Text from sensors only ever becomes a text node: nothing here parses markup.

export const by = (id) => document.getElementById(id);

/** An element with attributes (`on…` are listeners) and children (strings become text). */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 4 });

/** `4,120`, `0.0312`. */
export const number = (value) => (Number.isInteger(value) ? whole.format(value) : short.format(value));

/** `200/s`, `0.4/s`. */
export const rate = (value) => `${value < 10 ? short.format(Math.round(value * 100) / 100) : whole.format(Math.round(value))}/s`;

/** `12 ms`, `1.5 s`, `4 min`. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  if (seconds < 0.001) return `${short.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${short.format(Math.round(seconds * 1e4) / 10)} ms`;
  if (seconds < 120) return `${short.format(Math.round(seconds * 10) / 10)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** `1.5 MB`. */
export function size(bytes) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${short.format(bytes)} ${units[unit]}`;
}

/** `2026-11-25 22:59:25.412`; all times are UTC, and say so where they stand. */
export const time = (text) => String(text).replace('T', ' ').replace(/(\.\d{3})\d*/, '$1').replace('Z', '');

/** A value of a row as text, by the type of its column. */
export function text(value, type) {
  if (value === null || value === undefined) return '–';
  if (type === 'timestamp') return time(value);
  if (typeof value === 'number') return number(value);
  // Whole numbers that a float cannot hold come as text.
  if (type === 'integer') return whole.format(BigInt(value));
  return String(value);
}

/** The head of a table; times say their zone. `sort` is called with a column's name, if it can be sorted. */
export function head(columns, sorted = null, sort = null) {
  const cells = columns.map(({ name, type }) => {
    const isNumber = type === 'float' || type === 'integer';
    const label = type === 'timestamp' ? `${name} (UTC)` : name;
    const is = sorted && sorted.by === name ? (sorted.ascending ? 'ascending' : 'descending') : null;
    const arrow = is ? (sorted.ascending ? ' ↑' : ' ↓') : '';
    const content = sort ? element('button', { type: 'button', onclick: () => sort(name) }, label + arrow) : label;
    return element('th', { scope: 'col', class: isNumber ? 'number' : null, 'aria-sort': is }, content);
  });
  return element('thead', {}, element('tr', {}, ...cells));
}

/** A row of a table. */
export function row(values, columns, attributes = {}, last = null) {
  const cells = columns.map(({ name, type }) => {
    const isNumber = type === 'float' || type === 'integer';
    const shown = text(values[name], type);
    return element('td', { class: isNumber ? 'number' : null, title: shown.length > 30 ? shown : null }, shown);
  });
  return element('tr', attributes, ...cells, last);
}

/** Puts rows into a table, if they are others than before; what has the focus keeps it. */
export function fill(table, top, rows) {
  const body = element('tbody', {}, ...rows);
  const made = top.outerHTML + body.outerHTML;
  if (table.made === made) return;
  table.made = made;
  const held = table.contains(document.activeElement) ? mark(document.activeElement) : null;
  table.replaceChildren(...[...table.children].filter(({ tagName }) => tagName === 'CAPTION'), top, body);
  if (held) [...table.querySelectorAll('a, button')].find((other) => mark(other) === held)?.focus();
}

/** What tells a link or button from the others of a table. */
const mark = (found) => found.getAttribute('href') ?? found.textContent.replace(/ [↑↓]$/, '');

/** What stands in a table that has no rows: what would fill it. */
export const empty = (words, columns) => element('tr', {}, element('td', { class: 'empty', colspan: columns }, words));

/** Asks the server; the error has its words. */
export async function ask(path, parameters = {}, options = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== '');
  const query = new URLSearchParams(given).toString();
  const answer = await fetch(query ? `${path}?${query}` : path, options);
  if (answer.status === 401) location.reload();
  const body = await answer.text();
  if (!answer.ok) throw new Error(words(body) || `the server answers ${answer.status}`);
  return JSON.parse(body);
}

function words(body) {
  try { return JSON.parse(body).error; } catch { return body; }
}

/** Calls at most once in so many milliseconds, and once more at the end. */
export function calmly(milliseconds, call) {
  let waits = false;
  let again = false;
  return function later() {
    if (waits) { again = true; return; }
    waits = true;
    call();
    setTimeout(() => { waits = false; if (again) { again = false; later(); } }, milliseconds);
  };
}
