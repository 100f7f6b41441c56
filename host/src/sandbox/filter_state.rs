//! Filter state: what filters of a stream, or of a connection, leave for each other and for the access log.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::proto;
use super::status::Status;

/// How long a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LifeSpan {
    /// As long as the stream.
    Stream,
    /// As long as the connection that carries the stream.
    Connection,
}

/// How a plugin declared a value, by `declare_property`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prototype {
    pub(crate) read_only: bool,
    /// Whether an expression sees a text, and not bytes.
    pub(crate) is_text: bool,
    pub(crate) life_span: LifeSpan,
}

impl Default for Prototype {
    fn default() -> Self {
        Self { read_only: false, is_text: false, life_span: LifeSpan::Stream }
    }
}

/// A value, and whether it may change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    value: Vec<u8>,
    read_only: bool,
    is_text: bool,
}

/// The values of one life span. Who looks at them later gets them as they were, without a copy of any.
type Values = Arc<BTreeMap<String, Held>>;

/// The values of a connection, which all its streams see.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionState(Arc<Mutex<Values>>);

/// The values that a stream sees: its own and those of its connection.
#[derive(Debug, Default)]
pub(crate) struct StreamState {
    own: Values,
    connection: ConnectionState,
}

/// What filters left for each other, and for the access log: values by key.
///
/// ```
/// use isthmus::sandbox::Connection;
/// # use isthmus::sandbox::{FilterState, Headers, Module, Node, Plugin};
/// # let wasm = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
/// #   (func (export "malloc") (param i32) (result i32) (i32.const 8)))"#)?;
/// # let vm = Module::compile(&wasm)?.start(&Node::default(), Plugin::default())?;
///
/// let connection = Connection::new("10.0.0.1:40000".parse()?, "10.0.0.2:8080".parse()?);
/// let stream = vm.http(&connection.with_filter_state("wasm.team", "blue"), Headers::from([(":path", "/")]))?;
/// let left = stream.finish()?.filter_state;
/// assert_eq!((left.text("wasm.team"), left.text("wasm.other")), (Some("blue"), None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct FilterState {
    own: Values,
    connection: Values,
}

impl FilterState {
    /// The value of `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.own.get(key).or_else(|| self.connection.get(key)).map(|held| held.value.as_slice())
    }

    /// The value of `key`, if it is UTF-8.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.value(key)?).ok()
    }

    /// The keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let all: BTreeMap<&str, &[u8]> = self
            .connection
            .iter()
            .chain(self.own.iter())
            .map(|(key, held)| (key.as_str(), held.value.as_slice()))
            .collect();
        all.into_iter()
    }
}

impl PartialEq for FilterState {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for FilterState {}

impl fmt::Debug for FilterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (key, String::from_utf8_lossy(value)))).finish()
    }
}

impl StreamState {
    pub(crate) fn on(connection: &ConnectionState) -> Self {
        Self { own: Values::default(), connection: connection.clone() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let connection = || self.connection.with(|values| values.get(key).cloned());
        self.own.get(key).cloned().or_else(connection).map(|held| held.value)
    }

    /// Whether a value was declared to be a text.
    pub(crate) fn is_text(&self, key: &str) -> bool {
        let on_connection =
            || self.connection.with(|values| values.get(key).is_some_and(|held| held.is_text));
        self.own.get(key).map_or_else(on_connection, |held| held.is_text)
    }

    /// Sets a value where it is already, else where its prototype wants it.
    pub(crate) fn set(&mut self, key: String, value: Vec<u8>, prototype: Prototype) -> Result<(), Status> {
        let lasts = prototype.life_span == LifeSpan::Connection && !self.own.contains_key(&key);
        self.connection.with(|values| {
            let values = if lasts || values.contains_key(&key) { values } else { &mut self.own };
            set(values, key, value, prototype)
        })
    }

    /// All values as they are now.
    pub(crate) fn all(&self) -> FilterState {
        FilterState {
            own: Arc::clone(&self.own),
            connection: self.connection.with(|values| Arc::clone(values)),
        }
    }
}

fn set(values: &mut Values, key: String, value: Vec<u8>, prototype: Prototype) -> Result<(), Status> {
    let values = Arc::make_mut(values);
    match values.get_mut(&key) {
        Some(held) if held.read_only => Err(Status::BadArgument),
        Some(held) => {
            held.value = value;
            Ok(())
        }
        None => {
            let Prototype { read_only, is_text, .. } = prototype;
            values.insert(key, Held { value, read_only, is_text });
            Ok(())
        }
    }
}

impl ConnectionState {
    /// Sets a value, whatever there was.
    pub(crate) fn put(&self, key: String, value: Vec<u8>) {
        let held = Held { value, read_only: false, is_text: false };
        self.with(|values| drop(Arc::make_mut(values).insert(key, held)));
    }

    fn with<T>(&self, look: impl FnOnce(&mut Values) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads `DeclarePropertyArguments` (envoy/source/extensions/common/wasm/ext/declare_property.proto): name (1),
/// readonly (2), type (3), schema (4), span (5). What is no such message is refused.
pub(crate) fn declaration(message: &[u8]) -> Option<(Vec<u8>, Prototype)> {
    let fields = proto::fields(message)?;
    let name = proto::bytes(&fields, 1).unwrap_or_default().to_vec();
    let life_span = if proto::number(&fields, 5) == 2 { LifeSpan::Connection } else { LifeSpan::Stream };
    let (read_only, is_text) = (proto::number(&fields, 2) != 0, proto::number(&fields, 3) == 1);
    Some((name, Prototype { read_only, is_text, life_span }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_is_read_field_by_field() {
        let message = [b"\x0a\x03a.b\x10\x01\x18\x01\x22\x01x\x28\x02".as_slice()].concat();
        let (name, prototype) = declaration(&message).unwrap();
        assert_eq!(name, b"a.b");
        assert_eq!(prototype, Prototype { read_only: true, is_text: true, life_span: LifeSpan::Connection });
        for broken in [&b"\x0a\x05a"[..], b"\x0a", b"\xff\xff"] {
            assert_eq!(declaration(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn streams_of_a_connection_share_what_lives_as_long_as_it() {
        let connection = ConnectionState::default();
        let (mut one, mut two) = (StreamState::on(&connection), StreamState::on(&connection));
        let lasting = Prototype { life_span: LifeSpan::Connection, ..Prototype::default() };
        one.set("lasting".to_owned(), b"1".to_vec(), lasting).unwrap();
        one.set("own".to_owned(), b"1".to_vec(), Prototype::default()).unwrap();
        assert_eq!((two.get("lasting"), two.get("own")), (Some(b"1".to_vec()), None));
        // A later plugin that has not declared it writes to the value that is there.
        two.set("lasting".to_owned(), b"2".to_vec(), Prototype::default()).unwrap();
        assert_eq!(one.all().text("lasting"), Some("2"));
        let fixed = Prototype { read_only: true, ..Prototype::default() };
        one.set("fixed".to_owned(), b"1".to_vec(), fixed).unwrap();
        assert_eq!(one.set("fixed".to_owned(), b"2".to_vec(), fixed), Err(Status::BadArgument));
    }
}
