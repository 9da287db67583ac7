//! Stable small indices for tree nodes, seats, items and charges. Freed places are reused last in,
//! first out, so that the same calls give the same indices.

/// No index.
pub(super) const NIL: usize = usize::MAX;

#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    pub(super) fn insert(&mut self, value: T) -> usize {
        if let Some(ix) = self.free.pop()
            && let Some(place) = self.places.get_mut(ix)
        {
            *place = Some(value);
            return ix;
        }
        self.places.push(Some(value));
        self.places.len().saturating_sub(1)
    }

    pub(super) fn remove(&mut self, ix: usize) -> Option<T> {
        let gone = self.places.get_mut(ix)?.take();
        if gone.is_some() {
            self.free.push(ix);
        }
        gone
    }

    pub(super) fn get(&self, ix: usize) -> Option<&T> {
        self.places.get(ix)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, ix: usize) -> Option<&mut T> {
        self.places.get_mut(ix)?.as_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len().saturating_sub(self.free.len())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.places.iter().enumerate().filter_map(|(ix, place)| place.as_ref().map(|v| (ix, v)))
    }
}
