// Dead letters: rows that could not be processed, and processing them again.

import { ask, by, element, empty, head, row } from './dom.js';

const COLUMNS = [
  { name: 'number', type: 'integer' }, { name: 'at', type: 'timestamp' }, { name: 'stage' }, { name: 'place' },
  { name: 'offset', type: 'integer' }, { name: 'reason' }, { name: 'bytes' },
];
let pipeline = null;
let after = null;
let shown = [];

export function enter(found) {
  pipeline = found;
  [after, shown] = [null, []];
  by('letters-replay').hidden = !pipeline.is_admin;
  by('letters-note').textContent = pipeline.is_admin ? ''
    : 'To process them again: `pipeline dead-letters FILE replay`' + (pipeline.has_admin ? ', or log in with the admin token (/login).' : '.');
  load();
}

by('letters-next').addEventListener('click', load);
by('letters-replay').addEventListener('click', async () => {
  if (!confirm('Process all dead letters again, from the stage that refused them?')) return;
  try {
    const options = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{"numbers":[]}' };
    const { count } = await ask('/api/dead-letters/replay', {}, options);
    by('letters-note').textContent = `${count} are processed again within some seconds; what fails again comes back.`;
    setTimeout(() => { [after, shown] = [null, []]; load(); }, 4000);
  } catch (error) {
    by('letters-note').textContent = error.message;
  }
});

async function load() {
  try {
    const answer = await ask('/api/dead-letters', { after });
    shown.push(...answer.letters.map((letter) => ({ ...letter, at: new Date(letter.at).toISOString() })));
    after = answer.after;
  } catch (error) {
    by('letters-note').textContent = error.message;
  }
  const body = shown.map((letter) => row(letter, COLUMNS));
  if (body.length === 0) body.push(empty('There are none: every row could be processed.', COLUMNS.length));
  by('letters-table').replaceChildren(head(COLUMNS), element('tbody', {}, ...body));
  by('letters-next').disabled = after === null;
}
