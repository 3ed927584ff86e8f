//! Readings as JSON: four fields that programs look at, and others around them.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};

use crate::random::Random;
use crate::reading::{METRICS, Reading};
use crate::settings::{Order, Settings};

/// `sensor_id`, `metric_type`, `value`, `timestamp`; numbers from here on are those of extra fields.
const KNOWN: usize = 4;

/// What else devices send, and how it is made.
const EXTRA: [(&str, Content); 16] = [
    ("unit", Content::Text(4)),
    ("quality", Content::Number),
    ("firmware", Content::Text(24)),
    ("is_calibrated", Content::Flag),
    ("site", Content::Text(40)),
    ("building", Content::Text(40)),
    ("line", Content::Number),
    ("machine", Content::Text(60)),
    ("battery", Content::Number),
    ("signal", Content::Number),
    ("latitude", Content::Number),
    ("longitude", Content::Number),
    ("person_in_charge", Content::Text(60)),
    ("batch_id", Content::Text(60)),
    ("checksum", Content::Text(60)),
    ("note", Content::Text(400)),
];

#[derive(Clone, Copy)]
enum Content {
    /// Of at most so many bytes, and at least half of them.
    Text(usize),
    Number,
    Flag,
}

/// Where texts are cut from.
const WORDS: &str = "the pump of line seven runs warm since it was moved nearer to the oven, and its bearing has been \
    greased twice; whoever reads this should look at the filter first, then at the valve behind it, and write down what \
    was found, since nobody else will. Bolts M8x40 of grade 8.8 are in the third drawer, together with gaskets 12.4 mm \
    and 15.0 mm, a torch, and the key that opens the cabinet in the corridor. Nothing of it has been counted for a year. \
    On some days the belt slips when the hall is cold: wait ten minutes, start it again at half of its speed, and listen.";

/// The time of the first rows, 2025-06-01T12:00:00Z.
const START_SECONDS: i64 = 1_748_779_200;
const ROWS_OF_A_SECOND: u64 = 1_000;

const MAKES: usize = 8;

/// In a thousand messages of any order: extra fields that are missing, and fields that no other message has.
const MISSING_IN_1000: usize = 50;
const NEW_IN_1000: usize = 1;

/// Writes messages.
pub struct Messages {
    order: Order,
    random: Random,
    /// The fields of a message, in the order of each make of device; of `fixed` and `any` there is one make.
    orders: Vec<Vec<usize>>,
    sensor: String,
    timestamp: String,
    payload: String,
}

/// One message, until the next is written.
pub struct Message<'a> {
    /// By which Kafka chooses the partition.
    pub key: &'a str,
    pub payload: &'a str,
}

impl Messages {
    /// Of a topic.
    pub fn new(settings: &Settings) -> Self {
        let mut random = Random(3);
        let n_makes = if settings.order == Order::BySensor { MAKES } else { 1 };
        let n_fields = KNOWN + settings.extra_fields.min(EXTRA.len());
        let mut orders = vec![(0..n_fields).collect::<Vec<usize>>(); n_makes];
        if settings.extra_fields != 0 || settings.order != Order::Fixed {
            orders.iter_mut().for_each(|order| random.shuffle(order));
        }
        let (sensor, timestamp, payload) = Default::default();
        Messages { order: settings.order, random, orders, sensor, timestamp, payload }
    }

    /// The message of a reading; rows come in order.
    pub fn write(&mut self, row: u64, reading: &Reading) -> Result<Message<'_>, std::fmt::Error> {
        if row.is_multiple_of(ROWS_OF_A_SECOND) {
            let past = TimeDelta::seconds((row / ROWS_OF_A_SECOND) as i64);
            let start: DateTime<Utc> = DateTime::from_timestamp(START_SECONDS, 0).expect("a year of this century");
            self.timestamp = (start + past).to_rfc3339();
        }
        self.sensor.clear();
        write!(self.sensor, "sensor_{:04}", reading.series / 3)?;
        let make = reading.series / 3 % self.orders.len();
        let mut order = std::mem::take(&mut self.orders[make]);
        if self.order == Order::Any {
            self.random.shuffle(&mut order);
        }
        self.payload.clear();
        for field in &order {
            let is_missing = self.order == Order::Any && KNOWN <= *field && self.is_one_of(MISSING_IN_1000);
            if !is_missing {
                self.payload.push_str(if self.payload.is_empty() { "{" } else { ", " });
                self.write_field(*field, reading)?;
            }
        }
        self.orders[make] = order;
        if self.order == Order::Any && self.is_one_of(NEW_IN_1000) {
            write!(self.payload, ", \"new_{row}\": {row}")?;
        }
        self.payload.push('}');
        Ok(Message { key: &self.sensor, payload: &self.payload })
    }

    fn write_field(&mut self, field: usize, reading: &Reading) -> std::fmt::Result {
        let payload = &mut self.payload;
        match field {
            0 => write!(payload, "\"sensor_id\": \"{}\"", self.sensor),
            1 => write!(payload, "\"metric_type\": \"{}\"", METRICS[reading.series % METRICS.len()]),
            2 => write!(payload, "\"value\": {:.2}", reading.hundredths as f64 / 100.0),
            3 => write!(payload, "\"timestamp\": \"{}\"", self.timestamp),
            _ => self.write_extra(EXTRA[field - KNOWN]),
        }
    }

    fn write_extra(&mut self, (name, content): (&str, Content)) -> std::fmt::Result {
        let (payload, random) = (&mut self.payload, &mut self.random);
        match content {
            Content::Flag => write!(payload, "\"{name}\": {}", random.below(2) == 0),
            Content::Number => write!(payload, "\"{name}\": {}.{}", random.below(1_000), random.below(10)),
            Content::Text(longest) => {
                let length = longest / 2 + random.below(longest / 2 + 1);
                let start = random.below(WORDS.len() - length);
                write!(payload, "\"{name}\": \"{}\"", &WORDS[start..start + length])
            }
        }
    }

    fn is_one_of(&mut self, in_1000: usize) -> bool {
        self.random.below(1_000) < in_1000
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn messages(settings: &str, n_rows: u64) -> Vec<String> {
        let mut messages = Messages::new(&serde_json::from_str(settings).unwrap());
        let reading = |row: u64| Reading { series: row as usize % 300, hundredths: 2_205, is_anomaly: false };
        (0..n_rows).map(|row| messages.write(row, &reading(row)).unwrap().payload.to_owned()).collect()
    }

    fn names(payload: &str) -> Vec<String> {
        let value: Value = serde_json::from_str(payload).unwrap();
        let fields = value.as_object().unwrap();
        assert_eq!(fields["value"], 22.05);
        for known in ["sensor_id", "metric_type", "timestamp"] {
            assert!(fields[known].is_string(), "{payload}");
        }
        fields.keys().cloned().collect()
    }

    #[test]
    fn a_plain_one_has_four_fields() {
        let expected = r#"{"sensor_id": "sensor_0000", "metric_type": "humidity", "value": 22.05, "timestamp": "2025-06-01T12:00:00+00:00"}"#;
        assert_eq!(messages(r#"{"rows": 2, "series": 300}"#, 2)[1], expected);
    }

    #[test]
    fn a_wide_one_has_twenty_fields_and_about_a_kilobyte() {
        let messages = messages(r#"{"rows": 500, "series": 300, "extra_fields": 16}"#, 500);
        let first = names(&messages[0]);
        assert_eq!(first.len(), 20);
        assert!(messages.iter().all(|message| names(message) == first));
        let n_bytes = messages.iter().map(String::len).sum::<usize>() / messages.len();
        assert!((900..1_100).contains(&n_bytes), "{n_bytes}");
    }

    #[test]
    fn sensors_of_a_make_have_an_order_of_their_own() {
        let settings = r#"{"rows": 600, "series": 300, "extra_fields": 4, "order": "by_sensor"}"#;
        let mut orders: Vec<_> = messages(settings, 600).iter().map(|message| names(message)).collect();
        assert_eq!(orders[0], orders[300]);
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), MAKES);
    }

    #[test]
    fn in_any_order_fields_come_and_go() {
        let settings = r#"{"rows": 5000, "series": 300, "extra_fields": 4, "order": "any"}"#;
        let mut orders: Vec<_> = messages(settings, 5_000).iter().map(|message| names(message)).collect();
        assert!(
            (1..20).contains(&orders.iter().filter(|names| names.iter().any(|name| name.starts_with("new_"))).count())
        );
        assert!((600..1_400).contains(&orders.iter().filter(|names| names.len() < 8).count()));
        orders.sort();
        orders.dedup();
        assert!(4_000 < orders.len());
    }
}
