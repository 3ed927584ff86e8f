// The rows that pass, the newest first.

import { by, element, empty, head, number, rate, row } from './dom.js';

const ROWS = 30;
let stages = [];
let shown = new Map();
let isPaused = false;
let count = 0;
let since = performance.now();

export function begin(pipeline) {
  stages = pipeline.stages.filter((stage) => stage.kind === 'source' || stage.kind === 'detector');
  shown = new Map(stages.map((stage) => [stage.id, []]));
  const first = stages.find((stage) => stage.kind === 'detector') ?? stages[0];
  by('feed-stage').replaceChildren(...stages.map((stage) => element('option', { selected: stage === first }, stage.id)));
  table();
}

by('feed-stage').addEventListener('change', () => { count = 0; since = performance.now(); table(); });
by('feed-pause').addEventListener('click', () => {
  isPaused = !isPaused;
  by('feed-pause').setAttribute('aria-pressed', String(isPaused));
});

export function rows(told, view) {
  for (const { stage, rows: passed, count: all } of told) {
    const list = shown.get(stage);
    if (!list || isPaused) continue;
    list.unshift(...passed.reverse());
    list.length = Math.min(list.length, ROWS);
    if (stage === by('feed-stage').value) count += all;
  }
  if (view === 'overview' && !isPaused && !document.hidden) table();
}

function table() {
  const stage = stages.find(({ id }) => id === by('feed-stage').value);
  if (!stage) return;
  const list = shown.get(stage.id);
  const body = list.map((values) => row(values, stage.columns, { class: stage.anomaly && values[stage.anomaly] ? 'anomaly' : null }));
  if (body.length === 0) body.push(empty(`Rows are shown here as soon as they pass ${stage.id}.`, stage.columns.length));
  by('feed').replaceChildren(head(stage.columns), element('tbody', {}, ...body));
  const seconds = (performance.now() - since) / 1000;
  if (seconds > 2) {
    by('feed-rate').textContent = `${rate(count / seconds)}; the last ${number(list.length)} are shown`;
    count = 0;
    since = performance.now();
  }
}
