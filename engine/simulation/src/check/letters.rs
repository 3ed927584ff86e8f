//! Dead letters: each row that could not be processed once, or where it belongs once it could.

use super::Differences;
use crate::input::{InputRow, RowKind};
use crate::table::TableRow;

impl Differences<'_> {
    /// Each bad row is in one place.
    pub(super) fn letters(&mut self) {
        for (number, task) in self.tasks() {
            let rows = &self.input.partitions[number as usize];
            let start = self.starts[number as usize];
            let expected = rows.iter().filter(|row| start <= row.offset);
            for row in expected {
                self.letter(&task, row);
            }
        }
        self.epochs_of_letters();
    }

    fn letter(&mut self, task: &str, row: &InputRow) {
        let offset = row.offset;
        let buried = self.buried(task, offset);
        let history = self.written("history", task, offset);
        let right = match row.kind {
            RowKind::Good => buried.is_empty(),
            RowKind::Undecodable => buried == ["readings"],
            RowKind::Refused => buried == ["history"] && history == 0,
            RowKind::Flawed => (buried == ["stamp"] && history == 0) || (buried.is_empty() && history == 1),
        };
        if !right {
            let kind = row.kind;
            self.say(format!(
                "task {task}: the {kind:?} row at offset {offset} is {history} times in `history` and dead at {buried:?}"
            ));
        }
    }

    /// The stages at which a row is a dead letter, outboxes left out.
    fn buried(&self, task: &str, offset: u64) -> Vec<&str> {
        let letters = self.state.store.log.seen().letters.values().map(|letter| &letter.letter);
        let letters = letters.filter(|letter| letter.task == task && letter.row.offset == offset);
        letters.map(|letter| letter.row.stage.as_str()).filter(|stage| *stage != "alerts").collect()
    }

    fn written(&self, sink: &str, task: &str, offset: u64) -> usize {
        let rows = self.state.tables.rows.get(&(sink.to_owned(), task.to_owned()));
        rows.map_or(0, |rows: &Vec<TableRow>| rows.iter().filter(|row| row.offset == offset).count())
    }

    /// A letter has the time of the epoch it was read in.
    fn epochs_of_letters(&mut self) {
        let letters = self.state.store.log.seen().letters.values().map(|letter| &letter.letter);
        let of_stages = letters.filter(|letter| ["readings", "stamp"].contains(&letter.row.stage.as_str()));
        for letter in of_stages.cloned().collect::<Vec<_>>() {
            let logged = self.state.record.logged.get(&(letter.task.clone(), letter.epoch));
            if logged.map(|logged| logged.ended_at) != Some(letter.at) {
                self.say(format!(
                    "dead letter {} of task {} says epoch {} at {}, the log says {:?}",
                    letter.row.offset, letter.task, letter.epoch, letter.at, logged
                ));
            }
        }
    }
}
