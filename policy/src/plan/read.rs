//! From JSON to the types of a plan: by hand, as derived readers would take the filter some hundred kilobytes.
//!
//! Every type of a plan says in one line of [`reads!`] which keys it has; whatever does not belong is an error that
//! says where it stands, such as `sections[3].allow[0].from`.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use super::Role;
use super::json::Json;
use crate::cidr::Cidr;
use crate::key::PublicKey;
use crate::map::Map;
use crate::mesh::IssuerName;
use crate::name::{
    ClusterName, CookieName, HeaderName, KeyId, Namespace, NetworkName, Port, RegionName, TrustDomain,
};
use crate::rule::{Boundary, Demand, HashOn, Judged, Scope};
use crate::set::Set;

/// What is wrong with JSON that should be a plan, and where in it.
#[derive(Debug)]
pub(super) struct Misfit(Box<(String, String)>);

/// What was read, or why it cannot be.
pub(super) type Read<T> = Result<T, Misfit>;

impl Misfit {
    /// Something is wrong right here.
    #[cold]
    #[inline(never)]
    pub(super) fn new(why: &dyn Display) -> Self {
        Self(Box::new((String::new(), why.to_string())))
    }

    /// Something of another kind was wanted here.
    #[cold]
    #[inline(never)]
    fn kind(json: &Json<'_>, wanted: &str) -> Self {
        Self::new(&format_args!("{wanted} belongs here, and this is {}", json.kind()))
    }

    /// The same, seen from around a key.
    #[cold]
    #[inline(never)]
    pub(super) fn under(mut self, key: &str) -> Self {
        let path = &mut self.0.0;
        if !path.is_empty() && !path.starts_with('[') {
            path.insert(0, '.');
        }
        path.insert_str(0, key);
        self
    }

    /// The same, seen from around a list.
    #[cold]
    #[inline(never)]
    fn at(self, index: usize) -> Self {
        self.under(&format!("[{index}]"))
    }

    /// Where it is, and what is wrong there.
    pub(super) fn into_parts(self) -> (String, String) {
        *self.0
    }
}

/// A type that a plan holds.
pub(super) trait FromPlan: Sized {
    fn from_plan(json: &Json<'_>) -> Read<Self>;
}

/// A type that a plan holds as a text.
pub(super) trait FromText: Sized {
    fn from_text(text: &str) -> Read<Self>;
}

/// A text that is read by the type's own reader.
pub(super) fn parsed<T: FromStr<Err: Display>>(text: &str) -> Read<T> {
    text.parse().map_err(|error| Misfit::new(&error))
}

/// An object whose keys are all known.
pub(super) struct Fields<'f, 'j>(&'f [(Cow<'j, str>, Json<'j>)]);

impl<'f, 'j> Fields<'f, 'j> {
    /// The fields of an object that may have these keys, each once.
    pub(super) fn of(json: &'f Json<'j>, known: &[&str]) -> Read<Self> {
        let fields = object(json)?;
        for (at, (key, _)) in fields.iter().enumerate() {
            if !known.contains(&key.as_ref()) {
                let why = format_args!("no such key is known; those that are: {}", known.join(", "));
                return Err(Misfit::new(&why).under(key));
            }
            if fields.iter().take(at).any(|(earlier, _)| earlier == key) {
                return Err(Misfit::new(&"this key stands here twice").under(key));
            }
        }
        Ok(Self(fields))
    }

    /// The fields of an object that may have others as well.
    pub(super) fn any(json: &'f Json<'j>) -> Read<Self> {
        object(json).map(Self)
    }

    fn find(&self, key: &str) -> Option<&'f Json<'j>> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }

    /// A field that may be left out.
    pub(super) fn optional<T: FromPlan>(&self, key: &str) -> Read<Option<T>> {
        match self.find(key) {
            Some(value) => T::from_plan(value).map(Some).map_err(|misfit| misfit.under(key)),
            None => Ok(None),
        }
    }

    /// A field that must be there.
    pub(super) fn required<T: FromPlan>(&self, key: &str) -> Read<T> {
        T::from_plan(self.value(key)?).map_err(|misfit| misfit.under(key))
    }

    /// A field that must be there, as it is.
    pub(super) fn value(&self, key: &str) -> Read<&'f Json<'j>> {
        self.find(key).ok_or_else(|| Misfit::new(&"this key is missing").under(key))
    }
}

/// Says of types which keys they have: each by the field's own name or `as "KEY"`, and `or default` where it may be
/// left out. What stands after a semicolon is in no plan.
macro_rules! reads {
    ($($name:ident {
        $($field:ident $(as $key:literal)? $(or $default:ident)?),* $(; $extra:ident = $value:expr)?
    })*) => {$(
        impl $crate::plan::read::FromPlan for $name {
            fn from_plan(
                json: &$crate::plan::json::Json<'_>,
            ) -> $crate::plan::read::Read<Self> {
                let fields = $crate::plan::read::Fields::of(
                    json,
                    &[$($crate::plan::read::reads!(@key $field $($key)?)),*],
                )?;
                Ok(Self {
                    $($field: $crate::plan::read::reads!(
                        @take fields, $crate::plan::read::reads!(@key $field $($key)?) $(, $default)?
                    ),)*
                    $($extra: $value)?
                })
            }
        }
    )*};
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@take $fields:ident, $key:expr) => { $fields.required($key)? };
    (@take $fields:ident, $key:expr, default) => { $fields.optional($key)?.unwrap_or_default() };
}

pub(super) use reads;

fn object<'f, 'j>(json: &'f Json<'j>) -> Read<&'f [(Cow<'j, str>, Json<'j>)]> {
    if let Json::Object(fields) = json { Ok(fields) } else { Err(Misfit::kind(json, "an object")) }
}

fn items<'f, 'j>(json: &'f Json<'j>) -> Read<&'f [Json<'j>]> {
    if let Json::List(items) = json { Ok(items) } else { Err(Misfit::kind(json, "a list")) }
}

fn text<'f>(json: &'f Json<'_>) -> Read<&'f str> {
    if let Json::Text(text) = json { Ok(text) } else { Err(Misfit::kind(json, "a text")) }
}

/// A whole number, if it is no larger than the largest of its type.
fn number<T: TryFrom<u64>>(json: &Json<'_>) -> Read<T> {
    let number = if let Json::Number(number) = json { T::try_from(*number).ok() } else { None };
    number.ok_or_else(|| Misfit::kind(json, "a whole number that is not too large"))
}

/// The texts of a list, read one by one.
pub(super) fn texts<'f>(json: &'f Json<'_>, mut read: impl FnMut(&'f str) -> Read<()>) -> Read<()> {
    for (index, item) in items(json)?.iter().enumerate() {
        text(item).and_then(&mut read).map_err(|misfit| misfit.at(index))?;
    }
    Ok(())
}

/// Members of a set, which a plan has in order.
pub(super) fn ordered<T: Ord>(members: Vec<T>) -> Read<Set<T>> {
    Set::ordered(members).ok_or_else(|| {
        Misfit::new(&"these are not in order, each once, as a compiled plan has them: compile it again")
    })
}

impl FromPlan for bool {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        if let Json::Bool(value) = json { Ok(*value) } else { Err(Misfit::kind(json, "true or false")) }
    }
}

impl FromPlan for u32 {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        number(json)
    }
}

impl FromPlan for u8 {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        number(json)
    }
}

impl FromPlan for Port {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        Self::new(number(json)?).ok_or_else(|| Misfit::new(&"0 is no port"))
    }
}

impl<T: FromPlan> FromPlan for Vec<T> {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        let items = items(json)?;
        let mut list = Self::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            list.push(T::from_plan(item).map_err(|misfit| misfit.at(index))?);
        }
        Ok(list)
    }
}

impl<T: FromPlan + Ord> FromPlan for Set<T> {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        ordered(Vec::from_plan(json)?)
    }
}

impl<T: FromPlan> FromPlan for Arc<T> {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        T::from_plan(json).map(Self::new)
    }
}

impl<T: FromPlan> FromPlan for Option<T> {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        if let Json::Null = json { Ok(None) } else { T::from_plan(json).map(Some) }
    }
}

impl<T: FromPlan, U: FromPlan> FromPlan for (T, U) {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        let [one, two] = items(json)? else { return Err(Misfit::new(&"a list of two belongs here")) };
        let one = T::from_plan(one).map_err(|misfit| misfit.at(0))?;
        Ok((one, U::from_plan(two).map_err(|misfit| misfit.at(1))?))
    }
}

/// The keys may come in any order: what carries a plan to a proxy may sort them by its own rule.
impl<K: FromText + Ord, V: FromPlan> FromPlan for Map<K, V> {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        let mut map = Self::default();
        for (text, value) in object(json)? {
            let entry = K::from_text(text).and_then(|key| Ok((key, V::from_plan(value)?)));
            let (key, value) = entry.map_err(|misfit| misfit.under(text))?;
            if map.insert(key, value).is_some() {
                return Err(Misfit::new(&"this key stands here twice").under(text));
            }
        }
        Ok(map)
    }
}

impl<T: FromText> FromPlan for T {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        T::from_text(text(json)?)
    }
}

impl FromText for String {
    fn from_text(text: &str) -> Read<Self> {
        Ok(text.to_owned())
    }
}

macro_rules! parsed {
    ($($name:ident)*) => {$(
        impl FromText for $name {
            fn from_text(text: &str) -> Read<Self> {
                parsed(text)
            }
        }
    )*};
}

parsed! {
    Cidr ClusterName CookieName HeaderName IssuerName KeyId Namespace NetworkName PublicKey RegionName Scope TrustDomain
}

macro_rules! words {
    ($($name:ident { $($word:ident)* })*) => {$(
        impl FromText for $name {
            fn from_text(text: &str) -> Read<Self> {
                $(if text == stringify!($word) {
                    return Ok(Self::$word);
                })*
                Err(unknown_word(text, &[$(stringify!($word)),*]))
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
fn unknown_word(text: &str, known: &[&str]) -> Misfit {
    Misfit::new(&format_args!("{text:?} is none of {}", known.join(", ")))
}

impl FromText for Role {
    fn from_text(text: &str) -> Read<Self> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| unknown_word(text, &Self::ALL.map(Self::as_str)))
    }
}

impl FromPlan for HashOn {
    fn from_plan(json: &Json<'_>) -> Read<Self> {
        let fields = Fields::of(json, &["header", "cookie"])?;
        match (fields.optional("header")?, fields.optional("cookie")?) {
            (Some(header), None) => Ok(Self::Header(header)),
            (None, Some(cookie)) => Ok(Self::Cookie(cookie)),
            (Some(_), Some(_)) | (None, None) => Err(Misfit::new(&"a header or a cookie belongs here")),
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
