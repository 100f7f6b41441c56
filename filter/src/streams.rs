//! The streams of a VM by number.

/// Values by numbers that grow, taken away in any order.
///
/// What is taken away leaves a gap, and gaps are closed when they are more than half of all: so the end of one stream costs
/// the same however many others a peer holds open.
#[derive(Debug)]
pub(crate) struct Streams<T> {
    /// In the order of their numbers.
    entries: Vec<(u32, Option<T>)>,
    gaps: usize,
}

impl<T> Default for Streams<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), gaps: 0 }
    }
}

impl<T> Streams<T> {
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.entries.get(self.place(number).ok()?)?.1.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let at = self.place(number).ok()?;
        self.entries.get_mut(at)?.1.as_mut()
    }

    /// Quick where the number is the highest yet, as the host's are.
    pub(crate) fn insert(&mut self, number: u32, value: T) {
        match self.place(number) {
            Ok(at) => {
                if let Some((_, held)) = self.entries.get_mut(at) {
                    self.gaps -= usize::from(held.is_none());
                    *held = Some(value);
                }
            }
            Err(at) => self.entries.insert(at, (number, Some(value))),
        }
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let at = self.place(number).ok()?;
        let value = self.entries.get_mut(at)?.1.take()?;
        self.gaps += 1;
        if self.gaps > self.entries.len() / 2 {
            self.entries.retain(|(_, held)| held.is_some());
            self.gaps = 0;
        }
        Some(value)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.iter().all(|(_, held)| held.is_none())
    }

    fn place(&self, number: u32) -> Result<usize, usize> {
        self.entries.binary_search_by(|(probe, _)| probe.cmp(&number))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_map_does_in_room_for_twice_as_many(
            steps in prop::collection::vec((any::<bool>(), 0_u32..40), 0..200)
        ) {
            let (mut streams, mut map) = (Streams::default(), BTreeMap::new());
            for (step, (begins, number)) in steps.into_iter().enumerate() {
                if begins {
                    streams.insert(number, step);
                    map.insert(number, step);
                } else {
                    prop_assert_eq!(streams.remove(number), map.remove(&number));
                }
                for number in 0..40 {
                    prop_assert_eq!(streams.get(number), map.get(&number));
                    prop_assert_eq!(streams.get_mut(number).copied(), map.get(&number).copied());
                }
                prop_assert!(streams.entries.len() <= 2 * map.len() + 1, "{:?}", streams);
            }
        }
    }
}
