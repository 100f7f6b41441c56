//! What a plan says, by scope.

use std::cmp::Ordering;

use serde::Serialize;

use super::json::Json;
use super::read::{FromPlan, Reader};
use crate::map::Map;
use crate::name::{Namespace, Service};
use crate::rule::Scope;

/// Entries by scope. Each narrower entry already holds what the wider ones around it say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Table<T>(Map<Scope, T>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Map::default())
    }
}

impl<T> Table<T> {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many scopes are spoken of.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What is said of a service: under its own name, else its namespace's, else the mesh's.
    pub fn narrowest(&self, service: &Service) -> Option<&T> {
        let own = self.0.find(|scope| match scope {
            Scope::Service(found) => found.cmp(service),
            Scope::Namespace(_) | Scope::Mesh => Ordering::Greater,
        });
        own.or_else(|| self.of_namespace(&service.namespace))
    }

    /// What is said of a namespace as a whole, else of the mesh.
    pub fn of_namespace(&self, namespace: &Namespace) -> Option<&T> {
        let own = self.0.find(|scope| match scope {
            Scope::Service(_) => Ordering::Less,
            Scope::Namespace(found) => found.cmp(namespace),
            Scope::Mesh => Ordering::Greater,
        });
        own.or_else(|| self.get(&Scope::Mesh))
    }

    /// What is said of just this scope.
    pub fn get(&self, scope: &Scope) -> Option<&T> {
        self.0.get(scope)
    }

    /// The same scopes with other entries.
    pub(crate) fn map(self, entry: impl Fn(T) -> T) -> Self {
        self.into_iter().map(|(scope, said)| (scope, entry(said))).collect()
    }

    /// All entries, in the order of scopes.
    pub fn iter(&self) -> impl Iterator<Item = (&Scope, &T)> + Clone {
        self.0.iter()
    }
}

impl<T> IntoIterator for Table<T> {
    type Item = (Scope, T);
    type IntoIter = std::vec::IntoIter<(Scope, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T> FromIterator<(Scope, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (Scope, T)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl<T: FromPlan> FromPlan for Table<T> {
    fn blank() -> Self {
        Self::default()
    }

    fn fill<'j>(&mut self, json: Json<'j>, reader: &mut Reader<'j>) {
        self.0.fill(json, reader);
    }
}
