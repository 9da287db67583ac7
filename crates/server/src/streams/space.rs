//! Which bytes of the one spill file are free.
//!
//! Records of any size come and go, most in the order of their ends. A taking gets the smallest free
//! stretch that is large enough, else the file grows; what is given back joins its neighbours, and a
//! free stretch at the end is none: the file ends before it. So there are never more free stretches than
//! records, and their cost grows with the logarithm of that.
//!
//! Knows no file, no key and whose the bytes are.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Space {
    /// Length by offset, and the same the other way round.
    free: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
    /// Nothing is taken from here on.
    end: u64,
    end_max: u64,
    taken: u64,
}

impl Space {
    pub(super) fn new(end_max: u64) -> Self {
        Self { end_max, ..Self::default() }
    }

    /// Bytes that are taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Where so many bytes are free; `None` if there are none within the bound.
    pub(super) fn take(&mut self, bytes: u64) -> Option<u64> {
        let found = self.by_length.range((bytes, 0)..).next().copied();
        let start = match found {
            Some((length, start)) => {
                self.remove(start, length);
                if length > bytes {
                    self.insert(start + bytes, length - bytes);
                }
                start
            }
            None => {
                let start = self.end;
                self.end = start.checked_add(bytes).filter(|end| *end <= self.end_max)?;
                start
            }
        };
        self.taken += bytes;
        Some(start)
    }

    /// Any part of what was taken.
    pub(super) fn give_back(&mut self, start: u64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.taken -= bytes;
        let (mut from, mut to) = (start, start + bytes);
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            self.remove(before, length);
            from = before;
        }
        if let Some(&length) = self.free.get(&to) {
            self.remove(to, length);
            to += length;
        }
        if to == self.end {
            self.end = from;
        } else {
            self.insert(from, to - from);
        }
    }

    fn insert(&mut self, start: u64, length: u64) {
        self.free.insert(start, length);
        self.by_length.insert((length, start));
    }

    fn remove(&mut self, start: u64, length: u64) {
        self.free.remove(&start);
        self.by_length.remove(&(length, start));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_smallest_that_fits_is_taken_and_neighbours_join() {
        let mut space = Space::new(100);
        let starts: Vec<_> = [10, 20, 30, 40].map(|bytes| space.take(bytes)).into();
        assert_eq!(starts, [Some(0), Some(10), Some(30), Some(60)]);
        assert_eq!(space.take(1), None, "the bound");
        space.give_back(0, 10);
        space.give_back(30, 30);
        assert_eq!(space.take(8), Some(0), "not of the larger one");
        space.give_back(10, 20);
        assert_eq!(space.take(50), Some(8), "with its neighbours");
        space.give_back(60, 40);
        assert_eq!((space.end(), space.taken()), (58, 58));
        space.give_back(0, 8);
        space.give_back(8, 50);
        assert_eq!((space.end(), space.taken(), space.free.len()), (0, 0, 0));
    }

    proptest! {
        /// No byte is taken twice, and the books balance.
        #[test]
        fn takings_never_meet(steps in prop::collection::vec((0_usize..8, 1_u64..50), 0..200)) {
            let mut space = Space::new(500);
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (which, bytes) in steps {
                if which < taken.len() {
                    let (start, bytes) = taken.swap_remove(which);
                    space.give_back(start, bytes);
                } else if let Some(start) = space.take(bytes) {
                    for (other, length) in &taken {
                        prop_assert!(start + bytes <= *other || other + length <= start);
                    }
                    taken.push((start, bytes));
                }
                let sum: u64 = taken.iter().map(|(_, bytes)| bytes).sum();
                let free: u64 = space.free.values().sum();
                prop_assert_eq!((space.taken(), space.end()), (sum, sum + free));
                prop_assert!(space.free.len() <= taken.len() + 1 && space.end() <= 500);
                prop_assert_eq!(space.free.len(), space.by_length.len());
            }
        }
    }
}
