// Anomalies: those that sinks have stored, page by page; of a detector without such a table, those that came while this
// page was looked at.

import { ask, by, calmly, element, empty, fill, head, number, row } from './dom.js';
import { seriesLink } from './link.js';

const ROWS = 25;
const KEPT = 200;
let pipeline = null;
/** What can be shown, and what is: the table of a sink, or what a detector without a table has found. */
let lists = [];
let shown = null;
let sorted = { by: null, ascending: false };
let after = null;
let isFirst = true;
let isShown = false;
/** By the detector's id, the newest first: each detector has columns of its own. */
let live = new Map();
let asked = 0;

export function begin(found) {
  pipeline = found;
  const detectors = pipeline.stages.filter(({ kind }) => kind === 'detector');
  const tables = found.tables.filter(({ anomalies }) => anomalies !== 'none');
  const stored = tables.map((table) => ({ name: table.sink, table, detector: detectors.find(({ id }) => id === table.detector) }));
  const others = detectors.filter(({ id }) => !tables.some(({ detector }) => detector === id));
  lists = [...stored, ...others.map((detector) => ({ name: `${detector.id}, not stored`, table: null, detector }))];
  live = new Map(detectors.map(({ id }) => [id, live.get(id) ?? []]));
  choose(lists[0] ?? { table: null, detector: null });
}

function choose(chosen) {
  shown = chosen;
  sorted = { by: shown.table?.time ?? null, ascending: false };
  form();
  by('csv').hidden = !shown.table;
  by('page-first').hidden = !shown.table;
  by('page-next').hidden = !shown.table;
}

export const enter = () => { isShown = true; first(); };
export const leave = () => { isShown = false; };

/** Pages that show the newest rows follow what happens. */
const follow = calmly(1000, () => { if (isShown && isFirst && !document.hidden) load(); });

/** Told at each connection: something may have happened while there was none. */
export const past = () => follow();

export function rows(told) {
  let isNew = false;
  for (const { stage, anomalies } of told) {
    const list = live.get(stage);
    if (!list || anomalies.length === 0) continue;
    list.unshift(...anomalies.map(({ row: values }) => values).reverse());
    list.length = Math.min(list.length, KEPT);
    isNew = true;
  }
  // They are seen before they are committed.
  if (isNew) { follow(); setTimeout(follow, 1200); }
}

function form() {
  const table = shown.table;
  const fields = (table?.key ?? []).map((name) => element('label', {}, name, element('input', { name, autocomplete: 'off' })));
  const times = table?.time
    ? [['from', 'from (UTC)'], ['until', 'before (UTC)']].map(([name, label]) => element('label', {}, label, element('input', { name: `time ${name}`, type: 'datetime-local', step: 1 })))
    : [];
  const others = lists.map((list) => element('option', { selected: list === shown }, list.name));
  const change = (event) => { choose(lists[event.target.selectedIndex]); first(); };
  const chooser = lists.length > 1 ? [element('label', {}, 'of', element('select', { onchange: change }, ...others))] : [];
  const buttons = table ? [element('button', {}, 'Filter'), element('button', { type: 'reset' }, 'Clear')] : [];
  by('filters').hidden = !table && lists.length < 2;
  by('filters').replaceChildren(...chooser, ...fields, ...times, ...buttons);
}

by('filters').addEventListener('submit', (event) => { event.preventDefault(); first(); });
by('filters').addEventListener('reset', () => setTimeout(first));
by('page-first').addEventListener('click', first);
by('page-next').addEventListener('click', () => { isFirst = false; load(after); });

function wanted() {
  const equal = {};
  const found = { anomalies: true, by: sorted.by, ascending: sorted.ascending };
  for (const [name, value] of new FormData(by('filters'))) {
    if (value === '') continue;
    if (name.startsWith('time ')) found[name.slice(5)] = Date.parse(`${value}Z`);
    // The server reads what was typed by the type of the column: here large numbers would lose digits.
    else equal[name] = value;
  }
  if (Object.keys(equal).length > 0) found.equal = JSON.stringify(equal);
  return found;
}

function sort(name) {
  sorted = { by: name, ascending: sorted.by === name ? !sorted.ascending : false };
  first();
}

function first() { isFirst = true; after = null; load(); }

async function load(from = null) {
  if (!pipeline) return;
  asked += 1;
  const [question, { table, detector }] = [asked, shown];
  if (!table) {
    show(live.get(detector?.id) ?? []);
    by('anomalies-note').textContent = detector ? `No sink stores anomalies of ${detector.id} in a table that can be read: these came while this page was looked at.` : '';
    return;
  }
  try {
    const answer = await ask(`/api/tables/${encodeURIComponent(table.sink)}/rows`, { ...wanted(), limit: ROWS, after: from && JSON.stringify(from) });
    // An answer that was overtaken by a later question is no answer any more.
    if (question !== asked) return;
    after = answer.after;
    show(answer.rows);
    by('anomalies-note').textContent = `${number(answer.rows.length)} rows of ${table.sink}${isFirst ? ', the newest follow' : ''}`;
    const given = Object.entries(wanted()).filter(([, value]) => value !== null && value !== '');
    by('csv').href = `/api/tables/${encodeURIComponent(table.sink)}/csv?${new URLSearchParams(given)}`;
  } catch (error) {
    if (question === asked) by('anomalies-note').textContent = error.message;
  }
}

function show(list) {
  const { table, detector } = shown;
  const columns = table ? table.columns.map(([name, type]) => ({ name, type })) : detector?.columns ?? [];
  const body = list.map((values) => row(values, columns, {}, detector && element('td', {}, seriesLink(detector, values))));
  if (body.length === 0) {
    const words = detector ? 'No anomalies here yet: they are shown as soon as a detector finds one.' : 'This pipeline has no detector, so nothing is found.';
    body.push(empty(words, columns.length + 1));
  }
  const top = head(columns, sorted, table && sort);
  top.firstChild.append(element('th', { scope: 'col' }, 'series'));
  fill(by('anomalies'), top, body);
  by('page-first').disabled = isFirst;
  by('page-next').disabled = !after;
}
