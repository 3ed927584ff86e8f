// The pipeline as a picture: stages in layers, by the longest way from a source; beside each edge what passes by it.
//
// A graph of a pipeline is small and has its order in the file, so layers are enough: no library for layouts.

import { by, element, number, rate, size, span } from './dom.js';

const WIDE = { width: 190, height: 84, gap: 128, between: 22 };
const TALL = { width: 154, height: 84, gap: 46, between: 12 };
const SVG = 'http://www.w3.org/2000/svg';
let pipeline = null;
let last = null;
let drawn = null;
let chosen = null;

export function begin(found) { pipeline = found; drawn = null; }
export function enter() { draw(); addEventListener('resize', draw); }
export function leave() { removeEventListener('resize', draw); }

export function pulse(told, view) {
  last = told;
  if (view === 'overview' && drawn) update();
}

/** For each stage its layer: sources are in layer 0. */
function layers(stages, order) {
  const layer = stages.map(() => 0);
  for (const number_ of order) {
    layer[number_] = Math.max(0, ...stages[number_].inputs.map((input) => layer[input] + 1));
  }
  return layer;
}

function draw() {
  if (!pipeline) return;
  const { stages, order } = pipeline;
  const target = by('picture');
  const layer = layers(stages, order);
  const needed = (Math.max(...layer) + 1) * (WIDE.width + WIDE.gap);
  const isWide = needed - WIDE.gap <= target.clientWidth;
  const shape = isWide ? WIDE : TALL;
  const members = [];
  layer.forEach((at, stage) => { (members[at] ??= []).push(stage); });
  const places = stages.map((stage, number_) => place(layer[number_], members[layer[number_]].indexOf(number_), shape, isWide));
  const height = Math.max(...places.map((at) => at.y)) + shape.height + 8;
  const width = Math.max(...places.map((at) => at.x)) + shape.width + 8;
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('width', width);
  svg.setAttribute('height', height);
  svg.setAttribute('aria-hidden', 'true');
  const edges = stages.flatMap((stage, to) => stage.inputs.map((from, edge) => edgeOf(svg, places, from, to, edge, shape, isWide)));
  const boxes = stages.map((stage, number_) => box(stage, number_, places[number_], shape));
  target.replaceChildren(svg, ...boxes.map((made) => made.element));
  target.style.height = `${height}px`;
  drawn = { edges, boxes };
  if (last) update();
}

function place(layer, nth, shape, isWide) {
  if (isWide) return { x: layer * (shape.width + shape.gap), y: nth * (shape.height + shape.between) };
  return { x: nth * (shape.width + shape.between), y: layer * (shape.height + shape.gap) };
}

function edgeOf(svg, places, from, to, edge, shape, isWide) {
  const [a, b] = [places[from], places[to]];
  const start = isWide ? [a.x + shape.width, a.y + shape.height / 2] : [a.x + shape.width / 2, a.y + shape.height];
  const end = isWide ? [b.x, b.y + shape.height / 2] : [b.x + shape.width / 2, b.y];
  const middle = isWide ? (end[0] + start[0]) / 2 : (end[1] + start[1]) / 2;
  const path = document.createElementNS(SVG, 'path');
  const bend = isWide
    ? `C${middle} ${start[1]} ${middle} ${end[1]} ${end[0]} ${end[1]}`
    : `C${start[0]} ${middle} ${end[0]} ${middle} ${end[0]} ${end[1]}`;
  path.setAttribute('d', `M${start[0]} ${start[1]} ${bend}`);
  const label = document.createElementNS(SVG, 'text');
  label.setAttribute('x', isWide ? end[0] - 6 : end[0] + 6);
  label.setAttribute('y', isWide ? end[1] - 6 : end[1] - 8);
  label.setAttribute('text-anchor', isWide ? 'end' : 'start');
  svg.append(path, label);
  return { path, label, from, to, edge };
}

function box(stage, number_, at, shape) {
  const [figures, trouble] = [element('span', {}), element('span', { class: 'bad' })];
  const made = element('button', {
    type: 'button', class: 'stage', 'data-stage': stage.id, title: `${stage.kind}: ${stage.what}`,
    'aria-expanded': 'false', 'aria-controls': 'stage-details',
    onclick: () => { chosen = chosen === number_ ? null : number_; if (last) update(); details(); },
  }, element('b', {}, stage.id), element('span', { class: 'quiet' }, `${stage.kind} · ${stage.what}`), figures, trouble);
  Object.assign(made.style, { left: `${at.x}px`, top: `${at.y}px`, width: `${shape.width}px`, height: `${shape.height}px` });
  return { element: made, figures, trouble };
}

function update() {
  drawn.boxes.forEach(({ element: made, figures, trouble }, number_) => {
    const stage = last.stages[number_];
    made.dataset.health = stage.health;
    made.setAttribute('aria-expanded', String(chosen === number_));
    figures.textContent = line(pipeline.stages[number_], stage);
    trouble.textContent = stage.why ?? (stage.dead > 0 ? `${number(stage.dead)} dead letters` : '');
  });
  for (const { path, label, to, edge } of drawn.edges) {
    const stage = last.stages[to];
    const flow = stage.rates[edge] ?? 0;
    path.dataset.flows = String(flow > 0);
    path.dataset.health = stage.health === 'bad' ? 'bad' : isSlow(stage) ? 'warning' : 'good';
    const delay = delayOf(stage);
    label.textContent = rate(flow) + (delay === null ? '' : ` · ${span(delay)}`);
  }
  if (chosen !== null) details();
}

/** How long a stage takes for a commit or a row, in seconds; null when that is not known. */
function delayOf(stage) {
  if (stage.commit_seconds) return stage.commit_seconds;
  return stage.row_micros ? stage.row_micros / 1e6 : null;
}

/** What passes by an edge, in words: the picture shows it to eyes only. */
function passes(to, edge) {
  const stage = last.stages[to];
  const delay = delayOf(stage);
  const of = stage.commit_seconds ? 'a commit' : 'a row';
  const state = stage.health === 'bad' ? ', does not work' : isSlow(stage) ? ', others wait for it' : '';
  return `${rate(stage.rates[edge] ?? 0)}${delay === null ? '' : `, ${span(delay)} for ${of}`}${state}`;
}

/** The sink that the others wait for. */
function isSlow(stage) {
  const slowest = Math.max(...last.stages.map((other) => other.commit_seconds ?? 0));
  return last.waiting > 0.5 && stage.commit_seconds !== null && stage.commit_seconds === slowest;
}

function line(info, stage) {
  if (info.kind === 'source') return `${rate(stage.rates[0])} · lag ${last.lag === null ? 'not known' : number(last.lag)}`;
  if (stage.outbox) return `${number(stage.outbox[0])} waiting · ${number(stage.outbox[2])} delivered`;
  if (info.kind === 'sink') return `${number(stage.out)} rows`;
  if (stage.series !== null) return `${number(stage.series)} series${stage.state_bytes ? ` · ${size(stage.state_bytes)}` : ''}`;
  return `${number(stage.out)} rows`;
}

function details() {
  const target = by('stage-details');
  if (chosen === null || !last) return target.replaceChildren();
  const [info, stage] = [pipeline.stages[chosen], last.stages[chosen]];
  const rows = [
    ['what', `${info.kind} ${info.what}`], ['when', info.when], ['promise', info.promise],
    ...info.inputs.map((from, edge) => [`from ${pipeline.stages[from].id}`, passes(chosen, edge)]),
    ...pipeline.stages.flatMap(({ id, inputs }, to) => inputs.flatMap((from, edge) => (from === chosen ? [[`to ${id}`, passes(to, edge)]] : []))),
    ['in', number(stage.rows_in)], ['created', number(stage.created)], ['out', number(stage.out)], ['held', number(stage.held)],
    ['filtered', number(stage.filtered)], ['dead', number(stage.dead)], ['late', number(stage.late)],
    ['balance', stage.is_balanced ? 'yes' : 'NO'], ['busy', `${number(Math.round(stage.busy * 1000) / 10)} % of a core`],
    ['commit, 95 %', stage.commit_seconds === null ? null : span(stage.commit_seconds)],
    ['outbox', stage.outbox && `${number(stage.outbox[0])} of at most ${number(stage.outbox[1])}`],
    ...last.reasons_of_death.filter(([at]) => at === info.id).map(([, why, count]) => [`dead: ${why}`, number(count)]),
  ];
  const shown = rows.filter(([, value]) => value !== null && value !== undefined);
  return target.replaceChildren(element('table', {}, element('caption', {}, `Stage ${info.id}`), element('tbody', {},
    ...shown.map(([name, value]) => element('tr', {}, element('th', { scope: 'row' }, name), element('td', {}, value))))));
}
