//! From JSON to the types of a plan: by hand, as derived readers would take the filter some hundred kilobytes.
//!
//! Every type of a plan says in one line of [`reads!`] which keys it has. A value is filled in where it will stay, and
//! what does not belong is noted and read over, so that there is no way out of the middle for the compiler to tidy up
//! after; the first that was noted is told with its place, such as `plan.sections[3].allow[0].from`.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use super::json::Json;
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
    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>);
}

/// A type that a plan holds as a text.
pub(super) trait FromText: Blank {
    /// Reads it, or says what is wrong with it.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// Where in a plan it is being read, and the first thing that was wrong.
#[derive(Debug, Default)]
pub(super) struct Reader<'f> {
    path: Vec<Step<'f>>,
    wrong: Option<(String, String)>,
}

#[derive(Debug)]
enum Step<'f> {
    Key(&'f str),
    Index(usize),
}

type Fields<'f> = [(Cow<'f, str>, Json<'f>)];

impl<'f> Reader<'f> {
    /// One that begins somewhere inside.
    pub(super) fn within(key: &'f str) -> Self {
        Self { path: vec![Step::Key(key)], wrong: None }
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
    fn wrong_kind(&mut self, json: &Json<'_>, wanted: &str) {
        self.wrong(&format_args!("{wanted} belongs here, and this is {}", json.kind()));
    }

    #[cold]
    #[inline(never)]
    fn wrong_key(&mut self, key: &'f str, why: &dyn Display) {
        self.path.push(Step::Key(key));
        self.wrong(why);
        self.path.pop();
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
        json: &'f Json<'f>,
        keys: &'static [(&'static str, bool)],
        values: &mut [&mut dyn FromPlan],
    ) {
        let fields = self.fields(json);
        for (at, (key, json)) in fields.iter().enumerate() {
            let known = keys.iter().zip(&mut *values).find(|((known, _), _)| known == key);
            let Some((_, value)) = known else {
                let known: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
                self.wrong_key(
                    key,
                    &format_args!("no such key is known; those that are: {}", known.join(", ")),
                );
                continue;
            };
            if fields.iter().take(at).any(|(earlier, _)| earlier == key) {
                self.wrong_key(key, &"this key stands here twice");
            }
            self.path.push(Step::Key(key));
            value.fill(json, self);
            self.path.pop();
        }
        for (key, _) in keys.iter().filter(|(_, required)| *required) {
            if !fields.iter().any(|(found, _)| found == key) {
                self.wrong_key(key, &"this key is missing");
            }
        }
    }

    fn fields(&mut self, json: &'f Json<'f>) -> &'f Fields<'f> {
        if let Json::Object(fields) = json {
            return fields;
        }
        self.wrong_kind(json, "an object");
        &[]
    }

    /// The items of a list.
    pub(super) fn items(&mut self, json: &'f Json<'f>) -> &'f [Json<'f>] {
        if let Json::List(items) = json {
            return items;
        }
        self.wrong_kind(json, "a list");
        &[]
    }

    /// Fills in an item of a list.
    pub(super) fn item(&mut self, index: usize, json: &'f Json<'f>, value: &mut dyn FromPlan) {
        self.path.push(Step::Index(index));
        value.fill(json, self);
        self.path.pop();
    }

    fn text(&mut self, json: &'f Json<'f>) -> Option<&'f str> {
        if let Json::Text(text) = json {
            return Some(text);
        }
        self.wrong_kind(json, "a text");
        None
    }

    /// A whole number that is not too large.
    fn number(&mut self, json: &'f Json<'f>, most: u32) -> u32 {
        if let Json::Number(number) = json
            && let Ok(number) = u32::try_from(*number)
            && number <= most
        {
            return number;
        }
        self.wrong_kind(json, "a whole number that is not too large");
        0
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

            fn fill<'f>(
                &mut self,
                json: &'f $crate::plan::json::Json<'f>,
                reader: &mut $crate::plan::read::Reader<'f>,
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

/// A text that is read by the type's own reader.
pub(super) fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

impl<T: FromText> FromPlan for T {
    fn blank() -> Self {
        Self::BLANK
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        let Some(text) = reader.text(json) else { return };
        match T::from_text(text) {
            Ok(value) => *self = value,
            Err(why) => reader.wrong(&why),
        }
    }
}

impl FromPlan for bool {
    fn blank() -> Self {
        false
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        if let Json::Bool(value) = json {
            *self = *value;
        } else {
            reader.wrong_kind(json, "true or false");
        }
    }
}

impl FromPlan for u32 {
    fn blank() -> Self {
        0
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        *self = reader.number(json, Self::MAX);
    }
}

impl FromPlan for u8 {
    fn blank() -> Self {
        0
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        *self = Self::try_from(reader.number(json, u32::from(Self::MAX))).unwrap_or_default();
    }
}

impl FromPlan for Port {
    fn blank() -> Self {
        Self::MAX
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        match u16::try_from(reader.number(json, u32::from(u16::MAX))).ok().and_then(Self::new) {
            Some(port) => *self = port,
            None => reader.wrong(&"0 is no port"),
        }
    }
}

impl<T: FromPlan> FromPlan for Vec<T> {
    fn blank() -> Self {
        Self::new()
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        let items = reader.items(json);
        self.reserve_exact(items.len());
        for (index, item) in items.iter().enumerate() {
            let mut value = T::blank();
            reader.item(index, item, &mut value);
            self.push(value);
        }
    }
}

impl<T: FromPlan + Ord> FromPlan for Set<T> {
    fn blank() -> Self {
        Self::default()
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        let mut members = Vec::blank();
        members.fill(json, reader);
        *self = reader.ordered(members);
    }
}

impl<T: FromPlan> FromPlan for Arc<T> {
    fn blank() -> Self {
        Self::new(T::blank())
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        if let Some(value) = Self::get_mut(self) {
            value.fill(json, reader);
        }
    }
}

impl<T: FromPlan> FromPlan for Option<T> {
    fn blank() -> Self {
        None
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        if !matches!(json, Json::Null) {
            self.get_or_insert_with(T::blank).fill(json, reader);
        }
    }
}

impl<T: FromPlan, U: FromPlan> FromPlan for (T, U) {
    fn blank() -> Self {
        (T::blank(), U::blank())
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        if let [one, two] = reader.items(json) {
            reader.item(0, one, &mut self.0);
            reader.item(1, two, &mut self.1);
        } else {
            reader.wrong(&"a list of two belongs here");
        }
    }
}

/// The keys may come in any order: what carries a plan to a proxy may sort them by its own rule.
impl<K: FromText + Ord, V: FromPlan> FromPlan for Map<K, V> {
    fn blank() -> Self {
        Self::default()
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
        for (text, json) in reader.fields(json) {
            reader.path.push(Step::Key(text));
            let mut value = V::blank();
            value.fill(json, reader);
            match K::from_text(text) {
                Ok(key) => {
                    if self.insert(key, value).is_some() {
                        reader.wrong(&"this key stands here twice");
                    }
                }
                Err(why) => reader.wrong(&why),
            }
            reader.path.pop();
        }
    }
}

impl Blank for String {
    const BLANK: Self = Self::new();
}

impl FromText for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

macro_rules! parsed {
    ($($name:ident)*) => {$(
        impl FromText for $name {
            fn from_text(text: &str) -> Result<Self, String> {
                parsed(text)
            }
        }
    )*};
}

parsed! {
    Cidr ClusterName CookieName HeaderName IssuerName KeyId Namespace NetworkName PublicKey RegionName Scope TrustDomain
}

impl Blank for Scope {
    const BLANK: Self = Self::Mesh;
}

macro_rules! words {
    ($($name:ident { $first:ident $($word:ident)* })*) => {$(
        impl Blank for $name {
            const BLANK: Self = Self::$first;
        }

        impl FromText for $name {
            fn from_text(text: &str) -> Result<Self, String> {
                let words = [(stringify!($first), Self::$first), $((stringify!($word), Self::$word)),*];
                let known = words.iter().find(|(word, _)| *word == text);
                known.map(|(_, value)| *value).ok_or_else(|| unknown_word(text, &words.map(|(word, _)| word)))
            }
        }
    )*};
}

words! {
    Boundary { Cluster Network Region Mesh }
    Demand { Claimed Verified }
    Judged { Remote All }
}

#[cold]
#[inline(never)]
fn unknown_word(text: &str, known: &[&str]) -> String {
    format!("{text:?} is none of {}", known.join(", "))
}

impl Blank for Role {
    const BLANK: Self = Self::Outbound;
}

impl FromText for Role {
    fn from_text(text: &str) -> Result<Self, String> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| unknown_word(text, &Self::ALL.map(Self::as_str)))
    }
}

impl FromPlan for HashOn {
    fn blank() -> Self {
        Self::Header(HeaderName::BLANK)
    }

    fn fill<'f>(&mut self, json: &'f Json<'f>, reader: &mut Reader<'f>) {
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
