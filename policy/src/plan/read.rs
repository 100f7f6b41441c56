//! From JSON to the types of a plan: by hand, as derived readers would take the filter some hundred kilobytes.
//!
//! Every type of a plan says in one line of [`reads!`] which keys it has. A value is filled in where it will stay, and
//! what does not belong is noted and read over, so that there is no way out of the middle for the compiler to tidy up
//! after; the first that was noted is told with its place, such as `plan.sections[3].allow[0].from`. What lists, maps and
//! texts have in common is written once for all types: what is theirs alone is behind [`List`], [`Entries`] and [`FromText`].

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use super::json::{Fields, Json};
use super::{PlanError, Role};
use crate::cidr::Cidr;
use crate::key::PublicKey;
use crate::map::Map;
use crate::mesh::IssuerName;
use crate::name::{
    Blank, ClusterName, CookieName, HeaderName, KeyId, Namespace, NetworkName, Port, RegionName, TrustDomain,
};
use crate::rule::{Boundary, Demand, HashOn, Judged, Scope};
use crate::set::Set;

/// A type that a plan holds.
pub(super) trait FromPlan {
    /// What stands there until it is read.
    fn blank() -> Self
    where
        Self: Sized;

    /// Fills it in; what does not belong is noted.
    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>);
}

/// A type that a plan holds as a text.
pub(super) trait FromText {
    /// Reads it; what does not belong is noted.
    fn take(&mut self, text: &str, reader: &mut Reader<'_>);
}

/// A list to be filled.
trait List {
    /// Makes room for so many items.
    fn reserve(&mut self, count: usize);

    /// Adds an item, to be filled.
    fn add(&mut self) -> Option<&mut dyn FromPlan>;
}

/// A map to be filled.
trait Entries {
    /// Makes room for so many entries.
    fn reserve(&mut self, count: usize);

    /// Adds an entry, its value to be filled; `None` where the key has one already.
    fn add(&mut self, key: &str, reader: &mut Reader<'_>) -> Option<&mut dyn FromPlan>;
}

/// Where in a plan it is being read, and the first thing that was wrong.
#[derive(Debug, Default)]
pub(super) struct Reader<'j> {
    path: Vec<Step<'j>>,
    wrong: Option<(String, String)>,
}

#[derive(Debug)]
enum Step<'j> {
    Key(Cow<'j, str>),
    Index(usize),
}

/// Of one key in one object.
const TWICE: &str = "this key stands here twice";

impl<'j> Reader<'j> {
    /// One that begins somewhere inside.
    pub(super) fn within(key: &'static str) -> Self {
        Self { path: vec![Step::Key(Cow::Borrowed(key))], wrong: None }
    }

    /// Notes that something is wrong right here.
    #[cold]
    #[inline(never)]
    pub(super) fn wrong(&mut self, why: &dyn Display) {
        if self.wrong.is_some() {
            return;
        }
        let mut path = String::new();
        for step in &self.path {
            let _infallible = match step {
                Step::Key(key) if path.is_empty() => path.write_str(key),
                Step::Key(key) => write!(path, ".{key}"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
        }
        self.wrong = Some((path, why.to_string()));
    }

    #[cold]
    #[inline(never)]
    fn wrong_kind(&mut self, json: Json<'_>, wanted: &str) {
        self.wrong(&format_args!("{wanted} belongs here, and this is {}", json.kind()));
    }

    /// Whether nothing was wrong.
    pub(super) fn end(self) -> Result<(), PlanError> {
        match self.wrong {
            Some((path, why)) => Err(PlanError::Misfit { path, why }),
            None => Ok(()),
        }
    }

    /// Fills in the fields of an object: `keys` are all that it may have, each with whether it must be there.
    pub(super) fn object(
        &mut self,
        json: Json<'j>,
        keys: &'static [(&'static str, bool)],
        values: &mut [&mut dyn FromPlan],
    ) {
        let mut found = vec![false; keys.len()];
        for (text, json) in self.fields(json) {
            let mut known = keys.iter().zip(&mut *values).zip(&mut found);
            let known = known.find(|(((known, _), _), _)| *known == text);
            self.path.push(Step::Key(text));
            match known {
                Some((_, true)) => self.wrong(&TWICE),
                Some(((_, value), found)) => {
                    *found = true;
                    value.fill(json, self);
                }
                None => {
                    let known: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
                    self.wrong(&format_args!("no such key is known; those that are: {}", known.join(", ")));
                }
            }
            self.path.pop();
        }
        for ((key, required), found) in keys.iter().zip(found) {
            if *required && !found {
                self.path.push(Step::Key(Cow::Borrowed(key)));
                self.wrong(&"this key is missing");
                self.path.pop();
            }
        }
    }

    fn fields(&mut self, json: Json<'j>) -> Fields<'j> {
        json.fields().unwrap_or_else(|| {
            self.wrong_kind(json, "an object");
            Vec::new()
        })
    }

    fn items(&mut self, json: Json<'j>) -> Vec<Json<'j>> {
        json.items().unwrap_or_else(|| {
            self.wrong_kind(json, "a list");
            Vec::new()
        })
    }

    fn list(&mut self, json: Json<'j>, list: &mut dyn List) {
        let items = self.items(json);
        list.reserve(items.len());
        for (index, item) in items.into_iter().enumerate() {
            if let Some(value) = list.add() {
                self.item(index, item, value);
            }
        }
    }

    fn item(&mut self, index: usize, json: Json<'j>, value: &mut dyn FromPlan) {
        self.path.push(Step::Index(index));
        value.fill(json, self);
        self.path.pop();
    }

    fn map(&mut self, json: Json<'j>, map: &mut dyn Entries) {
        let fields = self.fields(json);
        map.reserve(fields.len());
        for (text, json) in fields {
            self.path.push(Step::Key(text.clone()));
            match map.add(&text, self) {
                Some(value) => value.fill(json, self),
                None => self.wrong(&TWICE),
            }
            self.path.pop();
        }
    }

    /// Reads the texts of a list one by one.
    pub(super) fn texts(&mut self, json: Json<'j>, take: &mut dyn FnMut(&str, &mut Self)) {
        for (index, item) in self.items(json).into_iter().enumerate() {
            self.path.push(Step::Index(index));
            self.text(item, take);
            self.path.pop();
        }
    }

    fn text(&mut self, json: Json<'j>, take: &mut dyn FnMut(&str, &mut Self)) {
        match json.text() {
            Some(text) => take(&text, self),
            None => self.wrong_kind(json, "a text"),
        }
    }

    fn take(&mut self, json: Json<'j>, value: &mut dyn FromText) {
        self.text(json, &mut |text, reader| value.take(text, reader));
    }

    /// A whole number that is not too large.
    fn number(&mut self, json: Json<'j>, most: u32) -> u32 {
        let number = json.number().and_then(|number| u32::try_from(number).ok());
        number.filter(|number| *number <= most).unwrap_or_else(|| {
            self.wrong_kind(json, "a whole number that is not too large");
            0
        })
    }

    /// Members in order, as a set.
    pub(super) fn ordered<T: Ord>(&mut self, members: Vec<T>) -> Set<T> {
        Set::ordered(members).unwrap_or_else(|| {
            self.wrong(&"these are not in order, each once, as a compiled plan has them: compile it again");
            Set::default()
        })
    }
}

/// Says of types which keys they have: each by the field's own name or `as "KEY"`, and `or default` where it may be
/// left out. What stands after a semicolon is in no plan.
macro_rules! reads {
    ($($name:ident {
        $($field:ident $(as $key:literal)? $(or $default:ident)?),* $(; $extra:ident = $value:expr)?
    })*) => {$(
        impl $crate::plan::read::FromPlan for $name {
            fn blank() -> Self {
                Self { $($field: $crate::plan::read::FromPlan::blank(),)* $($extra: $value)? }
            }

            fn fill<'j>(
                &mut self,
                json: $crate::plan::json::Json<'j>,
                reader: &mut $crate::plan::read::Reader<'j>,
            ) {
                let keys = &[$((
                    $crate::plan::read::reads!(@key $field $($key)?),
                    $crate::plan::read::reads!(@required $($default)?),
                )),*];
                reader.object(json, keys, &mut [$(&mut self.$field),*]);
            }
        }
    )*};
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@required) => { true };
    (@required default) => { false };
}

pub(super) use reads;

impl<T: FromText + Blank> FromPlan for T {
    fn blank() -> Self {
        Self::BLANK
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        reader.take(json, self);
    }
}

impl FromPlan for bool {
    fn blank() -> Self {
        false
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        match json.truth() {
            Some(truth) => *self = truth,
            None => reader.wrong_kind(json, "true or false"),
        }
    }
}

impl FromPlan for u32 {
    fn blank() -> Self {
        0
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        *self = reader.number(json, Self::MAX);
    }
}

impl FromPlan for u8 {
    fn blank() -> Self {
        0
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        *self = Self::try_from(reader.number(json, u32::from(Self::MAX))).unwrap_or_default();
    }
}

impl FromPlan for Port {
    fn blank() -> Self {
        Self::MAX
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        match u16::try_from(reader.number(json, u32::from(u16::MAX))).ok().and_then(Self::new) {
            Some(port) => *self = port,
            None => reader.wrong(&"0 is no port"),
        }
    }
}

impl<T: FromPlan> List for Vec<T> {
    fn reserve(&mut self, count: usize) {
        self.reserve_exact(count);
    }

    fn add(&mut self) -> Option<&mut dyn FromPlan> {
        self.push(T::blank());
        self.last_mut().map(|value| value as &mut dyn FromPlan)
    }
}

impl<T: FromPlan> FromPlan for Vec<T> {
    fn blank() -> Self {
        Self::new()
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        reader.list(json, self);
    }
}

impl<T: FromPlan + Ord> FromPlan for Set<T> {
    fn blank() -> Self {
        Self::default()
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        let mut members: Vec<T> = Vec::new();
        reader.list(json, &mut members);
        *self = reader.ordered(members);
    }
}

impl<T: FromPlan> FromPlan for Arc<T> {
    fn blank() -> Self {
        Self::new(T::blank())
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        if let Some(value) = Self::get_mut(self) {
            value.fill(json, reader);
        }
    }
}

impl<T: FromPlan> FromPlan for Option<T> {
    fn blank() -> Self {
        None
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        if !json.is_null() {
            self.get_or_insert_with(T::blank).fill(json, reader);
        }
    }
}

impl<T: FromPlan, U: FromPlan> FromPlan for (T, U) {
    fn blank() -> Self {
        (T::blank(), U::blank())
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        if let [one, two] = reader.items(json).as_slice() {
            reader.item(0, *one, &mut self.0);
            reader.item(1, *two, &mut self.1);
        } else {
            reader.wrong(&"a list of two belongs here");
        }
    }
}

/// The keys may come in any order: what carries a plan to a proxy may sort them by its own rule.
impl<K: FromText + Blank + Ord, V: FromPlan> Entries for Map<K, V> {
    fn reserve(&mut self, count: usize) {
        Self::reserve(self, count);
    }

    fn add(&mut self, text: &str, reader: &mut Reader<'_>) -> Option<&mut dyn FromPlan> {
        let mut key = K::BLANK;
        key.take(text, reader);
        self.add(key, V::blank()).map(|value| value as &mut dyn FromPlan)
    }
}

impl<K: FromText + Blank + Ord, V: FromPlan> FromPlan for Map<K, V> {
    fn blank() -> Self {
        Self::default()
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        reader.map(json, self);
    }
}

impl Blank for String {
    const BLANK: Self = Self::new();
}

impl FromText for String {
    fn take(&mut self, text: &str, _reader: &mut Reader<'_>) {
        text.clone_into(self);
    }
}

/// A text that is read by the type's own reader.
pub(super) fn parsed<T: FromStr<Err: Display>>(text: &str, reader: &mut Reader<'_>) -> Option<T> {
    text.parse().map_err(|error: T::Err| reader.wrong(&error)).ok()
}

macro_rules! texts {
    ($($name:ident)*) => {$(
        impl $crate::plan::read::FromText for $name {
            fn take(&mut self, text: &str, reader: &mut $crate::plan::read::Reader<'_>) {
                if let Some(value) = $crate::plan::read::parsed(text, reader) {
                    *self = value;
                }
            }
        }
    )*};
}

pub(super) use texts;

texts! {
    Cidr ClusterName CookieName HeaderName IssuerName KeyId Namespace NetworkName PublicKey RegionName Scope TrustDomain
}

impl Blank for Scope {
    const BLANK: Self = Self::Mesh;
}

/// One of some words, by what it stands for.
fn word<T: Copy>(text: &str, words: &[(&'static str, T)], reader: &mut Reader<'_>) -> Option<T> {
    let known = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if known.is_none() {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        reader.wrong(&format_args!("{text:?} is none of {}", words.join(", ")));
    }
    known
}

macro_rules! words {
    ($($name:ident { $first:ident $($word:ident)* })*) => {$(
        impl Blank for $name {
            const BLANK: Self = Self::$first;
        }

        impl FromText for $name {
            fn take(&mut self, text: &str, reader: &mut Reader<'_>) {
                let words = [(stringify!($first), Self::$first), $((stringify!($word), Self::$word)),*];
                *self = word(text, &words, reader).unwrap_or(*self);
            }
        }
    )*};
}

words! {
    Boundary { Cluster Network Region Mesh }
    Demand { Claimed Verified }
    Judged { Remote All }
}

impl Blank for Role {
    const BLANK: Self = Self::Outbound;
}

impl FromText for Role {
    fn take(&mut self, text: &str, reader: &mut Reader<'_>) {
        *self = word(text, &Self::ALL.map(|role| (role.as_str(), role)), reader).unwrap_or(*self);
    }
}

impl FromPlan for HashOn {
    fn blank() -> Self {
        Self::Header(HeaderName::BLANK)
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        let (mut header, mut cookie) = (None, None);
        reader.object(json, &[("header", false), ("cookie", false)], &mut [&mut header, &mut cookie]);
        match (header, cookie) {
            (Some(header), None) => *self = Self::Header(header),
            (None, Some(cookie)) => *self = Self::Cookie(cookie),
            (Some(_), Some(_)) | (None, None) => reader.wrong(&"a header or a cookie belongs here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::plan::{Configuration, PlanError, Role};

    fn good() -> Value {
        let rule = json!({"name": "r", "from": [{"clusters": "0", "namespaces": ["a", "!b"]}], "to": [{"ports": ["80"]}]});
        let section = json!({"policy": "p", "source": "Verified", "scope": "All", "allow": [rule]});
        json!({"role": "inbound", "digest": "00", "plan": {
            "schema": 1,
            "home": {"mesh": "m", "cluster": "c0", "network": "n"},
            "clusters": [{"name": "c0", "network": "n"}, {"name": "c1", "network": "n", "trustDomain": "x.y"}],
            "issuers": {"CN=x": "c0"},
            "sections": [section],
            "enforced": {"*": {"selector": {"app": "a"}, "sections": [0]}},
        }})
    }

    /// Where and why a configuration is refused in which the value at a place is another; `None`: it is not there.
    fn refused(pointer: &str, value: Option<Value>) -> (String, String) {
        let mut json = good();
        let (above, key) = pointer.rsplit_once('/').unwrap();
        let above = json.pointer_mut(above).unwrap();
        match value {
            Some(value) => match above.as_array_mut() {
                Some(list) => list[key.parse::<usize>().unwrap()] = value,
                None => above[key] = value,
            },
            None => drop(above.as_object_mut().unwrap().remove(key)),
        }
        match Configuration::read(json.to_string().as_bytes()) {
            Err(PlanError::Misfit { path, why }) => (path, why),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_does_not_belong_is_told_with_its_place() {
        let from = "/plan/sections/0/allow/0/from/0";
        let path_of_from = "plan.sections[0].allow[0].from[0]";
        for (pointer, value, path, why) in [
            (from, Some(json!([])), path_of_from, "an object belongs here, and this is a list"),
            (&format!("{from}/cluster"), Some(json!("0")), &format!("{path_of_from}.cluster"), "no such key"),
            (&format!("{from}/clusters"), None, &format!("{path_of_from}.clusters"), "missing"),
            (&format!("{from}/clusters"), Some(json!("1,0")), &format!("{path_of_from}.clusters"), "\"1,0\""),
            (
                &format!("{from}/namespaces/1"),
                Some(json!(1)),
                &format!("{path_of_from}.namespaces[1]"),
                "a text",
            ),
            (
                &format!("{from}/namespaces"),
                Some(json!(["b", "a"])),
                &format!("{path_of_from}.namespaces"),
                "order",
            ),
            ("/plan/sections/0/scope", Some(json!("Most")), "plan.sections[0].scope", "none of Remote, All"),
            ("/plan/enforced/a", Some(json!({})), "plan.enforced.a", "\"a\" is not a service"),
            (
                "/plan/enforced/*",
                Some(json!({"sections": [-1]})),
                "plan.enforced.*.sections[0]",
                "whole number",
            ),
            (
                "/plan/enforced/*",
                Some(json!({"sections": [0.5]})),
                "plan.enforced.*.sections[0]",
                "whole number",
            ),
            ("/plan/schema", Some(json!("1")), "plan.schema", "whole number"),
            ("/plan/schema", None, "plan.schema", "missing"),
            ("/plan", Some(json!(true)), "plan", "true or false"),
            ("/plan", None, "plan", "missing"),
            ("/role", Some(json!("sideways")), "role", "outbound, inbound, gateway, upstream"),
        ] {
            let (found, said) = refused(pointer, value);
            assert!(found == path && said.contains(why), "{pointer}: {found}: {said}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_and_the_order_of_keys_is_not_looked_at() {
        let text = good().to_string();
        assert!(Configuration::read(text.as_bytes()).is_ok_and(|read| read.role == Role::Inbound));
        for (once, twice) in [
            ("\"CN=x\":\"c0\"", "\"CN=x\":\"c0\",\"CN=x\":\"c1\""),
            ("\"schema\":1", "\"schema\":1,\"schema\":1"),
        ] {
            let error = Configuration::read(text.replacen(once, twice, 1).as_bytes()).unwrap_err();
            assert!(error.to_string().contains("stands here twice"), "{error}");
        }
        let unsorted = text.replacen("\"CN=x\":\"c0\"", "\"CN=x\":\"c0\",\"CN=a\":\"c1\"", 1);
        let read = Configuration::read(unsorted.as_bytes()).unwrap();
        assert!(read.plan.to_json().unwrap().contains(r#"{"CN=a":"c1","CN=x":"c0"}"#));
    }
}
