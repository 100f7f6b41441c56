//! Small sets that are written once and read often.

use std::borrow::Borrow;

use serde::Serialize;

/// A set as a sorted list: the same members, the same bytes, and no more memory than they take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Set<T>(Box<[T]>);

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T: Ord> From<Vec<T>> for Set<T> {
    fn from(mut members: Vec<T>) -> Self {
        members.sort_unstable();
        members.dedup();
        Self(members.into())
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        Self::from(Vec::from_iter(members))
    }
}

impl<T: Ord> Set<T> {
    /// Members that are in order already, each once; `None` when they are not.
    pub fn ordered(members: Vec<T>) -> Option<Self> {
        members.is_sorted_by(|one, two| one < two).then(|| Self(members.into()))
    }

    /// Adds a member, if it is none yet.
    pub fn insert(&mut self, member: T) {
        if let Err(at) = self.0.binary_search(&member) {
            let mut members = Vec::from(std::mem::take(&mut self.0));
            members.insert(at, member);
            self.0 = members.into();
        }
    }
}

impl<T> Set<T> {
    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is a member.
    pub fn contains<Q: Ord + ?Sized>(&self, member: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.binary_search_by(|probe| probe.borrow().cmp(member)).is_ok()
    }
}

impl<'s, T> IntoIterator for &'s Set<T> {
    type Item = &'s T;
    type IntoIter = std::slice::Iter<'s, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_do_not_show() {
        let set = Set::from(vec![3, 1, 2, 3]);
        assert_eq!(set, Set::from(vec![2, 3, 1]));
        assert_eq!(serde_json::to_string(&set).unwrap(), "[1,2,3]");
        assert_eq!(Set::ordered(vec![1, 2, 3]), Some(set.clone()));
        assert!([vec![2, 1], vec![1, 1]].into_iter().all(|members| Set::ordered(members).is_none()));
        let mut grown = Set::default();
        [2, 3, 1, 2].into_iter().for_each(|member| grown.insert(member));
        assert_eq!(grown, set);
        assert!(set.contains(&2) && !set.contains(&4) && !Set::<u8>::default().contains(&0));
    }
}
