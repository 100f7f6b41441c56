//! Header maps.

use std::fmt;
use std::ops::Range;

/// An ordered header map with repeated names, as Envoy keeps it: names in lower case, pseudo-headers first.
///
/// ```
/// use isthmus::sandbox::Headers;
///
/// let mut headers = Headers::from([("X-Team", "blue"), (":path", "/"), ("x-team", "red")]);
/// assert_eq!(headers.values(b"x-team").collect::<Vec<_>>(), [b"blue".as_slice(), b"red"]);
/// headers.replace("x-team", "green");
/// assert_eq!((headers.text("x-team"), headers.len()), (Some("green"), 2));
/// ```
#[derive(Clone, Default)]
pub struct Headers {
    /// The bytes of all names and values, in the order in which they came; what was removed stays. So a map is two
    /// allocations, however many headers it has.
    text: Vec<u8>,
    entries: Vec<Entry>,
}

/// Where a name and its value are.
#[derive(Clone)]
struct Entry {
    name: Range<usize>,
    value: Range<usize>,
}

impl Headers {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        self.values(name.as_bytes()).next()
    }

    /// The first value of `name`, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.value(name)?).ok()
    }

    /// Every value of `name`, in order.
    pub fn values<'h>(&'h self, name: &[u8]) -> impl Iterator<Item = &'h [u8]> {
        self.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Appends a value, beside those that `name` already has.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.tidy();
        let (name, value) = (self.keep(name.as_ref()), self.keep(value.as_ref()));
        if let Some(kept) = self.text.get_mut(name.clone()) {
            kept.make_ascii_lowercase();
        }
        let is_pseudo = |entry: &Entry| self.bytes(&entry.name).starts_with(b":");
        let entry = Entry { name, value };
        if !is_pseudo(&entry) || self.entries.last().is_none_or(is_pseudo) {
            return self.entries.push(entry);
        }
        let at = self.entries.iter().take_while(|entry| is_pseudo(entry)).count();
        self.entries.insert(at, entry);
    }

    /// Makes `value` the only one of `name`, at the end of the map.
    pub fn replace(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.remove(name.as_ref());
        self.add(name, value);
    }

    /// Removes every value of `name`.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        let Self { text, entries } = self;
        let named = |entry: &Entry| {
            text.get(entry.name.clone()).is_some_and(|key| key.eq_ignore_ascii_case(name.as_ref()))
        };
        entries.retain(|entry| !named(entry));
    }

    /// The names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.entries.iter().map(|entry| (self.bytes(&entry.name), self.bytes(&entry.value)))
    }

    /// How many values the map has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the map has no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all names and values, as Envoy counts a map's size.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        self.entries.iter().map(|entry| entry.name.len() + entry.value.len()).sum()
    }

    /// Every value of `name` joined with a comma, as Envoy's attributes show a repeated header.
    pub(crate) fn joined(&self, name: &[u8]) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = self.values(name).collect();
        (!values.is_empty()).then(|| values.join(&b','))
    }

    /// Forgets what was removed, when that is most of what is kept: a guest may replace a header for ever.
    fn tidy(&mut self) {
        const MUCH: usize = 64 * 1024;
        if self.text.len() > MUCH && self.text.len() / 2 > self.byte_size() {
            let mut tidy = Self::new();
            for (name, value) in self.iter() {
                let (name, value) = (tidy.keep(name), tidy.keep(value));
                tidy.entries.push(Entry { name, value });
            }
            *self = tidy;
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let from = self.text.len();
        self.text.extend_from_slice(bytes);
        from..self.text.len()
    }

    fn bytes(&self, kept: &Range<usize>) -> &[u8] {
        self.text.get(kept.clone()).unwrap_or_default()
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        /// Room for what a header takes, as most are small.
        const USUAL: usize = 32;
        let pairs = pairs.into_iter();
        // And for some that filters add.
        let count = pairs.size_hint().0 + 4;
        let mut headers =
            Self { text: Vec::with_capacity(count * USUAL), entries: Vec::with_capacity(count) };
        for (name, value) in pairs {
            headers.add(name, value);
        }
        headers
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>, const N: usize> From<[(K, V); N]> for Headers {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        f.debug_map().entries(self.iter().map(|(key, value)| (lossy(key), lossy(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_a_repeated_header_leaves_one_value_at_the_end() {
        let mut headers = Headers::from([("X-A", "1"), ("b", "2"), ("x-a", "3")]);
        headers.replace("X-a", "4");
        assert_eq!(headers, Headers::from([("b", "2"), ("x-a", "4")]));
    }

    #[test]
    fn what_is_replaced_for_ever_takes_no_memory_for_ever() {
        let mut headers = Headers::from([(":path", "/"), ("a", "1")]);
        for round in 0..1000_u32 {
            headers.replace("b", round.to_string().repeat(1000));
        }
        assert!(headers.text.len() < 200_000, "{}", headers.text.len());
        assert_eq!(
            (headers.len(), headers.text("a"), headers.text("b").unwrap().len()),
            (3, Some("1"), 3000)
        );
    }

    #[test]
    fn pseudo_headers_stay_in_front() {
        let mut headers = Headers::from([(":path", "/"), ("a", "1")]);
        headers.replace(":path", "/new");
        headers.add(":scheme", "http");
        let names: Vec<&[u8]> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [&b":path"[..], b":scheme", b"a"]);
    }
}
