//! A file with an explicit fsync: what was written is seen at once, and is on the disk only when it is synced.

use pipeline_testkit::Random;

type Write<T> = Box<dyn FnOnce(&mut T) + Send>;

/// The contents of a file as programs see them, and as they are on the disk.
pub struct Journal<T> {
    seen: T,
    on_disk: T,
    /// What the disk lacks, in order.
    unsynced: Vec<Write<T>>,
}

impl<T: Default> Default for Journal<T> {
    fn default() -> Self {
        Journal { seen: T::default(), on_disk: T::default(), unsynced: Vec::new() }
    }
}

impl<T: Clone> Journal<T> {
    /// As programs see it.
    pub fn seen(&self) -> &T {
        &self.seen
    }

    /// As it is on the disk.
    pub fn on_disk(&self) -> &T {
        &self.on_disk
    }

    /// Writes in one transaction.
    pub fn write<R>(&mut self, write: impl Fn(&mut T) -> R + Send + 'static) -> R {
        let result = write(&mut self.seen);
        self.unsynced.push(Box::new(move |contents| drop(write(contents))));
        result
    }

    /// Everything that was written is on the disk.
    pub fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            write(&mut self.on_disk);
        }
    }

    /// Some of the last transactions that were not synced are gone; one of which only a part is there does not count.
    /// Says how many.
    pub fn cut_power(&mut self, random: &mut Random) -> u64 {
        let kept = random.below(self.unsynced.len() + 1);
        let lost = self.unsynced.len() - kept;
        for write in self.unsynced.drain(..).take(kept) {
            write(&mut self.on_disk);
        }
        self.seen = self.on_disk.clone();
        lost as u64
    }
}
