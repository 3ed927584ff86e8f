// Anomalies: those that sinks have stored, page by page; without such a table, those since the page was opened.

import { ask, by, calmly, element, empty, fill, head, number, row } from './dom.js';
import { seriesLink } from './link.js';

const ROWS = 25;
const KEPT = 200;
let pipeline = null;
/** The tables that hold anomalies, and the one that is shown. */
let tables = [];
let table = null;
let sorted = { by: null, ascending: false };
let after = null;
let isFirst = true;
let isShown = false;
let live = [];
let asked = 0;

export function begin(found) {
  pipeline = found;
  tables = found.tables.filter(({ anomalies }) => anomalies !== 'none');
  live = [];
  choose(tables[0] ?? null);
}

function choose(chosen) {
  table = chosen;
  sorted = { by: table?.time ?? null, ascending: false };
  form();
  by('csv').hidden = !table;
  by('page-first').hidden = !table;
  by('page-next').hidden = !table;
}

export const enter = () => { isShown = true; first(); };
export const leave = () => { isShown = false; };

/** Pages that show the newest rows follow what happens. */
const follow = calmly(1000, () => { if (isShown && isFirst && !document.hidden) load(); });

export function rows(told) {
  let isNew = false;
  for (const { stage, anomalies } of told) {
    for (const { id, row: values } of anomalies) {
      live.unshift({ stage, id, values });
      isNew = true;
    }
  }
  live.length = Math.min(live.length, KEPT);
  // They are seen before they are committed.
  if (isNew) { follow(); setTimeout(follow, 1200); }
}

function form() {
  const key = table?.key ?? [];
  const fields = key.map((name) => element('label', {}, name, element('input', { name, autocomplete: 'off' })));
  const times = table?.time
    ? [['from', 'from (UTC)'], ['until', 'before (UTC)']].map(([name, label]) => element('label', {}, label, element('input', { name: `time ${name}`, type: 'datetime-local', step: 1 })))
    : [];
  const others = tables.map((other) => element('option', { selected: other === table }, other.sink));
  const change = (event) => { choose(tables[event.target.selectedIndex]); first(); };
  const chooser = tables.length > 1 ? [element('label', {}, 'sink', element('select', { onchange: change }, ...others))] : [];
  const buttons = [element('button', {}, 'Filter'), element('button', { type: 'reset' }, 'Clear')];
  by('filters').hidden = !table;
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
    else equal[name] = typed(name, value);
  }
  if (Object.keys(equal).length > 0) found.equal = JSON.stringify(equal);
  return found;
}

/** What was typed, as the column's type has it. */
function typed(name, value) {
  const type = table.columns.find(([column]) => column === name)?.[1];
  if (type === 'integer' || type === 'float') return Number(value);
  return type === 'boolean' ? value === 'true' : value;
}

function sort(name) {
  sorted = { by: name, ascending: sorted.by === name ? !sorted.ascending : false };
  first();
}

function first() { isFirst = true; after = null; load(); }

async function load(from = null) {
  if (!pipeline) return;
  if (!table) return show(live.map(({ values }) => values));
  asked += 1;
  const question = asked;
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
    by('anomalies-note').textContent = error.message;
  }
}

function show(list) {
  const detectors = pipeline.stages.filter(({ kind }) => kind === 'detector');
  const detector = detectors.find(({ id }) => id === table?.detector) ?? detectors[0];
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
  if (!table) by('anomalies-note').textContent = 'No sink stores anomalies in a table that can be read: these came since the page was opened.';
}
