// One series: its readings with the band that its detector expected, its score, and its anomalies.

import { ask, by, calmly, element, fill, head, number, row, span } from './dom.js';
import { color, draw, layout, utc } from './chart.js';
import { address } from './link.js';

const RANGES = [['15 min', 900], ['1 h', 3600], ['6 h', 21600], ['1 day', 86400], ['7 days', 604800], ['30 days', 2592000]];
const FOLLOW_EVERY = 2000;
let pipeline = null;
let detector = null;
let key = null;
let seconds = 900;
/** The time that is shown; null follows what happens. */
let until = null;
let points = null;
let timer = null;
let asked = 0;
/** The last question that has an answer. */
let answered = 0;
let names = new Map();
/** What the series that are suggested begin with. */
let prefix = '';

export function enter(found, parameters) {
  pipeline = found;
  const detectors = pipeline.stages.filter(({ kind, key: columns }) => kind === 'detector' && columns);
  detector = detectors.find(({ id }) => id === parameters.get('detector')) ?? detectors[0] ?? null;
  by('series-detector').replaceChildren(...detectors.map(({ id }) => element('option', { selected: id === detector?.id }, id)));
  key = parse(parameters.get('series'));
  const at = Number(parameters.get('at'));
  until = at ? at + (seconds * 1000) / 4 : null;
  ranges();
  prefix = '';
  suggest();
  if (key) by('series-name').value = nameOf(key);
  if (!detector) return note('This pipeline has no detector, so there are no series.');
  if (!key) return note('Choose a series to see its readings.');
  load();
  // An answer that takes longer is waited for: the next question would make it an old one.
  timer = setInterval(() => { if (until === null && !document.hidden && answered === asked) load(); }, FOLLOW_EVERY);
  return undefined;
}

export function leave() { clearInterval(timer); asked += 1; }
export const painted = () => { if (points && !by('series').hidden) chart(); };

const note = (words) => { by('series-note').textContent = words; };
const nameOf = (of) => Object.values(of).map((part) => part ?? '–').join(' · ');

function parse(text) {
  try { return text ? JSON.parse(text) : null; } catch { return null; }
}

function ranges() {
  const button = (label, is, click) => element('button', { type: 'button', 'aria-pressed': String(is), onclick: click }, label);
  const move = (by_) => { until = (until ?? Date.now()) + by_ * seconds * 1000; again(); };
  by('series-ranges').replaceChildren(
    ...RANGES.map(([label, length]) => button(label, length === seconds, () => { seconds = length; again(); })),
    button('← earlier', false, () => move(-0.5)), button('later →', false, () => move(0.5)),
    button('zoom in', false, () => { seconds = Math.max(10, seconds / 2); again(); }),
    button('zoom out', false, () => { seconds *= 2; again(); }),
    button('follow', until === null, () => { until = null; again(); }));
}

function again() { ranges(); if (key) load(); }

const suggest = calmly(400, async () => {
  const table = pipeline.tables.find(({ key: columns }) => columns && String(columns) === String(detector?.key));
  if (!table) return;
  try {
    const { rows } = await ask(`/api/tables/${encodeURIComponent(table.sink)}/series`, { prefix });
    names = new Map(rows.map((found) => [nameOf(found), found]));
    by('series-names').replaceChildren(...[...names.keys()].map((name) => element('option', { value: name })));
  } catch (error) {
    note(error.message);
  }
});

// Until another series is chosen, the one that is shown stays.
by('series-name').addEventListener('input', () => { prefix = by('series-name').value.split(' · ')[0]; suggest(); });
by('series-detector').addEventListener('change', () => {
  detector = pipeline.stages.find(({ id }) => id === by('series-detector').value);
  suggest();
});
by('series-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const typed = by('series-name').value;
  const parts = typed.split(' · ');
  const found = names.get(typed) ?? (parts.length === detector?.key.length ? Object.fromEntries(detector.key.map((name, at) => [name, parts[at]])) : null);
  if (!found) return note(`There is no series \`${typed}\`; its parts are ${detector?.key.join(' · ')}.`);
  const to = address(detector, found);
  if (location.hash === to) again(); else location.hash = to;
  return undefined;
});

async function load() {
  asked += 1;
  const [question, of] = [asked, key];
  const end = until ?? Date.now();
  const from = Math.round(end - seconds * 1000);
  try {
    const found = await ask('/api/series', { detector: detector.id, series: JSON.stringify(of), from, until: Math.round(end) });
    if (question !== asked) return;
    points = { ...found, from, until: end };
    chart();
    table();
    const words = { summary: 'too many to judge one by one: each point stands for several; zoom in for the expected band', readings: 'with the band in which the detector expected them', unjudged: `without a band: ${found.why}` };
    note(found.count === 0 ? `No readings of ${nameOf(of)} in these ${span(seconds)}: another time may have some.` 
      : `${nameOf(of)}: ${number(found.count)} readings of ${found.table}, ${words[found.kind]}`);
  } catch (error) {
    if (question === asked) note(error.message);
  } finally {
    if (question === asked) answered = question;
  }
}

function chart() {
  const at = points.at.map(utc);
  const accent = color('accent');
  const line = (name, y, more) => ({ x: at, y, name, type: 'scatter', mode: 'lines', hovertemplate: '%{y:.6~g}', ...more });
  const isSummary = points.kind === 'summary';
  const [low, high] = isSummary ? [points.min, points.max] : [points.lower, points.upper];
  const marks = at.map((_, index) => index).filter((index) => points.is_anomaly[index]);
  const traces = [
    line(isSummary ? 'least' : 'lower', low, { line: { width: 0 }, showlegend: false }),
    line(isSummary ? 'least to greatest' : 'expected band', high, { line: { width: 0 }, fill: 'tonexty', fillcolor: color('band') }),
    ...(isSummary ? [] : [line('expected', points.expected, { line: { color: color('quiet'), width: 1, dash: 'dot' } })]),
    line(isSummary ? 'mean' : 'reading', points.value, { mode: at.length < 300 ? 'lines+markers' : 'lines', line: { color: accent, width: 1.5 }, marker: { size: 4 } }),
    ...(isSummary ? [] : [
      { x: marks.map((index) => at[index]), y: marks.map((index) => points.value[index]), name: 'anomaly', type: 'scatter', mode: 'markers', marker: { color: color('bad'), size: 11, symbol: 'x' }, hovertemplate: 'anomaly: %{y:.6~g}' },
      line('score', points.score, { yaxis: 'y2', line: { color: color('quiet'), width: 1 } }),
    ]),
  ];
  draw(by('series-chart'), traces, layout({
    hovermode: 'x unified',
    dragmode: 'zoom',
    xaxis: { range: [utc(points.from), utc(points.until)], title: { text: 'UTC' }, anchor: isSummary ? 'y' : 'y2' },
    yaxis: { domain: isSummary ? [0, 1] : [0.3, 1], fixedrange: true },
    yaxis2: { domain: isSummary ? [0, 0.001] : [0, 0.22], title: { text: 'score' }, rangemode: 'tozero', fixedrange: true, visible: !isSummary },
  })).then(watch);
}

/** Zooming asks again, so that what is shown has as much detail as there is. */
function watch() {
  const target = by('series-chart');
  if (!target.on || target.dataset.isWatched) return;
  target.dataset.isWatched = 'yes';
  target.on('plotly_relayout', (change) => {
    const [from, to] = [change['xaxis.range[0]'], change['xaxis.range[1]']];
    if (!from || !to) {
      if (change['xaxis.autorange']) again();
      return;
    }
    const [start, end] = [Date.parse(`${from.replace(' ', 'T')}Z`), Date.parse(`${to.replace(' ', 'T')}Z`)];
    seconds = Math.max(1, (end - start) / 1000);
    until = end;
    again();
  });
}

function table() {
  const columns = [['at', 'timestamp'], ['value', 'float'], ['expected', 'float'], ['lower', 'float'], ['upper', 'float'], ['score', 'float'], ['is_anomaly', 'boolean']].map(([name, type]) => ({ name, type }));
  const rows = points.at.map((at, index) => ({
    at: new Date(at).toISOString(), value: points.value[index], expected: points.expected[index], lower: points.lower[index],
    upper: points.upper[index], score: points.score[index], is_anomaly: points.is_anomaly[index] ? 'yes' : 'no',
  }));
  const shown = rows.slice(-200).reverse();
  fill(by('series-table'), head(columns), shown.map((values) => row(values, columns, { class: values.is_anomaly === 'yes' ? 'anomaly' : null })));
}
