// Is it healthy, and what is happening now.

import { by, element, number, rate, size, span } from './dom.js';
import { color, draw, layout, utc } from './chart.js';

const POINTS = 300;
let past = { at: [], rate: [], anomalies: [], lag: [] };
let isShown = false;

function begins(told) { past = told; }
export { begins as past };

export const enter = () => { isShown = true; chart(); };
export const leave = () => { isShown = false; };
export const painted = () => { if (isShown) chart(); };

export function pulse(told) {
  health(told);
  figures(told);
  for (const [name, value] of [['at', told.at], ['rate', told.rate], ['anomalies', told.anomaly_rate], ['lag', told.lag]]) {
    past[name].push(value);
    if (past[name].length > POINTS) past[name].shift();
  }
  if (isShown && !document.hidden) chart();
}

const WORDS = { good: 'Healthy', warning: 'Attention', bad: 'Trouble' };

function health(told) {
  by('health').dataset.health = told.health;
  by('health-badge').textContent = WORDS[told.health];
  by('health-sentence').textContent = told.sentence;
  by('health-reasons').replaceChildren(...told.reasons.map((reason) => element('li', {}, reason)));
}

function figures(told) {
  const latency = told.latency ? `${span(told.latency[1])}` : '–';
  const all = [
    ['rows read', rate(told.rate)],
    ['rows in all', number(told.rows)],
    ['lag, rows', told.lag === null ? 'not known' : number(told.lag)],
    ['anomalies', rate(told.anomaly_rate)],
    ['anomalies in all', number(told.anomalies)],
    ['read to committed, 95 %', latency],
    ['dead letters', number(told.dead)],
    ['waiting for sinks', `${Math.round(told.waiting * 100)} %`],
    ['checkpoint age', span(told.checkpoint_age)],
    ['checkpoint size', size(told.checkpoint_bytes)],
    ['books', told.is_balanced ? 'balance ✓' : 'do NOT balance ✗'],
    ['up', span(told.uptime)],
  ];
  by('figures').replaceChildren(...all.map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value))));
}

function chart() {
  const at = past.at.map(utc);
  const line = (name, y, more) => ({ x: at, y, name, type: 'scatter', mode: 'lines', hovertemplate: '%{y:.4~g} /s', ...more });
  draw(by('now-chart'), [
    line('rows', past.rate, { line: { color: color('accent'), width: 2 } }),
    line('anomalies', past.anomalies, { yaxis: 'y2', line: { color: color('bad'), width: 1.5 } }),
  ], layout({
    hovermode: 'x unified',
    margin: { l: 56, r: 56, t: 8, b: 28 },
    yaxis: { title: { text: 'rows/s' }, rangemode: 'tozero', fixedrange: true },
    yaxis2: { title: { text: 'anomalies/s' }, overlaying: 'y', side: 'right', rangemode: 'tozero', showgrid: false, fixedrange: true },
    xaxis: { fixedrange: true },
  }), { displayModeBar: false });
}
