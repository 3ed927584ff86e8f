// Links to the view of a series.

import { element } from './dom.js';

/** The key of the series that a row belongs to; null when the row lacks a part of it. */
export function keyOf(detector, values) {
  if (!detector.key || detector.key.some((name) => values[name] === undefined)) return null;
  return Object.fromEntries(detector.key.map((name) => [name, values[name]]));
}

/** Where a series is shown, around a time in milliseconds. */
export function address(detector, key, at = null) {
  const parameters = new URLSearchParams({ detector: detector.id, series: JSON.stringify(key) });
  if (at) parameters.set('at', at);
  return `#/series?${parameters}`;
}

/** A link to the series of a row, at its time. */
export function seriesLink(detector, values) {
  const key = keyOf(detector, values);
  if (!key) return '–';
  const at = detector.time && values[detector.time] ? Date.parse(values[detector.time]) : null;
  const name = Object.values(key).join(' · ');
  return element('a', { href: address(detector, key, at), 'aria-label': `show series ${name}` }, 'show');
}
