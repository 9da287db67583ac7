//! One seed, separate streams: what the network draws does not change what the clients do, so a
//! scenario with one fault less is still the same scenario.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014;
/// constants as in Vigna's `splitmix64.c`). Small, and good enough to choose delays with.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream `name` of a seed.
    pub(crate) fn new(seed: u64, name: u64) -> Self {
        let mut rng = Self(seed ^ name.wrapping_mul(0xd134_2543_de82_ef95));
        // Neighbouring seeds start far apart.
        rng.0 = rng.next();
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included. The bias of a remainder does not matter here.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low.saturating_add(self.next().checked_rem(span).unwrap_or_default())
    }

    /// True so many times in a hundred.
    pub(crate) fn per_cent(&mut self, chance: u64) -> bool {
        self.between(0, 99) < chance
    }

    /// An index below `len`; 0 if there is none.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        usize::try_from(self.between(0, len.saturating_sub(1))).unwrap_or_default()
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.iter_mut().zip(word).for_each(|(byte, drawn)| *byte = drawn);
        }
        bytes
    }
}

/// The streams of a run.
#[derive(Debug)]
pub(crate) struct Streams {
    /// When a node takes its turn, and how long its disk takes.
    pub(crate) schedule: Rng,
    pub(crate) network: Rng,
    /// What workers do with what they are given.
    pub(crate) work: Rng,
    /// Ids and salts.
    pub(crate) ids: Rng,
}

impl Streams {
    pub(crate) fn new(seed: u64) -> Self {
        let [schedule, network, work, ids] = [1, 2, 3, 4].map(|name| Rng::new(seed, name));
        Self { schedule, network, work, ids }
    }
}

/// FNV-1a (Fowler, Noll, Vo), 64 bits: the hash of everything that happened, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(crate) fn word(&mut self, word: u64) {
        self.bytes(&word.to_le_bytes());
    }

    pub(crate) fn hash(self) -> u64 {
        self.0
    }
}
