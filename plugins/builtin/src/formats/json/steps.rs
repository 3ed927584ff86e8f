//! What may come behind a value: the literals that were seen there, found by how they begin.

/// No more steps than this go on from a place: as many fields may follow in any order.
const MAX_STEPS: usize = 32;

/// How many beginnings are told apart; a power of two.
const BEGINNINGS: usize = 64;

/// The number of no step.
const NONE: u8 = u8::MAX;

/// Behind a value, or at the start: what may come next.
#[derive(Default)]
pub(super) struct State {
    steps: Vec<Step>,
    /// The one that was taken last.
    last: usize,
    by_beginning: ByBeginning,
    /// Those whose beginning does not tell them from others.
    without: Vec<u8>,
    /// Where the next search for a step begins that is not needed any more.
    hand: usize,
}

/// For each beginning a step; the others of the same are behind it.
struct ByBeginning([u8; BEGINNINGS]);

impl Default for ByBeginning {
    fn default() -> Self {
        ByBeginning([NONE; BEGINNINGS])
    }
}

/// A literal, and what stands behind it.
pub(super) struct Step {
    pub literal: Literal,
    /// The declared fields whose names are in it, a bit each.
    pub enters: u64,
    pub next: Next,
    /// Another one of the same beginning.
    alike: u8,
    /// It was taken since the last search for one that is not needed.
    is_used: bool,
}

/// What a step leads to.
pub(super) struct Taken {
    /// How many bytes the literal has.
    pub len: usize,
    /// The declared fields whose names are in it, a bit each.
    pub enters: u64,
    pub next: Next,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// A value that a column wants, and the state behind it.
    Wanted { column: usize, state: usize },
    /// The same of several columns, by their field.
    Shared { field: usize, state: usize },
    /// Any value, and the state behind it.
    Any { state: usize },
    /// Nothing more.
    End,
}

impl State {
    /// The step that fits the payload from there on. If it is another than the last one, nothing was alike up to here.
    #[inline]
    pub fn step(&mut self, payload: &[u8], at: usize, n_alike: &mut usize) -> Option<Taken> {
        // Payloads of one shape come in a row: the next one most likely takes the same step.
        let last = self.steps.get(self.last)?;
        if last.fits(payload, at) {
            return Some(last.taken());
        }
        self.last = self.other(payload, at)?;
        *n_alike = 0;
        let step = &mut self.steps[self.last];
        step.is_used = true;
        Some(step.taken())
    }

    /// The step that was taken last.
    #[inline]
    pub fn last(&self) -> Option<&Step> {
        self.steps.get(self.last)
    }

    #[inline(never)]
    fn other(&self, payload: &[u8], at: usize) -> Option<usize> {
        let mut number = self.by_beginning.0[beginning(near(payload, at))];
        while let Some(step) = self.steps.get(usize::from(number)) {
            if step.fits(payload, at) {
                return Some(usize::from(number));
            }
            number = step.alike;
        }
        let mut without = self.without.iter().map(|number| usize::from(*number));
        without.find(|number| self.steps[*number].fits(payload, at))
    }

    /// Adds a step. True if there is one more now: it may be known, or take the place of another.
    pub fn add(&mut self, step: Step) -> bool {
        if self.steps.iter().any(|known| known.is_same(&step)) {
            return false;
        }
        if self.steps.len() < MAX_STEPS {
            self.steps.push(step);
            self.index(self.steps.len() - 1);
            return true;
        }
        let number = self.not_needed();
        self.steps[number] = step;
        self.by_beginning = ByBeginning::default();
        self.without.clear();
        (0..self.steps.len()).for_each(|number| self.index(number));
        false
    }

    fn index(&mut self, number: usize) {
        let step = &mut self.steps[number];
        if step.literal.has_beginning() {
            let first = &mut self.by_beginning.0[beginning(step.literal.first)];
            step.alike = std::mem::replace(first, number as u8);
        } else {
            self.without.push(number as u8);
        }
    }

    /// A step that was not taken for a round, if there is one: those that come again and again stay ("second chance").
    fn not_needed(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.steps.len();
            let is_needed = std::mem::take(&mut self.steps[self.hand].is_used) || self.hand == self.last;
            if !is_needed {
                return self.hand;
            }
        }
    }
}

impl Step {
    pub fn new(literal: &[u8], enters: u64, next: Next) -> Self {
        Step { literal: Literal::new(literal), enters, next, alike: NONE, is_used: false }
    }

    #[inline]
    fn taken(&self) -> Taken {
        Taken { len: self.literal.text.len(), enters: self.enters, next: self.next }
    }

    #[inline]
    fn fits(&self, payload: &[u8], at: usize) -> bool {
        if !self.literal.is_at(payload, at) {
            return false;
        }
        match (self.next, payload.get(at + self.literal.text.len())) {
            (Next::End, first) => first.is_none(),
            // `"a": ` is the beginning of `"a": {"b": ` too.
            (_, Some(first)) => BEGINS_VALUE[usize::from(*first)],
            (_, None) => false,
        }
    }

    fn is_same(&self, other: &Step) -> bool {
        self.literal.text == other.literal.text && self.next == other.next
    }
}

/// Whether a byte is the first of a value that is neither an object nor an array.
const BEGINS_VALUE: [bool; 256] = {
    let mut begins = [false; 256];
    let first = b"\"-0123456789tfn";
    let mut at = 0;
    while at < first.len() {
        begins[first[at] as usize] = true;
        at += 1;
    }
    begins
};

/// How many bytes are compared at once.
const AT_ONCE: usize = size_of::<u128>();

/// Some text; its beginning and its end are compared at once each.
pub(super) struct Literal {
    text: Box<[u8]>,
    first: u128,
    mask: u128,
    last: u128,
}

impl Literal {
    fn new(text: &[u8]) -> Self {
        let n_near = text.len().min(AT_ONCE);
        let mask = u128::MAX.checked_shr(8 * (AT_ONCE - n_near) as u32).unwrap_or(0);
        let last = text.last_chunk().copied().map_or(0, u128::from_le_bytes);
        Literal { text: text.into(), first: near(text, 0), mask, last }
    }

    /// Whether what stands in a payload tells, without its length, that it may be this one.
    fn has_beginning(&self) -> bool {
        AT_ONCE <= self.text.len() || self.text.contains(&b':')
    }

    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether it stands at a place.
    #[inline]
    pub fn is_at(&self, payload: &[u8], at: usize) -> bool {
        let Some(rest) = payload.get(at..) else { return false };
        // Comparisons of a known length need no call.
        match rest.first_chunk() {
            Some(first) if (u128::from_le_bytes(*first) ^ self.first) & self.mask != 0 => false,
            Some(_) if self.text.len() <= AT_ONCE => true,
            Some(_) if self.text.len() <= 2 * AT_ONCE => {
                let found = rest.get(..self.text.len()).and_then(<[u8]>::last_chunk);
                found.is_some_and(|last| u128::from_le_bytes(*last) == self.last)
            }
            _ => match (rest, &*self.text) {
                ([byte], [only]) => byte == only,
                _ => rest.starts_with(&self.text),
            },
        }
    }
}

/// The bytes at a place, the first one lowest; zeros behind the end.
#[inline]
fn near(bytes: &[u8], at: usize) -> u128 {
    let rest = bytes.get(at..).unwrap_or_default();
    let near = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut near = [0; AT_ONCE];
        near[..rest.len()].copy_from_slice(rest);
        near
    });
    u128::from_le_bytes(near)
}

/// A number made of the bytes up to the first colon, mostly a name: the same for a literal and for a payload where that
/// stands, whatever follows.
#[inline]
fn beginning(near: u128) -> usize {
    const ONES: u128 = u128::MAX / 0xff;
    let others = near ^ (b':' as u128 * ONES);
    // The highest bit of each byte that is zero, up to the first one exactly.
    let colons = others.wrapping_sub(ONES) & !others & (0x80 * ONES);
    let name = near & (u128::MAX >> (127 - colons.trailing_zeros().min(127)));
    let mixed = (name as u64 ^ ((name >> 64) as u64).rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - BEGINNINGS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(literal: &str) -> Step {
        Step::new(literal.as_bytes(), 0, Next::Any { state: 0 })
    }

    fn found(state: &mut State, payload: &str) -> Option<String> {
        let length = state.step(payload.as_bytes(), 0, &mut 0)?.len;
        Some(payload[..length].into())
    }

    #[test]
    fn a_step_is_found_among_many_however_it_begins() {
        let literals = [
            "{\"a\":",
            "{\"a\": ",
            "{\"ab\": ",
            ",",
            "]}, \"sensor_id\": ",
            ", \"a_name_that_is_longer_than_what_is_compared_at_once_1\": ",
            ", \"a_name_that_is_longer_than_what_is_compared_at_once_2\": ",
            "{\"data\":{\"value\":",
            "{\"data\":{\"at\":",
            ", \"0123456789012345\": ",
        ];
        let mut state = State::default();
        for literal in literals {
            assert!(state.add(step(literal)));
            assert!(!state.add(step(literal)), "it is known");
        }
        for _ in 0..2 {
            for literal in literals {
                for value in ["1", "\"text of some length, with: a colon\"", "-2.5, \"b\": 7}"] {
                    assert_eq!(found(&mut state, &format!("{literal}{value}")).as_deref(), Some(literal));
                }
                assert_eq!(found(&mut state, &format!("{literal}{{")), None, "no value follows");
            }
        }
        assert_eq!(found(&mut state, "{\"b\": 1"), None);
        assert_eq!(found(&mut state, ""), None);
    }

    #[test]
    fn steps_that_come_again_outlive_any_number_of_others() {
        let (mut state, mut n_missed) = (State::default(), 0);
        for number in 0..1_000 {
            for literal in ["{\"a\": ", "{\"b\": ", &format!("{{\"k{number}\": ")] {
                if found(&mut state, &format!("{literal}1")).is_none() {
                    n_missed += 1;
                    state.add(step(literal));
                }
                assert_eq!(found(&mut state, &format!("{literal}1")).as_deref(), Some(literal));
            }
            assert!(state.steps.len() <= MAX_STEPS);
        }
        assert!(n_missed < 1_010, "{n_missed}: each of the others once, and these two hardly more often");
    }
}
