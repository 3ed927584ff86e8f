// Which sensors and which metrics have the most anomalies: bars that are meters in a table, so that they can be read aloud.

import { ask, by, calmly, element, empty, number } from './dom.js';

const BARS = 12;
let pipeline = null;
let table = null;
let isShown = false;
let told = null;

export function begin(found) {
  pipeline = found;
  table = found.tables.find(({ anomalies, key }) => anomalies !== 'none' && key) ?? null;
}

export const enter = () => { isShown = true; load(); };
export const leave = () => { isShown = false; };
export const pulse = (news) => { told = news; if (!table && isShown) load(); };

const follow = calmly(5000, () => { if (isShown && !document.hidden) load(); });
export const rows = (news) => { if (news.some(({ anomalies }) => anomalies.length > 0)) setTimeout(follow, 300); };

export const past = () => follow();

by('counts-range').addEventListener('change', () => load());

async function load() {
  if (!pipeline) return;
  if (!table) {
    const metrics = (told?.anomalies_by_metric ?? []).map(([name, count]) => ({ name: name || 'all', count }));
    by('counts').replaceChildren(bars('metric, since the run began', metrics.sort((a, b) => b.count - a.count)));
    return;
  }
  const seconds = by('counts-range').value;
  const from = seconds ? Date.now() - seconds * 1000 : null;
  const path = `/api/tables/${encodeURIComponent(table.sink)}/counts`;
  const columns = table.key.length > 1 ? [table.key[0], table.key.at(-1)] : [table.key[0]];
  try {
    const answers = await Promise.all(columns.map((name) => ask(path, { columns: name, from: table.time && from, anomalies: true, limit: BARS })));
    const made = answers.map((answer, at) => bars(columns[at], answer.rows.map((found) => ({ name: String(found[columns[at]] ?? '–'), count: found.count }))));
    by('counts').replaceChildren(...made);
  } catch (error) {
    by('counts').replaceChildren(element('p', { class: 'quiet' }, error.message));
  }
}

function bars(title, list) {
  const most = Math.max(1, ...list.map(({ count }) => count));
  const body = list.map(({ name, count }) => element('tr', {},
    element('th', { scope: 'row', title: name }, name), element('td', { class: 'number' }, number(count)),
    element('td', {}, element('meter', { min: 0, max: most, value: count, 'aria-label': `${name}: ${number(count)}` }))));
  if (body.length === 0) body.push(empty('No anomalies in this time.', 3));
  return element('table', {}, element('caption', {}, `by ${title}`), element('tbody', {}, ...body));
}
