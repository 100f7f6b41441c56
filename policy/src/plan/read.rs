//! From JSON to the types of a plan: by hand, as derived readers would take the filter some hundred kilobytes.
//!
//! Every type of a plan says in one line of [`reads!`] which keys it has. A value is filled in where it will stay, and
//! what does not belong is noted and read over, so that there is no way out of the middle for the compiler to tidy up
//! after; the first that was noted is told with its place, such as `plan.sections[3].allow[0].from`. What lists, maps and
//! texts have in common is written once for all types: what is theirs alone is behind [`List`], [`Entries`] and [`FromText`].

mod shapes;
#[cfg(test)]
mod tests;
mod words;

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

use super::PlanError;
use super::json::{Fields, Json};
use crate::set::Set;
pub(super) use words::{parsed, texts};

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
