//! Header maps.

use std::fmt;

/// An ordered header map with repeated names, as Envoy keeps it: names in lower case, pseudo-headers first.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

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
        self.0
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// Appends a value, beside those that `name` already has.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl Into<Vec<u8>>) {
        let name = name.as_ref().to_ascii_lowercase();
        let at = if name.starts_with(b":") {
            self.0.iter().take_while(|(key, _)| key.starts_with(b":")).count()
        } else {
            self.0.len()
        };
        self.0.insert(at, (name, value.into()));
    }

    /// Makes `value` the only one of `name`, at the end of the map.
    pub fn replace(&mut self, name: impl AsRef<[u8]>, value: impl Into<Vec<u8>>) {
        self.remove(name.as_ref());
        self.add(name, value);
    }

    /// Removes every value of `name`.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) {
        self.0.retain(|(key, _)| !key.eq_ignore_ascii_case(name.as_ref()));
    }

    /// The names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.0.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// How many values the map has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the map has no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all names and values, as Envoy counts a map's size.
    #[must_use]
    pub fn byte_size(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// Every value of `name` joined with a comma, as Envoy's attributes show a repeated header.
    pub(crate) fn joined(&self, name: &[u8]) -> Option<Vec<u8>> {
        let values: Vec<&[u8]> = self.values(name).collect();
        (!values.is_empty()).then(|| values.join(&b','))
    }
}

impl<K: AsRef<[u8]>, V: Into<Vec<u8>>> FromIterator<(K, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.add(name, value);
        }
        headers
    }
}

impl<K: AsRef<[u8]>, V: Into<Vec<u8>>, const N: usize> From<[(K, V); N]> for Headers {
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
    fn pseudo_headers_stay_in_front() {
        let mut headers = Headers::from([(":path", "/"), ("a", "1")]);
        headers.replace(":path", "/new");
        headers.add(":scheme", "http");
        let names: Vec<&[u8]> = headers.iter().map(|(name, _)| name).collect();
        assert_eq!(names, [&b":path"[..], b":scheme", b"a"]);
    }
}
