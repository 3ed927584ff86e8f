//! The rows of tables and files, and their marks.

use serde_json::Value;

use super::Differences;
use crate::table::TableRow;

impl Differences<'_> {
    /// Each row once, in order, the same bit for bit, and computed by the file that its epoch was logged under.
    pub(super) fn rows(&mut self) {
        for (number, task) in self.tasks() {
            for sink in ["history", "scores"] {
                let rows = self.state.tables.rows.get(&(sink.to_owned(), task.clone()));
                let rows = rows.map_or(&[][..], Vec::as_slice);
                self.compare(sink, &task, self.expected.of(sink, number).to_vec(), rows);
                self.versions(sink, &task, rows);
            }
            let Some(archive) = self.state.disk.files.get(&("archive".to_owned(), task.clone())) else { continue };
            self.compare("archive", &task, self.expected.of("archive", number).to_vec(), &archive.lines);
            self.versions("archive", &task, &archive.lines);
            let later: Vec<&TableRow> = archive.lines.iter().filter(|row| Some(1) <= row.version).collect();
            let late = self.state.disk.files.get(&("late".to_owned(), task.clone()));
            let late: Vec<&TableRow> = late.iter().flat_map(|file| &file.lines).collect();
            if later != late {
                let (late, later) = (late.len(), later.len());
                self.say(format!("task {task}: `late` has {late} rows, `archive` has {later} since it is there"));
            }
        }
    }

    fn compare(&mut self, sink: &str, task: &str, expected: Vec<(u64, String)>, rows: &[TableRow]) {
        // Rows that were rejected first come later, if at all; `letters` looks after them.
        let plain = rows.iter().filter(|row| !row.text.contains(r#""series":"flawed"#));
        let found: Vec<(u64, String)> = plain.map(|row| (row.offset, row.text.clone())).collect();
        if found == expected {
            return;
        }
        let first = found.iter().zip(&expected).position(|(one, other)| one != other);
        let first = first.unwrap_or(found.len().min(expected.len()));
        let shown = |row: Option<&(u64, String)>| {
            row.map_or("nothing".to_owned(), |(offset, text)| format!("offset {offset} {text}"))
        };
        self.say(format!(
            "task {task}: `{sink}` has {} rows, it would have {}; row {first} is {}, it would be {}",
            found.len(),
            expected.len(),
            shown(found.get(first)),
            shown(expected.get(first))
        ));
    }

    fn versions(&mut self, sink: &str, task: &str, rows: &[TableRow]) {
        let logged = &self.state.record.logged;
        let wrong = rows.iter().find(|row| {
            let of_epoch = logged.get(&(task.to_owned(), row.epoch)).map(|logged| i64::from(logged.version));
            of_epoch != row.version
        });
        if let Some(row) = wrong {
            let of_epoch = logged.get(&(task.to_owned(), row.epoch)).map(|logged| logged.version);
            self.say(format!(
                "task {task}: `{sink}` has a row of epoch {} computed by version {:?}, which was logged under {of_epoch:?}",
                row.epoch, row.version
            ));
        }
    }

    /// Every tick once, with rising times, and sums that go on.
    pub(super) fn pulses(&mut self) {
        for (_, task) in self.tasks() {
            let rows = self.state.tables.rows.get(&("pulses".to_owned(), task.clone()));
            let rows = rows.map_or(&[][..], Vec::as_slice);
            let (mut total, mut times) = (0, (String::new(), String::new()));
            for row in rows {
                let values: Value = serde_json::from_str(&row.text).unwrap_or_default();
                total += values["rows"].as_i64().unwrap_or(0);
                // Without the zone, which is always the same, the order of the texts is that of the times.
                let text = |name: &str| values[name].as_str().unwrap_or_default().trim_end_matches('Z').to_owned();
                let next = (text("now"), text("watermark"));
                if values["total"].as_i64() != Some(total) {
                    self.say(format!("task {task}: after {total} rows `pulses` has {}", row.text));
                    break;
                }
                // A row that a tick has made is named by its epoch.
                if row.offset != row.epoch {
                    let (epoch, offset) = (row.epoch, row.offset);
                    self.say(format!(
                        "task {task}: the tick of epoch {epoch} is named as if it were of epoch {offset}"
                    ));
                    break;
                }
                if next.0 < times.0 || next.1 < times.1 {
                    self.say(format!("task {task}: the times of `pulses` go back to {}", row.text));
                    break;
                }
                times = next;
            }
        }
    }

    /// Marks belong to the state, and stand between checkpoint and log.
    pub(super) fn marks(&mut self) {
        let (log, checkpoints) = (self.state.store.log.seen(), self.state.store.checkpoints.seen());
        let stored = log.marks.values();
        // A mark of epoch 0 says who owns a task of which nothing is written yet.
        for mark in self.state.tables.marks.values().chain(stored).filter(|mark| 0 < mark.epoch) {
            let Some(task) = log.tasks.get(&mark.task) else { continue };
            let checkpoint = checkpoints.newest.get(&mark.task).map_or(0, |(_, checkpoint)| checkpoint.epoch);
            let is_right = mark.state_id == task.state_id
                && Some(mark.epoch) <= task.epoch
                && checkpoint <= mark.epoch
                && mark.generation <= task.generation;
            if !is_right {
                self.words.push(format!("{mark:?} does not fit {task:?} with a checkpoint at {checkpoint}"));
            }
        }
    }
}
