//! What a plan says, by scope.

use std::collections::BTreeMap;
#[expect(
    clippy::disallowed_types,
    reason = "looked up for every request, and written in the order of its keys"
)]
type HashMap<K, V> = std::collections::HashMap<K, V>;

use serde::{Deserialize, Serialize, Serializer};

use crate::name::{Namespace, Service};
use crate::rule::Scope;

/// Entries by scope, found by hash. Each narrower entry already holds what the wider ones around it say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Table<T>(HashMap<Scope, T>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(HashMap::new())
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
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&Scope::Service(service.clone())).or_else(|| self.of_namespace(&service.namespace))
    }

    /// What is said of a namespace as a whole, else of the mesh.
    pub fn of_namespace(&self, namespace: &Namespace) -> Option<&T> {
        self.0.get(&Scope::Namespace(namespace.clone())).or_else(|| self.0.get(&Scope::Mesh))
    }

    /// What is said of just this scope.
    pub fn get(&self, scope: &Scope) -> Option<&T> {
        self.0.get(scope)
    }

    /// The same scopes with other entries.
    pub(crate) fn map(self, entry: impl Fn(T) -> T) -> Self {
        Self(self.0.into_iter().map(|(scope, said)| (scope, entry(said))).collect())
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Scope, &T)> {
        self.0.iter()
    }
}

impl<T> IntoIterator for Table<T> {
    type Item = (Scope, T);
    type IntoIter = std::collections::hash_map::IntoIter<Scope, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<T> FromIterator<(Scope, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (Scope, T)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// In the order of scopes, so that the same table has the same bytes.
impl<T: Serialize> Serialize for Table<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.iter().collect::<BTreeMap<&Scope, &T>>().serialize(serializer)
    }
}
