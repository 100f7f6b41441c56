//! What has the same shape for every type: numbers, lists, maps.

use std::sync::Arc;

use super::{Entries, FromPlan, FromText, List, Reader};
use crate::map::Map;
use crate::name::{Blank, Port};
use crate::plan::json::Json;
use crate::set::Set;

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
