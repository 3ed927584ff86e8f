//! How often what fails, and how long things take: another mix for each seed.

use pipeline_testkit::Random;

/// Rates in thousandths, times in milliseconds. A seed has some kinds of faults and not others, so that those it has
/// meet in many ways.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// The state store fails before the effect, and after it.
    pub store_fails: u32,
    /// The state store does what it was asked, and the answer is lost.
    pub store_loses: u32,
    /// A sink fails before the effect.
    pub sink_fails: u32,
    /// A sink commits, and the answer is lost.
    pub sink_loses: u32,
    /// The source fails.
    pub source_fails: u32,
    /// The other side of the outbox fails before it takes an alert.
    pub mail_fails: u32,
    /// It takes the alert, and the answer is lost.
    pub mail_loses: u32,
    /// It does not answer for longer than the engine waits.
    pub mail_hangs: u32,
    /// The longest a call takes.
    pub latency: u64,
    /// How much slower than the others the first partition is.
    pub slow_factor: u64,
}

/// What is called: decides which of the rates count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The state store.
    Store,
    /// A transactional sink.
    Sink,
    /// A file of the process' machine.
    File,
    /// The source.
    Source,
    /// The other side of an outbox.
    Mail,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It works.
    Works,
    /// It fails without effect.
    Fails,
    /// It works, and nobody hears of it.
    LosesAnswer,
    /// It works, and the answer takes very long.
    Hangs,
}

impl Weather {
    /// A seed's own.
    pub fn of(random: &mut Random) -> Self {
        let mut rate = |most: usize| if random.once_in(2) { 0 } else { random.below(most) as u32 };
        Weather {
            store_fails: rate(60),
            store_loses: rate(60),
            sink_fails: rate(100),
            sink_loses: rate(150),
            source_fails: rate(60),
            mail_fails: rate(300),
            mail_loses: rate(200),
            mail_hangs: rate(60),
            latency: 1 + u64::from(rate(12)),
            slow_factor: 3 + u64::from(rate(12)),
        }
    }

    /// Nothing fails.
    pub fn calm() -> Self {
        Weather { latency: 2, slow_factor: 2, ..Weather::default() }
    }

    /// What becomes of a call.
    pub fn fate(&self, kind: Kind, random: &mut Random) -> Fate {
        let (fails, loses, hangs) = match kind {
            Kind::Store => (self.store_fails, self.store_loses, 0),
            Kind::Sink => (self.sink_fails, self.sink_loses, 0),
            Kind::File => (self.sink_fails / 2, 0, 0),
            Kind::Source => (self.source_fails, 0, 0),
            Kind::Mail => (self.mail_fails, self.mail_loses, self.mail_hangs),
        };
        let at = random.below(1_000) as u32;
        match at {
            _ if at < fails => Fate::Fails,
            _ if at < fails + loses => Fate::LosesAnswer,
            _ if at < fails + loses + hangs => Fate::Hangs,
            _ => Fate::Works,
        }
    }
}
