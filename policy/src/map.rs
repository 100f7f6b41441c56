//! Small maps that are written seldom and read often.

use std::borrow::Borrow;
use std::cmp::Ordering;

use serde::{Serialize, Serializer};

/// A map as a list in the order of its keys: the same entries, the same bytes, and no more memory than they take.
///
/// The standard maps are made anew by the compiler for each pair of types, and each takes the filter some kilobytes;
/// this one takes next to nothing, and is looked up as quickly.
///
/// ```
/// let mut map = policy::map::Map::default();
/// assert_eq!((map.insert("b", 1), map.insert("a", 2), map.insert("b", 3)), (None, None, Some(1)));
/// assert_eq!(map.iter().collect::<Vec<_>>(), [(&"a", &2), (&"b", &3)]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map<K, V>(Vec<(K, V)>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Map<K, V> {
    /// A map of one entry.
    pub fn of(key: K, value: V) -> Self {
        Self(vec![(key, value)])
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes all entries away.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The value of the one key that is equal, when keys are compared so: the order must be that of the keys.
    pub fn find(&self, compare: impl Fn(&K) -> Ordering) -> Option<&V> {
        let at = self.0.binary_search_by(|(key, _)| compare(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(|probe| probe.borrow().cmp(key))
    }

    /// The value of a key, to change it.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let at = self.0.binary_search_by(|(probe, _)| probe.borrow().cmp(key)).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }
}

impl<K: Ord, V> Map<K, V> {
    /// Gives a key this value, and hands back the one that it had. Quick where keys come nearly in order.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => self.0.get_mut(at).map(|(_, held)| std::mem::replace(held, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Gives a key that has none this value, and hands it out to be changed.
    pub(crate) fn add(&mut self, key: K, value: V) -> Option<&mut V> {
        let at = self.place(&key).err()?;
        self.0.insert(at, (key, value));
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// Makes room for so many entries more, and no more.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.0.reserve_exact(count);
    }

    /// Takes an entry away, and hands its value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.place(key).ok()?;
        Some(self.0.remove(at).1)
    }

    #[inline(never)]
    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(probe, _)| probe.cmp(key))
    }
}

/// Of the values of one key, the last counts.
impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries = Vec::from_iter(entries);
        entries.reverse();
        entries.sort_by(|(one, _), (two, _)| one.cmp(two));
        entries.dedup_by(|(later, _), (earlier, _)| later == earlier);
        Self(entries)
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_entries_does_not_show_and_the_last_of_a_key_counts() {
        let map: Map<&str, u8> = [("c", 3), ("a", 0), ("b", 2), ("a", 1)].into_iter().collect();
        assert_eq!(serde_json::to_string(&map).unwrap(), r#"{"a":1,"b":2,"c":3}"#);
        let mut grown = Map::default();
        for (key, value) in [("b", 2), ("c", 9), ("a", 1), ("c", 3)] {
            grown.insert(key, value);
        }
        assert_eq!(grown, map);
        assert_eq!((map.get("a"), map.get("aa"), map.len()), (Some(&1), None, 3));
    }
}
